"""Splits: reproductions of one work are always on one side."""

import numpy as np
import pyarrow as pa
import pytest

from artray.train import splits
from artray.train.splits import components, near, split
from artray.train.works import PARTS, WORKS


def works(count: int, **columns: list) -> pa.Table:
    rows = {name: [None] * count for name in WORKS.names} | {
        "work_id": [f"set/{number}.jpg" for number in range(count)],
        "source": ["set"] * count,
        "uri": [f"file:///{number}.jpg" for number in range(count)],
        "version": ["1"] * count,
        "group": ["g"] * count,
    }
    return pa.table(rows | columns, schema=WORKS)


def parts(found: splits.Split) -> list[str]:
    return found.works["part"].to_pylist()


def test_parts_are_as_large_as_asked_and_stay_when_works_are_added() -> None:
    random = np.random.default_rng(0).integers(1, 2**63, 4000, dtype=np.uint64)
    found = parts(split(works(4000), random, 0.2, 0.1, 0))
    shares = {part: found.count(part) / 4000 for part in PARTS}
    assert shares == pytest.approx({"train": 0.7, "val": 0.2, "test": 0.1}, abs=0.02)
    fewer = parts(split(works(1000), random[:1000], 0.2, 0.1, 0))
    assert fewer == found[:1000]


def test_reproductions_are_on_one_side_and_judge_rather_than_teach() -> None:
    given = ["train", "test", None, "val", None, "train"]
    told = [None, None, None, "d", "d", None]
    hashes = np.array([0b1011, 0b1001, 2**40, 2**50 - 1, 2**63, 0b1111 << 30], np.uint64)
    found = split(works(6, part=given, duplicates=told), hashes, 0.0, 0.0, 1)
    assert parts(found) == ["test", "test", "train", "val", "val", "train"]
    assert found.moved == ["set/0.jpg"]
    assert found.groups == 2
    trusting = split(works(6, part=given, duplicates=told), hashes, 0.0, 0.0, None)
    assert parts(trusting) == ["train", "test", "train", "val", "val", "train"]


def test_a_picture_without_structure_is_like_no_other() -> None:
    assert near(np.array([0, 0, 0], np.uint64), 4) == []
    assert parts(split(works(0), np.zeros(0, np.uint64), 0.1, 0.1, 4)) == []


@pytest.mark.parametrize("bits", [0, 1, 4, 9, 16])
def test_near_pairs_are_those_that_comparing_all_finds(bits: int) -> None:
    random = np.random.default_rng(bits)
    base = random.integers(1, 2**63, 40, dtype=np.uint64)
    flips = np.uint64(1) << random.integers(0, 63, (40, 6)).astype(np.uint64)
    hashes = np.concatenate([base, base ^ np.bitwise_xor.reduce(flips, axis=1), base])
    distances = np.bitwise_count(hashes[:, None] ^ hashes[None])
    expected = [tuple(pair) for pair in np.argwhere(np.triu(distances <= bits, 1)).tolist()]
    assert near(hashes, bits) == expected


def test_components() -> None:
    assert components(5, [(3, 1), (1, 4)]) == [[0], [1, 3, 4], [2]]
    assert components(0, []) == []


def test_counts() -> None:
    table = works(4, type=["painting", "drawing", None, "painting"], part=["train", "val", "val", "test"])
    assert splits.counts(table, "type") == {
        "painting": {"train": 1, "val": 0, "test": 1},
        "drawing": {"train": 0, "val": 1, "test": 0},
    }
