"""Rank a whole matrix of embeddings for many queries at once, some queries at a time.

Fast enough for some ten thousand works: cosine and Euclidean similarities are products of float32 matrices, chi-square
looks at the words that a query has, and no others. Scores to be shown are computed anew, by
:mod:`artray.retrieve.metrics`: see :func:`nearest`.
"""

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from artray.retrieve import metrics

Floats: TypeAlias = NDArray[np.float32]
Doubles: TypeAlias = NDArray[np.float64]
Bools: TypeAlias = NDArray[np.bool_]
Ints: TypeAlias = NDArray[np.int64]
Closeness: TypeAlias = Callable[[Floats], Floats]
"""From queries float32[B, D] to float32[B, C]: the higher, the closer a candidate."""

ROWS: Final = 256
"""Queries of a block."""

COLUMNS: Final = 1_024
"""Histograms that a query is compared with at a time: what stays in a processor's cache."""

LAST: Final = np.iinfo(np.int32).max
SIGN_ASIDE: Final = np.int32(LAST)


class Nearest(NamedTuple):
    """The most similar candidates of each query, the best first; equal ones in their own order."""

    columns: Ints  # int64[Q, k]: places among the candidates; -1 where there are no more
    scores: Doubles  # float64[Q, k]: similarities of at most 1; NaN there


def closeness(metric: str, candidates: Floats) -> Closeness:
    """How close candidates are to queries, in the order of their similarity.

    What is returned for queries float32[B, D] is float32[B, C]: the similarity, rounded as elsewhere; under
    ``euclidean`` the negative square of the distance, for similarities that are all near 0 would lose their
    differences.

    Args:
        metric: one of :data:`artray.retrieve.metrics.METRICS`.
        candidates: float32[C, D]; under ``chi_square`` histograms that sum to 1, as the queries.

    Raises:
        KeyError: an unknown metric.
        ValueError: not a matrix of finite values, or a histogram with negative ones.
    """
    compare = {"cosine": _cosine, "euclidean": _euclidean, "chi_square": _chi_square}[metric]
    if candidates.ndim != 2 or not np.isfinite(candidates).all():
        raise ValueError(f"embeddings: expected a matrix of finite values, got shape {candidates.shape}")
    return compare(candidates)


def blocks(queries: Floats, compare: Closeness, rows: int = ROWS) -> Iterator[tuple[slice, Floats]]:
    """Some queries at a time: which ones of float32[Q, D], and how close all candidates are to them."""
    for start in range(0, len(queries), rows):
        part = slice(start, min(start + rows, len(queries)))
        yield part, compare(queries[part])


def ranking(close: Floats, left_out: Bools | None = None) -> Ints:
    """Candidates by falling closeness; equal ones in their own order, those left out last.

    Args:
        close: float32[B, C], finite.
        left_out: bool[B, C].

    Returns:
        int64[B, C]: a permutation of the columns in every row.

    >>> ranking(np.array([[0.5, 0.9, 0.5]], np.float32)).tolist()
    [[1, 0, 2]]
    """
    bits = (0 - close).view(np.int32)  # 0 - x, for -x would make a negative zero of zero
    falling = np.where(bits < 0, bits ^ SIGN_ASIDE, bits).astype(np.int64)  # as integers, in the order of the floats
    if left_out is not None:
        falling[left_out] = LAST
    keys = (falling << 32) | np.arange(close.shape[1])  # integers are sorted several times faster than by argsort
    keys.sort(axis=1)
    order: Ints = keys & LAST
    return order


def nearest(queries: Floats, candidates: Floats, k: int, metric: str = "cosine", own: Ints | None = None) -> Nearest:
    """The ``k`` most similar candidates of each query, with the scores that a store would give them.

    Args:
        queries: float32[Q, D].
        candidates: float32[C, D].
        k: how many.
        metric: one of :data:`artray.retrieve.metrics.METRICS`.
        own: int64[Q], the column that is the query itself and not among its results; -1 for none.

    Raises:
        KeyError, ValueError: as of :func:`closeness`.
    """
    columns, scores = np.full((len(queries), k), -1, np.int64), np.full((len(queries), k), np.nan)
    itself = np.full(len(queries), -1) if own is None else own
    for part, close in blocks(queries, closeness(metric, candidates)):
        left_out = itself[part, None] == np.arange(len(candidates))
        order = ranking(close, left_out)[:, : max(20, 4 * k)]
        for row, first in enumerate(order, part.start):
            kept = np.sort(first[first != itself[row]])
            exact = metrics.similarities(metric, candidates[kept], queries[row])
            best = np.argsort(-exact, kind="stable")[:k]
            columns[row, : len(best)], scores[row, : len(best)] = kept[best], exact[best]
    return Nearest(columns, scores)


def _unit(matrix: Floats) -> Floats:
    norms = np.linalg.norm(matrix, axis=1, keepdims=True)
    unit: Floats = matrix / np.where(norms > 0, norms, np.float32(1))
    return unit


def _cosine(candidates: Floats) -> Closeness:
    turned = _unit(candidates).T

    def compare(queries: Floats) -> Floats:
        found: Floats = np.round(_unit(queries) @ turned, metrics.DIGITS)
        return found

    return compare


def _euclidean(candidates: Floats) -> Closeness:
    centre = candidates.mean(axis=0) if len(candidates) else np.float32(0)  # small numbers lose fewer digits
    shifted = candidates - centre
    squares = np.square(shifted).sum(axis=1)

    def compare(queries: Floats) -> Floats:
        own = queries - centre
        found: Floats = 2 * (own @ shifted.T) - squares - np.square(own).sum(axis=1, keepdims=True)
        return np.minimum(found, 0)

    return compare


def _chi_square(candidates: Floats) -> Closeness:
    """Of histograms with the sums A and B, 1 - chi2 / 2 is 1 - (A + B) / 2 + 2 sum(a b / (a + b)): 0 where a is."""
    if (candidates < 0).any():
        raise ValueError("embeddings: expected histograms, got negative values")
    turned, sums = np.ascontiguousarray(candidates.T), candidates.sum(axis=1)

    def compare(queries: Floats) -> Floats:
        found = np.empty((len(queries), len(candidates)), np.float32)
        for row, query in enumerate(queries):
            words = np.flatnonzero(query > 0)
            weights = query[words]
            for start in range(0, len(candidates), COLUMNS):
                theirs = turned[words, start : start + COLUMNS]
                theirs /= theirs + weights[:, None]
                # not @: for products of this size, threads cost more than they save, on a busy machine tenfold
                found[row, start : start + COLUMNS] = 2 * np.einsum("w,wc->c", weights, theirs)
            found[row] += 1 - (query.sum() + sums) / 2
        rounded: Floats = np.round(found, metrics.DIGITS)
        return rounded

    return compare
