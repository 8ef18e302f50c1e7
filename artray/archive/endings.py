"""Tells a file that ends before its picture does from one whose content makes no sense.

Asked only of files that failed to decode, or whose decoder shrugs off a missing end; it reads the container, never a
pixel.
"""

import struct
from collections.abc import Callable, Iterator
from typing import Final

_TIFF_VALUE_BYTES: Final = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8}
_TIFF_DATA: Final = ((273, 279), (324, 325))
"""Tags of a TIFF's strips and tiles: their offsets, and their lengths in bytes."""


def is_cut(name: str, data: bytes) -> bool:
    """Whether ``data``, of the format ``name``, ends before its picture does; False where that cannot be told.

    >>> is_cut("gif", b"GIF89a ... ;"), is_cut("gif", b"GIF89a ..")
    (False, True)
    """
    check = _CHECKS.get(name)
    try:
        return bool(check and check(data))
    except (struct.error, IndexError, OverflowError):
        return True  # a length or an offset was to be read beyond the end


def _jpeg(data: bytes) -> bool:
    """Segments run off the end, or no end-of-image marker follows the first scan."""
    at = 2
    while data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xD9:
            return False
        if marker == 0xDA:
            return data.find(b"\xff\xd9", at) < 0
        if marker == 0xFF:
            at += 1
        else:
            at += 2 if 0xD0 <= marker <= 0xD8 or marker == 1 else 2 + struct.unpack_from(">H", data, at + 2)[0]
    return False


def _png(data: bytes) -> bool:
    """Chunks run off the end before IEND."""
    at = 8
    while True:
        length, kind = struct.unpack_from(">I4s", data, at)
        if not kind.isalpha():
            return False
        at += 12 + length
        if kind == b"IEND":
            return bool(at > len(data))


def _gif(data: bytes) -> bool:
    return not data.rstrip(b"\0").endswith(b";")


def _bmp(data: bytes) -> bool:
    return bool(struct.unpack_from("<I", data, 2)[0] > len(data))


def _webp(data: bytes) -> bool:
    return bool(struct.unpack_from("<I", data, 4)[0] + 8 > len(data))


def _boxes(data: bytes) -> bool:
    """ISO boxes (AVIF, HEIF, JP2) run off the end, or a JPEG 2000 code stream lacks its end marker."""
    at = 0
    while at < len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        if size == 1:
            size = struct.unpack_from(">Q", data, at + 8)[0]
        end = at + size if size else len(data)
        if end > len(data):
            return True
        if kind == b"jp2c":
            return data[end - 2 : end] != b"\xff\xd9"
        if end <= at:
            return False
        at = end
    return False


def _jpeg2000(data: bytes) -> bool:
    if data.startswith(b"\xff\x4f\xff\x51"):
        return not data.endswith(b"\xff\xd9")
    return _boxes(data)


def _tiff(data: bytes) -> bool:
    """A tag's value, a strip or a tile of the first page lies beyond the end."""
    values: dict[int, list[int]] = {}
    order = "<" if data.startswith(b"II") else ">"
    for tag, kind, count, at in _tiff_tags(data, order):
        if at + _TIFF_VALUE_BYTES.get(kind, 1) * count > len(data):
            return True
        if tag in (273, 279, 324, 325) and kind in (3, 4, 16):
            code = {3: "H", 4: "I", 16: "Q"}[kind]
            values[tag] = list(struct.unpack_from(f"{order}{count}{code}", data, at))
    return any(
        offset + length > len(data)
        for offsets, lengths in _TIFF_DATA
        for offset, length in zip(values.get(offsets, []), values.get(lengths, []), strict=False)
    )


def _tiff_tags(data: bytes, order: str) -> Iterator[tuple[int, int, int, int]]:
    """Tag, type, count and the offset of its values, for every tag of the first page."""
    big = struct.unpack_from(order + "H", data, 2)[0] == 43
    at = struct.unpack_from(order + "Q", data, 8)[0] if big else struct.unpack_from(order + "I", data, 4)[0]
    counter, entry, inline = ("Q", "HHQ", 8) if big else ("H", "HHI", 4)
    tags = struct.unpack_from(order + counter, data, at)[0]
    at += struct.calcsize(order + counter)
    for _ in range(tags):
        tag, kind, count = struct.unpack_from(order + entry, data, at)
        at += struct.calcsize(order + entry)
        outside = _TIFF_VALUE_BYTES.get(kind, 1) * count > inline
        pointer = struct.unpack_from(order + ("Q" if big else "I"), data, at)[0]
        yield tag, kind, count, pointer if outside else at
        at += inline


_CHECKS: Final[dict[str, Callable[[bytes], bool]]] = {
    "jpeg": _jpeg,
    "png": _png,
    "gif": _gif,
    "bmp": _bmp,
    "webp": _webp,
    "tiff": _tiff,
    "jpeg2000": _jpeg2000,
    "avif": _boxes,
    "heif": _boxes,
}
