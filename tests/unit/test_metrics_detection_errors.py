"""Kinds of error: by hand, in the order in which they are looked for."""

import numpy as np
import pytest

from artray.metrics import detection_errors
from artray.metrics.detection_errors import KINDS, errors
from tests.scenes import ASIDE, FAR, HALF, SQUARE, predictions_of, truths_of


def test_kinds_of_error() -> None:
    truths = truths_of(
        *(
            (0, 0, SQUARE),
            (0, 1, ASIDE),
            (0, 0, [100, 0, 110, 10]),
            (0, 0, [200, 0, 210, 10]),
            (0, 1, [0, 200, 99, 299]),
        ),
        crowd=[False, False, False, False, True],
        classes=2,
    )
    rows = (
        ("correct", 0, SQUARE),
        ("duplicate", 0, [0, 0, 10, 9]),
        ("localisation", 0, [0, 0, 10, 1]),  # 0.1
        ("background", 0, [0, 0, 10, 0.9]),  # 0.09
        ("class", 0, ASIDE),
        ("both", 0, [20, 0, 30, 4.9]),  # 0.49 with another class
        ("localisation", 0, [100, 0, 110, 4]),  # 0.4 with a truth that nothing else finds
        ("ignored", 1, [10, 210, 20, 220]),  # in the crowd of its class
        ("background", 0, [10, 210, 20, 220]),  # a crowd is no truth of another class
        ("class", 1, SQUARE),  # of a truth that is found
    )
    scores = np.linspace(0.9, 0.1, len(rows))
    predictions = predictions_of(*((0, kind, box, score) for (_, kind, box), score in zip(rows, scores, strict=True)))
    told = errors(truths, predictions)
    assert [KINDS[kind] for kind in told.kinds] == [name for name, _, _ in rows]
    # ASIDE would be found by mending the class, the third by mending the place; no box is near the fourth
    assert told.missed.tolist() == [False, False, False, True, False]
    table = detection_errors.named(told, ["a", "b"])
    assert table["a"] == dict.fromkeys(KINDS, 0) | {
        **{"correct": 1, "duplicate": 1, "localisation": 2, "background": 2, "class": 1, "both": 1, "missed": 1}
    }
    assert table["b"] == dict.fromkeys(KINDS, 0) | {"class": 1, "ignored": 1, "missed": 0}
    assert told.counts.sum() == len(rows)


def test_which_error_comes_first() -> None:
    truths = truths_of((0, 0, SQUARE), (0, 1, SQUARE), classes=2)
    near = [0, 0, 10, 9]
    told = errors(truths, predictions_of((0, 0, SQUARE, 0.9), (0, 0, near, 0.8), (0, 0, HALF, 0.7)), iou=0.6)
    assert [KINDS[kind] for kind in told.kinds] == ["correct", "class", "localisation"]
    assert told.missed.tolist() == [False, False]
    apart = truths_of((0, 0, SQUARE), images=2)
    told = errors(apart, predictions_of((1, 0, SQUARE, 0.9), *[(0, 0, FAR, 0.8)] * 3), limit=2)
    assert [KINDS[kind] for kind in told.kinds] == ["background"] * 3 + ["ignored"]  # another image; over the limit
    assert told.missed.tolist() == [True]


def test_errors_of_nothing_and_in_disorder() -> None:
    told = errors(truths_of(classes=2), predictions_of())
    assert (told.kinds.tolist(), told.missed.tolist(), told.counts.tolist()) == ([], [], [[0] * 7] * 2)
    with pytest.raises(ValueError, match=r"expected 0 < background < iou <= 1, got 0.1 and 0.5"):
        errors(truths_of(), predictions_of(), iou=0.1, background=0.5)
