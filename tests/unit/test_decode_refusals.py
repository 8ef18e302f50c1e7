"""Files that are refused: which kind of error, and before how much memory is taken."""

import struct
import zlib

import numpy as np
import pytest

from artray.archive.formats import decode_bytes
from artray.config import DecodeConfig
from tests.encoded import LOSSLESS, chunk, encode, error, flat, photo, png


@pytest.mark.parametrize(
    "data",
    [
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        b"\xc5\xd0\xd3\xc6" + bytes(30),
        b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>',
        b"<svg/>",
        b"%PDF-1.7\n",
        b"PK\x03\x04" + bytes(40),
        b"\x80\x04\x95\x05\0\0\0\0\0\0\0K\x01.",
        b"hello, world, this is text",
        b"<!DOCTYPE html><html></html>",
        b"\0\0\0\x18ftypisom\0\0\0\0isommp42",
        b"BM is how this text begins, not a bitmap",
        b"P6 1 1 255 abc",
        bytes(100),
    ],
)
def test_what_is_no_picture_is_unsupported(data):
    assert error(data) == "unsupported"


def test_nothing_is_empty():
    assert error(b"") == "empty"


CUTTABLE = [*LOSSLESS, ("JPEG", {}), ("JPEG", {"progressive": True}), ("GIF", {}), ("AVIF", {}), ("WEBP", {})]


@pytest.mark.filterwarnings("ignore:Truncated File Read")
@pytest.mark.parametrize(("kind", "options"), CUTTABLE)
@pytest.mark.parametrize("part", [0.02, 0.3, 0.5, 0.95])
def test_a_file_cut_off_is_truncated(kind, options, part):
    data = encode(photo(200, 160), kind, **options)
    assert error(data[: max(14, int(len(data) * part))]) == "truncated"


@pytest.mark.parametrize("length", range(1, 8))
def test_a_file_cut_within_its_magic_is_truncated(length):
    assert error(b"\x89PNG\r\n\x1a\n"[:length]) == "truncated"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF"])
def test_garbage_in_the_middle_is_corrupt(kind):
    """2,000 random bytes hold about eight 0xff, which in a JPEG's scan announce markers that make no sense there."""
    data = bytearray(encode(photo(800, 600), kind))
    middle = len(data) // 2
    data[middle : middle + 2000] = np.random.default_rng(1).bytes(2000)
    assert error(bytes(data)) == "corrupt"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP", "GIF", "BMP", "AVIF", "JPEG2000"])
@pytest.mark.filterwarnings("error")
def test_too_many_pixels(kind):
    data = encode(flat("RGB", "white", (300, 200)), kind)
    assert error(data, DecodeConfig(max_pixels=59_999)) == "too_large"
    assert decode_bytes(data, DecodeConfig(max_pixels=60_000)).width_px == 300


def bombs():
    jpeg = bytearray(encode(flat("RGB", "white"), "JPEG"))
    at = jpeg.index(b"\xff\xc0")
    jpeg[at + 5 : at + 9] = struct.pack(">2H", 60000, 60000)
    tiff = encode(flat("RGB", "white", (70, 60)), "TIFF")
    tags = [(b"\x00\x01\x04\x00\x01\0\0\0", 70), (b"\x01\x01\x04\x00\x01\0\0\0", 60)]
    for head, value in tags:
        assert head + struct.pack("<I", value) in tiff
        tiff = tiff.replace(head + struct.pack("<I", value), head + struct.pack("<I", 50000))
    yield "jpeg", bytes(jpeg)
    yield "tiff", tiff
    yield "png", png(60000, 60000, 8, 2, zlib.compress(bytes(1000)))
    yield "bmp", b"BM" + struct.pack("<IIIIiiHHIIiiII", 54, 0, 54, 40, 60000, 60000, 1, 24, 0, 0, 0, 0, 0, 0)
    yield "webp", b"RIFF\x1e\0\0\0WEBPVP8X\x0a\0\0\0" + bytes(4) + b"\xff\xff\xff" * 2


@pytest.mark.parametrize(("name", "data"), list(bombs()), ids=lambda value: value if isinstance(value, str) else "")
@pytest.mark.filterwarnings("error")
def test_bombs_are_refused_before_memory_is_taken(name, data):
    tracemalloc = pytest.importorskip("tracemalloc")
    tracemalloc.start()
    try:
        assert error(data) == "too_large"
        assert tracemalloc.get_traced_memory()[1] < 4 * 2**20
    finally:
        tracemalloc.stop()


def test_memory_is_estimated_from_the_header():
    """9,000 x 9,000 pixels at 4 bytes are 309 MiB: over 256 MiB, though far below the pixel limit."""
    data = png(9000, 9000, 8, 2, zlib.compress(bytes(1000)))
    assert error(data, DecodeConfig(memory_bytes=256 * 2**20)) == "too_large"


def test_text_chunk_floods():
    text = chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(2**22)))
    data = encode(flat("RGB", "white"), "PNG")
    assert error(data[:33] + text * 3 + data[33:]) == "too_large"


@pytest.mark.filterwarnings("ignore:Tag data larger")
def test_tiff_tags_that_share_their_values_are_not_read_thousands_of_times():
    size = 4_000_000
    tags = 2000
    entries = b"".join(struct.pack("<HHII", 1000 + n, 7, size, 0) for n in range(tags))
    data = struct.pack("<2sHIH", b"II", 42, 8, tags) + entries + bytes(4) + bytes(size)
    assert error(data) in ("corrupt", "too_large", "truncated")


def test_memory_errors_are_too_large(monkeypatch):
    def exhausted(*_):
        raise MemoryError

    monkeypatch.setattr("artray.archive.rasters.finish", exhausted)
    assert error(encode(flat("RGB", "white"), "PNG")) == "too_large"
