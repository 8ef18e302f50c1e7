"""From decoded pixels to what a network takes: a square of a card's size, normalised as the card says."""

from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from artray.config import Views
from artray.models.cards import Input

Image: TypeAlias = NDArray[np.uint8]
"""uint8[H, W, 3] RGB, upright, H and W at least 1."""


def to_input(image: Image, spec: Input) -> NDArray[np.float32]:
    """float32[S, S, 3]: the image resized to the card's square, then ``(pixels - mean) / std``.

    Raises:
        ValueError: not uint8[H, W, 3], or empty.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
        raise ValueError(f"image: expected uint8[H, W, 3], got {image.dtype}{list(image.shape)}")
    mean, std = np.array(spec.mean, np.float32), np.array(spec.std, np.float32)
    result: NDArray[np.float32] = (square(image, spec) - mean) / std
    return result


def square(image: Image, spec: Input) -> Image:
    """uint8[S, S, 3]: the image resized to the card's square, in the card's way."""
    return {"squash": squash, "centre_crop": centre_crop, "letterbox": letterbox}[spec.resize](image, spec)


def squash(image: Image, spec: Input) -> Image:
    """The whole image, its aspect ratio ignored."""
    return resize(image, spec.size_px, spec.size_px)


def centre_crop(image: Image, spec: Input) -> Image:
    """The largest square in the middle of the image."""
    height, width = image.shape[:2]
    side = min(height, width)
    y, x = (height - side) // 2, (width - side) // 2
    return resize(image[y : y + side, x : x + side], spec.size_px, spec.size_px)


def letterbox(image: Image, spec: Input) -> Image:
    """The whole image in its aspect ratio, centred on a ground of the card's mean."""
    height, width = image.shape[:2]
    scale = spec.size_px / max(height, width)
    height, width = (max(1, round(side * scale)) for side in (height, width))
    ground = np.empty((spec.size_px, spec.size_px, 3), np.uint8)
    ground[:] = np.rint(spec.mean).astype(np.uint8)
    y, x = (spec.size_px - height) // 2, (spec.size_px - width) // 2
    ground[y : y + height, x : x + width] = resize(image, width, height)
    return ground


def resize(image: Image, width: int, height: int) -> Image:
    """The image in another size: what shrinks is averaged over areas, what grows is interpolated.

    Done in two steps where one side shrinks and the other grows: OpenCV would interpolate both.
    """
    small = (min(width, image.shape[1]), min(height, image.shape[0]))
    if small != (image.shape[1], image.shape[0]):
        image = cv2.resize(image, small, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
    if small != (width, height):
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR).astype(np.uint8, copy=False)
    return image


def resized(image: Image, edge_px: int, edge: str) -> Image:
    """The image in its aspect ratio, its shorter or longer edge so long."""
    height, width = image.shape[:2]
    scale = edge_px / (min if edge == "shorter" else max)(height, width)
    height, width = (max(1, round(side * scale)) for side in (height, width))
    return resize(image, width, height)


def views(image: Image, spec: Input, kind: Views, resize_px: int | None = None) -> list[Image]:
    """Several looks at an image, uint8[S, S, 3] each: 1, 2, 5 or 10.

    Args:
        image: uint8[H, W, 3].
        spec: of side S.
        kind: the image as the pipeline sees it; so and mirrored; five crops; these and those of the mirror image.
        resize_px: what the shorter edge becomes before crops are cut, at least S; null for 8/7 of S.

    Source: report, Image Classification, section 4.2 (FiveCrop and TenCrop); torchvision's order: top left, top right,
    bottom left, bottom right, centre.
    """
    if kind in ("one", "flips"):
        own = square(image, spec)
        return [own, own[:, ::-1]] if kind == "flips" else [own]
    side = spec.size_px
    large = resized(image, max(resize_px or round(side * 8 / 7), side), "shorter")
    y, x = large.shape[0] - side, large.shape[1] - side
    corners = ((0, 0), (0, x), (y, 0), (y, x), (round(y / 2), round(x / 2)))
    shown = [large, large[:, ::-1]] if kind == "ten_crop" else [large]
    return [each[top : top + side, left : left + side] for each in shown for top, left in corners]


def mean_rgb(image: Image) -> list[float]:
    """The mean red, green and blue of all pixels, each in [0, 255]."""
    return [float(np.float32(value)) for value in cv2.mean(image)[:3]]
