"""Reading and decoding a batch: every image is a row again, in its place, whatever became of it."""

import hashlib
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from artray.archive import listing, reading
from artray.config import ArchiveConfig, DecodeConfig
from artray.errors import TransientError
from artray.location import Location
from artray.pipeline.decode import STORAGE_DOWN, Decode
from artray.schema import Batch


def jpeg(grey: int, size: tuple[int, int] = (40, 30)) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size, (grey, grey, grey)).save(out, "JPEG")
    return out.getvalue()


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    for number in range(6):
        (tmp_path / f"{number}.jpg").write_bytes(jpeg(number * 40))
    return tmp_path


def batch_of(archive: Path | str) -> Batch:
    entries = list(listing.entries(Location.of(archive), ArchiveConfig(), print))
    return {name: [getattr(entry, name) for entry in entries] for name in entries[0]._fields}


@pytest.fixture(scope="module")
def decode() -> Iterator[Decode]:
    with Decode(DecodeConfig(readers=3), 1_000_000) as stage:
        yield stage


def test_every_image_in_its_place(archive: Path, decode: Decode) -> None:
    (archive / "1.jpg").write_bytes(b"no image")
    (archive / "2.jpg").write_bytes(b"")
    (archive / "3.jpg").write_bytes(os.urandom(1_000_001))
    (archive / "6.jpg").symlink_to("nowhere")
    batch = batch_of(archive)
    (archive / "4.jpg").unlink()
    found = decode(batch)
    assert found["error"] == ["", "unsupported", "empty", "too_large", "missing", "", "missing"]
    assert all(bool(error) == bool(detail) for error, detail in zip(found["error"], found["error_detail"], strict=True))
    assert found["image_id"] == batch["image_id"]
    assert [None if p is None else (p.shape, int(p.mean())) for p in found["pixels"]] == [
        *(((30, 40, 3), 0), None, None, None, None, ((30, 40, 3), 200), None)
    ]
    assert found["width_px"] == [40, None, None, None, None, 40, None]
    hashes = [hashlib.sha256((archive / name).read_bytes()).hexdigest() for name in ("0.jpg", "1.jpg", "5.jpg")]
    assert found["content_sha256"] == [hashes[0], hashes[1], None, None, None, hashes[2], None]
    assert set(found) == {*batch, "pixels", "width_px", "height_px", "content_sha256"}


def test_no_images(decode: Decode) -> None:
    found = decode({"uri": [], "version": [], "error": [], "error_detail": []})
    assert {name: len(column) for name, column in found.items()} == dict.fromkeys(found, 0)


@pytest.mark.parametrize("readers", [1, 2, 16])
def test_more_or_fewer_readers_than_images(archive: Path, readers: int) -> None:
    with Decode(DecodeConfig(readers=readers), 1_000_000) as decode:
        for stop in (1, 2, 3, 6):
            batch = {name: column[:stop] for name, column in batch_of(archive).items()}
            found = decode(batch)
            assert [round(float(p.mean()) / 40) for p in found["pixels"]] == list(range(stop))
            assert len(set(found["content_sha256"])) == stop


def same(first: Batch, second: Batch) -> bool:
    return all(
        np.array_equal(a, b) if name == "pixels" else a == b
        for name in first
        for a, b in zip(first[name], second[name], strict=True)
    )


def test_an_image_is_the_same_whatever_is_beside_it(archive: Path, decode: Decode) -> None:
    (archive / "3.jpg").write_bytes(b"broken")
    batch = batch_of(archive)
    whole = decode(batch)
    order = [4, 0, 3, 5, 2, 1]
    shuffled = decode({name: [column[at] for at in order] for name, column in batch.items()})
    assert same({name: [column[at] for at in order] for name, column in whole.items()}, shuffled)
    halves = [decode({name: column[cut] for name, column in batch.items()}) for cut in (slice(0, 2), slice(2, 6))]
    assert same(whole, {name: halves[0][name] + halves[1][name] for name in whole})


def test_a_storage_that_is_down_is_not_the_images_fault(
    archive: Path, decode: Decode, monkeypatch: pytest.MonkeyPatch
) -> None:
    (archive / "9.jpg").symlink_to("nowhere")  # known to be missing before anything is read
    batch = batch_of(archive)

    def down(*_: Any) -> bytes:
        raise TransientError("storage is down")

    read = reading.read
    monkeypatch.setattr(reading, "read", down)
    with pytest.raises(TransientError, match="storage is down"):
        decode(batch)
    few = {name: column[: STORAGE_DOWN - 1] for name, column in batch.items()}
    assert decode(few)["error"] == ["unreadable"] * (STORAGE_DOWN - 1)  # too few to tell
    with pytest.raises(TransientError, match="storage is down"):
        decode(few)  # large images come a few at a time: those before count, too

    def once(uri: str, version: str, max_bytes: int) -> bytes:
        return read(uri, version, max_bytes) if uri.endswith("5.jpg") else down()

    monkeypatch.setattr(reading, "read", once)
    assert decode(batch)["error"] == [*["unreadable"] * 5, "", "missing"]
    monkeypatch.undo()
    assert decode(batch)["error"] == [*[""] * 6, "missing"]  # and the stage goes on


def test_from_s3(s3_bucket: str, decode: Decode) -> None:
    from artray.archive import s3

    for name in ("a b.jpg", "%41.jpg"):
        s3.client().put_object(Bucket=s3_bucket, Key=f"art/{name}", Body=jpeg(80))
    found = decode(batch_of(f"s3://{s3_bucket}/art"))
    assert found["error"] == ["", ""]
    assert [p.shape for p in found["pixels"]] == [(30, 40, 3)] * 2
