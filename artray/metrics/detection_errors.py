"""What is wrong with a detector's boxes: the kinds of error of TIDE."""

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

from artray.metrics.matching import (
    LIMIT,
    WRONG,
    Bools,
    Bytes,
    Floats,
    Ints,
    Pairs,
    Predictions,
    Truths,
    match,
    overlaps,
)

KINDS: Final = ("correct", "class", "localisation", "both", "duplicate", "background", "ignored")
"""What a predicted box may be; the last is neither right nor wrong."""

CORRECT, CLASS, LOCALISATION, BOTH, DUPLICATE, BACKGROUND, NEITHER = range(len(KINDS))


class Errors(NamedTuple):
    """What became of N predictions and G truths of C classes."""

    kinds: Bytes  # int8[N], positions in KINDS, in the order of the predictions
    missed: Bools  # bool[G], in the order of the truths
    counts: Ints  # int64[C, len(KINDS)]: predictions of the class by kind
    missed_counts: Ints  # int64[C]: truths of the class that were missed


def errors(
    truths: Truths, predictions: Predictions, iou: float = 0.5, background: float = 0.1, limit: int = LIMIT
) -> Errors:
    """Sort a detector's boxes by what is wrong with them, and find the truths that it missed.

    The first that holds of a prediction, where "same" is the greatest IoU with a truth of its class in its image, and
    "other" with a truth of another class, be these found already or not:

    - correct: it took a truth of its class, as in :func:`artray.metrics.matching.match`;
    - ignored: it took a crowd, or ``limit`` boxes of its image and class score higher;
    - localisation: ``background`` <= same < ``iou``;
    - class: other >= ``iou``;
    - duplicate: same >= ``iou``: a better box took that truth;
    - background: same and other < ``background``;
    - both (wrong class and poor place): what is left, ``background`` <= other < ``iou``.

    A truth is missed that no prediction took, and that is not the nearest truth of a localisation error (in its
    class) or of a class error (in another): mending that box would find it. Crowds are never missed.

    Args:
        truths: G boxes.
        predictions: N boxes; those below the score that is used should be left out.
        iou: from which overlap on a box is in the right place, in (0, 1].
        background: below which it is nowhere near, in (0, ``iou``).
        limit: predictions per image and class that count.

    Raises:
        ValueError: a prediction's image or class is out of range, or the two overlaps are not in order.

    Source: Bolya et al., TIDE: A General Toolbox for Identifying Object Detection Errors (2020), section 2.2, in the
    order of its implementation. Boxes are matched and limited here as COCO has it: per image and class, where TIDE
    takes the best 100 of an image.

    >>> truths = Truths.of(images=1, classes=2, image_ids=[0], class_ids=[0], boxes_xyxy=[[0, 0, 10, 10]])
    >>> boxes = [[0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 10, 3], [0, 0, 10, 10], [50, 50, 60, 60]]
    >>> told = errors(truths, Predictions.of([0] * 5, [0, 0, 0, 1, 1], boxes, [0.9, 0.8, 0.7, 0.6, 0.5]))
    >>> [KINDS[kind] for kind in told.kinds]
    ['correct', 'duplicate', 'localisation', 'class', 'background']
    """
    if not 0 < background < iou <= 1:
        raise ValueError(f"iou and background: expected 0 < background < iou <= 1, got {iou} and {background}")
    matches = match(truths, predictions, (iou,), {"all": (0, np.inf)}, limit)
    kinds = np.full(len(predictions.scores), NEITHER, np.int8)
    kinds[matches.rows] = np.array([BACKGROUND, CORRECT, NEITHER], np.int8)[matches.outcomes[0, 0]]
    wrong = np.sort(matches.rows[matches.outcomes[0, 0] == WRONG])
    rows, order = wrong[np.argsort(predictions.image_ids[wrong], kind="stable")], _countable(truths)
    kept, there = predictions.at(rows), truths.at(order)
    pairs = overlaps(kept, there, kept.image_ids, there.image_ids, background)
    alike = kept.class_ids[pairs.predictions] == there.class_ids[pairs.truths]
    same, same_truths = _greatest(pairs.at(alike), len(rows))
    other, other_truths = _greatest(pairs.at(~alike), len(rows))
    poor, confused = (same >= background) & (same < iou), other >= iou
    conditions = [poor, confused, same >= iou, other >= background]
    kinds[rows] = np.select(conditions, [LOCALISATION, CLASS, DUPLICATE, BOTH], BACKGROUND)
    missed = ~matches.truth_found[0, 0] & ~truths.crowd
    missed[order[same_truths[poor]]] = False
    missed[order[other_truths[confused & ~poor]]] = False
    cells = np.bincount(predictions.class_ids * len(KINDS) + kinds, minlength=truths.classes * len(KINDS))
    lost = np.bincount(truths.class_ids[missed], minlength=truths.classes)
    return Errors(kinds, missed, cells.reshape(truths.classes, len(KINDS)), lost)


def named(told: Errors, class_names: Sequence[str]) -> dict[str, dict[str, int]]:
    """For every class, how many predictions there are of each kind, and how many truths were ``missed``."""
    table = zip(class_names, told.counts.tolist(), told.missed_counts.tolist(), strict=True)
    return {name: dict(zip(KINDS, counts, strict=True)) | {"missed": missed} for name, counts, missed in table}


def _countable(truths: Truths) -> Ints:
    """The rows of those that are no crowd, by image."""
    rows = np.flatnonzero(~truths.crowd)
    return rows[np.argsort(truths.image_ids[rows], kind="stable")]


def _greatest(pairs: Pairs, count: int) -> tuple[Floats, Ints]:
    """The greatest IoU of each of ``count`` predictions, and its truth (the first of several); 0 where it has none."""
    pairs = pairs.at(np.lexsort((-pairs.ious, pairs.predictions)))
    pairs = pairs.at(np.diff(pairs.predictions, prepend=-1) != 0)
    values, truths = np.zeros(count), np.zeros(count, np.int64)
    values[pairs.predictions], truths[pairs.predictions] = pairs.ious, pairs.truths
    return values, truths
