"""Arithmetic of boxes: pure NumPy, nothing of any detector."""

from collections.abc import Callable
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

Boxes: TypeAlias = NDArray[np.floating[Any]]
"""floating[N, 4] x1, y1, x2, y2 with x1 <= x2 and y1 <= y2."""

BLOCK: Final = 256
"""Boxes compared with all others at a time: bounds the memory of N x N comparisons."""


def areas(boxes_xyxy: Boxes) -> NDArray[np.float64]:
    """The area of every box, float64[N], in square pixels.

    >>> areas(np.array([[0, 0, 3, 2], [5, 5, 5, 9]], np.float32)).tolist()
    [6.0, 0.0]
    """
    x1, y1, x2, y2 = _columns(boxes_xyxy)
    size: NDArray[np.float64] = (x2 - x1) * (y2 - y1)
    return size


def pairwise_iou(a: Boxes, b: Boxes) -> NDArray[np.float64]:
    """Intersection over union of every box in ``a`` with every box in ``b``.

    Args:
        a: floating[N, 4] xyxy, pixels, x1 <= x2, y1 <= y2; computed in float64 whatever it is.
        b: floating[M, 4], likewise.

    Returns:
        float64[N, M] in [0, 1]; 0 where the union has no area.

    Raises:
        ValueError: a shape is not (_, 4).

    Source: torchvision.ops.box_iou, which gives NaN where the union has no area.

    >>> square, right_half, line = [0, 0, 2, 2], [1, 0, 3, 2], [1, 0, 1, 2]
    >>> pairwise_iou(np.array([square], float), np.array([square, right_half, line], float)).round(3).tolist()
    [[1.0, 0.333, 0.0]]
    """
    shared = _pairwise_intersection(a, b)
    return _ratio(shared, areas(a)[:, None] + areas(b)[None, :] - shared)


def pairwise_iomin(a: Boxes, b: Boxes) -> NDArray[np.float64]:
    """Intersection over the smaller one's area: 1 where one box holds the other.

    Args:
        a: floating[N, 4] xyxy, pixels, x1 <= x2, y1 <= y2; computed in float64 whatever it is.
        b: floating[M, 4], likewise.

    Returns:
        float64[N, M] in [0, 1]; 0 where the smaller one has no area.

    Raises:
        ValueError: a shape is not (_, 4).

    >>> pairwise_iomin(np.array([[0, 0, 4, 4]], float), np.array([[1, 1, 2, 2], [3, 0, 5, 4]], float)).tolist()
    [[1.0, 0.5]]
    """
    return _ratio(_pairwise_intersection(a, b), np.minimum(areas(a)[:, None], areas(b)[None, :]))


def pairwise_covered(a: Boxes, b: Boxes) -> NDArray[np.float64]:
    """The part of every box in ``a`` that every box in ``b`` covers.

    Args:
        a: floating[N, 4] xyxy, pixels, x1 <= x2, y1 <= y2; computed in float64 whatever it is.
        b: floating[M, 4], likewise.

    Returns:
        float64[N, M] in [0, 1]; 0 of boxes without area.

    Raises:
        ValueError: a shape is not (_, 4).

    >>> pairwise_covered(np.array([[0, 0, 4, 4]], float), np.array([[0, 0, 2, 4], [0, 0, 9, 9]], float)).tolist()
    [[0.5, 1.0]]
    """
    return _ratio(_pairwise_intersection(a, b), areas(a)[:, None])


def suppress_any(
    boxes_xyxy: Boxes, overlap_max: float, overlap: Callable[[Boxes, Boxes], NDArray[np.float64]] = pairwise_iou
) -> NDArray[np.bool_]:
    """Which boxes stay when each is removed that overlaps ANY earlier one, be that one removed itself or not.

    The usual (greedy) suppression lets a removed box remove no other, so it keeps more.

    Args:
        boxes_xyxy: floating[N, 4], the best first.
        overlap_max: a box goes if it overlaps an earlier one by more than this.
        overlap: the measure: :func:`pairwise_iou` or :func:`pairwise_iomin`.

    Returns:
        bool[N], True for those that stay; the first always does.

    Raises:
        ValueError: the shape is not (_, 4).

    Source: ``mtcnn.utils.bboxes.nms`` of mtcnn 1.0.0.

    The middle box goes because of the first; the last overlaps only the middle one, and goes all the same:

    >>> suppress_any(np.array([[0, 0, 4, 1], [1, 0, 5, 1], [2, 0, 6, 1]], float), overlap_max=0.5).tolist()
    [True, False, False]
    """
    count = len(boxes_xyxy)
    stays = np.ones(count, bool)
    for start in range(0, count, BLOCK):
        stop = min(start + BLOCK, count)
        overlaps = overlap(boxes_xyxy[:stop], boxes_xyxy[start:stop]) > overlap_max
        earlier = np.arange(stop)[:, None] < np.arange(start, stop)[None, :]
        stays[start:stop] = ~(overlaps & earlier).any(axis=0)
    return stays


def nms(
    boxes_xyxy: Boxes,
    scores: NDArray[np.floating[Any]],
    class_ids: NDArray[np.integer[Any]],
    iou_max: float,
    max_boxes: int | None = None,
) -> NDArray[np.int64]:
    """The usual (greedy) suppression: each box removes those of its class that overlap it too much and score less.

    Args:
        boxes_xyxy: floating[N, 4], pixels.
        scores: floating[N], numbers; of equal ones the earlier box goes first.
        class_ids: int[N]; boxes of different classes leave each other alone.
        iou_max: a box goes if its IoU with a better one that stays is more than this.
        max_boxes: stop at so many; None: never.

    Returns:
        int64[M]: where those that stay stand, the best first.

    Raises:
        ValueError: the shape of the boxes is not (_, 4).

    Source: torchvision.ops.batched_nms, of which it is the exact form: no coordinates are shifted by class.

    >>> boxes = np.array([[0, 0, 4, 1], [1, 0, 5, 1], [2, 0, 6, 1], [0, 0, 4, 1]], float)
    >>> nms(boxes, np.array([0.7, 0.8, 0.9, 0.6]), np.array([0, 0, 0, 1]), iou_max=0.5).tolist()
    [2, 0, 3]
    """
    boxes = _columns(boxes_xyxy).T
    left = np.argsort(-scores, kind="stable")
    stay: list[int] = []
    while len(left) and (max_boxes is None or len(stay) < max_boxes):
        best, left = left[0], left[1:]
        stay.append(int(best))
        too_close = pairwise_iou(boxes[best, None], boxes[left])[0] > iou_max
        left = left[~(too_close & (class_ids[left] == class_ids[best]))]
    return np.array(stay, np.int64)


def _columns(boxes_xyxy: Boxes) -> NDArray[np.float64]:
    """x1, y1, x2, y2: float64[4, N]."""
    if boxes_xyxy.ndim != 2 or boxes_xyxy.shape[1] != 4:
        raise ValueError(f"boxes: expected shape (N, 4), got {boxes_xyxy.shape}")
    columns: NDArray[np.float64] = boxes_xyxy.astype(np.float64, copy=False).T
    return columns


def _pairwise_intersection(a: Boxes, b: Boxes) -> NDArray[np.float64]:
    """The area that every box in ``a`` shares with every box in ``b``, float64[N, M]."""
    left, top, right, bottom = _columns(a)[:, :, None]
    x1, y1, x2, y2 = _columns(b)[:, None, :]
    width = np.minimum(right, x2) - np.maximum(left, x1)
    height = np.minimum(bottom, y2) - np.maximum(top, y1)
    shared: NDArray[np.float64] = np.maximum(width, 0) * np.maximum(height, 0)
    return shared


def _ratio(part: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    """``part / whole``, and 0 where the whole is not positive."""
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
