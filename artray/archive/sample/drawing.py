"""Turn a painting into a drawing-like picture: uint8[H, W, 3] -> uint8[H, W, 3]."""

from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]

SIGMA_PX: Final = 10.0
"""Standard deviation of the Gaussian filter."""


def to_drawing(rgb: Pixels) -> Pixels:
    """The picture in grey, dodged by its own blurred negative: flat areas turn white, dark edges stay as strokes.

    Args:
        rgb: uint8[H, W, 3], H and W at least 1.

    Returns:
        uint8[H, W, 3], three equal channels. Where the picture is black it stays black.

    Raises:
        ValueError: the shape is not (H, W, 3), or a side is 0.

    Source: report, Image Classification, section 4.2: greyscale, "a gaussian filter with a sigma of 10", "the inverted
    image and the gaussian filter are then overlayed". It does not name the overlay; here the blur of the inverted
    image goes over the grey one by the colour dodge of W3C Compositing and Blending Level 1, which is how pencil
    sketches are usually imitated: grey / (1 - blurred negative), at most 1, and 0 where grey is 0.

    >>> to_drawing(np.array([[[100] * 3, [200] * 3]], np.uint8))[0, :, 0].tolist()
    [170, 255]
    """
    if rgb.ndim != 3 or rgb.shape[2] != 3 or 0 in rgb.shape:
        raise ValueError(f"rgb: expected uint8[H, W, 3] with H, W >= 1, got shape {rgb.shape}")
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).astype(np.float32)
    blurred_negative = cv2.GaussianBlur(255.0 - grey, (0, 0), SIGMA_PX)
    dodged = 255.0 * grey / np.maximum(255.0 - blurred_negative, 1e-3)
    drawing = np.rint(np.minimum(dodged, 255.0)).astype(np.uint8)
    return np.repeat(drawing[:, :, None], 3, axis=2)
