"""Rankings, and several methods' made one: pure functions.

A score is the better the higher, of whatever method. Works with equal scores follow in the order of their ids, and what
methods of equal weight say does not depend on the order of the methods, not by one bit: a ranking is the same whenever
it is made. A method that says nothing of a work has NaN for it.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from artray.retrieve.metrics import Doubles

Ids: TypeAlias = "Sequence[str] | NDArray[Any]"
"""Of N works; what they are is of no matter, only their order."""

Weights: TypeAlias = "Sequence[float] | None"
"""Of M methods, at least 0, not all 0; None: all weigh 1."""

RANK_OFFSET: Final = 60.0
"""Of reciprocal rank fusion. Source: Cormack, Clarke and Buettcher (2009), who found it by trial."""


def order(scores: ArrayLike, ids: Ids) -> NDArray[np.int64]:
    """The works that have a score, the best first, works of equal scores in the order of their ids.

    Args:
        scores: N numbers, NaN where there is none; N may be 0.
        ids: of the N works.

    Returns:
        int64[K] of indices into both, K at most N.

    Raises:
        ValueError: as many ids as scores are expected.

    >>> order([0.5, 0.9, 0.5, float("nan")], ["d", "c", "b", "a"]).tolist()
    [1, 2, 0]
    """
    values = np.asarray(scores, np.float64)
    if values.shape != (len(ids),):
        raise ValueError(f"scores: expected one for each of {len(ids)} ids, got shape {values.shape}")
    best: NDArray[np.int64] = np.lexsort((_places(ids), -values))
    return best[: np.count_nonzero(~np.isnan(values))]


def _places(ids: Ids) -> NDArray[np.int64]:
    """Of each id, how many come before it."""
    places = np.empty(len(ids), np.int64)
    places[np.argsort(np.asarray(ids), kind="stable")] = np.arange(len(ids))
    return places


def ranks(scores: ArrayLike, ids: Ids) -> Doubles:
    """The place of every work by every method, 1 for the best.

    Args:
        scores: [M, N], NaN where a method does not list a work.
        ids: of the N works.

    Returns:
        float64[M, N], NaN likewise.

    Raises:
        ValueError: scores are infinite, or not as many as ids.

    >>> ranks([[0.1, 0.7, 0.7]], ["a", "c", "b"]).tolist()
    [[3.0, 2.0, 1.0]]
    """
    table = _table(scores)
    found = np.full(table.shape, np.nan)
    for row, given in zip(found, table, strict=True):
        best = order(given, ids)
        row[best] = np.arange(1, len(best) + 1)
    return found


def ranks_of_lists(rankings: Sequence[Sequence[str]]) -> tuple[list[str], Doubles]:
    """What :func:`ranks` gives, of rankings given as lists of ids, the best first, each of some of the works.

    Returns:
        The N ids that are in any of them, sorted; float64[M, N], NaN where one is not in a list.

    Raises:
        ValueError: an id is twice in a list.

    >>> ranks_of_lists([["b", "a"], ["c", "a"]])
    (['a', 'b', 'c'], array([[ 2.,  1., nan],
           [ 2., nan,  1.]]))
    """
    ids = sorted({name for ranking in rankings for name in ranking})
    column = {name: place for place, name in enumerate(ids)}
    found = np.full((len(rankings), len(ids)), np.nan)
    for row, ranking in zip(found, rankings, strict=True):
        if len(set(ranking)) != len(ranking):
            twice = next(name for name in ranking if list(ranking).count(name) > 1)
            raise ValueError(f"ranking: expected every id once, got {twice!r} twice")
        row[[column[name] for name in ranking]] = np.arange(1, len(ranking) + 1)
    return ids, found


def reciprocal_rank(ranks: Doubles, weights: Weights = None, k: float = RANK_OFFSET) -> Doubles:
    """The sum of w / (k + rank) over the methods that list a work; one that none lists has 0.

    Args:
        ranks: float64[M, N] from 1 on, NaN where a method does not list a work.
        weights: of the M methods.
        k: at least 0; the larger, the less the first places count for.

    Returns:
        float64[N], higher is better.

    Raises:
        ValueError: weights that are none.

    Source: Cormack, Clarke and Buettcher (2009), Reciprocal rank fusion outperforms Condorcet.

    >>> reciprocal_rank(np.array([[1.0, 2.0], [1.0, np.nan]]), k=1).tolist()
    [1.0, 0.3333333333333333]
    """
    return _sum(np.nan_to_num(1 / (k + ranks), nan=0.0) * _column(weights, len(ranks)))


def borda(ranks: Doubles, weights: Weights = None) -> Doubles:
    """The mean of the points that the methods give: N - rank, and an equal share of what is left to works not listed.

    Args:
        ranks: as in :func:`reciprocal_rank`.
        weights: of the M methods.

    Returns:
        float64[N] in [0, N - 1], higher is better.

    Raises:
        ValueError: weights that are none.

    Source: Aslam and Montague (2001), Models for metasearch, of de Borda (1781).

    >>> borda(np.array([[1.0, 2.0, np.nan, np.nan]])).tolist()
    [3.0, 2.0, 0.5, 0.5]
    """
    return _mean(ranks.shape[1] - _complete(ranks), weights)


def median_rank(ranks: Doubles, weights: Weights = None) -> Doubles:
    """Minus the median of a work's ranks, of which works not listed share what is left equally.

    Args:
        ranks: as in :func:`reciprocal_rank`.
        weights: a median knows none: all the same.

    Returns:
        float64[N] in [-N, -1], higher is better.

    Raises:
        ValueError: weights that differ.

    Source: Fagin, Kumar and Sivakumar (2003), Efficient similarity search and classification via rank aggregation.

    >>> median_rank(np.array([[1.0, 2.0, 3.0], [3.0, 1.0, 2.0], [3.0, 1.0, 2.0]])).tolist()
    [-3.0, -1.0, -2.0]
    """
    if len(np.unique(_column(weights, len(ranks)))) > 1:
        raise ValueError(f"weights: expected none, as a median knows none, got {weights}")
    return np.asarray(-np.median(_complete(ranks), axis=0), np.float64)


def min_max(scores: ArrayLike, weights: Weights = None) -> Doubles:
    """The mean of the methods' scores, each method's stretched over [0, 1]; works that it does not list have its least.

    A method that scores all works alike says nothing: 0 for each.

    Args:
        scores: [M, N], NaN where a method does not list a work.
        weights: of the M methods.

    Returns:
        float64[N] in [0, 1], higher is better.

    Raises:
        ValueError: weights that are none, or infinite scores.

    Source: Fox and Shaw (1994), CombSUM, with the normalisation of Lee (1997).

    >>> min_max([[2.0, 4.0, 3.0], [0.5, 0.1, float("nan")]]).tolist()
    [0.5, 0.5, 0.25]
    """
    return _mean(_each(_stretched, _table(scores)), weights)


def z_score(scores: ArrayLike, weights: Weights = None) -> Doubles:
    """The mean of the methods' scores, each method's shifted and scaled to mean 0 and standard deviation 1.

    Args:
        scores: [M, N], NaN where a method does not list a work: it then has the least of those that are listed.
        weights: of the M methods.

    Returns:
        float64[N], higher is better.

    Raises:
        ValueError: weights that are none, or infinite scores.

    Source: Montague and Aslam (2001), Relevance score normalization for metasearch (ZMUV).

    >>> z_score([[2.0, 4.0]]).tolist()
    [-1.0, 1.0]
    """
    return _mean(_each(_standardised, _table(scores)), weights)


RANKED: Final[Mapping[str, Callable[[Doubles, Weights], Doubles]]] = MappingProxyType(
    {"reciprocal_rank": reciprocal_rank, "borda": borda, "median_rank": median_rank}
)
"""Ways to fuse what methods rank, by name."""

SCORED: Final[Mapping[str, Callable[[ArrayLike, Weights], Doubles]]] = MappingProxyType(
    {"min_max": min_max, "z_score": z_score}
)
"""Ways to fuse what methods score, by name."""


def fuse(how: str, scores: ArrayLike, ids: Ids, weights: Weights = None) -> Doubles:
    """What several methods say together, float64[N]; :func:`order` makes a ranking of it.

    Args:
        how: one of :data:`RANKED` or :data:`SCORED`.
        scores: [M, N], M at least 1, NaN where a method does not list a work.
        ids: of the N works.
        weights: of the M methods; ``median_rank`` knows none.

    Raises:
        KeyError: an unknown way.
        ValueError: shapes that do not agree, infinite scores, or weights that are none.

    Source: report, Image Retrieval, section 6: an ensemble of models, without saying how it was made.
    """
    return RANKED[how](ranks(scores, ids), weights) if how in RANKED else SCORED[how](scores, weights)


def _table(scores: ArrayLike) -> Doubles:
    """Scores as float64[M, N], NaN among them but nothing infinite."""
    table = np.asarray(scores, np.float64)
    if table.ndim != 2 or np.isinf(table).any():
        raise ValueError(f"scores: expected [methods, works] and nothing infinite, got shape {table.shape}")
    return table


def _column(weights: Weights, count: int) -> Doubles:
    """Weights of methods as float64[M, 1]."""
    column = np.ones(count) if weights is None else np.asarray(weights, np.float64)
    if column.shape != (count,) or not np.isfinite(column).all() or (column < 0).any() or not column.any():
        raise ValueError(f"weights: expected {count} of at least 0, not all 0, got {column.tolist()}")
    return column[:, None]


def _sum(parts: Doubles) -> Doubles:
    """float64[N] of float64[M, N]: summed from the least on, so that the order of methods does not show."""
    found: Doubles = np.sort(parts, axis=0).sum(axis=0)
    return found


def _mean(parts: Doubles, weights: Weights) -> Doubles:
    column = _column(weights, len(parts))
    return _sum(parts * (column / column.sum()))


def _complete(ranks: Doubles) -> Doubles:
    """Ranks with those of works that a method does not list: the mean of the places that it leaves."""
    listed = np.count_nonzero(~np.isnan(ranks), axis=1)
    left = (listed + 1 + ranks.shape[1]) / 2
    return np.where(np.isnan(ranks), left[:, None], ranks)


def _each(change: Callable[[Doubles], Doubles], table: Doubles) -> Doubles:
    """The methods' scores, changed one method at a time."""
    return np.array([change(row) for row in table], np.float64).reshape(table.shape)


def _stretched(row: Doubles) -> Doubles:
    given = row[~np.isnan(row)]
    if not given.size or given.min() == given.max():
        return np.zeros_like(row)
    return np.asarray(np.nan_to_num((row - given.min()) / (given.max() - given.min()), nan=0.0), np.float64)


def _standardised(row: Doubles) -> Doubles:
    given = row[~np.isnan(row)]
    if not given.size or given.min() == given.max():
        return np.zeros_like(row)
    scaled = (row - given.mean()) / given.std()
    return np.asarray(np.nan_to_num(scaled, nan=float(np.nanmin(scaled))), np.float64)
