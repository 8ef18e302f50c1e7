"""Vary a shipped picture: (seed, number) -> Recipe, and (picture, Recipe) -> uint8[H, W, 3]."""

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from artray.archive.sample.drawing import Pixels

SHARES: Final[Mapping[str, float]] = MappingProxyType(
    {
        "jpeg": 0.74,
        "jpeg grey": 0.05,
        "jpeg cmyk": 0.02,
        "jpeg exif": 0.04,  # stored turned or mirrored, with an EXIF orientation that says so
        "png": 0.06,
        "png grey": 0.01,
        "png 16 bit": 0.015,
        "tiff": 0.05,
        "tiff 16 bit": 0.015,
    }
)
"""How an archive's files are encoded, as shares of 1: 85 % JPEG."""

GRAIN_PX: Final = 256
"""Side of the square of grain that a picture is covered with."""

Matrix = npt.NDArray[np.float64]


class Recipe(NamedTuple):
    """What makes one variation; drawn from (seed, number) and nothing else."""

    seed: int
    number: int  # the variation's own
    work: int  # index of the shipped picture
    crop: tuple[float, float, float, float]  # left, top, right, bottom, as shares of the sides
    megapixels: float
    hue_degrees: float
    saturation: float
    contrast: float
    gamma: float
    grain: float  # standard deviation, levels of 255
    encoding: str  # a key of SHARES
    quality: int  # of a JPEG
    orientation: int  # EXIF; 1 is upright
    suffix: str


def draw(seed: int, number: int, works: int, megapixels: tuple[float, float]) -> Recipe:
    """The recipe of variation ``number``: always the same for the same arguments.

    Args:
        seed: at least 0.
        number: at least 0.
        works: how many pictures there are to vary.
        megapixels: least and greatest size; between them the logarithm is uniform.
    """
    rng = np.random.default_rng([seed, number])
    left, top = rng.uniform(0.0, 0.15, 2)
    right, bottom = rng.uniform(0.85, 1.0, 2)
    encoding = str(rng.choice(list(SHARES), p=list(SHARES.values())))
    return Recipe(
        seed=seed,
        number=number,
        work=int(rng.integers(works)),
        crop=(float(left), float(top), float(right), float(bottom)),
        megapixels=math.exp(rng.uniform(math.log(megapixels[0]), math.log(megapixels[1]))),
        hue_degrees=float(rng.uniform(-40.0, 40.0)),
        saturation=float(rng.uniform(0.7, 1.3)),
        contrast=float(rng.uniform(0.8, 1.15)),
        gamma=float(rng.uniform(0.75, 1.35)),
        grain=float(rng.uniform(2.0, 6.0)),
        encoding=encoding,
        quality=int(rng.integers(80, 96)),
        orientation=int(rng.integers(2, 9)) if encoding == "jpeg exif" else 1,
        suffix=_suffix(encoding, rng),
    )


def draw_plain(seed: int, number: int, works: int) -> Recipe:
    """The same, but always a 2-megapixel RGB JPEG of quality 90: what a benchmark wants."""
    recipe = draw(seed, number, works, (2.0, 2.0))
    return recipe._replace(encoding="jpeg", quality=90, orientation=1, suffix=".jpg")


def size_wh(width_px: int, height_px: int, megapixels: float) -> tuple[int, int]:
    """The size of that many million pixels and the given shape, each side at least 1.

    >>> size_wh(400, 100, 1.0)
    (2000, 500)
    """
    scale = math.sqrt(megapixels * 1e6 / (width_px * height_px))
    return max(1, round(width_px * scale)), max(1, round(height_px * scale))


def colour_matrix(hue_degrees: float, saturation: float, contrast: float) -> Matrix:
    """float64[3, 4] that turns the hue, scales the saturation and stretches the contrast about middle grey.

    Greys stay grey: each row of its left part sums to ``contrast``.

    Source: rotation about the luma axis in YIQ, with the luma weights of ITU-R BT.601.

    >>> np.allclose(colour_matrix(0.0, 1.0, 1.0), np.eye(3, 4))
    True
    """
    to_yiq = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
    to_yiq[1:] -= to_yiq[1:].mean(axis=1, keepdims=True)  # chroma of a grey is exactly 0
    turn = math.radians(hue_degrees)
    cos, sin = saturation * math.cos(turn), saturation * math.sin(turn)
    in_yiq = np.array([[1.0, 0.0, 0.0], [0.0, cos, -sin], [0.0, sin, cos]])
    linear = contrast * np.linalg.inv(to_yiq) @ in_yiq @ to_yiq
    return np.hstack([linear, np.full((3, 1), 127.5 * (1.0 - contrast))])


def render(rgb: Pixels, recipe: Recipe) -> Pixels:
    """The variation's pixels, upright.

    Args:
        rgb: uint8[H, W, 3], the shipped picture.
        recipe: what to do with it.

    Returns:
        uint8[h, w, 3] of about ``recipe.megapixels`` million pixels.
    """
    toned = _tone(_crop(rgb, recipe.crop), recipe)  # before enlarging: there are fewer pixels to change
    size = size_wh(toned.shape[1], toned.shape[0], recipe.megapixels)
    shrinks = size[0] < toned.shape[1]
    enlarged = cv2.resize(toned, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
    return _add_grain(np.asarray(enlarged, np.uint8), recipe)


def _crop(rgb: Pixels, crop: tuple[float, float, float, float]) -> Pixels:
    height, width = rgb.shape[:2]
    left, right = int(crop[0] * width), max(int(crop[0] * width) + 1, round(crop[2] * width))
    top, bottom = int(crop[1] * height), max(int(crop[1] * height) + 1, round(crop[3] * height))
    return rgb[top:bottom, left:right]


def _tone(rgb: Pixels, recipe: Recipe) -> Pixels:
    matrix = colour_matrix(recipe.hue_degrees, recipe.saturation, recipe.contrast)
    curve = np.rint(255.0 * (np.arange(256) / 255.0) ** recipe.gamma).astype(np.uint8)
    return np.asarray(cv2.LUT(cv2.transform(rgb, matrix), curve), np.uint8)


def _add_grain(rgb: Pixels, recipe: Recipe) -> Pixels:
    """Fine noise, without which an enlarged picture compresses, and so decodes, as no scan does."""
    rng = np.random.default_rng([recipe.seed, recipe.number, 1])
    tile = np.clip(rng.normal(128.0, recipe.grain, (GRAIN_PX, GRAIN_PX)), 0, 255).astype(np.uint8)
    height, width = rgb.shape[:2]
    grain = np.tile(tile, (-(-height // GRAIN_PX), -(-width // GRAIN_PX)))[:height, :width]
    return np.asarray(cv2.addWeighted(rgb, 1.0, cv2.merge([grain] * 3), 1.0, -128.0), np.uint8)


def _suffix(encoding: str, rng: np.random.Generator) -> str:
    """As archives have it: most files end alike, some in capitals, some otherwise."""
    if encoding.startswith("jpeg"):
        return str(rng.choice([".jpg", ".JPG", ".jpeg"], p=[0.85, 0.1, 0.05]))
    return ".png" if encoding.startswith("png") else str(rng.choice([".tif", ".tiff"]))
