"""Labelled pictures for classes that nobody has boxes of: cut-outs with alpha, pasted on pictures.

Where each was pasted is known, and so is its box; what is pasted over it later lessens how much of it is seen.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from artray.classify.inputs import resize
from artray.detect.detector import Image

OPAQUE: Final = 128
"""From this alpha on a pixel belongs to the object."""


class CutOut(NamedTuple):
    """An object without its ground."""

    pixels: NDArray[np.uint8]
    """uint8[H, W, 4] RGB and alpha, alpha not multiplied in; some of it opaque."""
    class_id: int


class Composite(NamedTuple):
    """A picture with what was pasted on it: T objects."""

    image: Image
    """uint8[H, W, 3] RGB."""
    boxes_xyxy: NDArray[np.float64]
    """float64[T, 4] px, around what is seen of each."""
    class_ids: NDArray[np.int64]
    """int64[T]."""
    seen: NDArray[np.float64]
    """float64[T] in (0, 1]: how much of each is seen."""


@dataclass(frozen=True)
class Pasting:
    """How cut-outs are pasted.

    Args:
        side_share: an object's longer side as a part of the picture's shorter one, least and greatest; sizes are drawn
            evenly by their logarithm.
        mirrored: how often an object is mirrored.
        tone: how far an object's mean and deviation of each channel are moved to those of the ground that it covers,
            in [0, 1]: 0 leaves it as it is.
        soft_px: the standard deviation that alpha is blurred by, pixels; 0 leaves hard edges.
        seen_min: an object of which less is seen in the end has no box and is a distractor, in [0, 1].
    """

    side_share: tuple[float, float] = (0.1, 0.7)
    mirrored: float = 0.5
    tone: float = 0.5
    soft_px: float = 1.0
    seen_min: float = 0.35


def composite(
    ground: Image, objects: Sequence[CutOut], random: np.random.Generator, cfg: Pasting | None = None
) -> Composite:
    """Paste objects on a picture, one after the other, at random places in random sizes.

    Args:
        ground: uint8[H, W, 3] RGB; is not changed.
        objects: in the order in which they are pasted.
        random: draws the same number of times whatever the pictures are.
        cfg: how; None: as :class:`Pasting` has it.

    Raises:
        ValueError: an object that is not uint8[H, W, 4], or of which nothing is opaque.
    """
    cfg, image = cfg or Pasting(), ground.copy()
    owner = np.full(ground.shape[:2], -1, np.int64)
    sizes = list[int]()
    for number, cut in enumerate(objects):
        pixels, (x, y) = _placed(cut.pixels, ground.shape[:2], random, cfg)
        rows, columns = slice(y, y + pixels.shape[0]), slice(x, x + pixels.shape[1])
        own = pixels[..., 3] >= OPAQUE
        image[rows, columns] = _blended(image[rows, columns], pixels, cfg)
        owner[rows, columns][own] = number
        sizes.append(int(own.sum()))
    shares = [int((owner == number).sum()) / size for number, size in enumerate(sizes)]
    seen = [number for number, share in enumerate(shares) if share > 0 and share >= cfg.seen_min]
    boxes = np.array([_around(owner == number) for number in seen], np.float64).reshape(-1, 4)
    class_ids = np.array([objects[number].class_id for number in seen], np.int64)
    return Composite(image, boxes, class_ids, np.array([shares[number] for number in seen], np.float64))


def trimmed(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A cut-out without the empty rows and columns around it.

    Raises:
        ValueError: not uint8[H, W, 4], or nothing of it is opaque.
    """
    if pixels.ndim != 3 or pixels.shape[2] != 4 or pixels.dtype != np.uint8:
        raise ValueError(f"cut-out: expected uint8[H, W, 4], got {pixels.dtype}{list(pixels.shape)}")
    opaque = pixels[..., 3] >= OPAQUE
    if not opaque.any():
        raise ValueError("cut-out: expected something opaque, got none")
    x1, y1, x2, y2 = (int(edge) for edge in _around(opaque))
    return pixels[y1:y2, x1:x2]


def _placed(
    pixels: NDArray[np.uint8], ground_hw: tuple[int, int], random: np.random.Generator, cfg: Pasting
) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    """An object in the size and at the place that were drawn; all of it lies within the ground."""
    low, high = np.log(cfg.side_share)
    share, mirrored, across, down = np.exp(random.uniform(low, high)), random.random(), random.random(), random.random()
    pixels = trimmed(pixels)
    height, width = pixels.shape[:2]
    scale = min(share * min(ground_hw) / max(height, width), ground_hw[0] / height, ground_hw[1] / width)
    new_height, new_width = (max(1, int(side * scale)) for side in (height, width))
    # colours of what is not seen must not bleed in: alpha is multiplied in before the size is changed
    alpha = resize(np.repeat(pixels[..., 3:], 3, axis=2), new_width, new_height)[..., :1]
    seen = (pixels[..., :3].astype(np.float32) * (pixels[..., 3:] / 255)).round().astype(np.uint8)
    colours = resize(seen, new_width, new_height).astype(np.float32) / np.maximum(alpha / 255, 1 / 255)
    sized = np.concatenate([np.clip(colours, 0, 255).round().astype(np.uint8), alpha], axis=2)
    if mirrored < cfg.mirrored:
        sized = sized[:, ::-1]
    return sized, (int(across * (ground_hw[1] - new_width + 1)), int(down * (ground_hw[0] - new_height + 1)))


def _blended(ground: Image, pixels: NDArray[np.uint8], cfg: Pasting) -> Image:
    """An object on the ground beneath it, in something of its tone."""
    colours, below = pixels[..., :3].astype(np.float32), ground.astype(np.float32)
    opaque = pixels[..., 3] >= OPAQUE
    if cfg.tone and opaque.any():
        mean, deviation = colours[opaque].mean(axis=0), colours[opaque].std(axis=0)
        wanted_mean, wanted = below[opaque].mean(axis=0), below[opaque].std(axis=0)
        toned = (colours - mean) * np.maximum(wanted, 1) / np.maximum(deviation, 1) + wanted_mean
        colours = colours + cfg.tone * (toned - colours)
    alpha = pixels[..., 3].astype(np.float32) / 255
    if cfg.soft_px:
        alpha = alpha * cv2.GaussianBlur(alpha, (0, 0), cfg.soft_px, borderType=cv2.BORDER_CONSTANT)
    blended: Image = np.clip(below + alpha[..., None] * (colours - below), 0, 255).round().astype(np.uint8)
    return blended


def _around(mask: NDArray[np.bool_]) -> tuple[float, float, float, float]:
    """The box around what is True; something is."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)
