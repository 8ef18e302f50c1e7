"""Several detectors, one answer: values worked out by hand."""

import numpy as np
import pytest

from artray import config
from artray.config import FuseConfig
from artray.detect.ensemble import CLASSES, Ensemble, Member, Merged
from artray.detect.found import Found, nothing
from artray.errors import ConfigError
from artray.pipeline import run
from artray.pipeline.progress import Silent

COCO = Member("coco", ("persons (others)", "dog"))
SAINTS = Member("saints", ("mary", "ship", "building"))
FACES = Member("faces", ("face",))
MEMBERS = (COCO, FACES, SAINTS)


def found(*rows: tuple[list[float], float, int]) -> Found:
    boxes, scores, ids = zip(*rows, strict=True) if rows else ((), (), ())
    return Found(np.array(boxes, np.float32).reshape(-1, 4), np.array(scores, np.float32), np.array(ids, np.int64))


def told(merged: Merged) -> list[tuple[str, float, list[float], int]]:
    return [
        (CLASSES[class_id], round(score, 3), [round(edge, 2) for edge in box], source)
        for box, score, class_id, source in zip(
            *(column.tolist() for column in merged.found), merged.sources.tolist(), strict=True
        )
    ]


BOX = [0.0, 0.0, 10.0, 10.0]
ANSWERS = (
    [found((BOX, 0.6, 0), ([50, 50, 60, 60], 0.5, 1)), nothing()],
    [found(([2, 2, 4, 4], 0.9, 0)), found((BOX, 0.4, 0))],
    [found(([0, 0, 10, 14], 0.8, 0)), found((BOX, 0.7, 1))],
)
SIZES = [(100, 80), (100, 80)]


def test_all_boxes_are_kept_by_default_one_detectors_after_the_others() -> None:
    first, second = Ensemble(FuseConfig(), MEMBERS)(ANSWERS, SIZES)
    assert told(first) == [
        ("persons (others)", 0.6, BOX, 0),
        ("dog", 0.5, [50, 50, 60, 60], 0),
        ("face", 0.9, [2, 2, 4, 4], 1),
        ("mary", 0.8, [0, 0, 10, 14], 2),
    ]
    assert told(second) == [("face", 0.4, BOX, 1), ("ship", 0.7, BOX, 2)]


def test_boxes_of_a_category_become_one_of_the_surest_members_class() -> None:
    """Two of two members: the scores' mean, the boxes' mean weighted by score; one of two: half of its score."""
    first, second = Ensemble(FuseConfig(method="wbf"), MEMBERS)(ANSWERS, SIZES)
    bottom = (0.6 * 10 + 0.8 * 14) / 1.4
    assert told(first) == [
        ("mary", 0.7, [0, 0, 10, round(bottom, 2)], 2),
        ("dog", 0.25, [50, 50, 60, 60], 0),
        ("face", 0.9, [2, 2, 4, 4], 1),
    ]
    assert told(second) == [("ship", 0.35, BOX, 2), ("face", 0.4, BOX, 1)]


def test_classes_can_be_kept_apart_and_members_outvoted() -> None:
    first, _ = Ensemble(FuseConfig(method="nms", by="class"), MEMBERS)(ANSWERS, SIZES)
    assert [name for name, *_ in told(first)] == ["mary", "persons (others)", "dog", "face"]
    first, second = Ensemble(FuseConfig(method="consensus"), MEMBERS)(ANSWERS, SIZES)
    assert [name for name, *_ in told(first)] == ["mary", "face"]
    assert [name for name, *_ in told(second)] == ["face"]


def test_thresholds_of_members_and_of_classes() -> None:
    cfg = FuseConfig(score_min={"coco": 0.55, "faces": 0.5}, class_score_min={"ship": 0.71})
    first, second = Ensemble(cfg, MEMBERS)(ANSWERS, SIZES)
    assert [name for name, *_ in told(first)] == ["persons (others)", "face", "mary"]
    assert told(second) == []


def test_rules_are_the_reports() -> None:
    ships = found(([0, 0, 40, 40], 0.5, 1), ([5, 5, 10, 10], 0.9, 1), ([0, 0, 100, 75], 0.8, 2), ([1, 1, 9, 9], 0.7, 0))
    persons = found(([1, 1, 9, 9.5], 0.9, 0))
    cfg = FuseConfig(method="nms", by="class", nested=("ship",), oversized=("building",), specific_iou=0.7)
    (merged,) = Ensemble(cfg, (COCO, SAINTS))(([persons], [ships]), [(100, 80)])
    assert [name for name, *_ in told(merged)] == ["mary", "ship"]
    (merged,) = Ensemble(cfg, (COCO, SAINTS))(([persons], [ships]), [(200, 80)])
    assert [name for name, *_ in told(merged)] == ["building", "mary", "ship"]


def test_weights_say_who_counts() -> None:
    cfg = FuseConfig(method="wbf", weights={"saints": 3.0})
    first, _ = Ensemble(cfg, MEMBERS)(ANSWERS, SIZES)
    bottom = (0.6 * 10 + 2.4 * 14) / 3.0
    assert told(first)[0] == ("mary", round(3.0 / 2 * 2 / 4, 3), [0, 0, 10, round(bottom, 2)], 2)


def test_no_images_and_no_members() -> None:
    assert Ensemble(FuseConfig(method="wbf"), MEMBERS)(([], [], []), []) == []
    (merged,) = Ensemble(FuseConfig(method="wbf"), ())((), [(3, 4)])
    assert told(merged) == []


def test_strangers_are_named() -> None:
    with pytest.raises(ConfigError, match=r"detect\.fuse\.weights: expected cards of detect\.cards \(coco\), got yolo"):
        Ensemble(FuseConfig(weights={"yolo": 1.0}), (COCO,))
    with pytest.raises(ValueError, match="expected classes of the taxonomy, got 'shipp'; near: ship"):
        FuseConfig(nested=("shipp",))


def test_members_without_weights_are_skipped_where_the_profile_says_so() -> None:
    reporter = Silent()
    kept = run._present(config.load("ensemble-resnext"), reporter).detect
    assert kept.cards == ("mtcnn",)
    assert kept.fuse.score_min == {}  # they named members that are not there
    assert len(reporter.notes) == 7
    assert all("takes no part" in note for note in reporter.notes)
    strict = config.load("ensemble-resnext", ["detect.absent=error"])
    assert run._present(strict, reporter) is strict
    alone = config.load("ensemble-resnext", ["detect.cards=[wbf-resnext101]"])
    with pytest.raises(ConfigError, match="expected weights of at least one of wbf-resnext101, found none"):
        run._present(alone, reporter)
