"""PCA whitening: embeddings along the axes along which a sample of them varies, each axis counting for as much.

Pure functions. What most embeddings have in common, such as the mean of features that are never negative, is taken off
before they are compared.
"""

from typing import Final, NamedTuple

import numpy as np

from artray.retrieve.metrics import Floats
from artray.retrieve.queries import unit

ROWS: Final = 65_536
"""So many embeddings are whitened at once."""


class Whitening(NamedTuple):
    """A change of axes after which embeddings of the sample vary alike along all of them."""

    mean: Floats
    """float32[D], of the sample."""
    components: Floats
    """float32[K, D], the axes of most variance first, each divided by its standard deviation."""


def learn_whitening(sample: Floats, dim: int | None = None, shrinkage: float = 0.0) -> Whitening:
    """Learn PCA whitening.

    Args:
        sample: float32[N, D], N at least 2; some thousands are enough.
        dim: axes that are kept, the first ones; None for all along which the sample varies.
        shrinkage: in [0, 1]: how far variances are drawn to their mean. With 0 small ones, which are mostly noise,
            count as much as large ones; with 1 axes are turned and nothing is scaled.

    Returns:
        The axes' largest values are positive, so that they are the same every time.

    Raises:
        ValueError: a sample of less than two, a shrinkage outside [0, 1], or more axes than the sample varies along.

    Source: Jegou and Chum (2012), Negative evidences and co-occurences in image retrieval; shrinkage of Ledoit and
    Wolf (2004), with a strength that is given.
    """
    count, width = sample.shape
    if count < 2 or not 0 <= shrinkage <= 1:
        raise ValueError(f"sample and shrinkage: expected two rows and a number in [0, 1], got {count} and {shrinkage}")
    mean = sample.mean(axis=0, dtype=np.float64)
    centred = sample - mean
    values, vectors = np.linalg.eigh(centred.T @ centred / (count - 1))
    values, vectors = np.maximum(values[::-1], 0), vectors[:, ::-1]
    shrunk = (1 - shrinkage) * values + shrinkage * values.mean()
    there = int(np.count_nonzero(shrunk > width * np.finfo(np.float64).eps * shrunk.max(initial=0)))
    if not 1 <= (dim or there) <= there:
        raise ValueError(f"dim: expected 1 to {there}, along which {count} embeddings vary, got {dim}")
    axes = vectors.T[: dim or there]
    largest = axes[np.arange(len(axes)), np.abs(axes).argmax(axis=1)]
    scaled = axes * np.sign(largest)[:, None] / np.sqrt(shrunk[: len(axes), None])
    return Whitening(mean.astype(np.float32), scaled.astype(np.float32))


def whiten(matrix: Floats, whitening: Whitening, scaled: bool = True) -> Floats:
    """Embeddings along the axes of a whitening, to be compared by cosine.

    Args:
        matrix: float32[N, D]; N may be 0.
        whitening: with K components.
        scaled: whether rows are scaled to unit norm; one that is the mean stays zero.

    Returns:
        float32[N, K].
    """
    found = np.empty((len(matrix), len(whitening.components)), np.float32)
    for start in range(0, len(matrix), ROWS):
        rows = (matrix[start : start + ROWS].astype(np.float64) - whitening.mean) @ whitening.components.T
        found[start : start + ROWS] = unit(rows) if scaled else rows
    return found
