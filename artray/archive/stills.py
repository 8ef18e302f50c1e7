"""Every still format but JPEG, through Pillow: PNG, TIFF, WebP, GIF, BMP, JPEG 2000, AVIF; HEIF where it is installed.

Pillow's classes are called directly: its ``Image.open`` would try formats that run other programs (EPS).
"""

import importlib
import io
import struct
from collections.abc import Callable
from typing import Final

from PIL import Image

from artray.archive import endings, rasters
from artray.archive.limits import check_size
from artray.archive.rasters import Raster
from artray.config import DecodeConfig
from artray.errors import RowError

_CLASSES: Final = {
    "png": ("PIL.PngImagePlugin", "PngImageFile"),
    "tiff": ("PIL.TiffImagePlugin", "TiffImageFile"),
    "webp": ("PIL.WebPImagePlugin", "WebPImageFile"),
    "gif": ("PIL.GifImagePlugin", "GifImageFile"),
    "bmp": ("PIL.BmpImagePlugin", "BmpImageFile"),
    "jpeg2000": ("PIL.Jpeg2KImagePlugin", "Jpeg2KImageFile"),
    "avif": ("PIL.AvifImagePlugin", "AvifImageFile"),
    "heif": ("pillow_heif", "HeifImageFile"),
}
_BYTES_PER_PIXEL: Final = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16L": 2, "I;16B": 2}
"""What Pillow holds for one pixel, by mode; 4 for all others."""


def decode(name: str, data: bytes, cfg: DecodeConfig) -> Raster:
    """The first picture of a file of the format ``name``.

    Raises:
        RowError: its size is over a limit, or its format is not installed.
        Exception: whatever Pillow raises on a damaged file.
    """
    Image.MAX_IMAGE_PIXELS = cfg.max_pixels  # Pillow's own check, made late and with warnings, is then never the first
    if name == "webp":
        check_size(_webp_size(data), 8, cfg)  # Pillow allocates two canvases before it tells the size
    image = _class(name)(io.BytesIO(data))
    check_size(image.size, _BYTES_PER_PIXEL.get(image.mode, 4), cfg)
    if name == "jpeg2000":
        if endings.is_cut(name, data):
            raise RowError("truncated", "jpeg2000: the code stream lacks its end")  # the decoder would paint it grey
        image.reduce = _halvings(data, max(image.size), cfg.max_side_px)  # type: ignore[method-assign,assignment]
    return rasters.from_image(image, cfg.max_side_px)


def _class(name: str) -> Callable[[io.BytesIO], Image.Image]:
    """Pillow's class for a format."""
    module, attribute = _CLASSES[name]
    try:
        found: Callable[[io.BytesIO], Image.Image] = getattr(importlib.import_module(module), attribute)
    except ImportError as error:
        raise RowError("unsupported", f"{name} is not decoded here: install artray[heif]") from error
    return found


def _webp_size(data: bytes) -> tuple[int, int]:
    """Width and height in pixels from a WebP's first chunk.

    Source: RFC 9649, sections 2.7.1.1 (VP8X) and 3.4 (VP8L); RFC 6386, section 9.1 (VP8).
    """
    kind = data[12:16]
    if kind == b"VP8X":
        return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    if kind == b"VP8L":
        bits = struct.unpack_from("<I", data, 21)[0]
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    width, height = struct.unpack_from("<HH", data, 26)
    return width & 0x3FFF, height & 0x3FFF


def _halvings(data: bytes, longer_px: int, max_side_px: int) -> int:
    """How often a JPEG 2000 picture is halved while it is decoded: as its levels allow, and not below what is needed.

    Source: ITU-T T.800, A.6.1 (COD): the number of decomposition levels.
    """
    at = data.find(b"\xff\x4f\xff\x51") + 2
    while data[at : at + 2] not in (b"\xff\x52", b"\xff\x90", b""):
        at += 2 + struct.unpack_from(">H", data, at + 2)[0]
    levels = data[at + 9] if data[at : at + 2] == b"\xff\x52" else 0
    return max((n for n in range(levels + 1) if longer_px >> n >= max_side_px), default=0)
