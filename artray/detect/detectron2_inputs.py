"""What a detectron2 network is shown of an image: resized by Pillow, its shortest edge to a size, and padded."""

import math

import numpy as np
from PIL import Image as Pictures

from artray.detect.detector import Image


def resized_hw(height_px: int, width_px: int, min_size: int, max_size: int) -> tuple[int, int]:
    """Height and width at which the network sees an image, in pixels: the shorter is ``min_size``, if that does not
    make the longer more than ``max_size``.

    Args:
        height_px: the image's.
        width_px: likewise.
        min_size: 0 leaves the image as it is.
        max_size: at least 1.

    Source: detectron2.data.transforms.ResizeShortestEdge.get_output_shape, but at least 1.

    >>> resized_hw(480, 640, 800, 1333), resized_hw(480, 1000, 800, 1333)
    ((800, 1067), (640, 1333))
    """
    if not min_size:
        return height_px, width_px
    scale = min_size / min(height_px, width_px)
    height, width = (min_size, scale * width_px) if height_px < width_px else (scale * height_px, min_size)
    if max(height, width) > max_size:
        scale = max_size / max(height, width)
        height, width = height * scale, width * scale
    return max(1, int(height + 0.5)), max(1, int(width + 0.5))


def padded_hw(height_px: int, width_px: int, step_px: int) -> tuple[int, int]:
    """The next multiples of ``step_px``.

    >>> padded_hw(800, 1067, 32)
    (800, 1088)
    """
    return math.ceil(height_px / step_px) * step_px, math.ceil(width_px / step_px) * step_px


def resize(image: Image, height_px: int, width_px: int) -> Image:
    """uint8[height, width, 3] of uint8[H, W, 3], bilinear with Pillow's smoothing.

    Source: detectron2.data.transforms.ResizeTransform.
    """
    picture = Pictures.fromarray(np.ascontiguousarray(image))
    return np.array(picture.resize((width_px, height_px), Pictures.Resampling.BILINEAR))
