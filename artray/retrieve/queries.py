"""Queries of more than one picture: several, with what the first search found, like these and unlike those.

Pure functions. Where a vector is what is searched for, an index can be asked for it; where it is similarities that are
put together, any metric will do.
"""

from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from artray.retrieve.metrics import Doubles, Floats, similarities

ALPHA: Final = 3.0
"""Of alpha query expansion. Source: Radenovic, Tolias and Chum (2018)."""


def several(scores: ArrayLike, how: Literal["mean", "max"] = "mean") -> Doubles:
    """How similar works are to several query images: to all of them (``mean``), or to any (``max``).

    Args:
        scores: [Q, N], Q at least 1.
        how: which.

    Returns:
        float64[N], the same whatever the order of the images.

    Raises:
        ValueError: no image.

    >>> several([[0.5, 0.25], [0.0, 0.75]]).tolist(), several([[0.5, 0.25], [0.0, 0.75]], "max").tolist()
    ([0.25, 0.5], [0.5, 0.75])
    """
    table = np.sort(np.asarray(scores, np.float64), axis=0)
    if not len(table):
        raise ValueError("scores: expected those of at least one query image, got none")
    found: Doubles = table[-1] if how == "max" else table.sum(axis=0) / len(table)
    return found


def expanded(query: Floats, found: Floats, alpha: float = 0.0, metric: str = "cosine") -> Floats:
    """A query with the best works that it found added to it: what these share counts for more in the next search.

    Args:
        query: float32[D].
        found: float32[K, D], embeddings of the best works; K may be 0.
        alpha: 0 for average query expansion; else each work weighs its similarity to this power (:data:`ALPHA`).
        metric: of the method, as in its card.

    Returns:
        float32[D]: the weighted mean, the query weighing 1, as the metric has its embeddings.

    Raises:
        ValueError: they cancel each other out.

    Source: Chum et al. (2007), Total recall; Radenovic, Tolias and Chum (2018), Fine-tuning CNN image retrieval with no
    human annotation.
    """
    alike = np.maximum(similarities(metric, found, query), 0) ** alpha
    rows = _comparable(np.vstack([query[None], found]), metric)
    return _embedding((rows * np.array([1, *alike])[:, None]).sum(axis=0) / (1 + alike.sum()), metric)


class Rocchio(NamedTuple):
    """How much the parts of a query count for.

    Source: Rocchio (1971); values of Manning, Raghavan and Schuetze (2008), section 9.1.1.
    """

    query: float = 1.0
    like: float = 0.75
    unlike: float = 0.15


ROCCHIO: Final = Rocchio()
"""The usual weights."""


def rocchio(query: Floats, like: Floats, unlike: Floats, weights: Rocchio = ROCCHIO, metric: str = "cosine") -> Floats:
    """A query moved towards works like which others are wanted, and away from works unlike which.

    Args:
        query: float32[D].
        like: float32[P, D]; P may be 0.
        unlike: float32[U, D]; U may be 0.
        weights: of the query, and of the mean of either.
        metric: of the method, as in its card.

    Returns:
        float32[D], as the metric has its embeddings: of unit norm under ``cosine``; without negative values and of sum
        1 under ``chi_square``; under ``euclidean`` divided by the sum of the signed weights.

    Raises:
        ValueError: the parts cancel each other out.
    """
    parts = [(weights.query, query[None]), (weights.like, like), (-weights.unlike, unlike)]
    there = [(weight, _comparable(rows, metric).mean(axis=0)) for weight, rows in parts if len(rows)]
    total = sum(weight for weight, _ in there)
    if metric == "euclidean" and total <= 0:
        raise ValueError(f"weights: expected more for what is wanted than for what is not, got {weights}")
    moved = np.sum([weight * row for weight, row in there], axis=0)
    return _embedding(moved / (total if metric == "euclidean" else 1.0), metric)


def unlike(scores: ArrayLike, unwanted: ArrayLike, weight: float = 0.15) -> Doubles:
    """Similarities less what works have of the unwanted ones: for any metric, and without a vector of their difference.

    Args:
        scores: N similarities to what is wanted.
        unwanted: [U, N] similarities to U works that are not; U may be 0.
        weight: of the most similar of these.

    Returns:
        float64[N].

    >>> unlike([0.75, 0.75, 0.5], [[1.0, 0.0, 0.0]], weight=0.5).tolist()
    [0.25, 0.75, 0.5]
    """
    table = np.asarray(unwanted, np.float64)
    most = table.max(axis=0) if len(table) else 0.0
    found: Doubles = np.asarray(scores, np.float64) - weight * most
    return found


def unit(rows: Doubles) -> Doubles:
    """Rows of [..., D] scaled to unit norm; one that is all zero stays so."""
    norms = np.linalg.norm(rows, axis=-1, keepdims=True)
    return np.asarray(rows / np.where(norms > 0, norms, 1), np.float64)


def _comparable(rows: Floats, metric: str) -> Doubles:
    """Embeddings in double precision, of unit norm where only their direction counts."""
    doubles = rows.astype(np.float64)
    return unit(doubles) if metric == "cosine" else doubles


def _embedding(values: Doubles, metric: str) -> Floats:
    """A vector as the metric has its embeddings."""
    if metric == "euclidean":
        return values.astype(np.float32)
    whole = np.maximum(values, 0) if metric == "chi_square" else values
    size = whole.sum() if metric == "chi_square" else np.linalg.norm(whole)
    if size < np.finfo(np.float32).eps:
        raise ValueError("query: expected something to look for, got parts that cancel each other out")
    return np.asarray(whole / size, np.float32)
