"""How sure means over queries are, and differences of two methods: bootstrap over queries, or over groups of them."""

from collections.abc import Hashable, Mapping, Sequence
from itertools import combinations
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from artray.metrics.classification import RESAMPLES, Interval

Floats: TypeAlias = npt.NDArray[np.float64]

CELLS: Final = 2**22
"""Numbers in one array at a time while resampling: bounds the memory."""


class Difference(NamedTuple):
    """The first's mean less the second's, where 95 % of its resamples lie, and how surprising it would be by chance."""

    value: float
    low: float
    high: float
    p: float  # in (0, 1], two-sided


def intervals(
    values: Mapping[str, npt.ArrayLike],
    groups: Sequence[Hashable] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Interval]:
    """The mean of every measure over queries, with its 95 % interval: percentiles over resampled queries.

    Args:
        values: float[Q] per measure, of the same Q >= 1 queries.
        groups: what is drawn together, such as the artists of the Q queries; None draws single queries.
        resamples: how many; 0 leaves every interval empty.
        seed: of the drawing: the same seed, the same interval.

    Raises:
        ValueError: no queries, or lengths that differ.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), the percentile interval.
    """
    table = np.stack([np.asarray(column, np.float64) for column in values.values()], axis=1)
    means, drawn = _check(table).mean(axis=0), _resampled(table, groups, resamples, seed)
    bounds = np.percentile(drawn, [2.5, 97.5], axis=0) if resamples else np.stack([means, means])
    rows = zip(means.tolist(), *bounds.tolist(), strict=True)
    return {name: Interval(*row) for name, row in zip(values, rows, strict=True)}


def paired_bootstrap(
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    groups: Sequence[Hashable] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Difference:
    """Whether one method is better than another on the same queries: the difference of their means, and its chance.

    p is the share of resamples whose difference lies as far from the one found as that lies from 0, the one found
    counted among them. Few queries hardly differ when they are resampled, so p is no less than 2^(1 - Q): the chance
    that all of Q queries (or groups) favour the same one of two methods that are equally good.

    Args:
        first: float[Q], a measure of one method, Q >= 1.
        second: float[Q], of the other, of the same queries.
        groups: as of :func:`intervals`.
        resamples: how many, at least 1.
        seed: of the drawing.

    Raises:
        ValueError: no queries, or lengths that differ.

    Source: Smucker, Allan and Carterette, A Comparison of Statistical Significance Tests for Information Retrieval
        Evaluation (2007), the bootstrap shift method.

    >>> paired_bootstrap([0.5, 0.7], [0.5, 0.7])
    Difference(value=0.0, low=0.0, high=0.0, p=1.0)
    """
    differences = np.asarray(first, np.float64) - np.asarray(second, np.float64)
    found = float(_check(differences[:, None]).mean())
    drawn = _resampled(differences[:, None], groups, resamples, seed)[:, 0]
    low, high = np.percentile(drawn, [2.5, 97.5])
    extreme = int(np.count_nonzero(np.abs(drawn - found) >= abs(found) - 1e-12))
    count = len(differences) if groups is None else len(set(groups))
    return Difference(found, float(low), float(high), max((extreme + 1) / (resamples + 1), 2.0 ** (1 - count)))


def comparisons(
    values: Mapping[str, Mapping[str, npt.ArrayLike]],
    groups: Sequence[Hashable] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Every pair of methods by every measure, on the same queries.

    Args:
        values: by method, then by measure, the same ones: float[Q], Q >= 1.
        groups: as of :func:`intervals`.
        resamples: how many, at least 1.
        seed: of the drawing.

    Returns:
        ``measure``, ``first`` and ``second``, their ``difference`` with ``low`` and ``high``, ``p`` as of
        :func:`paired_bootstrap`, and ``p_holm``, made larger because the measure is compared for so many pairs.
    """
    rows: list[dict[str, Any]] = []
    pairs = list(combinations(values, 2))
    for measure in next(iter(values.values()), {}):
        found = [paired_bootstrap(values[a][measure], values[b][measure], groups, resamples, seed) for a, b in pairs]
        for (a, b), one, p_holm in zip(pairs, found, holm([one.p for one in found]), strict=True):
            told = {"difference": one.value, "low": one.low, "high": one.high, "p": one.p, "p_holm": p_holm}
            rows.append({"measure": measure, "first": a, "second": b} | told)
    return rows


def holm(p_values: Sequence[float]) -> list[float]:
    """Chances of several comparisons, made larger because there are several; in the same order.

    Source: Holm, A Simple Sequentially Rejective Multiple Test Procedure (1979).

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p_values, kind="stable")
    scaled = np.asarray(p_values, np.float64)[order] * np.arange(len(order), 0, -1)
    told = np.empty(len(order))
    told[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return [float(value) for value in told]


def _check(table: Floats) -> Floats:
    if not len(table):
        raise ValueError("bootstrap: expected at least one query, got none")
    return table


def _resampled(table: Floats, groups: Sequence[Hashable] | None, resamples: int, seed: int) -> Floats:
    """Means float64[R, M] of float64[Q, M] over queries that are drawn with replacement, or over groups of them."""
    names: dict[Hashable, int] = {}
    ids = np.array([names.setdefault(group, len(names)) for group in (range(len(table)) if groups is None else groups)])
    if ids.shape != (len(table),):
        raise ValueError(f"groups: expected one for each of {len(table)} queries, got {len(ids)}")
    sums = np.zeros((len(names), table.shape[1] + 1))
    np.add.at(sums, ids, np.column_stack([table, np.ones(len(table))]))
    random, rows = np.random.default_rng(seed), max(1, CELLS // len(names))
    parts = [
        random.multinomial(len(names), [1 / len(names)] * len(names), size=min(rows, resamples - start)) @ sums
        for start in range(0, resamples, rows)
    ]
    drawn = np.concatenate(parts) if parts else np.ones((0, sums.shape[1]))
    return drawn[:, :-1] / drawn[:, -1:]
