"""An image's bytes, if it is still what was listed; otherwise the kind of error that tells what happened."""

import errno
import os
from pathlib import Path

import pytest

from artray.archive import listing, reading
from artray.archive.listing import Entry
from artray.config import ArchiveConfig
from artray.errors import RowError, TransientError
from artray.location import Location

LIMIT = 1_000_000


def entry(folder: Path, name: str | bytes = "a.jpg", data: bytes = b"data") -> Entry:
    (folder / os.fsdecode(name)).write_bytes(data)
    return next(listing.entries(Location.of(folder), ArchiveConfig(include=("*",)), print))


def kind(found: Entry, max_bytes: int = LIMIT) -> str:
    with pytest.raises(RowError) as caught:
        reading.read(found.uri, found.version, max_bytes)
    assert caught.value.detail
    return caught.value.kind


@pytest.mark.parametrize("name", ["a.jpg", "%41 #?.jpg", "a\nb.jpg", b"D\xfcrer %41.jpg", "file:.jpg"])
def test_what_was_listed_is_read(tmp_path: Path, name: str | bytes) -> None:
    found = entry(tmp_path, name, b"data of " + os.fsencode(name))
    assert reading.read(found.uri, found.version, LIMIT) == b"data of " + os.fsencode(name)


def test_larger_than_a_block(tmp_path: Path) -> None:
    data = os.urandom(reading.BLOCK * 2 + 1)
    found = entry(tmp_path, data=data)
    assert reading.read(found.uri, found.version, len(data)) == data
    assert kind(found, len(data) - 1) == "too_large"


def test_gone_empty_or_something_else(tmp_path: Path) -> None:
    assert kind(entry(tmp_path, data=b"")) == "empty"
    found = entry(tmp_path)
    path = Path(found.uri)
    path.unlink()
    assert kind(found) == "missing"
    path.symlink_to(path)
    assert kind(found) == "missing"
    path.unlink()
    os.mkfifo(path)
    assert kind(found) == "changed"  # and nobody waits for a writer
    path.unlink()
    path.mkdir()
    assert kind(found) == "changed"
    assert kind(found._replace(uri=f"{__file__}/x")) == "missing"


def test_a_file_that_is_written_to_is_not_taken_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = entry(tmp_path)
    with Path(found.uri).open("ab") as file:
        file.write(b"more")
    assert kind(found) == "changed"
    found = entry(tmp_path)
    os.utime(found.uri, ns=(0, 0))  # as long as before, but another time
    assert kind(found) == "changed"

    found = entry(tmp_path)
    whole = reading._all

    def growing(descriptor: int, size_bytes: int) -> bytes:
        with Path(found.uri).open("ab") as other:
            other.write(b"m" * 10_000_000)
        data = whole(descriptor, size_bytes)
        assert len(data) == size_bytes + 1  # no further than needed to see that it grew
        return data

    monkeypatch.setattr(reading, "_all", growing)
    assert kind(found) == "changed"


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (errno.EACCES, "denied"),
        (errno.EPERM, "denied"),
        (errno.EIO, "unreadable"),
        (errno.ENAMETOOLONG, "unreadable"),
        (errno.ESTALE, None),
        (errno.EMFILE, None),
        (errno.ETIMEDOUT, None),
    ],
)
def test_what_the_system_says(number: int, expected: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "open", fails)
    if expected:
        assert kind(Entry("a", "/a", 1, "1-1")) == expected
    else:
        with pytest.raises(TransientError, match="reading failed"):
            reading.read("/a", "1-1", 1)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read any file")
def test_no_permission(tmp_path: Path) -> None:
    found = entry(tmp_path)
    Path(found.uri).chmod(0)
    assert kind(found) == "denied"
