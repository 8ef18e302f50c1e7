"""Encode a picture the way that archives' files differ: (uint8[H, W, 3], Recipe) -> the file's bytes."""

import io
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import cv2
import numpy as np
from PIL import Image

from artray.archive.sample.drawing import Pixels
from artray.archive.sample.variation import Recipe

ORIENTATION_TAG: Final = 0x0112

STORED: Final[Mapping[int, Image.Transpose]] = MappingProxyType(
    {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
)
"""EXIF orientation to how an upright picture is turned before it is stored, so that a viewer turns it back."""


def encode(rgb: Pixels, recipe: Recipe) -> bytes:
    """The bytes of a file that shows ``rgb`` upright, in ``recipe.encoding``."""
    family, _, variant = recipe.encoding.partition(" ")
    if variant == "16 bit":
        return encode_16_bit(rgb, ".png" if family == "png" else ".tiff")
    image = Image.fromarray(rgb).convert({"grey": "L", "cmyk": "CMYK"}.get(variant, "RGB"))
    options: dict[str, dict[str, Any]] = {
        "jpeg": {"quality": recipe.quality},
        "png": {"compress_level": 1},
        "tiff": {"compression": "tiff_lzw" if recipe.number % 2 else None},
    }
    if recipe.orientation != 1:
        image = image.transpose(STORED[recipe.orientation])
        options["jpeg"]["exif"] = orientation_exif(recipe.orientation)
    return save(image, family, **options[family])


def save(image: Image.Image, kind: str, **options: Any) -> bytes:
    """What Pillow writes for the image in a format that it knows."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def orientation_exif(orientation: int) -> bytes:
    """An EXIF block that says nothing but the orientation."""
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = orientation
    return exif.tobytes()


def encode_16_bit(pixels: Pixels, suffix: str) -> bytes:
    """A PNG or TIFF of 16 bits per channel: uint8[H, W, 3] RGB or uint8[H, W] grey, each value times 257."""
    deep = pixels.astype(np.uint16) * 257  # 255 * 257 = 65,535
    as_opencv_has_it = deep[:, :, ::-1] if deep.ndim == 3 else deep
    options = [cv2.IMWRITE_PNG_COMPRESSION, 1] if suffix == ".png" else []
    _, data = cv2.imencode(suffix, as_opencv_has_it, options)
    return bytes(data.tobytes())
