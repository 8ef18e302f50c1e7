"""Judge a detector: COCO's average precision and recall, curves, thresholds and intervals, all from one matching."""

from collections.abc import Hashable, Iterator, Sequence
from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from artray.metrics.classification import RESAMPLES, Interval
from artray.metrics.matching import IGNORED, RIGHT, Bools, Floats, Ints, Matches, Predictions, Truths, check
from artray.taxonomy import CATEGORY

RECALLS: Final = tuple(np.linspace(0, 1, 101).tolist())
"""Where the precision-recall curve is read."""

LIMITS: Final = (1, 10, 100)
"""Predictions per image and class of AR@1, AR@10 and AR@100."""

NONE: Final = -1.0
"""The value of a class without truths; it is left out of means."""

CELLS: Final = 2**21
"""Numbers in one array at a time while resampling: bounds the memory."""


class Evaluation(NamedTuple):
    """C classes, A area ranges, T thresholds, M limits; a class without truths in a range has NONE there."""

    truths: Ints  # int64[A, C]: those that count
    precisions: Floats  # float64[A, T, C] in [0, 1]: average precision
    recalls: Floats  # float64[A, M, T, C] in [0, 1]: the share of the truths found
    area_names: tuple[str, ...]
    ious: Floats  # float64[T]
    limits: tuple[int, ...]


class Curve(NamedTuple):
    """Precision and recall of a class while its least score falls, N predictions that are not ignored; best first."""

    scores: Floats  # float64[N], descending
    precision: Floats  # float64[N] in [0, 1], of this and all before
    recall: Floats  # float64[N] in [0, 1], ascending; 0 where the class has no truths
    truths: int

    def f1(self) -> Floats:
        """float64[N] in [0, 1]: the harmonic mean of precision and recall, 0 where both are."""
        both = self.precision + self.recall
        return np.divide(2 * self.precision * self.recall, both, out=np.zeros_like(both), where=both > 0)


class Thresholds(NamedTuple):
    """The least score per class that gives the best F1, and what it gives; NaN where no prediction is right."""

    scores: Floats  # float64[C]: keep what scores as much or more; nothing does where it is NaN
    f1: Floats  # float64[C] in (0, 1]
    precision: Floats  # float64[C], likewise
    recall: Floats  # float64[C], likewise


def evaluate(matches: Matches, limits: Sequence[int] = LIMITS) -> Evaluation:
    """Average precision and recall of every class, area range and threshold.

    Average precision is the mean over 101 recalls of the highest precision at that recall or a higher one; 0 where
    there are truths and no predictions. What :func:`named` gives are COCO's twelve figures.

    Args:
        matches: of :func:`artray.metrics.matching.match`.
        limits: predictions per image and class that count for recall; the matching has a limit of its own.

    Source: Lin et al., Microsoft COCO (2014), and the evaluation that COCO publishes. Precision is not lessened by
    a rounding unit here, so what is perfect has 1.
    """
    areas, ious, _ = matches.outcomes.shape
    truths = np.zeros((areas, matches.classes), np.int64)
    precisions = np.full((areas, ious, matches.classes), NONE)
    recalls = np.full((areas, len(limits), ious, matches.classes), NONE)
    for area, counted in enumerate(matches.truth_counts):
        truths[area] = np.bincount(matches.truth_class_ids[counted], minlength=matches.classes)
    for class_id, rows in enumerate(_class_rows(matches)):
        for area, iou in np.ndindex(areas, ious):
            if count := truths[area, class_id]:
                outcomes = matches.outcomes[area, iou, rows]
                right = np.flatnonzero(outcomes == RIGHT)
                boxes = np.cumsum(outcomes != IGNORED)[right]
                precisions[area, iou, class_id] = _average(np.arange(1, len(right) + 1), boxes, count)
                within = matches.ranks[rows][right, None] < np.array(limits, np.int64)
                recalls[area, :, iou, class_id] = within.sum(axis=0) / count
    return Evaluation(truths, precisions, recalls, matches.area_names, matches.ious, tuple(limits))


def named(told: Evaluation, class_names: Sequence[str]) -> dict[str, float]:
    """The figures by name, means over the classes with truths; NONE where there is none.

    Returns:
        ``ap`` (the mean over all thresholds), ``ap50`` and ``ap75``, ``ap_small`` and likewise for every range but
        "all"; ``ar_1`` and likewise for every limit, ``ar_small`` and likewise at the last limit; for every class
        ``ap CLASS``, ``ap50 CLASS`` and ``ap75 CLASS``. What was not matched (a threshold, "all") is not there.
    """
    figures: dict[str, float] = {}
    per_class: dict[str, float] = {}
    for area, name in enumerate(told.area_names):
        if name != "all":
            figures[f"ap_{name}"] = _mean(told.precisions[area])
            figures[f"ar_{name}"] = _mean(told.recalls[area, -1])
            continue
        by_name = {"ap": told.precisions[area].mean(axis=0)}
        for percent in (50, 75):
            for at in np.flatnonzero(np.isclose(told.ious, percent / 100)):
                by_name[f"ap{percent}"] = told.precisions[area, at]
        figures |= {key: _mean(values) for key, values in by_name.items()}
        figures |= {f"ar_{limit}": _mean(told.recalls[area, at]) for at, limit in enumerate(told.limits)}
        for key, values in by_name.items():
            named_values = zip(class_names, values.tolist(), strict=True)
            per_class |= {f"{key} {class_name}": value for class_name, value in named_values}
    return figures | per_class


def coarse(
    truths: Truths, predictions: Predictions, class_names: Sequence[str]
) -> tuple[Truths, Predictions, tuple[str, ...]]:
    """The same boxes with categories for classes, to be matched and judged like any: the report's coarse labels.

    A category holds its classes' boxes: what was right stays right, what was taken for a class of the same category
    becomes right, and two classes' boxes of one object become duplicates. The limit of predictions per image and
    class is one per image and category then.

    Args:
        truths: of C classes.
        predictions: likewise.
        class_names: C names of :data:`artray.taxonomy.CATEGORY`.

    Returns:
        Both with categories, and the categories' names in the order of their first class.

    Raises:
        ValueError: a name is of no known class, there are not C of them, or a prediction's class is none of theirs.

    Source: the report, Object Detection, Table 6.
    """
    if len(class_names) != truths.classes:
        raise ValueError(f"class_names: expected {truths.classes}, one per class, got {len(class_names)}")
    if unknown := [name for name in class_names if name not in CATEGORY]:
        raise ValueError(f"class_names: expected classes of the taxonomy, got {unknown[0]!r}; see artray.taxonomy")
    check(truths, predictions)
    names = tuple(dict.fromkeys(CATEGORY[name] for name in class_names))
    of_class = np.array([names.index(CATEGORY[name]) for name in class_names], np.int64)
    there = truths._replace(classes=len(names), class_ids=of_class[truths.class_ids])
    return there, predictions._replace(class_ids=of_class[predictions.class_ids]), names


def curves(matches: Matches, iou: float = 0.5, area: str = "all") -> list[Curve]:
    """The precision-recall curve of every class, as it is: without COCO's 101 recalls and highest precisions.

    Raises:
        ValueError: this threshold or area range was not matched.
    """
    outcomes, counted = _at(matches, iou, area)
    truths = np.bincount(matches.truth_class_ids[counted], minlength=matches.classes)
    found = []
    for class_id, rows in enumerate(_class_rows(matches)):
        known = outcomes[rows] != IGNORED
        right = np.cumsum(outcomes[rows][known] == RIGHT)
        precision = right / np.arange(1, len(right) + 1)
        found.append(
            Curve(matches.scores[rows][known], precision, right / max(truths[class_id], 1), int(truths[class_id]))
        )
    return found


def thresholds(matches: Matches, iou: float = 0.5) -> Thresholds:
    """The score per class from which its predictions should be kept: that of the best F1, the highest of such scores.

    Predictions of equal scores are kept or dropped together. Choose it on a validation set: on the boxes that it was
    chosen on, it looks better than it is. ``predictions.at(predictions.scores >= told.scores[predictions.class_ids])``
    keeps them.

    Raises:
        ValueError: this threshold was not matched.

    >>> from artray.metrics.matching import match
    >>> truths = Truths.of(images=2, classes=1, image_ids=[0, 1], class_ids=[0, 0], boxes_xyxy=[[0, 0, 9, 9]] * 2)
    >>> boxes = [[0, 0, 9, 9], [0, 0, 9, 8], [50, 50, 60, 60]]
    >>> told = thresholds(match(truths, Predictions.of([0, 1, 1], [0, 0, 0], boxes, [0.9, 0.6, 0.3])))
    >>> told.scores.tolist(), told.f1.tolist()
    ([0.6], [1.0])
    """
    best = np.full((4, matches.classes), np.nan)
    for class_id, curve in enumerate(curves(matches, iou)):
        ends = np.flatnonzero(np.diff(curve.scores, append=-np.inf))
        f1 = curve.f1()[ends]
        if len(ends) and f1.max() > 0:
            at = ends[f1.argmax()]
            best[:, class_id] = curve.scores[at], f1.max(), curve.precision[at], curve.recall[at]
    return Thresholds(*best)


def bootstrap(
    matches: Matches,
    class_names: Sequence[str],
    groups: Sequence[Hashable] | None = None,
    resamples: int = RESAMPLES,
    iou: float = 0.5,
) -> dict[str, Interval]:
    """Average precision with its 95 % interval: percentiles over resampled groups of images, always the same.

    An image that is drawn twice counts twice: just as matching the resampled images anew would have it, but that an
    image's predictions of equal scores stay in their order. Average precision takes the highest precision, which is
    higher by chance in a resample: where scores tell little, the value lies near the low end of its interval.

    Args:
        matches: of at least one image.
        class_names: C of them.
        groups: what is drawn together, such as the artists of the images in their order; None draws single images.
        resamples: how many, of which a class takes those that have truths of it; 0 leaves every interval empty.
        iou: a threshold that was matched.

    Returns:
        ``ap50`` (after the threshold), the mean over the classes that have truths in the resample, and
        ``ap50 CLASS``. NONE for a class without truths.

    Raises:
        ValueError: this threshold was not matched, no images, or not one group per image.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), the percentile interval.
    """
    names: Sequence[Hashable] = range(matches.images) if groups is None else groups
    if not matches.images or len(names) != matches.images:
        raise ValueError(f"groups: expected one per image, and images, got {len(names)} and {matches.images} images")
    ids: dict[Hashable, int] = {}
    group_ids = np.array([ids.setdefault(name, len(ids)) for name in names], np.int64)
    values = _resampled(_ranked(matches, iou, group_ids), len(ids), resamples)
    known = np.ma.masked_equal(values, NONE)
    key = f"ap{round(iou * 100)}"
    told = {key: _interval(np.ma.filled(known.mean(axis=0), NONE))}
    return told | {f"{key} {name}": _interval(column) for name, column in zip(class_names, values, strict=True)}


def _interval(column: Floats) -> Interval:
    """The first value, and where most of the others lie that are not NONE."""
    drawn = column[1:][column[1:] != NONE]
    low, high = np.percentile(drawn, [2.5, 97.5]) if len(drawn) else (column[0], column[0])
    return Interval(float(column[0]), float(low), float(high))


class _Ranked(NamedTuple):
    """A class's predictions that are not ignored, best first, as far as the last right one; and its truths."""

    groups: Ints  # int64[N]
    right: Ints  # int64[K]: which of them are
    truth_groups: Ints  # int64[G]


def _ranked(matches: Matches, iou: float, group_ids: Ints) -> list[_Ranked]:
    """For every class; ``group_ids`` are those of the images."""
    outcomes, counted = _at(matches, iou, "all")
    found = []
    for class_id, rows in enumerate(_class_rows(matches)):
        known = outcomes[rows] != IGNORED
        right = np.flatnonzero(outcomes[rows][known] == RIGHT)
        groups = group_ids[matches.image_ids[rows][known][: right.max(initial=-1) + 1]]
        truths = matches.truth_image_ids[counted & (matches.truth_class_ids == class_id)]
        found.append(_Ranked(groups, right, group_ids[truths]))
    return found


def _resampled(classes: Sequence[_Ranked], groups: int, resamples: int) -> Floats:
    """Average precision float64[C, 1 + resamples]: of all groups once, then of as many drawn with replacement."""
    values = np.full((len(classes), 1 + resamples), NONE)
    truths = [np.bincount(ranked.truth_groups, minlength=groups) for ranked in classes]
    width = max(1, CELLS // max([groups, *(len(ranked.groups) for ranked in classes)]))
    random = np.random.default_rng(0)
    for start in range(0, 1 + resamples, width):
        stop = min(start + width, 1 + resamples)
        draws = random.multinomial(groups, [1 / groups] * groups, size=stop - max(start, 1))
        times = np.vstack([np.ones((int(start == 0), groups), np.int64), draws]).T.astype(np.int32, order="C")
        for class_id, ranked in enumerate(classes):
            counts = truths[class_id] @ times
            found = _average(*_cumulative(times, ranked.groups, ranked.right), counts)
            values[class_id, start:stop] = np.where(counts > 0, found, NONE)
    return values


def _cumulative(
    times: npt.NDArray[np.int32], groups: Ints, right: Ints
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """How many right predictions, and how many predictions, there are up to each right one: int32[K, R] each."""
    if not len(right):
        return (np.zeros((0, times.shape[1]), np.int32),) * 2
    boxes = np.add.reduceat(times[groups], [0, *(right[:-1] + 1)], axis=0, dtype=np.int32)
    return np.cumsum(times[groups[right]], axis=0, dtype=np.int32), np.cumsum(boxes, axis=0, dtype=np.int32)


def _average(right: npt.NDArray[np.integer], boxes: npt.NDArray[np.integer], truths: npt.ArrayLike) -> Floats:
    """COCO's average precision.

    Args:
        right: int[K, ...]: how many right predictions there are up to each right one, best first.
        boxes: int[K, ...]: how many predictions.
        truths: int[...]; where it is 0, the result means nothing.

    Returns:
        float64[...] in [0, 1].
    """
    precision = np.divide(right, boxes, out=np.zeros(right.shape), where=boxes > 0)
    highest = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
    reached = np.searchsorted(RECALLS, right / np.maximum(truths, 1), side="right")
    gained = np.diff(reached, axis=0, prepend=np.zeros((1, *reached.shape[1:]), np.int64))
    average: Floats = (highest * gained).sum(axis=0) / len(RECALLS)
    return average


def _mean(values: Floats) -> float:
    """The mean of those that are not NONE; NONE where there is no other."""
    known = values[values != NONE]
    return float(known.mean()) if known.size else NONE


def _class_rows(matches: Matches) -> Iterator[slice]:
    """Where the predictions of every class stand."""
    bounds = np.searchsorted(matches.class_ids, np.arange(matches.classes + 1))
    return (slice(start, stop) for start, stop in pairwise(bounds.tolist()))


def _at(matches: Matches, iou: float, area: str) -> tuple[npt.NDArray[np.int8], Bools]:
    """The outcomes int8[N], and which truths count, bool[G], of a threshold and an area range."""
    found = np.flatnonzero(np.isclose(matches.ious, iou))
    if not len(found) or area not in matches.area_names:
        known = f"IoUs {matches.ious.round(4).tolist()} and areas {list(matches.area_names)}"
        raise ValueError(f"expected one of the matched {known}, got {iou} and {area!r}; match with it")
    at = matches.area_names.index(area)
    return matches.outcomes[at, found[0]], matches.truth_counts[at]
