"""How two embeddings are compared: pure functions, one name each, as a card's ``metric`` has it.

A similarity is 1 for the same and falls with the distance. Where an index is to propose candidates, ``searchable``
turns embeddings into vectors that it can hold; the candidates' similarities are then computed from the embeddings.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

DIGITS: Final = 6
"""Similarities are rounded to so many, so that neither the order of summation nor the rounding of stored values shows.

Behind the point; of Euclidean ones, which get very small, behind the first that is not 0."""

UNIT_TOLERANCE: Final = 1e-4


def similarities(metric: str, matrix: Floats, query: Floats) -> Doubles:
    """How similar every row is to a query: N values of at most 1, in double precision.

    Args:
        metric: one of :data:`METRICS`.
        matrix: float32[N, D]; N may be 0.
        query: float32[D].

    Raises:
        KeyError: an unknown metric.

    >>> similarities("euclidean", np.array([[3, 4], [0, 0]], np.float32), np.zeros(2, np.float32)).tolist()
    [0.1666667, 1.0]
    """
    exact = METRICS[metric](matrix.astype(np.float64), query.astype(np.float64))
    scale = 10.0 ** np.floor(np.log10(exact)) if metric == "euclidean" else 1.0
    found: Doubles = np.round(exact / scale, DIGITS) * scale
    return found


def cosine(matrix: Doubles, query: Doubles) -> Doubles:
    """The cosine of the angle between a row and the query, in [-1, 1]; 0 where one of them is all zero."""
    norms = np.linalg.norm(matrix, axis=-1) * np.linalg.norm(query)
    found: Doubles = np.clip((matrix @ query) / np.where(norms > 0, norms, 1), -1, 1)
    return found


def euclidean(matrix: Doubles, query: Doubles) -> Doubles:
    """1 / (1 + d) in (0, 1], of the Euclidean distance d.

    Source: report, Image Retrieval, Equation 2: works are ranked by its square, of matrices that of Frobenius.
    """
    found: Doubles = 1 / (1 + np.sqrt(np.square(matrix - query).sum(axis=-1)))
    return found


def chi_square(matrix: Doubles, query: Doubles) -> Doubles:
    """1 - chi2 / 2 of histograms that sum to 1, in [0, 1], where chi2 is the sum of (a - b)^2 / (a + b).

    As (a - b)^2 / (a + b) = a + b - 4 a b / (a + b), only what is in the query needs to be looked at one by one: of
    bags of visual words about a third.

    Source: report, Image Retrieval, section 5.2; the distance of Vedaldi and Zisserman (2012), section 2, doubled.
    """
    occupied = query > 0
    inside, wanted = matrix[..., occupied], query[occupied]
    shared = (inside * wanted / (inside + wanted)).sum(axis=-1)
    found: Doubles = 1 - (matrix.sum(axis=-1) + query.sum()) / 2 + 2 * shared
    return found


METRICS: Final[Mapping[str, Callable[[Doubles, Doubles], Doubles]]] = MappingProxyType(
    {"cosine": cosine, "euclidean": euclidean, "chi_square": chi_square}
)


def searchable(metric: str, matrix: Floats) -> Floats:
    """float32[N, D] that an index can hold: nearest by inner product, or of ``euclidean`` by Euclidean distance.

    Under ``cosine`` rows get unit norm; those that have it stay what they are, bit for bit. Of histograms the roots
    are taken: their inner product is Hellinger's, which ranks nearly as chi-square does.

    Source: Vedaldi and Zisserman (2012), Table 1, of the kernels that are alike; Arandjelovic and Zisserman (2012).
    """
    if metric == "euclidean":
        return matrix
    values: Any = np.sqrt(np.maximum(matrix, 0)) if metric == "chi_square" else matrix
    norms = np.sqrt(np.einsum("nd,nd->n", values, values, dtype=np.float64))[:, None]
    other = (norms > 0) & (np.abs(norms - 1) > UNIT_TOLERANCE)
    if not other.any():  # a query has it, and this is on its way
        return np.asarray(values, np.float32)
    unit: Floats = (values / np.where(other, norms, 1)).astype(np.float32)
    return unit


def recovered(metric: str, vectors: Floats) -> Floats:
    """The embeddings float32[N, D] whose :func:`searchable` vectors these are: under ``cosine`` their direction.

    >>> histogram = np.array([[0.25, 0.75]], np.float32)
    >>> recovered("chi_square", searchable("chi_square", histogram)).round(6).tolist()
    [[0.25, 0.75]]
    """
    return np.square(vectors) if metric == "chi_square" else vectors
