"""What MTCNN's networks are shown: pictures made smaller, and crops of them, as TensorFlow makes them."""

from collections.abc import Sequence
from typing import TypeAlias

import cv2
import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from numpy.typing import NDArray
from torch import Tensor

Size: TypeAlias = tuple[int, int]
"""Height and width, pixels."""


def normalised(image: NDArray[np.uint8], device: torch.device) -> Tensor:
    """uint8[H, W, 3] as float32[H, W, 3] in [-1, 1) on a device: 0 is the middle of black and white."""
    values = image.astype(np.float32, order="C")
    values -= 127.5
    values /= 128
    return torch.from_numpy(values).to(device)


def shrink(pixels: Tensor, size_hw: Size) -> Tensor:
    """One picture made smaller by area averaging.

    Args:
        pixels: float32[H, W, 3], on any device.
        size_hw: its new size h <= H, w <= W.

    Returns:
        float32[h, w, 3].

    Source: ``tf.image.resize`` with ``ResizeMethod.AREA``: every pixel is the mean of the part of the picture that it
    covers, pixels at the edge of that part by the share of them that is covered.
    """
    height, width, _ = pixels.shape
    if pixels.device.type == "cpu":  # ten times as fast there as the products below
        shrunk = cv2.resize(pixels.numpy(), size_hw[::-1], interpolation=cv2.INTER_AREA)
        return torch.from_numpy(shrunk)
    rows, columns = area_weights(height, size_hw[0], pixels.device), area_weights(width, size_hw[1], pixels.device)
    return torch.einsum("hH,HWc,wW->hwc", rows, pixels, columns)


def area_weights(old: int, new: int, device: torch.device) -> Tensor:
    """How much every one of ``old`` pixels in a row counts for every one of ``new`` <= old pixels.

    Returns:
        float32[new, old]; every row sums to 1.

    Three pixels into two: each takes one of them whole and half of the middle one.

    >>> (area_weights(3, 2, torch.device("cpu")) * 3).tolist()
    [[2.0, 1.0, 0.0], [0.0, 1.0, 2.0]]
    """
    step = old / new
    start = torch.arange(new, dtype=torch.float64, device=device)[:, None] * step
    pixel = torch.arange(old, dtype=torch.float64, device=device)[None, :]
    covered = torch.minimum(pixel + 1, start + step) - torch.maximum(pixel, start)
    return (covered.clamp(min=0) / step).float()


def stack(pictures: Sequence[Tensor]) -> Tensor:
    """Pictures float32[h, w, 3] as one float32[N, 3, max h, max w], padded at the right and below with 0.

    In memory its channels are innermost.
    """
    if len(pictures) == 1:
        return pictures[0].permute(2, 0, 1)[None]
    height, width = (max(picture.shape[axis] for picture in pictures) for axis in (0, 1))
    padded = [F.pad(p, (0, 0, 0, width - p.shape[1], 0, height - p.shape[0])) for p in pictures]
    return torch.stack(padded).permute(0, 3, 1, 2)


def crop(pixels: Tensor, boxes_xyxy: NDArray[np.float64], side_px: int) -> Tensor:
    """Boxes of a picture, each resized to a square by linear interpolation.

    Args:
        pixels: float32[H, W, 3], H and W at least 2.
        boxes_xyxy: float64[N, 4], pixels; may reach beyond the picture, where crops are 0.
        side_px: the crops' side.

    Returns:
        float32[N, 3, side_px, side_px], in memory with channels innermost.

    Source: ``tf.image.crop_and_resize`` as ``mtcnn.utils.images.extract_patches`` calls it: a box's corners are
    divided by the picture's size and multiplied by that less 1, so a crop ends in the last pixel's centre.
    """
    height, width, channels = pixels.shape
    if not len(boxes_xyxy):
        return pixels.new_empty(0, channels, side_px, side_px)
    x = _sampled(boxes_xyxy[:, 0], boxes_xyxy[:, 2], width, side_px)
    y = _sampled(boxes_xyxy[:, 1], boxes_xyxy[:, 3], height, side_px)
    grid = np.stack(np.broadcast_arrays(x[:, None, :], y[:, :, None]), axis=-1).reshape(1, -1, side_px, 2)
    points = torch.from_numpy(grid).to(pixels.device)
    flat = F.grid_sample(pixels.permute(2, 0, 1)[None], points, align_corners=True)
    crops = flat.view(channels, -1, side_px, side_px).transpose(0, 1)
    return crops.contiguous(memory_format=torch.channels_last)


def _sampled(low: NDArray[np.float64], high: NDArray[np.float64], size: int, count: int) -> NDArray[np.float32]:
    """Where ``count`` samples from ``low`` to ``high`` lie along an axis of ``size`` pixels.

    Returns:
        float32[N, count]: -1 is the first pixel's centre, 1 the last one's; far off where it is not between these.
    """
    last = np.float32(size - 1)
    start, stop = (low / size).astype(np.float32), (high / size).astype(np.float32)
    step = (stop - start) * last / np.float32(count - 1)
    at = start[:, None] * last + np.arange(count, dtype=np.float32) * step[:, None]
    inside = (at >= 0) & (at <= last)
    placed: NDArray[np.float32] = np.where(inside, at * (np.float32(2) / last) - 1, np.float32(-3))
    return placed
