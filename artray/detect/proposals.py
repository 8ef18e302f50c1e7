"""What members of an ensemble found in many images, and what is made of it: columns, checked."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from artray.detect.rounds import Floats, Ints


class Proposals(NamedTuple):
    """What members found in images: N boxes, any order; :func:`proposals` makes and checks them."""

    image_ids: Ints
    """int64[N], any numbers."""
    members: Ints
    """int64[N], which member found it, from 0."""
    boxes_xyxy: Floats
    """float64[N, 4], pixels, x1 <= x2, y1 <= y2."""
    scores: Floats
    """float64[N] in [0, 1]."""
    class_ids: Ints
    """int64[N], any numbers."""
    groups: Ints
    """int64[N], any numbers: boxes of different groups are never fused."""

    def at(self, index: NDArray[np.bool_] | NDArray[np.integer[Any]]) -> "Proposals":
        """The boxes that a mask (bool[N]) or positions (int[M]) select, in that order."""
        return Proposals._make(column[index] for column in self)


class Fused(NamedTuple):
    """K boxes, by rising image id, each image's by falling score."""

    image_ids: Ints
    """int64[K]."""
    boxes_xyxy: Floats
    """float64[K, 4], pixels."""
    scores: Floats
    """float64[K] in [0, 1], unless scores may overflow."""
    class_ids: Ints
    """int64[K], the class of the most confident box that was fused."""
    groups: Ints
    """int64[K]."""
    best: Ints
    """int64[K], the position, in the proposals, of the most confident (score times weight) box that was fused."""
    found_by: Ints
    """int64[K], how many members found a box that was fused; 1 for a box that suppression kept."""


def proposals(
    image_ids: ArrayLike,
    members: ArrayLike,
    boxes_xyxy: ArrayLike,
    scores: ArrayLike,
    class_ids: ArrayLike,
    groups: ArrayLike | None = None,
) -> Proposals:
    """Columns of one length, checked; boxes and scores become float64.

    Args:
        image_ids: integers[N].
        members: integers[N], from 0.
        boxes_xyxy: numbers[N, 4], pixels. A box without area is allowed.
        scores: numbers[N] in [0, 1].
        class_ids: integers[N].
        groups: integers[N], what must be equal to be fused, such as the category; the class if None.

    Raises:
        ValueError: another shape; ids that are no whole numbers; a coordinate that is not finite; a box whose x1 is
            beyond its x2, or y1 beyond y2; a score that is NaN or not in [0, 1]; a negative member. It names the
            column and the first such position.
    """
    made = Proposals(
        _whole("image_ids", image_ids),
        _whole("members", members),
        np.asarray(boxes_xyxy, np.float64),
        np.asarray(scores, np.float64),
        _whole("class_ids", class_ids),
        _whole("groups", class_ids if groups is None else groups),
    )
    check(made)
    return made


def check(found: Proposals) -> None:
    """Refuse what cannot be fused.

    Raises:
        ValueError: as :func:`proposals` says.
    """
    count = len(found.image_ids)
    for name, column in found._asdict().items():
        expected = (count, 4) if name == "boxes_xyxy" else (count,)
        if column.shape != expected:
            raise ValueError(f"{name}: expected shape {expected}, as image_ids has {count}, got {column.shape}")
    check_boxes(found.boxes_xyxy)
    each("scores: expected numbers in [0, 1]", (found.scores >= 0) & (found.scores <= 1), found.scores)
    each("members: expected numbers from 0", found.members >= 0, found.members)


def check_boxes(boxes_xyxy: NDArray[Any]) -> None:
    """Refuse boxes that are none; those without area are some.

    Raises:
        ValueError: another shape than (N, 4), a coordinate that is not finite, x1 beyond x2 or y1 beyond y2.

    >>> check_boxes(np.array([[0, 0, 2, 2], [5, 0, 4, 1]]))
    Traceback (most recent call last):
    ValueError: boxes_xyxy: expected x1 <= x2 and y1 <= y2, got [5, 0, 4, 1] at position 1
    """
    if boxes_xyxy.ndim != 2 or boxes_xyxy.shape[1] != 4:
        raise ValueError(f"boxes_xyxy: expected shape (N, 4), got {boxes_xyxy.shape}")
    x1, y1, x2, y2 = boxes_xyxy.T
    each("boxes_xyxy: expected finite numbers", np.isfinite(x1 + y1 + x2 + y2), boxes_xyxy)
    each("boxes_xyxy: expected x1 <= x2 and y1 <= y2", (x1 <= x2) & (y1 <= y2), boxes_xyxy)


def each(what: str, good: NDArray[np.bool_], values: NDArray[Any]) -> None:
    """Refuse values that are not good, naming the first.

    Raises:
        ValueError: one is not.
    """
    if not good.all():
        where = int(np.argmin(good))
        raise ValueError(f"{what}, got {values[where].tolist()} at position {where}")


def _whole(name: str, values: ArrayLike) -> Ints:
    """Whole numbers as int64; an empty list has none, whatever NumPy takes it for."""
    array = np.asarray(values)
    if array.size and not np.issubdtype(array.dtype, np.integer):
        raise ValueError(f"{name}: expected whole numbers, got {array.dtype}")
    return array.astype(np.int64)
