"""How right pairs of copies are: counts of those that show one work, of those that do not, and of copies by kind."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from artray.retrieve.duplicates import Groups
from tests.benchmarks.copied_works import ORIGINAL, Set
from tests.benchmarks.copies import KINDS

Ints = npt.NDArray[np.int64]
BLOCK = 1_000


class Counts(NamedTuple):
    """Of pairs that a method calls copies."""

    right: int  # of the same work
    wrong: int  # of different works, as far as anybody knows
    wanted: int  # all pairs of the same work
    found: Ints  # int64[K]: works whose original and copy of a kind are a pair
    copied: int  # works that were copied
    right_of: Ints  # int64[K]: right pairs in which a copy of this kind is
    wrong_of: Ints  # int64[K]: wrong ones, likewise

    @property
    def precision(self) -> float:
        return self.right / max(self.right + self.wrong, 1)

    @property
    def recall(self) -> float:
        return self.right / max(self.wanted, 1)

    @property
    def f1(self) -> float:
        return 2 * self.right / max(self.right + self.wrong + self.wanted, 1)

    def precisions(self) -> npt.NDArray[np.float64]:
        """float64[K]."""
        return self.right_of / np.maximum(self.right_of + self.wrong_of, 1)

    def recalls(self) -> npt.NDArray[np.float64]:
        """float64[K]."""
        return self.found / max(self.copied, 1)


def of(chunks: Iterator[tuple[Ints, Ints]], works: Set) -> Counts:
    """Counts of pairs that come in parts, each pair once; pairs of works that are one, or may be, count as neither."""
    right = wrong = 0
    found, right_of, wrong_of = (np.zeros(len(KINDS), np.int64) for _ in range(3))
    for first, second in chunks:
        same = works.work[first] == works.work[second]
        other = works.cluster[first] != works.cluster[second]
        right, wrong = right + int(same.sum()), wrong + int(other.sum())
        a, b = works.kind[first], works.kind[second]
        for ends, counted in ((a, np.ones(len(a), bool)), (b, a != b)):
            right_of += np.bincount(ends[counted & same & (ends >= 0)], minlength=len(KINDS))
            wrong_of += np.bincount(ends[counted & other & (ends >= 0)], minlength=len(KINDS))
        pair = same & ((a == ORIGINAL) | (b == ORIGINAL))
        found += np.bincount(np.maximum(a, b)[pair], minlength=len(KINDS))
    sizes = np.bincount(works.work)
    copied = int((works.kind == 0).sum())
    return Counts(right, wrong, int((sizes * (sizes - 1) // 2).sum()), found, copied, right_of, wrong_of)


def grouped(groups: Groups) -> Iterator[tuple[Ints, Ints]]:
    """All pairs of members of a group, a group at a time."""
    for members in np.split(groups.member, np.flatnonzero(np.diff(groups.group)) + 1):
        first, second = np.triu_indices(len(members), 1)
        yield members[first], members[second]


def by_distance(hashes: npt.NDArray[np.uint8], works: Set, most: int) -> list[Counts]:
    """Counts of the pairs whose hashes uint8[N, bytes] differ in at most 0, 1, ... and so on to ``most`` bits."""
    words = np.ascontiguousarray(hashes).view(np.uint64)
    counts: list[Counts | None] = [None] * (most + 1)
    for start in range(0, len(words), BLOCK):
        rows = slice(start, start + BLOCK)
        distance = np.zeros((len(words[rows]), len(words)), np.uint16)
        for column in words.T:
            distance += np.bitwise_count(column[rows, None] ^ column)
        later = np.arange(len(words)) > np.arange(start, start + len(distance))[:, None]
        first, second = np.nonzero((distance <= most) & later)
        away = distance[first, second]
        for bits in range(most + 1):
            pairs = (first[away == bits] + start, second[away == bits])
            counts[bits] = added(counts[bits], of(iter([pairs]), works))
    return list(accumulated([each for each in counts if each is not None]))


def added(a: Counts | None, b: Counts) -> Counts:
    """The counts of other pairs of the same works together."""
    if a is None:
        return b
    return b._replace(
        right=a.right + b.right,
        wrong=a.wrong + b.wrong,
        found=a.found + b.found,
        right_of=a.right_of + b.right_of,
        wrong_of=a.wrong_of + b.wrong_of,
    )


def accumulated(counts: list[Counts]) -> Iterator[Counts]:
    """Of each distance and all below."""
    total: Counts | None = None
    for each in counts:
        total = added(total, each)
        yield total


def by_similarity(vectors: npt.NDArray[np.float32], works: Set, thresholds: list[float]) -> list[Counts]:
    """Counts of the pairs whose vectors float32[N, D] of unit norm have at least such a cosine."""
    counts: list[Counts | None] = [None] * len(thresholds)
    for start in range(0, len(vectors), BLOCK):
        cosines = vectors[start : start + BLOCK] @ vectors.T
        cosines[np.arange(len(vectors)) <= np.arange(start, start + len(cosines))[:, None]] = -1
        for place, threshold in enumerate(thresholds):
            first, second = np.nonzero(cosines >= threshold)
            counts[place] = added(counts[place], of(iter([(first + start, second)]), works))
    return [each for each in counts if each is not None]
