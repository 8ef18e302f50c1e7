"""Pictures on a canvas of a network's size, and boxes there and back."""

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from artray.classify.inputs import resize
from artray.detect.boxes import Boxes
from artray.detect.detector import Image

GROUND: Final = 114
"""The grey of what the picture does not cover, as YOLO's networks are trained with."""


class Letter(NamedTuple):
    """A picture on its canvas."""

    canvas: NDArray[Any]
    """[H, W, 3], uint8 unless the picture was drawn as something else."""
    scale_xy: tuple[float, float]
    """Pixels of the canvas for one of the picture, across and down: they differ at least by rounding to pixels."""
    offset_xy: tuple[int, int]
    """Of the picture's upper left corner, pixels of the canvas."""

    def drawn_wh(self, size_wh: tuple[int, int]) -> tuple[int, int]:
        """Width and height of a picture of this size on the canvas, pixels."""
        return round(size_wh[0] * self.scale_xy[0]), round(size_wh[1] * self.scale_xy[1])

    def covered(self, size_wh: tuple[int, int]) -> tuple[float, float, float, float]:
        """Left, upper, right and lower edge of a picture of this size, as parts of the canvas' width and height.

        >>> letterbox(np.zeros((2, 4, 3), np.uint8), (8, 8), centred=True).covered((4, 2))
        (0.0, 0.25, 1.0, 0.75)
        """
        (x, y), (width, height) = self.offset_xy, self.drawn_wh(size_wh)
        canvas_height, canvas_width = self.canvas.shape[:2]
        return x / canvas_width, y / canvas_height, (x + width) / canvas_width, (y + height) / canvas_height

    def to_canvas(self, boxes_xyxy: Boxes) -> NDArray[np.float32]:
        """Boxes float32[N, 4] in pixels of the canvas, of boxes floating[N, 4] in pixels of the picture."""
        placed: NDArray[np.float32] = (boxes_xyxy * np.array(self.scale_xy * 2) + np.array(self.offset_xy * 2)).astype(
            np.float32
        )
        return placed

    def to_image(self, boxes_xyxy: Boxes, size_wh: tuple[int, int]) -> NDArray[np.float32]:
        """Boxes float32[N, 4] in pixels of the picture and within it, of boxes floating[N, 4] in pixels of the canvas.

        Args:
            boxes_xyxy: as a detector gives them; may reach beyond the picture.
            size_wh: the picture's width and height in pixels.
        """
        placed = (boxes_xyxy - np.array(self.offset_xy * 2)) / np.array(self.scale_xy * 2)
        within: NDArray[np.float32] = np.clip(placed, 0, np.array(size_wh * 2)).astype(np.float32)
        return within


def letterbox(
    image: Image,
    size_wh: tuple[int, int],
    *,
    ground: float = GROUND,
    centred: bool = False,
    squash: bool = False,
    floor: bool = False,
    draw: Callable[[Image, int, int], NDArray[Any]] = resize,
) -> Letter:
    """A picture in its aspect ratio, as large as the canvas allows.

    Args:
        image: uint8[H, W, 3], H and W at least 1.
        size_wh: of the canvas.
        ground: what the picture does not cover, of all channels, on the scale of what is drawn: [0, 255].
        centred: whether the picture lies in the centre; else in the upper left.
        squash: whether it fills the canvas, its aspect ratio ignored.
        floor: whether the shorter side is rounded down, as Darknet does; else to the nearest pixel.
        draw: from the picture, a width and a height to [height, width, 3] of any type, which the canvas then has.

    Raises:
        ValueError: not uint8[H, W, 3], or empty.

    >>> letter = letterbox(np.zeros((2, 4, 3), np.uint8), (8, 8))
    >>> letter.scale_xy, letter.canvas[:, 0, 0].tolist()
    ((2.0, 2.0), [0, 0, 0, 0, 114, 114, 114, 114])
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
        raise ValueError(f"image: expected uint8[H, W, 3], got {image.dtype}{list(image.shape)}")
    (height_px, width_px), (width, height) = image.shape[:2], size_wh
    if floor and not squash:
        # in whole numbers: in floating point 77 * (544 / 112) is less than 374
        width, height = (
            max(1, min(size_wh[0], width_px * size_wh[1] // height_px)),
            max(1, min(size_wh[1], height_px * size_wh[0] // width_px)),
        )
    elif not squash:
        scale = min(size_wh[0] / width_px, size_wh[1] / height_px)
        width, height = max(1, round(width_px * scale)), max(1, round(height_px * scale))
    x, y = ((size_wh[0] - width) // 2, (size_wh[1] - height) // 2) if centred else (0, 0)
    drawn = draw(image, width, height)
    canvas = np.full((size_wh[1], size_wh[0], 3), ground, drawn.dtype)
    canvas[y : y + height, x : x + width] = drawn
    return Letter(canvas, (width / width_px, height / height_px), (x, y))
