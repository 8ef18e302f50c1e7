"""What the report does to boxes beside fusing them: pure NumPy, any number of images at once.

A rule says which boxes stay. In the report fusion comes first, then nested and oversized boxes go, and last faces are
added.
"""

from collections.abc import Sequence
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from artray.detect import rounds
from artray.detect.boxes import Boxes, areas
from artray.detect.fusion import Options, fuse
from artray.detect.proposals import Fused, Proposals, check_boxes, each
from artray.detect.rounds import Floats, Ints
from artray.taxonomy import CATEGORY, fallback

Whole: TypeAlias = NDArray[np.integer[Any]]
Mask: TypeAlias = NDArray[np.bool_]

NESTING: Final = ("flower", "fruit", "produce (others)", "ship")
"""Classes found again within themselves. Source: section 4.1, "Flower, Fruit, Produce and Ship"."""

SCENES: Final = ("building",)
"""Classes said of a whole scene. Source: section 4.1."""


def outermost(
    image_ids: Whole,
    boxes_xyxy: Boxes,
    class_ids: Whole,
    class_names: Sequence[str],
    classes: Sequence[str] = NESTING,
    inside_min: float = 1.0,
) -> Mask:
    """Of boxes within a larger one of their class, only the largest stays: the bouquet, not its blooms.

    A box is nested if at least ``inside_min`` of its area lies within one larger box of the same class and image; of
    equally large ones the later is. It goes though the larger one be nested itself.

    Args:
        image_ids: integer[N].
        boxes_xyxy: floating[N, 4], pixels. A box without area is not nested and holds none.
        class_ids: integer[N], indices into ``class_names``.
        class_names: of the detector.
        classes: whose boxes can be nested.
        inside_min: in (0, 1]. The report names no share, "inside a larger detection" is all of it.

    Returns:
        bool[N], True for those that stay.

    Raises:
        ValueError: shapes that do not fit, boxes that are none, a class id without a name, a share out of its range.

    Source: report, Object Detection, section 4.1, Post-Processing.

    >>> flowers = np.array([[0, 0, 9, 9], [2, 2, 3, 3], [8, 8, 10, 10]], float)
    >>> outermost(np.zeros(3, int), flowers, np.zeros(3, int), ["flower"]).tolist()
    [True, False, True]
    """
    _check(image_ids, boxes_xyxy, class_ids, class_names)
    if not 0 < inside_min <= 1:
        raise ValueError(f"inside_min: expected a share in (0, 1], got {inside_min}")
    stays = np.ones(len(image_ids), bool)
    some = np.flatnonzero(_of(class_ids, class_names, classes) & (areas(boxes_xyxy) > 0))
    columns = _columns(boxes_xyxy[some])
    runs = rounds.sort_runs(image_ids[some], class_ids[some], columns[4])
    columns, some = columns[:, runs.order], some[runs.order]
    for larger, smaller in rounds.pairs(runs):
        shared = rounds.shared_areas(columns[:, larger], columns[:, smaller])
        stays[some[smaller[shared >= inside_min * columns[4, smaller]]]] = False
    return stays


def not_oversized(
    boxes_xyxy: Boxes,
    size_wh: NDArray[Any],
    class_ids: Whole,
    class_names: Sequence[str],
    classes: Sequence[str] = SCENES,
    share_max: float = 0.85,
) -> Mask:
    """A "building" that covers more than 85 % of the image is the scene's, not an object, and goes.

    Args:
        boxes_xyxy: floating[N, 4], pixels; what of a box lies beyond the image does not count.
        size_wh: numbers[N, 2], width and height of each box's image, pixels.
        class_ids: integer[N], indices into ``class_names``.
        class_names: of the detector.
        classes: whose boxes can be oversized.
        share_max: of the image's area, in [0, 1]; just as much is allowed.

    Returns:
        bool[N], True for those that stay.

    Raises:
        ValueError: shapes that do not fit, boxes that are none, a class id without a name, an image without area, a
            share out of its range.

    Source: report, Object Detection, section 4.1, Post-Processing.

    >>> boxes = np.array([[0, 0, 10, 8.5], [0, 0, 10, 8.6]])
    >>> not_oversized(boxes, np.array([[10, 10]] * 2), np.zeros(2, int), ["building"]).tolist()
    [True, False]
    """
    _check(class_ids, boxes_xyxy, class_ids, class_names)
    if not 0 <= share_max <= 1:
        raise ValueError(f"share_max: expected a share in [0, 1], got {share_max}")
    if size_wh.shape != (len(class_ids), 2):
        raise ValueError(f"size_wh: expected shape {(len(class_ids), 2)}, got {size_wh.shape}")
    size = size_wh.astype(np.float64)
    positive: Mask = (size.min(axis=1) > 0) & (size.max(axis=1) < np.inf)
    each("size_wh: expected positive numbers", positive, size_wh)
    within = np.clip(boxes_xyxy, 0, np.tile(size, 2))
    oversized: Mask = areas(within) > share_max * size.prod(axis=1)
    return ~(oversized & _of(class_ids, class_names, classes))


def most_specific(
    image_ids: Whole,
    boxes_xyxy: Boxes,
    class_ids: Whole,
    class_names: Sequence[str],
    iou_max: float = 0.7,
) -> Mask:
    """Where "mary" is also "persons (others)", the latter goes, whatever their scores.

    A box of a category's fallback class goes if its IoU with a box of a named class of that category, in the same
    image, is more than ``iou_max``.

    Args:
        image_ids: integer[N].
        boxes_xyxy: floating[N, 4], pixels. A box without area overlaps nothing.
        class_ids: integer[N], indices into ``class_names``.
        class_names: of the detector; classes of :mod:`artray.taxonomy`.
        iou_max: in [0, 1].

    Returns:
        bool[N], True for those that stay.

    Raises:
        ValueError: shapes that do not fit, boxes that are none, a class id without a name, a class that is none of
            the taxonomy's, an ``iou_max`` out of its range.

    Source: report, Object Detection, section 4.3, Post-Processing.

    >>> boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 8], [0, 0, 10, 7]], float)
    >>> names = ["persons (others)", "mary", "dog"]
    >>> most_specific(np.zeros(3, int), boxes, np.array([0, 1, 2]), names).tolist()
    [False, True, True]
    """
    _check(image_ids, boxes_xyxy, class_ids, class_names)
    if not 0 <= iou_max <= 1:
        raise ValueError(f"iou_max: expected a number in [0, 1], got {iou_max}")
    categories, general = _taxonomy(class_names)
    stays = np.ones(len(image_ids), bool)
    some = np.flatnonzero(areas(boxes_xyxy) > 0)
    specific: Floats = np.where(general[class_ids[some]], 0.0, 1.0)
    runs = rounds.sort_runs(image_ids[some], categories[class_ids[some]], specific)  # the named ones first
    some, specific, columns = some[runs.order], specific[runs.order], _columns(boxes_xyxy[some[runs.order]])
    for first, second in rounds.pairs(runs):
        differ = specific[first] > specific[second]
        named, other = first[differ], second[differ]
        overlap = rounds.overlaps(columns[:, named], columns[:, other])
        stays[some[other[overlap > iou_max]]] = False
    return stays


def each_then_all(found: Proposals, members: int, iou_max: float = 0.5, *, across_classes: bool = True) -> Fused:
    """Suppression class by class within every member, then of what is left of all members together.

    Args:
        found: N boxes.
        members: how many there are.
        iou_max: a box goes if it overlaps a better one by more than this, both times. The report names none; this is
            Detectron2's.
        across_classes: whether the second one disregards classes, as the report's "further NMS", unlike the first "at
            the class level", is read here; else it is class by class too.

    Returns:
        The boxes that stay; ``best`` says where they are in ``found``.

    Raises:
        ValueError: what :func:`artray.detect.fusion.fuse` refuses.

    Source: report, Object Detection, section 4.2.
    """
    options = Options(members=members, iou_match=iou_max)
    kinds = np.unique(found.class_ids, return_inverse=True)[1].reshape(-1).astype(np.int64)
    each_kept = fuse("nms", found._replace(groups=kinds * members + found.members), options).best
    left = found.at(np.sort(each_kept))
    kept = fuse("nms", left._replace(groups=np.zeros_like(left.groups) if across_classes else left.class_ids), options)
    best = np.sort(each_kept)[kept.best]
    return kept._replace(best=best, groups=found.groups[best])


def _check(image_ids: Whole, boxes_xyxy: Boxes, class_ids: Whole, class_names: Sequence[str]) -> None:
    """Refuse columns that are not those of boxes."""
    check_boxes(boxes_xyxy)
    for name, column in (("image_ids", image_ids), ("class_ids", class_ids)):
        if column.shape != (len(boxes_xyxy),):
            raise ValueError(f"{name}: expected shape {(len(boxes_xyxy),)}, got {column.shape}")
    named = (class_ids >= 0) & (class_ids < len(class_names))
    each(f"class_ids: expected numbers in [0, {len(class_names)})", named, class_ids)


def _of(class_ids: Whole, class_names: Sequence[str], classes: Sequence[str]) -> Mask:
    """Which boxes are of one of the classes; a class that the detector does not know has none."""
    return np.array([name in classes for name in class_names], bool)[class_ids]


def _columns(boxes_xyxy: Boxes) -> Floats:
    """x1, y1, x2, y2 and the area, float64[5, N]."""
    return np.concatenate([boxes_xyxy.T.astype(np.float64), areas(boxes_xyxy)[None]])


def _taxonomy(class_names: Sequence[str]) -> tuple[Ints, Mask]:
    """Of every class its category's number, int64[C], and whether it is the fallback, bool[C]."""
    if unknown := [name for name in class_names if name not in CATEGORY]:
        raise ValueError(f"class_names: expected classes of the taxonomy, got {unknown[0]!r}")
    numbers = {category: number for number, category in enumerate(dict.fromkeys(CATEGORY.values()))}
    categories = [CATEGORY[name] for name in class_names]
    general = [name == fallback(category) for name, category in zip(class_names, categories, strict=True)]
    return np.array([numbers[category] for category in categories], np.int64), np.array(general, bool)
