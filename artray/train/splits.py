"""Which works are learned from and which judge: reproductions of one work are always on one side."""

import itertools
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from artray.train.datasets.reading import place
from artray.train.works import PARTS

Hashes: TypeAlias = npt.NDArray[np.uint64]

BITS: Final = 64
STRICTEST: Final = ("test", "val", "train")
"""Where reproductions of one work go that were given to several parts: what judges is never learned from."""


class Split(NamedTuple):
    """The works with a part each."""

    works: pa.Table
    moved: list[str]  # work_ids whose given part had to give way to that of a reproduction
    groups: int  # of more than one work


def split(works: pa.Table, hashes: Hashes, val: float, test: float, near_bits: int | None) -> Split:
    """Give every work a part: its own if it has one, else by the hash of its name.

    Args:
        works: N of schema artray.train.works.WORKS.
        hashes: uint64[N], perceptual; 0 where there is none.
        val: the part of validation, in [0, 1].
        test: likewise.
        near_bits: works whose hashes differ in at most so many bits are reproductions of one work, as are those with
            the same ``duplicates``; none of these is in two parts. None: hashes say nothing.
    """
    names, given = works["work_id"].to_pylist(), works["part"].to_pylist()
    told: dict[str, list[int]] = {}
    for row, key in enumerate(works["duplicates"].to_pylist()):
        if key:
            told.setdefault(key, []).append(row)
    alike = [] if near_bits is None else near(hashes, near_bits)
    same = [*alike, *((rows[0], other) for rows in told.values() for other in rows[1:])]
    groups = components(len(names), same)
    parts, moved = list[str](), list[str]()
    chosen = [_part([given[row] for row in group], min(names[row] for row in group), val, test) for group in groups]
    of = {row: part for group, part in zip(groups, chosen, strict=True) for row in group}
    for row, name in enumerate(names):
        parts.append(of[row])
        if given[row] not in (None, of[row]):
            moved.append(name)
    column = works.schema.get_field_index("part")
    table = works.set_column(column, works.schema.field(column), pa.array(parts, pa.string()))
    return Split(table, moved, sum(len(group) > 1 for group in groups))


def _part(given: Sequence[str | None], name: str, val: float, test: float) -> str:
    for part in STRICTEST:
        if part in given:
            return part
    at = place(name)
    return "test" if at < test else "val" if at < test + val else "train"


def near(hashes: Hashes, bits: int) -> list[tuple[int, int]]:
    """Pairs of rows whose hashes differ in at most so many of 64 bits; none of a hash of 0, which says nothing.

    Two hashes that differ in at most B bits agree in at least one of B + 1 bands: only those that agree are compared.
    """
    pairs: set[tuple[int, int]] = set()
    edges = np.linspace(0, BITS, bits + 2).astype(int)
    for start, stop in itertools.pairwise(edges):
        band = (hashes >> np.uint64(start)) & np.uint64(2 ** int(stop - start) - 1)
        order = np.argsort(band, kind="stable")
        bounds = np.flatnonzero(np.diff(band[order])) + 1
        for rows in np.split(order, bounds):
            if len(rows) > 1:
                pairs |= _within(rows, hashes, bits)
    return sorted(pairs)


def _within(rows: npt.NDArray[np.int64], hashes: Hashes, bits: int) -> set[tuple[int, int]]:
    """Pairs among a band's rows."""
    found: set[tuple[int, int]] = set()
    rows = rows[hashes[rows] != 0]
    for number, row in enumerate(rows[:-1]):
        others = rows[number + 1 :]
        distance = np.bitwise_count(hashes[others] ^ hashes[row])
        found |= {(min(row, other), max(row, other)) for other in others[distance <= bits].tolist()}
    return {(int(first), int(second)) for first, second in found}


def components(count: int, pairs: Iterable[tuple[int, int]]) -> list[list[int]]:
    """The rows in groups of which each is connected by pairs, in order.

    >>> components(4, [(0, 2), (2, 3)])
    [[0, 2, 3], [1]]
    """
    parent = list(range(count))

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    for first, second in pairs:
        low, high = sorted((root(first), root(second)))
        parent[high] = low
    groups: dict[int, list[int]] = {}
    for row in range(count):
        groups.setdefault(root(row), []).append(row)
    return list(groups.values())


def counts(works: pa.Table, task: str) -> dict[str, dict[str, int]]:
    """Per class and part how many works; a class that none has is not there."""
    found: dict[str, dict[str, int]] = {}
    for label, part in zip(works[task].to_pylist(), works["part"].to_pylist(), strict=True):
        if label is not None:
            entry = found.setdefault(label, dict.fromkeys(PARTS, 0))
            entry[part] += 1
    return found
