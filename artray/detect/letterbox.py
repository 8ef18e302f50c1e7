"""Pictures on a square canvas, and boxes there and back."""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from artray.classify.inputs import resize
from artray.detect.boxes import Boxes
from artray.detect.detector import Image

GROUND: Final = 114
"""The grey of what the picture does not cover, as YOLOX was trained with."""


class Letter(NamedTuple):
    """A picture on its canvas, in the upper left."""

    canvas: Image
    """uint8[S, S, 3]."""
    scale_xy: tuple[float, float]
    """Pixels of the canvas for one of the picture, across and down: the two differ by rounding to whole pixels."""


def letterbox(image: Image, size_px: int) -> Letter:
    """A picture in its aspect ratio, its longer side as long as the canvas.

    Args:
        image: uint8[H, W, 3], H and W at least 1.
        size_px: S.

    Raises:
        ValueError: not uint8[H, W, 3], or empty.

    >>> letter = letterbox(np.zeros((2, 4, 3), np.uint8), 8)
    >>> letter.scale_xy, letter.canvas[:, 0, 0].tolist()
    ((2.0, 2.0), [0, 0, 0, 0, 114, 114, 114, 114])
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
        raise ValueError(f"image: expected uint8[H, W, 3], got {image.dtype}{list(image.shape)}")
    height_px, width_px = image.shape[:2]
    scale = size_px / max(height_px, width_px)
    height, width = (max(1, round(side * scale)) for side in (height_px, width_px))
    canvas = np.full((size_px, size_px, 3), GROUND, np.uint8)
    canvas[:height, :width] = resize(image, width, height)
    return Letter(canvas, (width / width_px, height / height_px))


def to_canvas(boxes_xyxy: Boxes, scale_xy: tuple[float, float]) -> NDArray[np.float32]:
    """Boxes float32[N, 4] in pixels of the canvas, of boxes floating[N, 4] in pixels of the picture."""
    placed: NDArray[np.float32] = (boxes_xyxy * np.array(scale_xy * 2)).astype(np.float32)
    return placed


def to_image(boxes_xyxy: Boxes, scale_xy: tuple[float, float], size_wh: tuple[int, int]) -> NDArray[np.float32]:
    """Boxes float32[N, 4] in pixels of the picture and within it, of boxes floating[N, 4] in pixels of the canvas.

    Args:
        boxes_xyxy: as a detector gives them; may reach beyond the picture.
        scale_xy: of the picture's :class:`Letter`.
        size_wh: the picture's width and height in pixels.
    """
    placed = boxes_xyxy / np.array(scale_xy * 2)
    within: NDArray[np.float32] = np.clip(placed, 0, np.array(size_wh * 2)).astype(np.float32)
    return within
