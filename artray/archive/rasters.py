"""From whatever a file holds to RGB pixels: 8 bits, over white, reduced, in sRGB, upright.

The order is chosen for memory and speed: strips of the picture are made plain and averaged down by a whole factor, so
a gigapixel scan never exists twice; the small rest is resized, colour-managed and turned.

A float or 32-bit picture is taken to span the first of 0..1 (floats only), 0..255 (floats only) and 0..65535 that
holds all its values, and otherwise its own minimum to maximum; what is not a number is black.
"""

import functools
import io
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

Pixels = NDArray[np.uint8]

STRIP_PIXELS: Final = 2**20
LINEAR_RATIO: Final = 1.5
"""Up to here resizing is bilinear: from 795 to 640 px it takes 0.5 ms, averaging areas 3.9. Against the full decode,
averaged, both are then off by the same (2.5 levels of 255 in the mean on a photograph); at a ratio of 1.55 bilinear is
off by 2.8 and averaging by 2.1."""


class Raster(NamedTuple):
    """A picture of 8-bit samples, not yet of its final size, colour or direction."""

    samples: Pixels  # uint8[H, W] or uint8[H, W, C]
    space: str  # L, RGB or CMYK
    size_wh: tuple[int, int]  # of the original, as stored
    icc: bytes | None = None
    orientation: int = 1  # EXIF's, 1 to 8


def from_image(image: Image.Image, max_side_px: int) -> Raster:
    """Decode an opened picture into plain samples, averaged down by the largest whole factor that leaves enough.

    Returns:
        A raster whose longer side is in [max_side_px, 2 * max_side_px), or the original's where that is shorter.
    """
    size_wh = image.size
    image.load()
    width, height = image.size  # JPEG 2000 may have been asked for a half, a quarter, ...
    factor = max(1, max(width, height) // max_side_px)
    span = _span(image)
    rows = factor * max(1, STRIP_PIXELS // (width * factor))
    small: list[Pixels] = []
    for top in range(0, height, rows):
        strip = _plain(image.crop((0, top, width, min(top + rows, height))), span)
        space = strip.mode
        small.append(np.asarray(strip if factor == 1 else strip.reduce(factor)))
    samples = small[0] if len(small) == 1 else np.concatenate(small)
    return Raster(samples, space, size_wh, image.info.get("icc_profile"), orientation(image))


def from_array(values: NDArray[Any]) -> Raster:
    """A raster of an array uint8[H, W] or uint8[H, W, 3].

    Raises:
        TypeError: it is not one.
    """
    if values.dtype != np.uint8 or values.size == 0 or not (values.ndim == 2 or values.shape[2:] == (3,)):
        raise TypeError(f"pixels: expected uint8[H, W] or uint8[H, W, 3], got {values.dtype}{list(values.shape)}")
    return Raster(values, "L" if values.ndim == 2 else "RGB", (values.shape[1], values.shape[0]))


def finish(raster: Raster, max_side_px: int) -> Pixels:
    """Resize to the final size, convert to sRGB and turn upright.

    Returns:
        uint8[H, W, 3] RGB that owns its memory; the longer side is ``max_side_px``, or the original's if shorter.
    """
    size_wh = fitted(raster.size_wh, max_side_px)
    return np.array(upright(_to_srgb(_resized(raster, size_wh)), raster.orientation), dtype=np.uint8, order="C")


def fitted(size_wh: tuple[int, int], max_side_px: int) -> tuple[int, int]:
    """The size with the longer side at most ``max_side_px``; never enlarged, no side below 1.

    >>> fitted((1280, 960), 640), fitted((20000, 10), 640), fitted((3, 2), 640)
    ((640, 480), (640, 1), (3, 2))
    """
    width, height = size_wh
    scale = min(1.0, max_side_px / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def upright(pixels: Pixels, orientation: int) -> Pixels:
    """Undo an EXIF orientation (1 to 8): the view that shows the picture's top at the top.

    Source: EXIF 2.32, tag 274.
    """
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels


def orientation(image: Image.Image) -> int:
    """EXIF orientation of an opened picture; 1 where there is none or EXIF is damaged."""
    try:
        value = image.getexif().get(274, 1)
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - any damage to EXIF means that there is none
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _plain(strip: Image.Image, span: tuple[float, float] | None) -> Image.Image:
    """8 bits a sample, no palette, no alpha: mode L, RGB or CMYK."""
    mode = strip.mode
    if span is not None:
        low, high = span
        values = np.nan_to_num(np.asarray(strip, dtype=np.float64), nan=low, posinf=high, neginf=low)
        return Image.fromarray(np.rint((values.clip(low, high) - low) * (255 / (high - low))).astype(np.uint8))
    if mode.startswith("I;16"):
        return Image.fromarray((np.asarray(strip) >> 8).astype(np.uint8))  # as Pillow does 16-bit RGB
    if strip.has_transparency_data:
        over = Image.alpha_composite(Image.new("RGBA", strip.size, "white"), strip.convert("RGBA"))
        return over.convert("L" if mode in ("1", "L", "LA", "La") else "RGB")
    if mode == "LAB":
        return _applied(_from_lab(), strip)
    if mode in ("L", "RGB", "CMYK"):
        return strip
    return strip.convert("L" if mode == "1" else "RGB")


def _span(image: Image.Image) -> tuple[float, float] | None:
    """Which values of a float or 32-bit picture are black and white; None for other pictures."""
    if image.mode not in ("F", "I"):
        return None
    width, height = image.size
    rows = max(1, STRIP_PIXELS // width)
    low, high = np.inf, -np.inf
    for top in range(0, height, rows):
        values = np.asarray(image.crop((0, top, width, min(top + rows, height))))
        finite = values[np.isfinite(values)]
        if finite.size:
            low, high = min(low, float(finite.min())), max(high, float(finite.max()))
    for white in (1.0, 255.0, 65535.0) if image.mode == "F" else (65535.0,):
        if low >= 0 and high <= white:
            return 0.0, white
    return (low, high) if low < high else (0.0, 1.0)


def _resized(raster: Raster, size_wh: tuple[int, int]) -> Raster:
    """The raster at its final size."""
    height, width = raster.samples.shape[:2]
    if (width, height) == size_wh:
        return raster
    import cv2

    ratio = max(width / size_wh[0], height / size_wh[1])
    method = cv2.INTER_LINEAR if ratio <= LINEAR_RATIO else cv2.INTER_AREA
    return raster._replace(samples=np.asarray(cv2.resize(raster.samples, size_wh, interpolation=method), np.uint8))


def _to_srgb(raster: Raster) -> Pixels:
    """RGB, by the picture's ICC profile where it has a usable one."""
    transform = _transform(raster.icc, raster.space) if raster.icc else None
    if transform is None and raster.space == "RGB":
        return raster.samples
    if transform is None and raster.space == "L":
        return np.repeat(raster.samples[:, :, None], 3, axis=2)
    image = _image(raster.samples, raster.space)
    return np.asarray(image.convert("RGB") if transform is None else _applied(transform, image))


def _applied(transform: ImageCms.ImageCmsTransform, image: Image.Image) -> Image.Image:
    """The image as the transform has it: a new one, of mode RGB."""
    return ImageCms.applyTransform(image, transform) or image


def _image(samples: Pixels, space: str) -> Image.Image:
    return Image.frombuffer(space, samples.shape[1::-1], np.ascontiguousarray(samples), "raw", space, 0, 1)


@functools.lru_cache(maxsize=1)
def _from_lab() -> ImageCms.ImageCmsTransform:
    """From CIE L*a*b* to sRGB."""
    return ImageCms.buildTransform(ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB")


@functools.lru_cache(maxsize=16)
def _transform(icc: bytes, space: str) -> ImageCms.ImageCmsTransform | None:
    """From a profile to sRGB; None where it is damaged, of another colour space, or changes next to nothing.

    Many files carry sRGB itself under some name; leaving those alone saves as long as decoding takes.
    """
    srgb = ImageCms.createProfile("sRGB")
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        transform = ImageCms.buildTransform(profile, srgb, space, "RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None
    if space not in ("L", "RGB"):
        return transform
    levels = np.arange(0, 256, 15, dtype=np.uint8)
    grid = np.stack(np.meshgrid(*[levels] * len(space)), axis=-1).reshape(1, -1, len(space))
    probe = _image(grid[:, :, 0] if space == "L" else grid, space)
    moved = np.asarray(ImageCms.applyTransform(probe, transform)).astype(int) - grid
    return transform if np.abs(moved).max() > 1 else None
