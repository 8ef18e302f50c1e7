"""Any bytes decode, or give a row error of the closed set: nothing else ever comes out."""

import functools
import io
import warnings

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from artray.archive import rasters
from artray.archive.formats import Decoded, decode_bytes
from artray.archive.pool import DecodePool
from artray.config import DecodeConfig
from artray.errors import RowError

CFG = DecodeConfig(max_side_px=48, max_pixels=1_000_000, memory_bytes=2**29)
KINDS = ("empty", "too_large", "unsupported", "truncated", "corrupt")
SOURCES = [
    ("JPEG", {}),
    ("JPEG", {"progressive": True}),
    ("PNG", {}),
    ("TIFF", {}),
    ("TIFF", {"compression": "tiff_lzw"}),
]
SOURCES += [("WEBP", {}), ("GIF", {}), ("BMP", {}), ("JPEG2000", {}), ("AVIF", {})]
MAGICS = [
    b"\xff\xd8\xff",
    b"\x89PNG\r\n\x1a\n",
    b"GIF89a",
    b"II*\0",
    b"MM\0+",
    b"RIFF\0\0\0\0WEBPVP8 ",
    b"BM" + bytes(12) + b"(",
]
MAGICS += [b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51", b"\0\0\0\x18ftypavif", b"\0\0\0\x18ftypheic"]
quick = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@functools.cache
def source(index):
    kind, options = SOURCES[index]
    values = np.random.default_rng(index).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(values).resize((64, 48)).save(buffer, kind, **options)
    return buffer.getvalue()


@st.composite
def mutations(draw):
    """A real file with a few bytes changed, a piece taken out or put in, or its end cut off."""
    data = bytearray(source(draw(st.integers(0, len(SOURCES) - 1))))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        length = draw(st.integers(0, 40))
        data[at : at + length] = draw(st.binary(max_size=40))
    return bytes(data)


def attempt(data):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return decode_bytes(data, CFG)
        except RowError as error:
            return error


def outcome(data):
    """Decode, and check what came of it."""
    result = attempt(data)
    if isinstance(result, RowError):
        assert result.kind in KINDS
        assert result.detail.isascii()
        assert 0 < len(result.detail) <= 160
        return result.kind, result.detail
    height, width, channels = result.pixels.shape
    assert channels == 3
    assert max(height, width) == min(CFG.max_side_px, max(result.width_px, result.height_px))
    assert result.pixels.dtype == np.uint8
    assert result.width_px * result.height_px <= CFG.max_pixels
    return result[1:], result.pixels.tobytes()


@quick
@given(st.binary(max_size=300))
def test_any_bytes(data):
    outcome(data)


@quick
@given(st.sampled_from(MAGICS), st.binary(max_size=300))
def test_any_bytes_after_a_magic(magic, data):
    outcome(magic + data)


@settings(quick, max_examples=400)
@given(mutations())
def test_any_mutation_gives_the_same_twice(data):
    assert outcome(data) == outcome(data)


@quick
@given(st.integers(1, 40_000), st.integers(1, 40_000), st.integers(32, 2000))
def test_fitted_sizes(width, height, limit):
    w, h = rasters.fitted((width, height), limit)
    assert max(w, h) == min(limit, max(width, height))
    assert min(w, h) >= 1
    assert abs(w * height - h * width) <= max(width, height) or 1 in (w, h)


def test_pool_equals_in_process():
    """One process, one order; three files at a time in another order: the same as in this process, byte for byte."""
    files = [source(index) for index in range(len(SOURCES))]
    files += [data[: len(data) // 2] for data in files] + [b"", b"text", bytes(50)]
    expected = [outcome(data) for data in files]
    with DecodePool(CFG) as pool:
        for order in (range(len(files)), range(len(files) - 1, -1, -1)):
            for index, result in zip(order, pool.decode_many([files[i] for i in order]), strict=True):
                if isinstance(result, Decoded):
                    assert (result[1:], result.pixels.tobytes()) == expected[index]
                else:
                    assert (result.kind, result.detail) == expected[index]
