"""Which predicted boxes are right: many images' truths and predictions, matched once, in the way of COCO."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from types import MappingProxyType
from typing import Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from artray.detect.boxes import areas as areas_of

Ints: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]
Bools: TypeAlias = npt.NDArray[np.bool_]
Bytes: TypeAlias = npt.NDArray[np.int8]

IOUS: Final = tuple(np.linspace(0.5, 0.95, 10).tolist())
"""The thresholds that AP@[.5:.95] is the mean of."""

AREAS: Final[Mapping[str, tuple[float, float]]] = MappingProxyType(
    {"all": (0, 1e10), "small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, 1e10)}
)
"""Least and greatest area, in square pixels, of the truths that count; both ends belong to the range."""

LIMIT: Final = 100
"""Predictions per image and class that count, the best."""

WRONG, RIGHT, IGNORED = 0, 1, 2
"""What becomes of a prediction; an ignored one is neither for nor against the detector."""

BLOCK: Final = 2**18
"""Pairs of boxes compared at a time: bounds the memory."""

TURN: Final = 2**13
"""Pairs of boxes matched at a time, likewise, for all area ranges and thresholds at once."""

COUNTED: Final = 2**24
"""Added to the worth of a truth that counts: any such goes before all that do not."""


class Truths(NamedTuple):
    """What ``images`` images show: G boxes of ``classes`` classes in any order. Made, and checked, by :meth:`of`."""

    images: int
    classes: int
    image_ids: Ints  # int64[G] in [0, images)
    class_ids: Ints  # int64[G] in [0, classes)
    boxes_xyxy: Floats  # float64[G, 4] px, x1 <= x2, y1 <= y2
    crowd: Bools  # bool[G]: a region of many; predictions in it are ignored
    areas: Floats  # float64[G] in square px: what the area ranges go by

    @classmethod
    def of(
        cls,
        images: int,
        classes: int,
        image_ids: npt.ArrayLike,
        class_ids: npt.ArrayLike,
        boxes_xyxy: npt.ArrayLike,
        crowd: npt.ArrayLike | None = None,
        areas: npt.ArrayLike | None = None,
    ) -> "Truths":
        """Truths of whatever holds such numbers.

        Args:
            images: how many there are, those without a box too.
            classes: how many there are, those without a box too.
            image_ids: int[G] in [0, images).
            class_ids: int[G] in [0, classes).
            boxes_xyxy: float[G, 4], pixels, the lower right corner exclusive: a width is x2 - x1, without COCO's xywh
                and without 1 added. A box may have no area.
            crowd: bool[G]; None: none is.
            areas: float[G], square pixels, such as the areas of COCO's masks; None: those of the boxes.

        Raises:
            ValueError: lengths differ, a class or an image is out of range, a box is reversed or has no finite corner.

        >>> Truths.of(images=1, classes=1, image_ids=[0], class_ids=[0], boxes_xyxy=[[5, 0, 3, 2]])
        Traceback (most recent call last):
        ValueError: truths: row 0: expected x1 <= x2 and y1 <= y2, got [5.0, 0.0, 3.0, 2.0]; give corners, not x, y, ...
        """
        boxes = _boxes("truths", boxes_xyxy)
        size = len(boxes)
        crowds = np.zeros(size, bool) if crowd is None else np.asarray(crowd, bool)
        sizes = areas_of(boxes) if areas is None else np.asarray(areas, np.float64)
        found = cls(images, classes, _ids("image_ids", image_ids), _ids("class_ids", class_ids), boxes, crowds, sizes)
        _same_length("truths", size, image_ids=found.image_ids, class_ids=found.class_ids, crowd=crowds, areas=sizes)
        _in_range("truths", found.image_ids, "an image id", images)
        _in_range("truths", found.class_ids, "a class id", classes)
        _refuse("truths", ~(np.isfinite(sizes) & (sizes >= 0)), "an area >= 0", sizes, "leave areas out for the boxes'")
        return found

    def at(self, index: Bools | Ints) -> "Truths":
        """The boxes that a mask (bool[G]) or positions (int[M]) select, in that order."""
        where, what = self.image_ids[index], self.class_ids[index]
        boxes, crowd, areas = self.boxes_xyxy[index], self.crowd[index], self.areas[index]
        return Truths(self.images, self.classes, where, what, boxes, crowd, areas)


class Predictions(NamedTuple):
    """What a detector says of some images: N boxes in any order. Made, and checked, by :meth:`of`."""

    image_ids: Ints  # int64[N] >= 0
    class_ids: Ints  # int64[N] >= 0
    boxes_xyxy: Floats  # float64[N, 4] px, x1 <= x2, y1 <= y2
    scores: Floats  # float64[N], finite: the higher, the surer

    @classmethod
    def of(
        cls, image_ids: npt.ArrayLike, class_ids: npt.ArrayLike, boxes_xyxy: npt.ArrayLike, scores: npt.ArrayLike
    ) -> "Predictions":
        """Predictions of whatever holds such numbers; arguments as of :meth:`Truths.of`.

        Raises:
            ValueError: lengths differ, a box is reversed or has no finite corner, or a score is not finite. Whether
                images and classes are in range is for :func:`match` to say, which knows how many there are.
        """
        boxes, values = _boxes("predictions", boxes_xyxy), np.asarray(scores, np.float64)
        found = cls(_ids("image_ids", image_ids), _ids("class_ids", class_ids), boxes, values)
        _same_length(
            "predictions", len(boxes), image_ids=found.image_ids, class_ids=found.class_ids, scores=found.scores
        )
        _refuse("predictions", ~np.isfinite(values), "a finite score", values, "drop the box or mend the detector")
        return found

    def at(self, index: Bools | Ints) -> "Predictions":
        """The boxes that a mask (bool[N]) or positions (int[M]) select, in that order."""
        where, what = self.image_ids[index], self.class_ids[index]
        return Predictions(where, what, self.boxes_xyxy[index], self.scores[index])


class Matches(NamedTuple):
    """What became of the N predictions within the limit, by class and best first, and of all G truths.

    A area ranges, T thresholds. Of equal scores the earlier image comes first, and in an image the earlier row.
    """

    images: int
    classes: int
    ious: Floats  # float64[T]
    area_names: tuple[str, ...]  # A of them
    rows: Ints  # int64[N]: which rows of the predictions these are
    image_ids: Ints  # int64[N]
    class_ids: Ints  # int64[N], ascending
    scores: Floats  # float64[N], descending in a class
    ranks: Ints  # int64[N]: how many of the same image and class come before
    outcomes: Bytes  # int8[A, T, N]: WRONG, RIGHT or IGNORED
    truth_image_ids: Ints  # int64[G]
    truth_class_ids: Ints  # int64[G]
    truth_counts: Bools  # bool[A, G]: no crowd, and of an area in range
    truth_found: Bools  # bool[A, T, G]: some prediction took it


class Pairs(NamedTuple):
    """P pairs of a prediction and a truth that overlap."""

    predictions: Ints  # int64[P], ascending
    truths: Ints  # int64[P]
    ious: Floats  # float64[P]

    def at(self, index: Bools | Ints | slice) -> "Pairs":
        """The pairs that a mask (bool[P]), positions (int[M]) or a slice selects, in that order."""
        return Pairs(self.predictions[index], self.truths[index], self.ious[index])


def match(
    truths: Truths,
    predictions: Predictions,
    ious: Sequence[float] = IOUS,
    areas: Mapping[str, tuple[float, float]] = AREAS,
    limit: int = LIMIT,
) -> Matches:
    """Give every prediction, the best first, the truth of its image and class that it overlaps most and that is free.

    A truth that counts (no crowd, and of an area in range) goes before any that does not; of equally overlapped ones
    the last row wins. A prediction with a truth that counts is right, one with another truth is ignored; a crowd takes
    any number of them. A prediction without a truth is wrong, or ignored where its own area is out of range.

    Args:
        truths: G boxes.
        predictions: N boxes.
        ious: T least overlaps, each matched on its own. Of a crowd it is the share of the prediction that lies in it.
        areas: A ranges by name, each matched on its own.
        limit: how many predictions of an image and a class count.

    Raises:
        ValueError: a prediction's image or class is out of range.

    Source: Lin et al., Microsoft COCO (2014), and the evaluation that COCO publishes (``COCOeval`` for boxes).

    >>> truths = Truths.of(images=1, classes=1, image_ids=[0], class_ids=[0], boxes_xyxy=[[0, 0, 10, 10]])
    >>> boxes = [[0, 0, 10, 9], [0, 0, 10, 10], [0, 0, 10, 4]]
    >>> told = match(truths, Predictions.of([0, 0, 0], [0, 0, 0], boxes, [0.5, 0.9, 0.7]), ious=[0.5])
    >>> told.rows.tolist(), told.outcomes[0, 0].tolist()
    ([1, 2, 0], [1, 0, 0])
    """
    check(truths, predictions)
    rows, ranks = _best(predictions, limit)
    order = np.lexsort((truths.class_ids, truths.image_ids))
    kept, there = predictions.at(rows), truths.at(order)
    counts, fits = _in_areas(there.areas, areas) & ~there.crowd, _in_areas(areas_of(kept.boxes_xyxy), areas)
    outcomes = np.repeat(np.where(fits.T, WRONG, IGNORED).astype(np.int8)[:, :, None], len(ious), axis=2)
    taken = np.zeros((len(order), len(areas), len(ious)), bool)
    limits = np.minimum(np.asarray(ious, np.float64), 1 - 1e-10)
    keys = (kept.image_ids * truths.classes + kept.class_ids, there.image_ids * truths.classes + there.class_ids)
    pairs = overlaps(kept, there, *keys, float(limits.min(initial=1)))
    for turn in _turns(pairs, keys[0]):
        _settle(turn, limits, counts.T, there.crowd, outcomes, taken)
    back, by_class = np.argsort(order), np.lexsort((-kept.scores, kept.class_ids))
    return Matches(
        truths.images,
        truths.classes,
        np.asarray(ious, np.float64),
        tuple(areas),
        rows[by_class],
        kept.image_ids[by_class],
        kept.class_ids[by_class],
        kept.scores[by_class],
        ranks[by_class],
        np.ascontiguousarray(outcomes[by_class].transpose(1, 2, 0)),
        truths.image_ids,
        truths.class_ids,
        counts[:, back],
        np.ascontiguousarray(taken[back].transpose(1, 2, 0)),
    )


def check(truths: Truths, predictions: Predictions) -> None:
    """Refuse predictions of images or classes that the truths do not have.

    Raises:
        ValueError: names the first row that is wrong.
    """
    _in_range("predictions", predictions.image_ids, "an image id", truths.images)
    _in_range("predictions", predictions.class_ids, "a class id", truths.classes)


def overlaps(kept: Predictions, there: Truths, keys: Ints, truth_keys: Ints, iou_min: float) -> Pairs:
    """The predictions and truths of equal keys that overlap by ``iou_min`` or more.

    Args:
        kept: N predictions, their keys ascending.
        there: G truths, likewise.
        keys: int64[N].
        truth_keys: int64[G].
        iou_min: the least intersection over union; over the prediction's area where the truth is a crowd.

    Returns:
        Pairs by prediction, then by truth.
    """
    begins = np.searchsorted(truth_keys, keys, side="left")
    counts = np.searchsorted(truth_keys, keys, side="right") - begins
    ends = np.cumsum(counts)
    start, found = 0, [Pairs(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))]
    while start < len(keys):
        done = ends[start] - counts[start]
        stop = max(start + 1, int(np.searchsorted(ends, done + BLOCK, side="right")))
        a = np.repeat(np.arange(start, stop), counts[start:stop])
        b = np.arange(len(a)) + done - np.repeat((ends - counts - begins)[start:stop], counts[start:stop])
        pairs = Pairs(a, b, _ious(kept.boxes_xyxy[a], there.boxes_xyxy[b], there.crowd[b]))
        found.append(pairs.at(pairs.ious >= iou_min))
        start = stop
    first, second, ious = zip(*found, strict=True)
    return Pairs(np.concatenate(first), np.concatenate(second), np.concatenate(ious))


def _best(predictions: Predictions, limit: int) -> tuple[Ints, Ints]:
    """The rows of the best ``limit`` per image and class, by image, class and score; and their ranks, from 0."""
    order = np.lexsort((-predictions.scores, predictions.class_ids, predictions.image_ids))
    images, classes = predictions.image_ids[order], predictions.class_ids[order]
    ranks = _places((np.diff(images, prepend=-1) != 0) | (np.diff(classes, prepend=-1) != 0))
    kept = ranks < limit
    return order[kept], ranks[kept]


def _places(starts: Bools) -> Ints:
    """How many come before in the same run, where bool[N] ``starts`` says that a run begins.

    >>> _places(np.array([True, False, False, True])).tolist()
    [0, 1, 2, 0]
    """
    first = np.flatnonzero(starts)
    return np.arange(len(starts)) - np.repeat(first, np.diff(first, append=len(starts)))


def _in_areas(areas: Floats, ranges: Mapping[str, tuple[float, float]]) -> Bools:
    """Which of float64[N] lie in which of the A ranges: bool[A, N]."""
    low, high = np.array(list(ranges.values()), np.float64).reshape(-1, 2, 1).transpose(1, 0, 2)
    within: Bools = (low <= areas) & (areas <= high)
    return within


def _ious(a: Floats, b: Floats, crowd: Bools) -> Floats:
    """Row by row, intersection over union of float64[P, 4] and float64[P, 4], or over a's area where b is a crowd."""
    sides = np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2])
    shared = np.where((sides > 0).all(axis=1), sides[:, 0] * sides[:, 1], 0.0)
    size = areas_of(a)
    whole = np.where(crowd, size, size + areas_of(b) - shared)
    return np.divide(shared, whole, out=np.zeros_like(shared), where=shared > 0)


def _turns(pairs: Pairs, keys: Ints) -> Iterator[Pairs]:
    """The pairs of every key's best prediction, then of every second best, and so on; the best truth first."""
    pairs = pairs.at(np.lexsort((-pairs.truths, -pairs.ious, pairs.predictions)))
    starts = np.diff(pairs.predictions, prepend=-1) != 0
    owners = pairs.predictions[starts]
    turns = _places(np.diff(keys[owners], prepend=-1) != 0)[np.cumsum(starts) - 1]
    pairs = pairs.at(np.argsort(turns, kind="stable"))
    firsts = np.flatnonzero(np.diff(pairs.predictions, prepend=-1))
    cuts = firsts[np.searchsorted(firsts, np.arange(0, len(turns), TURN), side="right") - 1]
    bounds = np.unique(np.concatenate([cuts, np.cumsum(np.bincount(turns))]))
    for start, stop in pairwise(bounds.tolist()):
        yield pairs.at(slice(start, stop))


def _settle(pairs: Pairs, limits: Floats, counts: Bools, crowd: Bools, outcomes: Bytes, taken: Bools) -> None:
    """Give each of some predictions, no two of one image and class, its truth: write ``outcomes`` and ``taken``.

    Args:
        pairs: by prediction, the best truth first.
        limits: float64[T].
        counts: bool[G, A].
        crowd: bool[G].
        outcomes: int8[N, A, T].
        taken: bool[G, A, T].
    """
    starts = np.flatnonzero(np.diff(pairs.predictions, prepend=-1))
    places = _places(np.diff(pairs.predictions, prepend=-1) != 0)
    worth = (COUNTED - 1 - places[:, None] + COUNTED * counts[pairs.truths]).astype(np.int32)
    free = crowd[pairs.truths, None, None] | ~taken[pairs.truths]
    free &= (pairs.ious[:, None] >= limits)[:, None, :]
    best = np.maximum.reduceat(free * worth[:, :, None], starts, axis=0)
    at, area, threshold = np.nonzero(best)
    value = best[at, area, threshold]
    truths = pairs.truths[starts[at] + COUNTED - 1 - value % COUNTED]
    taken[truths, area, threshold] = True
    outcomes[pairs.predictions[starts[at]], area, threshold] = np.where(value >= COUNTED, RIGHT, IGNORED)


def _ids(name: str, values: npt.ArrayLike) -> Ints:
    """Whole numbers as int64; no silent rounding."""
    given = np.asarray(values)
    if given.size and given.dtype.kind not in "iu":
        raise ValueError(f"{name}: expected whole numbers, got {given.dtype}; convert them to int")
    return given.astype(np.int64)


def _boxes(what: str, values: npt.ArrayLike) -> Floats:
    """Boxes as float64[N, 4], none reversed."""
    boxes = np.asarray(values, np.float64)
    boxes = boxes if boxes.size else boxes.reshape(-1, 4)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"{what}: expected boxes_xyxy of shape (N, 4), got {boxes.shape}")
    broken: Bools = np.asarray(~np.isfinite(boxes).all(axis=1))
    _refuse(what, broken, "finite corners", boxes, "drop the box or mend what wrote it")
    turned: Bools = np.asarray((boxes[:, 2:] < boxes[:, :2]).any(axis=1))
    _refuse(what, turned, "x1 <= x2 and y1 <= y2", boxes, "give corners, not x, y, width, height, least first")
    return boxes


def _same_length(what: str, size: int, **columns: npt.NDArray[np.generic]) -> None:
    for name, column in columns.items():
        if column.shape != (size,):
            raise ValueError(f"{what}: expected {name} of shape ({size},), one per box, got {column.shape}")


def _in_range(what: str, ids: Ints, name: str, count: int) -> None:
    wrong = (ids < 0) | (ids >= count)
    _refuse(what, wrong, f"{name} in [0, {count})", ids, "drop the box, or mend the ids or the count")


def _refuse(what: str, wrong: Bools, expected: str, got: npt.NDArray[np.generic], remedy: str) -> None:
    """Name the first row that is wrong, what it has, and what to do."""
    if wrong.any():
        row = int(wrong.argmax())
        raise ValueError(f"{what}: row {row}: expected {expected}, got {got[row].tolist()}; {remedy}")
