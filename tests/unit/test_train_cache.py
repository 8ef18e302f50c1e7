"""Pictures prepared for training: kept once, hashed, and what is broken told."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from artray.archive import listing
from artray.config import ArchiveConfig
from artray.errors import ConfigError
from artray.location import Location
from artray.train.cache import Cache, Reader
from artray.train.prepare import Prepare


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archive")
    y, x = np.mgrid[:300, :200]
    Image.fromarray(np.stack([x, y % 256, (x * y) % 256], axis=-1).astype(np.uint8)).save(folder / "a.png")
    Image.fromarray(np.full((20, 500, 3), 90, np.uint8)).save(folder / "strip.png")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")
    return folder


def batch(folder: Path) -> dict[str, list[str]]:
    entries = list(listing.entries(Location.of(folder), ArchiveConfig(), lambda _: None))
    return {
        "work_id": [entry.image_id for entry in entries],
        "uri": [entry.uri for entry in entries],
        "version": [entry.version for entry in entries],
    }


def test_pictures_are_kept_with_their_shorter_side_at_the_length(archive: Path, tmp_path: Path) -> None:
    cache = Cache(tmp_path, 64)
    given = batch(archive)
    with Prepare(cache, 2**20) as prepare:
        first = prepare(given).to_pylist()
        files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.jpg")}
        assert prepare(given).to_pylist() == first
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.jpg")} == files  # decoded once
    told = {row["work_id"]: row for row in first}
    assert told["a.png"]["error"] == "" != told["broken.jpg"]["error"]
    assert told["a.png"]["near_hash"] != 0 == told["broken.jpg"]["near_hash"]
    assert (told["a.png"]["colour"], told["broken.jpg"]["colour"]) == ("colour", None)
    at = given["work_id"].index("a.png")
    kept = cache.read(given["uri"][at], given["version"][at])
    assert kept is not None
    assert kept.shape == (96, 64, 3)
    strip = given["work_id"].index("strip.png")
    assert cache.read(given["uri"][strip], given["version"][strip]).shape[:2] == (10, 256)  # type: ignore[union-attr]
    assert cache.read(given["uri"][at], "another version") is None


def test_a_reader_makes_what_its_machine_lacks_and_can_be_sent(archive: Path, tmp_path: Path) -> None:
    given = batch(archive)
    reader = pickle.loads(pickle.dumps(Reader(Cache(tmp_path, 64), given["uri"], given["version"], 2**20)))
    at = given["work_id"].index("a.png")
    assert np.array_equal(reader(at), reader(at))
    assert len(list(tmp_path.rglob("*.jpg"))) == 1
    with pytest.raises(ConfigError, match=r"broken\.jpg: could be read before, and cannot now"):
        reader(given["work_id"].index("broken.jpg"))
    pickle.dumps(reader)


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"file/64px: a picture cannot be kept .*data\.cache"):
        Cache(tmp_path / "file", 64).keep("u", "v", np.zeros((8, 8, 3), np.uint8))
