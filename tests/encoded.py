"""Pictures encoded for tests of decoding, and what is told of those that are refused."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from artray.archive import formats
from artray.archive.formats import decode_bytes
from artray.config import DecodeConfig
from artray.errors import RowError

CFG = DecodeConfig()


def encode(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def flat(mode, colour, size=(8, 4)):
    return Image.new(mode, size, colour)


def photo(width=1600, height=1200):
    """Smooth noise: at most 40 patches of colour to the width."""
    block = max(width // 40, 1)
    small = np.random.default_rng(0).integers(0, 256, (max(height // block, 1), width // block, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def pixel(data, cfg=CFG):
    return decode_bytes(data, cfg).pixels[0, 0].tolist()


def error(data, cfg=CFG):
    with pytest.raises(RowError) as caught:
        decode_bytes(data, cfg)
    detail = caught.value.detail
    assert "/" not in detail
    assert "\n" not in detail
    assert 0 < len(detail) <= formats.DETAIL_CHARACTERS
    return caught.value.kind


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width, height, depth, colour, body):
    header = chunk(b"IHDR", struct.pack(">2I5B", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", body) + chunk(b"IEND", b"")


LOSSLESS = [("PNG", {}), ("TIFF", {}), ("TIFF", {"compression": "tiff_lzw"}), ("TIFF", {"big_tiff": True})]
LOSSLESS += [("BMP", {}), ("WEBP", {"lossless": True}), ("JPEG2000", {}), ("JPEG2000", {"no_jp2": True})]
