"""Descriptors D x D made short: a tensor sketch, which needs no learning, and principal components.

Pure functions of NumPy arrays, in double precision.
"""

from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float32]
Doubles: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]


class Sketch(NamedTuple):
    """Where the channels of A and of C go, and with which sign."""

    buckets: Ints  # int64[2, D] in [0, K)
    signs: Doubles  # float64[2, D], 1 or -1
    dim: int  # K


def sketch(channels: int, dim: int, seed: int = 0) -> Sketch:
    """A sketch by a seed: the same for ever, whatever the version of NumPy.

    Args:
        channels: D.
        dim: K, what D x D values are sketched in.
        seed: another one sketches otherwise; sketches of two seeds cannot be compared.

    Source: Pham and Pagh, Fast and scalable polynomial kernels via explicit feature maps (2013), section 3.2.
    """
    # A generator's own integers may change with NumPy's version, a bit generator's raw words never do.
    words = np.random.PCG64(seed).random_raw(2 * channels).reshape(2, channels)
    buckets = ((words >> np.uint64(32)) % np.uint64(dim)).astype(np.int64)
    signs = 1.0 - 2.0 * (words & np.uint64(1)).astype(np.float64)
    return Sketch(buckets, signs, dim)


def count_sketch(rows: Doubles, buckets: Ints, signs: Doubles, dim: int) -> Doubles:
    """float64[N, K]: every value of float64[N, D], by its sign, added up where its bucket is.

    Source: Pham and Pagh (2013), Definition 2.

    >>> count_sketch(np.array([[1.0, 2.0, 4.0]]), np.array([1, 0, 1]), np.array([1.0, -1.0, -1.0]), 2)
    array([[-2., -3.]])
    """
    found = np.zeros((dim, len(rows)))
    np.add.at(found, buckets, (rows * signs).T)
    by_row: Doubles = found.T
    return by_row


def tensor_sketch(first: Doubles, second: Doubles, by: Sketch) -> Doubles:
    """float64[K]: a sketch of the sum over N places of the outer products of ``first`` and ``second``, never made.

    The inner product of two sketches is that of the two sums on average over seeds, and the nearer the larger K.

    Args:
        first: float64[N, D].
        second: float64[N, D]; N may be 0, which gives zeros.
        by: of D channels.

    Source: Gao et al., Compact bilinear pooling (2016), Algorithm 2; the sum is taken before the way back from
    frequencies, which is linear.
    """
    parts = [
        np.fft.rfft(count_sketch(rows, buckets, signs, by.dim), axis=1)
        for rows, buckets, signs in zip((first, second), by.buckets, by.signs, strict=True)
    ]
    found: Doubles = np.fft.irfft((parts[0] * parts[1]).sum(axis=0), n=by.dim)
    return found


class Pca(NamedTuple):
    """Principal components, as they are kept."""

    mean: Floats  # float32[P]
    components: Floats  # float32[K, P], orthonormal rows, the largest variance first


def learn(rows: NDArray[np.floating], dim: int) -> Pca:
    """The principal components of a sample.

    Args:
        rows: float[N, P], in memory as doubles; P may be much larger than N.
        dim: K, less than N.

    Raises:
        ValueError: K is not less than N, or the sample varies in fewer directions.
    """
    if not 0 < dim < len(rows):
        raise ValueError(f"dim: expected less than the {len(rows)} rows of the sample, got {dim}")
    own = np.asarray(rows, np.float64)
    mean = own.mean(axis=0)
    centred = own - mean
    values, vectors = np.linalg.eigh(centred @ centred.T)  # N x N: P x P would not fit in memory
    values, vectors = values[::-1][:dim], vectors[:, ::-1][:, :dim]
    if values[-1] <= 1e-12 * values[0]:
        raise ValueError(f"dim: expected rows that vary in {dim} directions, got {int((values > 0).sum())} at most")
    components = (vectors / np.sqrt(values)).T @ centred
    largest = np.abs(components).argmax(axis=1)
    components *= np.sign(components[np.arange(dim), largest])[:, None]  # else the sign were the library's
    return Pca(mean.astype(np.float32), components.astype(np.float32))


def project(pca: Pca, row: Doubles) -> Doubles:
    """float64[K]: where a descriptor float64[P] lies along the components."""
    found: Doubles = pca.components.astype(np.float64) @ (row - pca.mean)
    return found


def powered(row: Doubles, exponent: float) -> Doubles:
    """Values to a power, their signs kept.

    >>> powered(np.array([4.0, -9.0, 0.0]), 0.5).tolist()
    [2.0, -3.0, 0.0]
    """
    found: Doubles = np.sign(row) * np.abs(row) ** exponent
    return found


def unit(row: Doubles) -> Doubles:
    """A row float64[P] of unit norm.

    Raises:
        ValueError: it is all zero.
    """
    norm = np.linalg.norm(row)
    if norm == 0:
        raise ValueError("embedding: expected a descriptor with a direction, got zeros")
    found: Doubles = row / norm
    return found
