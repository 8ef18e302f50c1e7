"""Write broken files of every kind that archives hold, each with the error that processing it must give."""

import io
import os
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final, NamedTuple

import numpy as np

from artray.archive.sample.works import shipped
from artray.config import ArchiveConfig
from artray.errors import InvariantError

BOMB_SIDE_PX: Final = 60_000
LIMIT_BYTES: Final = int(ArchiveConfig().max_file_bytes)


class Defect(NamedTuple):
    """One broken file."""

    path: Path
    kind: str  # a key of KINDS
    expected_kind: str | None  # one of errors.ERROR_KINDS; "" where it turns out to be good; None: not listed at all


class Kind(NamedTuple):
    """How to break a file."""

    suffix: str
    expected: str | None
    content: Callable[[np.random.Generator], bytes] | None = None  # None: made by a function of PLACED


def write_defects(folder: str | Path, count: int, seed: int, limit_bytes: int = LIMIT_BYTES) -> list[Defect]:
    """Write ``count`` broken files into ``folder``, one kind after the other and round again.

    Their names say their kinds. The same (count, seed) gives the same bytes. Nothing in them does harm: the bombs are
    only headers, the file over the limit is a hole, the pickle does nothing but raise if it is ever loaded.

    Args:
        folder: made where it is missing; files of the same names are replaced.
        count: at least 0; ``len(KINDS)`` gives one of each.
        seed: at least 0.
        limit_bytes: the file over the byte limit has one byte more than this (it takes no room on the disk).

    Returns:
        One entry per file. ``expected_kind`` is None for what a listing leaves out (a FIFO, a folder that contains
        itself), and "" for the forbidden file where permissions do not bind the caller, as they do not bind root.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    names = list(KINDS)
    return [_write(folder, index, names[index % len(names)], seed, limit_bytes) for index in range(count)]


def _write(folder: Path, index: int, name: str, seed: int, limit_bytes: int) -> Defect:
    kind, rng = KINDS[name], np.random.default_rng([seed, index, 2])
    path = folder / f"{index:04d}-{name.replace(' ', '-')}{kind.suffix}"
    if path.is_symlink() or path.exists():
        path.unlink()
    expected = kind.expected
    if kind.content is not None:
        path.write_bytes(kind.content(rng))
    elif name == "over the byte limit":
        _write_hole(path, limit_bytes)
    elif name == "forbidden":
        expected = _write_forbidden(path, rng)
    else:
        PLACED[name](path)
    return Defect(path, name, expected)


def _pick(rng: np.random.Generator, *endings: str) -> bytes:
    """The bytes of some shipped picture whose file name ends with one of these."""
    works = [work for work in shipped() if work.file.endswith(endings)]
    return works[int(rng.integers(len(works)))].path.read_bytes()


def _cut(content: bytes, rng: np.random.Generator) -> bytes:
    """The first 30 to 70 % of it."""
    return content[: int(len(content) * rng.uniform(0.3, 0.7))]


def _scan_start(jpeg: bytes) -> int:
    """Where the first scan's compressed data begin: behind the SOS segment, which says its own length."""
    marker = jpeg.index(b"\xff\xda")
    return marker + 2 + int.from_bytes(jpeg[marker + 2 : marker + 4], "big")


def _garbage_scan(rng: np.random.Generator) -> bytes:
    """A JPEG's headers, then noise with a marker in it that does not exist.

    Without the marker libjpeg takes any noise for a picture and merely warns.
    """
    jpeg = _pick(rng, ".jpg")
    start = _scan_start(jpeg)
    noise = rng.bytes(len(jpeg) - start).replace(b"\xff", b"\x7f")
    return jpeg[:start] + noise[:500] + b"\xff\x3f" + noise[500:] + b"\xff\xd9"


def _text(rng: np.random.Generator) -> bytes:
    return f"This is not a picture but note number {rng.integers(10**6)}: the scan is still to be made.\n".encode()


def _eps(rng: np.random.Generator) -> bytes:
    level = rng.random()
    lines = ("%!PS-Adobe-3.0 EPSF-3.0", "%%BoundingBox: 0 0 100 100", f"{level:.3f} setgray", "0 0 100 100 rectfill")
    return "\n".join((*lines, "showpage", "%%EOF", "")).encode()


def _svg(rng: np.random.Generator) -> bytes:
    circle = f'<circle cx="50" cy="50" r="{rng.integers(5, 50)}"/>'
    head = '<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg" width="100" height="100">'
    return f"{head}{circle}</svg>\n".encode()


def _zip(rng: np.random.Generator) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(zipfile.ZipInfo("picture.jpg"), _pick(rng, ".jpg"))  # ZipInfo's date is fixed: 1980
    return buffer.getvalue()


class _Trap:
    """Raises when it is unpickled."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __reduce__(self) -> tuple[Callable[[int], None], tuple[int]]:
        return unpickled, (self.number,)


def unpickled(number: int) -> None:
    """What the pickle under an image's name calls, should anything ever load it.

    Raises:
        InvariantError: always.
    """
    raise InvariantError(f"archive: expected files to be decoded as images only, but pickle {number} was loaded")


def _pickle(rng: np.random.Generator) -> bytes:
    return pickle.dumps(_Trap(int(rng.integers(10**6))), protocol=4)


def _png_chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def _png_bomb(rng: np.random.Generator) -> bytes:
    """A well-formed beginning of a PNG that says it is 60,000 pixels a side: 10.8 GB as RGB."""
    header = struct.pack(">IIBBBBB", BOMB_SIDE_PX, BOMB_SIDE_PX, 8, 2, 0, 0, 0)
    row = zlib.compress(bytes(1) + rng.bytes(3) * BOMB_SIDE_PX)
    signature = b"\x89PNG\r\n\x1a\n"
    return signature + _png_chunk(b"IHDR", header) + _png_chunk(b"IDAT", row) + _png_chunk(b"IEND", b"")


def _jpeg_bomb(rng: np.random.Generator) -> bytes:
    """A good baseline JPEG whose frame header says 60,000 pixels a side."""
    jpeg = bytearray(_pick(rng, *(work.file for work in shipped() if work.file.startswith("drawing_"))))
    frame = jpeg.index(b"\xff\xc0")
    jpeg[frame + 5 : frame + 9] = struct.pack(">HH", BOMB_SIDE_PX, BOMB_SIDE_PX)
    return bytes(jpeg)


def _write_hole(path: Path, limit_bytes: int) -> None:
    """One byte more than the limit: a good JPEG, then a hole."""
    path.write_bytes(min((work.path for work in shipped()), key=lambda path: path.stat().st_size).read_bytes())
    os.truncate(path, limit_bytes + 1)


def _write_forbidden(path: Path, rng: np.random.Generator) -> str:
    """A good picture that nobody may read; says what the caller will find."""
    path.write_bytes(_pick(rng, ".jpg"))
    path.chmod(0)
    return "" if os.access(path, os.R_OK) else "denied"


KINDS: Final[Mapping[str, Kind]] = MappingProxyType(
    {
        "empty": Kind(".jpg", "empty", lambda _: b""),
        "truncated jpeg": Kind(".jpg", "truncated", lambda rng: _cut(_pick(rng, ".jpg"), rng)),
        "truncated png": Kind(".png", "truncated", lambda rng: _cut(_pick(rng, ".png"), rng)),
        "text": Kind(".jpg", "unsupported", _text),
        "garbage scan": Kind(".jpg", "corrupt", _garbage_scan),
        "eps": Kind(".jpg", "unsupported", _eps),
        "svg": Kind(".png", "unsupported", _svg),
        "zip": Kind(".jpg", "unsupported", _zip),
        "pickle": Kind(".png", "unsupported", _pickle),
        "png bomb": Kind(".png", "too_large", _png_bomb),
        "jpeg bomb": Kind(".jpg", "too_large", _jpeg_bomb),
        "over the byte limit": Kind(".jpg", "too_large"),
        "forbidden": Kind(".jpg", "denied"),
        "dangling link": Kind(".jpg", "missing"),
        "link to itself": Kind(".jpg", "missing"),
        "folder in itself": Kind("", None),
        "fifo": Kind(".jpg", None),
    }
)
"""Every kind of broken file, by name, in the order in which they are written."""

PLACED: Final[Mapping[str, Callable[[Path], None]]] = MappingProxyType(
    {
        "dangling link": lambda path: path.symlink_to("no-such-picture.jpg"),
        "link to itself": lambda path: path.symlink_to(path.name),
        "folder in itself": lambda path: path.symlink_to(".", target_is_directory=True),
        "fifo": lambda path: os.mkfifo(path, 0o644),
    }
)
"""How to make what is not a regular file."""
