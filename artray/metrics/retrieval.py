"""Judge rankings: graded and binary measures, and whether judges agree.

A ranking is an array with the best result first; measures take many of them at once, float[..., N] or bool[..., N]. A
list that is shorter than others is filled up with 0: nothing is there, and nothing is gained.

Ties: a ranking has none, as whoever ranks has put equal scores in some order (artray: that of image_id). Where that
order should not matter, :func:`dcg`, :func:`ndcg` and :func:`average_precision` take the scores, too.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]
Bools: TypeAlias = npt.NDArray[np.bool_]
Ints: TypeAlias = npt.NDArray[np.int64]

K: Final = 5
"""Results per query, as in the report."""


class Definition(NamedTuple):
    """One of the discounted cumulative gains that are in use."""

    gain: Literal["linear", "exponential"] = "linear"
    """What a relevance r is worth: r, or 2^r - 1."""
    base: float | None = None
    """None: the result of rank i counts 1 / log2(1 + i). A number b: 1 / log_b(i), and in full where i < b."""


REPORT: Final = Definition("linear", 10.0)
"""Relevances 3, 2, 1 as they are, and nothing discounted among the first ten: see :func:`dcg`."""

STANDARD: Final = Definition("linear", None)
EXPONENTIAL: Final = Definition("exponential", None)

NDCGS: Final[Mapping[str, Definition]] = MappingProxyType(
    {"ndcg_report": REPORT, "ndcg": STANDARD, "ndcg_exponential": EXPONENTIAL}
)


def discounts(count: int, base: float | None = None) -> Floats:
    """What the results of ranks 1 to ``count`` count: float64[count] in (0, 1], falling.

    Args:
        count: how many.
        base: as of :class:`Definition`.

    Raises:
        ValueError: a base of 1 or less.

    Source: Järvelin and Kekäläinen, Cumulated Gain-Based Evaluation of IR Techniques (2002), section 2.2, of a base;
        Burges et al. (2005) and scikit-learn without one.

    >>> discounts(3).round(3).tolist(), discounts(3, 2.0).round(3).tolist(), discounts(3, 10.0).tolist()
    ([1.0, 0.631, 0.5], [1.0, 1.0, 0.631], [1.0, 1.0, 1.0])
    """
    if base is not None and base <= 1:
        raise ValueError(f"base: expected more than 1, got {base}")
    ranks = np.arange(1, count + 1, dtype=np.float64)
    found: Floats = 1 / np.log2(ranks + 1) if base is None else 1 / np.maximum(np.log(ranks) / np.log(base), 1)
    return found


def dcg(
    relevances: npt.ArrayLike, k: int = K, definition: Definition = STANDARD, scores: npt.ArrayLike | None = None
) -> Floats:
    """Discounted cumulative gain of the first ``k`` results: the sum of gains, each times its rank's discount.

    What the report's is: it sums the relevance scores 3, 2 and 1 and "had a maximum score of 15" for five results.
    Five times 3 is 15 only if no result of the five is discounted. Among the published definitions that is Järvelin
    and Kekäläinen's with any base from 5 on, so :data:`REPORT` has base 10, which they use, too. With base 2 the
    maximum is 10.69, with the standard discount 8.85, and 20.64 with exponential gains. The report's words that the
    measure "penalizes high relevance images at the end" then describe it in general, on lists of more than ten: of its
    five, the order does not matter. :data:`STANDARD` and :data:`EXPONENTIAL` do penalise it.

    The report's best method has a mean nDCG of 0.55 and an "accumulated score" of 9.38 on 20 queries. No one DCG with
    a maximum of 15 yields both: if 9.38 is its mean, the mean nDCG is at least 9.38 / 15 = 0.63, whatever the ideal.
    So :func:`accumulated` stands on its own: Järvelin and Kekäläinen's cumulated gain, from 5 to 15.

    Args:
        relevances: float[..., N], at least 0, the best result first; or in any order, where scores are given.
        k: how many results count.
        definition: which gains and discounts.
        scores: float[N], of one list. Equal scores share the mean of their gains, which is what a random order of
            them would give on average.

    Returns:
        float64[...]; 0 of an empty list.

    Raises:
        ValueError: a relevance is negative or not finite, k < 1, or scores are not of one list.

    Source: report, Image Retrieval, section 6; ties: McSherry and Najork (2008), as scikit-learn has them.

    >>> [round(float(dcg([3, 3, 3, 3, 3], 5, definition)), 2) for definition in (REPORT, STANDARD, EXPONENTIAL)]
    [15.0, 8.85, 20.64]
    """
    if k < 1:
        raise ValueError(f"k: expected at least 1, got {k}")
    gains = _gains(relevances, definition)
    if scores is not None:
        gains = _shared(gains, np.asarray(scores, np.float64))
    first = gains[..., :k]
    found: Floats = (first * discounts(first.shape[-1], definition.base)).sum(axis=-1)
    return found


def ndcg(
    relevances: npt.ArrayLike,
    k: int = K,
    definition: Definition = STANDARD,
    ideal_of: npt.ArrayLike | None = None,
    scores: npt.ArrayLike | None = None,
) -> Floats:
    """DCG / iDCG in [0, 1], where the ideal DCG is that of the best order.

    Args:
        relevances: float[..., N], as of :func:`dcg`.
        k: how many results count.
        definition: which gains and discounts.
        ideal_of: float[..., M], what the ideal is chosen from: the relevances of all results that were judged for the
            query, these N among them (the pool). None: these N, in another order; with :data:`REPORT` that is 1 for
            any list of at most ten.
        scores: as of :func:`dcg`.

    Returns:
        float64[...]; 0 where nothing is relevant.

    Raises:
        ValueError: as of :func:`dcg`, or the results are better than the ideal.

    Source: report, Image Retrieval, Equation 4. With ``ideal_of``, scikit-learn's ndcg_score of all of these.

    >>> float(ndcg([1, 3], ideal_of=[3, 3, 1]).round(3)), float(ndcg([1, 3]).round(3))
    (0.536, 0.797)
    """
    best = -np.sort(-np.asarray(relevances if ideal_of is None else ideal_of, np.float64), axis=-1)
    ideal, found = dcg(best, k, definition), dcg(relevances, k, definition, scores)
    if np.any(found > ideal + 1e-9):
        raise ValueError("ideal_of: expected all judged results, with those of the ranking among them")
    return np.minimum(_ratio(found, ideal), 1.0)


def accumulated(relevances: npt.ArrayLike, k: int = K) -> Floats:
    """The sum of the first ``k`` relevances: from 5 to 15 for five results of 3, 2 or 1.

    Source: the report's "accumulated score", taken for the cumulated gain of Järvelin and Kekäläinen (2002).
    """
    found: Floats = _gains(relevances, STANDARD)[..., :k].sum(axis=-1)
    return found


def precision_at(relevant: npt.ArrayLike, k: int = K) -> Floats:
    """The share of relevant ones among the first ``k``: of bool[..., N], float64[...] in [0, 1].

    A list that is shorter than ``k`` is filled up with results that are not relevant.

    >>> float(precision_at([True, False, True, True], 5))
    0.6
    """
    found: Floats = _hits(relevant, k) / k
    return found


def recall_at(relevant: npt.ArrayLike, total: npt.ArrayLike, k: int = K) -> Floats:
    """The share of all relevant ones that is among the first ``k``.

    Args:
        relevant: bool[..., N], the best result first.
        total: int[...], how many relevant ones there are, in the list or not.
        k: how many results count.

    Returns:
        float64[...] in [0, 1]; 0 where there are none.
    """
    return _ratio(_hits(relevant, k), np.asarray(total, np.float64))


def hit_at(relevant: npt.ArrayLike, k: int = K) -> Floats:
    """1 where one of the first ``k`` is relevant, else 0: what metric learning calls recall@k."""
    found: Floats = (_hits(relevant, k) > 0).astype(np.float64)
    return found


def r_precision(relevant: npt.ArrayLike, total: npt.ArrayLike) -> Floats:
    """The share of relevant ones among the first R, where R is how many there are in all; 0 where there are none.

    Args:
        relevant: bool[..., N], the best result first.
        total: int[...], R.
    """
    there, count = np.asarray(relevant, np.bool_), np.asarray(total, np.int64)
    first = np.arange(there.shape[-1]) < count[..., None]
    return _ratio((there & first).sum(axis=-1).astype(np.float64), count.astype(np.float64))


def reciprocal_rank(relevant: npt.ArrayLike) -> Floats:
    """1 / the rank of the first relevant one: of bool[..., N], float64[...] in [0, 1]; 0 where there is none."""
    there = np.asarray(relevant, np.bool_)
    if not there.shape[-1]:
        return np.zeros(there.shape[:-1])
    found: Floats = there.any(axis=-1) / (there.argmax(axis=-1) + 1.0)
    return found


def average_precision(
    relevant: npt.ArrayLike, total: npt.ArrayLike | None = None, scores: npt.ArrayLike | None = None
) -> Floats:
    """The mean, over all relevant ones, of the precision at their ranks; those that were not retrieved have 0.

    The mean over queries is mAP.

    Args:
        relevant: bool[..., N], the best result first; or in any order, where scores are given.
        total: int[...], how many relevant ones there are; None: those in the list.
        scores: float[N], of one list. Equal scores are one step, as in scikit-learn's average_precision_score.

    Returns:
        float64[...] in [0, 1]; 0 where there are none.

    Raises:
        ValueError: scores are not of one list.

    >>> float(average_precision([True, False, True]).round(3))  # (1/1 + 2/3) / 2
    0.833
    """
    there = np.asarray(relevant, np.bool_)
    ends: Ints = np.arange(there.shape[-1])
    if scores is not None:
        order = _order(there, np.asarray(scores, np.float64))
        there, falling = there[order], -np.asarray(scores, np.float64)[order]
        ends = np.searchsorted(falling, falling, side="right") - 1
    precisions = np.cumsum(there, axis=-1)[..., ends] / (ends + 1.0)
    count = there.sum(axis=-1) if total is None else np.asarray(total)
    return _ratio((precisions * there).sum(axis=-1), count.astype(np.float64))


def agreement(ratings: npt.ArrayLike) -> float:
    """Krippendorff's alpha of ordinal ratings: 1 where judges agree, 0 where they do so by chance only, or less.

    Args:
        ratings: float[J, U] of J judges and U things; NaN where a judge did not rate.

    Returns:
        At most 1; NaN where it is not defined: nothing was rated by two, or whatever was has the same rating.

    Source: Krippendorff, Computing Krippendorff's Alpha-Reliability (2011), section D, with the ordinal metric: the
        squared distance of two values' mean ranks among all ratings.

    >>> agreement([[1, 2, 3, 3], [1, 2, 3, np.nan]])
    1.0
    """
    table = np.asarray(ratings, np.float64)
    table = table[:, np.count_nonzero(~np.isnan(table), axis=0) > 1] if table.size else np.empty((0, 0))
    values = np.unique(table[~np.isnan(table)])
    if len(values) < 2:
        return float("nan")
    said = (table[..., None] == values).sum(axis=0).astype(np.float64)  # how many judges gave a thing each value
    pairs = said[:, :, None] * (said[:, None, :] - np.eye(len(values)))  # every judge with every other one
    coincidences = (pairs / (said.sum(axis=1) - 1)[:, None, None]).sum(axis=0)
    counts = coincidences.sum(axis=1)
    ranks = np.cumsum(counts) - counts / 2
    distances = np.square(ranks[:, None] - ranks)
    chance = (np.outer(counts, counts) * distances).sum() / (counts.sum() - 1)
    return float(1 - (coincidences * distances).sum() / chance)


def _gains(relevances: npt.ArrayLike, definition: Definition) -> Floats:
    """What relevances are worth: float64[..., N], at least 0."""
    table = np.asarray(relevances, np.float64)
    if not (np.isfinite(table) & (table >= 0)).all():
        raise ValueError("relevances: expected finite numbers of at least 0")
    return table if definition.gain == "linear" else np.exp2(table) - 1


def _shared(gains: Floats, scores: Floats) -> Floats:
    """Gains by falling score, those of equal scores replaced by their mean."""
    order = _order(gains, scores)
    _, group = np.unique(scores, return_inverse=True)
    means = np.bincount(group, gains) / np.bincount(group) if len(group) else gains
    shared: Floats = means[group][order] if len(group) else gains
    return shared


def _order(ranked: npt.NDArray[np.generic], scores: Floats) -> Ints:
    """Where results stand by falling score; equal ones as they were."""
    if ranked.ndim != 1 or scores.shape != ranked.shape:
        raise ValueError(f"scores: expected those of one list of {ranked.shape}, got {scores.shape}")
    return np.argsort(-scores, kind="stable")


def _hits(relevant: npt.ArrayLike, k: int) -> Floats:
    if k < 1:
        raise ValueError(f"k: expected at least 1, got {k}")
    found: Floats = np.asarray(relevant, np.bool_)[..., :k].sum(axis=-1).astype(np.float64)
    return found


def _ratio(above: Floats, below: Floats) -> Floats:
    """``above / below``, and 0 where ``below`` is 0."""
    return np.divide(above, below, out=np.zeros(np.broadcast(above, below).shape), where=below > 0)
