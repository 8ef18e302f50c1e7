"""Which pairs of pictures might be copies: near embeddings, and parts of pictures that look like other whole ones.

Each way gives every picture its nearest few and no more, so that ten thousand blank pages do not make fifty million
pairs. What they find is a proposal: artray.retrieve.duplicates looks at every pair.
"""

from collections.abc import Callable
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from artray.retrieve import alignment
from artray.retrieve.alignment import Pairs, Pictures
from artray.retrieve.hashing import TURNS, turned

Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float32]
Progress: TypeAlias = Callable[[int, int], None]
"""Is called with the number of pictures done, and of all."""

BATCH: Final = 8_192
NEAR_EMBEDDINGS: Final = 4
SIMILARITY_MIN: Final = 0.4
"""Cosine of principal components, below which only blurred or turned copies are, which have other candidates."""

DIMENSIONS: Final = 128
"""So many principal components of embeddings are compared."""

NEAR_PARTS: Final = 2
"""So many a window of a picture has at most."""

STRUCTURE_MIN: Final = 0.7
"""A window may be half a step off: copies have less structure in common than they will have when they are aligned."""

PARTS_SIMILARITY_MIN: Final = 0.15
"""Cosine of principal components of a picture and its part, at least, where both have an embedding."""

EXACT_ROWS: Final = 20_000
"""Up to so many vectors all are compared with all; of more, codes of those in the nearest cells."""

CELLS: Final = 0.6
"""Of N vectors so many times the root of N cells are made."""

PROBED: Final = 8
"""So many of which are looked into; a copy is proposed by several windows, and by its embedding."""

SPARE: Final = 3
CODE_ERROR: Final = 0.1
"""Codes of four bits for two values tell similarities within this; so many more are looked at, and compared exactly."""

SAMPLE_ROWS: Final = 50_000


def candidates(pictures: Pictures, projected: Floats, embedded: NDArray[np.bool_], tell: Progress) -> Pairs:
    """All pairs that any of the ways proposes, each with first < second, and each of its turns once.

    Args:
        pictures: N; those without structure are in pairs by their embeddings only.
        projected: float32[N, d] of unit norm, see :func:`project`.
        embedded: bool[N]: which rows of it there are.
        tell: is told how far it is.
    """
    upright = near_embeddings(projected, embedded)
    mirrored = upright._replace(turn=np.ones_like(upright.turn))  # an embedding is much the same
    found = [upright, mirrored, near_parts(pictures, projected, embedded, tell)]
    return unique(*(np.concatenate([getattr(part, name) for part in found]) for name in Pairs._fields))


def near_embeddings(projected: Floats, embedded: NDArray[np.bool_], nearest: int = NEAR_EMBEDDINGS) -> Pairs:
    """Pairs of pictures of which one's embedding is among the other's nearest.

    Args:
        projected: float32[N, d], of unit norm.
        embedded: bool[N]: which rows of it there are.
        nearest: how many of each picture's.
    """
    there = np.flatnonzero(embedded)
    vectors = projected if len(there) == len(projected) else projected[there]
    if not len(there):
        return unique(there, there, there)
    index = _Index(vectors)
    found = [(np.zeros(0, np.int64),) * 2]
    for start in range(0, len(vectors), BATCH):
        which, others = index.near(vectors[start : start + BATCH], nearest + 1, SIMILARITY_MIN)
        found.append((there[which + start], there[others]))
    first, second = (np.concatenate(column) for column in zip(*found, strict=True))
    return unique(first, second, np.zeros_like(first))


def near_parts(pictures: Pictures, projected: Floats, embedded: NDArray[np.bool_], tell: Progress) -> Pairs:
    """Pairs of pictures of which a part of one looks like the whole of the other; of whole ones also in all turns.

    The spectra are those that perceptual hashes are the signs of; they tell more, and parts have some, too.

    Args:
        pictures: N.
        projected: float32[N, d]: parts of pictures that show something else by their embeddings are left out.
        embedded: bool[N]: which rows of it there are.
        tell: is told how far it is.
    """
    windows = alignment.coarse()
    whole = alignment.directions(pictures.spectra)
    index, chunk = _Index(whole), 4 * BATCH // (len(windows) + len(TURNS))
    found = [(np.zeros(0, np.int64),) * 3]
    for start in range(0, len(whole), chunk):
        here = slice(start, start + chunk)
        views = windows.directions(pictures.thumbnails[here])
        turns = [alignment.directions(turned(pictures.spectra[here], turn)) for turn in TURNS[1:]]
        asked = np.concatenate([views, np.stack(turns, axis=1)], axis=1)
        which, other = index.near(asked.reshape(-1, asked.shape[2]), NEAR_PARTS + 1, STRUCTURE_MIN)
        picture, window = np.divmod(which, asked.shape[1])
        picture = picture + start
        turn = np.maximum(window - len(windows) + 1, 0)
        likely = _likely(projected, embedded, picture, other) | (window == 0) | (turn > 0)
        found.append((other[likely], picture[likely], turn[likely]))
        tell(min(start + chunk, len(whole)), len(whole))
    return unique(*(np.concatenate(column) for column in zip(*found, strict=True)))


def _likely(projected: Floats, embedded: NDArray[np.bool_], first: Ints, second: Ints) -> NDArray[np.bool_]:
    """bool[P]: whether the embeddings do not speak against it."""
    similarity = np.einsum("pd,pd->p", projected[first], projected[second])
    found: NDArray[np.bool_] = (similarity >= PARTS_SIMILARITY_MIN) | ~embedded[first] | ~embedded[second]
    return found


def unique(first: Ints, second: Ints, turn: Ints) -> Pairs:
    """Pairs with first < second, each with each of its turns once, in order.

    A pair the other way round is undone: what looks like another turned is what the other is, turned back.
    """
    swapped, kept = first > second, first != second
    low, high = np.minimum(first, second), np.maximum(first, second)
    turn = np.where(swapped, alignment.inverse(turn), turn)
    count = int(high.max(initial=0)) + 1
    keys = np.unique((low[kept] * count + high[kept]) * len(TURNS) + turn[kept])
    pair, turn = np.divmod(keys, len(TURNS))
    return Pairs(*np.divmod(pair, count), turn)


def project(matrix: NDArray[Any]) -> Floats:
    """float32[N, d] of unit norm: the principal components of embeddings floating[N, D], d the lesser of D and 128.

    ``matrix`` may be a file (numpy.memmap): it is read some rows at a time.
    """
    rows = np.sort(np.random.default_rng(0).permutation(len(matrix))[:SAMPLE_ROWS])
    sample = np.asarray(matrix[rows], np.float32)
    mean = sample.sum(axis=0) / np.float32(max(len(sample), 1))
    sample -= mean
    axes = np.linalg.eigh(sample.T @ sample)[1][:, ::-1][:, :DIMENSIONS]
    found = np.empty((len(matrix), axes.shape[1]), np.float32)
    for start in range(0, len(matrix), BATCH):
        part = (np.asarray(matrix[start : start + BATCH], np.float32) - mean) @ axes
        norms = np.linalg.norm(part, axis=1, keepdims=True)
        found[start : start + BATCH] = part / np.where(norms > 0, norms, 1)
    return found


class _Index:
    """Finds the nearest of N vectors by inner product: exactly where there are few, nearly where there are many."""

    def __init__(self, vectors: Floats) -> None:
        import faiss

        self.vectors, (rows, dimensions) = vectors, vectors.shape
        self._index: Any
        if rows <= EXACT_ROWS:
            self._index = faiss.IndexFlatIP(dimensions)
        else:
            cells, by = int(CELLS * np.sqrt(rows)), faiss.METRIC_INNER_PRODUCT
            codes = dimensions if dimensions % 2 else dimensions // 2
            self._index = faiss.IndexIVFPQFastScan(faiss.IndexFlatIP(dimensions), dimensions, cells, codes, 4, by)
            self._index.cp.spherical, self._index.cp.niter, self._index.nprobe = True, 8, PROBED
            self._index.train(vectors[np.random.default_rng(1).permutation(rows)[: 64 * cells]])
        self._index.add(vectors)

    def near(self, asked: Floats, nearest: int, least: float) -> tuple[Ints, Ints]:
        """Rows of float32[Q, d], and of the vectors that are near to them: the nearest few whose product is so much."""
        asked = np.ascontiguousarray(asked)
        rough, labels = self._index.search(asked, nearest + SPARE)
        which, place = np.nonzero((labels >= 0) & (rough >= least - CODE_ERROR))
        others = labels[which, place]
        exact = np.einsum("qd,qd->q", asked[which], self.vectors[others])
        order = np.lexsort((others, -exact, which))
        order = order[exact[order] >= least]
        which, others = which[order], others[order]
        rank = np.arange(len(which)) - np.searchsorted(which, which)
        return which[rank < nearest], others[rank < nearest]
