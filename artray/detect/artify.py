"""Photographs made to look like artworks, to train detectors on: the report's "artify" and greyscale augmentations.

Nothing moves: boxes stay where they are.
"""

from collections.abc import Callable
from types import MappingProxyType
from typing import Final

import cv2
import numpy as np

from artray.detect.detector import Image

ARTIFY: Final = 0.2
"""How often a picture is artified. Source: report, Object Detection, section 4.1, Table 3."""

GREY: Final = 0.8
"""How often its saturation is reduced to 0, artified or not. Source: likewise."""

OIL_SIZE: Final = 7
OIL_RATIO: Final = 1
"""Of the oil painting: pixels of a stroke, and levels of brightness. Those of OpenCV's example; the report has none."""


def _edges_preserved(image: Image) -> Image:
    smooth: Image = cv2.edgePreservingFilter(image).astype(np.uint8, copy=False)
    return smooth


def _pencilled(image: Image) -> Image:
    """The coloured one of OpenCV's two sketches."""
    sketch: Image = cv2.pencilSketch(image)[1].astype(np.uint8, copy=False)
    return sketch


def _stylised(image: Image) -> Image:
    styled: Image = cv2.stylization(image).astype(np.uint8, copy=False)
    return styled


def _oil_painted(image: Image) -> Image:
    painted: Image = cv2.xphoto.oilPainting(image, OIL_SIZE, OIL_RATIO).astype(np.uint8, copy=False)
    return painted


STYLES: Final = MappingProxyType[str, Callable[[Image], Image]](
    {
        "edgePreservingFilter": _edges_preserved,
        "pencilSketch": _pencilled,
        "stylization": _stylised,
        "oilPainting": _oil_painted,
    }
)
"""OpenCV's name to what does it: uint8[H, W, 3] RGB, likewise."""

SHARES: Final = MappingProxyType(
    {"edgePreservingFilter": 0.05, "pencilSketch": 0.05, "stylization": 0.2, "oilPainting": 0.7}
)
"""How often each of them is taken, where a picture is artified. Source: report, section 4.1, Table 3."""


def artified(image: Image, random: np.random.Generator) -> Image:
    """The picture in one of :data:`STYLES`, by lot.

    Args:
        image: uint8[H, W, 3] RGB.
        random: draws once.
    """
    name = random.choice(list(SHARES), p=list(SHARES.values()))
    return STYLES[str(name)](np.ascontiguousarray(image))


def grey(image: Image) -> Image:
    """The picture without saturation: its luma (ITU-R BT.601) in all channels."""
    luma = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)
    return np.repeat(luma[..., None], 3, axis=2)


def augmented(image: Image, random: np.random.Generator, *, artify: float = ARTIFY, greyscale: float = GREY) -> Image:
    """What a training shows of a picture: artified or not, and then grey or not, each by lot.

    Args:
        image: uint8[H, W, 3] RGB; is not changed.
        random: draws twice or three times.
        artify: how often it is artified, in [0, 1].
        greyscale: how often it is made grey, in [0, 1].

    Source: report, Object Detection, section 4.1, Data Augmentation, and Table 3. The table does not say whether the
    two exclude each other; "we also reduced saturation to zero" is read as one after the other.
    """
    if random.random() < artify:
        image = artified(image, random)
    return grey(image) if random.random() < greyscale else image
