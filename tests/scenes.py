"""Truths and predictions for the tests of detection metrics."""

import numpy as np

from artray.metrics.matching import Predictions, Truths

SQUARE = [0, 0, 10, 10]
HALF = [0, 0, 10, 5]  # IoU 0.5 with SQUARE
ASIDE = [20, 0, 30, 10]
FAR = [500, 500, 510, 510]


def truths_of(*rows, images=1, classes=1, **more):
    """Of rows (image, class, box)."""
    where, what, boxes = zip(*rows, strict=True) if rows else ((), (), ())
    return Truths.of(images, classes, where, what, boxes, **more)


def predictions_of(*rows):
    """Of rows (image, class, box, score)."""
    return Predictions.of(*(zip(*rows, strict=True) if rows else ((), (), (), ())))


def scenes(seed, images=20, classes=4, each=60, ties=False, crowd=0.15):
    """Truths of all sizes, and predictions near and far; on whole pixels and with equal scores where ``ties`` is."""
    random = np.random.default_rng(seed)
    count, total = images * 6, images * each
    sides = random.choice([8, 30, 60, 100, 300], (count, 1)) * random.uniform(0.5, 1.5, (count, 2))
    low = random.uniform(0, 400, (count, 2))
    where, what = random.integers(0, images * 2 // 3, count), random.integers(0, max(classes - 1, 1), count)
    of = random.integers(0, count, total)
    boxes = np.hstack([low, low + sides])
    found = boxes[of] + random.normal(0, 0.1, (total, 4)) * np.tile(sides[of], 2)
    found += (random.random((total, 1)) < 0.3) * 1000
    found = np.sort(found.reshape(-1, 2, 2), axis=1).reshape(-1, 4)
    other = random.random(total) < 0.2
    scores = random.random(total)
    if ties:
        boxes, found, scores = boxes.round(), found.round(), scores.round(1)
    truths = Truths.of(images, classes, where, what, boxes, random.random(count) < crowd)
    classes_found = np.where(other, random.integers(0, classes, total), what[of])
    images_found = np.where(random.random(total) < 0.1, random.integers(0, images, total), where[of])
    return truths, Predictions.of(images_found, classes_found, found, scores)
