"""Metrics of detectors: by hand, and as pycocotools has them."""

import contextlib
import io

import numpy as np
import pytest

from artray.metrics import detection
from artray.metrics.detection import NONE, bootstrap, coarse, curves, evaluate, named, thresholds
from artray.metrics.matching import IGNORED, RIGHT, WRONG, Truths, match
from tests.scenes import ASIDE, FAR, HALF, SQUARE, predictions_of, scenes, truths_of

COCO = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")
COCO += ("ar_1", "ar_10", "ar_100", "ar_small", "ar_medium", "ar_large")


def judged(truths, predictions):
    return named(evaluate(match(truths, predictions)), [f"{at}" for at in range(truths.classes)])


def test_average_precision_by_hand() -> None:
    truths = truths_of((0, 0, SQUARE), (0, 0, ASIDE))
    predictions = predictions_of((0, 0, ASIDE, 0.7), (0, 0, SQUARE, 0.9), (0, 0, FAR, 0.8))
    told = judged(truths, predictions)  # right, wrong, right: precision 1 up to recall 0.5, then 2/3
    assert told["ap"] == pytest.approx((51 + 50 * 2 / 3) / 101)
    assert told["ap50"] == told["ap50 0"] == pytest.approx(told["ap"])
    assert (told["ar_1"], told["ar_10"]) == (0.5, 1.0)  # one box an image finds one of two
    assert (told["ap_small"], told["ap_medium"]) == (told["ap"], NONE)  # 100 square px each


def test_a_later_precision_that_is_higher_counts_for_lower_recalls() -> None:
    truths = truths_of((0, 0, SQUARE), (0, 0, ASIDE))
    predictions = predictions_of((0, 0, FAR, 0.9), (0, 0, SQUARE, 0.8), (0, 0, ASIDE, 0.7))
    assert judged(truths, predictions)["ap50"] == pytest.approx(2 / 3)  # 0, 1/2, 2/3: the last is the highest


def test_an_overlap_of_just_the_threshold_counts() -> None:
    told = judged(truths_of((0, 0, SQUARE)), predictions_of((0, 0, HALF, 0.9)))
    assert (told["ap50"], told["ap75"], told["ap"]) == (1.0, 0.0, pytest.approx(0.1))


def test_the_surer_box_takes_the_truth_though_the_other_fits_better() -> None:
    told = match(truths_of((0, 0, SQUARE)), predictions_of((0, 0, SQUARE, 0.5), (0, 0, [0, 0, 10, 8], 0.6)))
    assert told.rows.tolist() == [1, 0]
    assert told.outcomes[0, 0].tolist() == [RIGHT, WRONG]  # at 0.5
    assert told.outcomes[0, -1].tolist() == [WRONG, RIGHT]  # at 0.95, where the surer one (0.8) is out


def test_a_box_takes_what_it_overlaps_most_and_then_what_is_left() -> None:
    wide = [0, 0, 10, 12]  # IoU with SQUARE 0.83, with the taller box 0.86
    truths = truths_of((0, 0, SQUARE), (0, 0, [0, 0, 10, 14]))
    told = match(truths, predictions_of((0, 0, wide, 0.9), (0, 0, wide, 0.8), (0, 0, wide, 0.7)), ious=[0.5, 0.85])
    assert told.outcomes[0].tolist() == [[RIGHT, RIGHT, WRONG], [RIGHT, WRONG, WRONG]]
    assert told.truth_found[0].tolist() == [[True, True], [False, True]]


def test_a_crowd_takes_any_number_and_is_not_asked_for() -> None:
    truths = truths_of((0, 0, [0, 0, 100, 100]), (0, 0, SQUARE), crowd=[True, False])
    inside = [50, 50, 60, 60]  # all of it in the crowd, 1 % of their union
    predictions = predictions_of((0, 0, inside, 0.9), (0, 0, inside, 0.8), (0, 0, SQUARE, 0.7), (0, 0, SQUARE, 0.6))
    told = match(truths, predictions)
    assert told.outcomes[0, 0].tolist() == [IGNORED, IGNORED, RIGHT, IGNORED]  # what counts goes before the crowd
    assert judged(truths, predictions)["ap"] == 1.0
    assert judged(truths_of((0, 0, SQUARE), crowd=[True]), predictions)["ap"] == NONE


def test_ranges_of_area_leave_out_truths_and_the_predictions_that_fit_nothing() -> None:
    small, medium = [0, 0, 20, 20], [100, 0, 150, 50]
    truths = truths_of((0, 0, small), (0, 0, medium))
    told = match(truths, predictions_of((0, 0, medium, 0.9), (0, 0, [300, 0, 350, 50], 0.8), (0, 0, small, 0.7)))
    outcomes = dict(zip(told.area_names, told.outcomes[:, 0].tolist(), strict=True))
    assert outcomes["all"] == [RIGHT, WRONG, RIGHT]
    assert outcomes["small"] == [IGNORED, IGNORED, RIGHT]
    assert outcomes["medium"] == [RIGHT, WRONG, IGNORED]
    assert outcomes["large"] == [IGNORED] * 3
    edge = match(truths_of((0, 0, [0, 0, 32, 32])), predictions_of())
    assert edge.truth_counts[:, 0].tolist() == [True, True, True, False]  # both ends belong to a range


def test_the_area_of_a_mask_decides_where_it_is_given() -> None:
    told = match(truths_of((0, 0, [0, 0, 100, 100]), areas=[900]), predictions_of())
    assert told.truth_counts[:, 0].tolist() == [True, True, False, False]


def test_of_equal_scores_the_earlier_image_and_row_come_first() -> None:
    truths = truths_of((1, 0, SQUARE), images=2)
    right, wrong = (1, 0, SQUARE, 0.5), (1, 0, FAR, 0.5)
    assert judged(truths, predictions_of(right, wrong))["ap"] == 1.0
    assert judged(truths, predictions_of(wrong, right))["ap"] == pytest.approx(0.5)
    assert judged(truths, predictions_of(right, (0, 0, FAR, 0.5)))["ap"] == pytest.approx(0.5)


def test_more_than_a_hundred_boxes() -> None:
    truths = truths_of((0, 0, SQUARE), (1, 0, SQUARE), images=2)
    many = [(0, 0, FAR, 0.9)] * 100 + [(0, 0, SQUARE, 0.1)]
    assert judged(truths, predictions_of(*many))["ap50"] == 0.0
    assert len(match(truths, predictions_of(*many)).rows) == 100
    told = judged(truths, predictions_of(*many[1:], (1, 0, SQUARE, 0.95)))
    assert (told["ar_1"], told["ar_10"], told["ar_100"]) == (0.5, 0.5, 1.0)  # the hundredth is the second right one


def test_classes_without_truths_are_left_out_and_those_without_predictions_are_0() -> None:
    truths = truths_of((0, 0, SQUARE), (0, 2, SQUARE), classes=3)
    told = evaluate(match(truths, predictions_of((0, 0, SQUARE, 0.9), (0, 1, SQUARE, 0.9))))
    assert told.precisions[0, 0].tolist() == [1.0, NONE, 0.0]
    assert told.recalls[0, -1, 0].tolist() == [1.0, NONE, 0.0]
    assert told.truths[0].tolist() == [1, 0, 1]
    assert named(told, "abc")["ap"] == 0.5


def test_nothing_at_all() -> None:
    told = judged(truths_of(images=0, classes=2), predictions_of())
    assert set(told.values()) == {NONE}
    assert set(COCO) <= set(told)
    assert judged(truths_of((0, 0, SQUARE)), predictions_of())["ap"] == 0.0
    assert judged(truths_of(images=3), predictions_of((2, 0, SQUARE, 0.5)))["ap"] == NONE


@pytest.mark.filterwarnings("error")
def test_boxes_without_area_overlap_nothing() -> None:
    point = [5, 5, 5, 5]
    told = match(truths_of((0, 0, point), (0, 0, SQUARE)), predictions_of((0, 0, point, 0.9), (0, 0, SQUARE, 0.8)))
    assert told.outcomes[0, 0].tolist() == [WRONG, RIGHT]
    assert not match(truths_of((0, 0, SQUARE), crowd=[True]), predictions_of((0, 0, point, 0.9))).outcomes[0].any()


def test_only_what_was_matched_is_named() -> None:
    told = match(truths_of((0, 0, SQUARE)), predictions_of((0, 0, HALF, 0.9)), [0.4], {"all": (0, 1e10)}, limit=10)
    assert named(evaluate(told, limits=(10,)), ["a"]) == {"ap": 1.0, "ar_10": 1.0, "ap a": 1.0}
    for function in (curves, thresholds):
        with pytest.raises(ValueError, match=r"expected one of the matched IoUs \[0.4\] and areas \['all'\], got 0.5"):
            function(told)
    with pytest.raises(ValueError, match=r"got 0.4 and 'small'; match with it"):
        curves(told, 0.4, "small")


def test_coarse_labels() -> None:
    names = ("mary", "angel", "dog", "face")
    truths = truths_of((0, 0, SQUARE), (0, 2, ASIDE), classes=4)
    predictions = predictions_of((0, 1, SQUARE, 0.9), (0, 0, SQUARE, 0.8), (0, 3, ASIDE, 0.7))
    fine = named(evaluate(match(truths, predictions)), names)
    assert (fine["ap50"], fine["ap50 mary"], fine["ap50 angel"]) == (0.5, 1.0, NONE)
    there, found, categories = coarse(truths, predictions, names)
    assert categories == ("persons", "animals", "faces")
    told = match(there, found)
    assert told.outcomes[0, 0].tolist() == [RIGHT, WRONG, WRONG]  # the angel is a person; mary is a second one
    assert named(evaluate(told), categories)["ap50 persons"] == 1.0
    with pytest.raises(ValueError, match="expected 4, one per class, got 1"):
        coarse(truths, predictions, ["mary"])
    with pytest.raises(ValueError, match="expected classes of the taxonomy, got 'unicorn'"):
        coarse(truths, predictions, ["mary", "angel", "dog", "unicorn"])
    with pytest.raises(ValueError, match="row 0: expected a class id"):
        coarse(truths, predictions_of((0, -1, SQUARE, 0.5)), names)


def test_curves() -> None:
    truths = truths_of((0, 0, SQUARE), (0, 0, ASIDE), (0, 0, [0, 100, 50, 150]), crowd=[False, False, True], classes=2)
    boxes = ((SQUARE, 0.9), (FAR, 0.8), ([0, 100, 10, 110], 0.7), (ASIDE, 0.6))  # the third is in the crowd
    curve, empty = curves(match(truths, predictions_of(*((0, 0, box, score) for box, score in boxes))))
    assert curve.scores.tolist() == [0.9, 0.8, 0.6]
    assert curve.precision.tolist() == [1, 1 / 2, 2 / 3]
    assert curve.recall.tolist() == [0.5, 0.5, 1]
    assert curve.f1() == pytest.approx([2 / 3, 1 / 2, 4 / 5])
    assert (curve.truths, empty.truths, empty.scores.tolist()) == (2, 0, [])


def test_thresholds() -> None:
    truths = truths_of((0, 0, SQUARE), (0, 0, ASIDE), (0, 1, SQUARE), classes=4)
    rows = [(0, 0, SQUARE, 0.9), (0, 0, ASIDE, 0.6), (0, 0, FAR, 0.6), (0, 0, FAR, 0.2)]
    told = thresholds(match(truths, predictions_of(*rows, (0, 1, FAR, 0.9), (0, 2, FAR, 0.9))))
    # from 0.9 on: 1 of 1 right, half found: F1 2/3. From 0.6 on, with both boxes of that score: 2 of 3, all found: 4/5
    assert told.scores[0] == 0.6
    assert (told.f1[0], told.precision[0], told.recall[0]) == (pytest.approx(4 / 5), pytest.approx(2 / 3), 1.0)
    assert np.isnan(np.array(told)[:, 1:]).all()  # none right, no truths, nothing at all


def resampled(truths, predictions, times):
    """Every image as often as ``times`` says, as images of their own."""
    images = np.repeat(np.arange(len(times)), times)
    rows = [np.flatnonzero(truths.image_ids == image) for image in images]
    found = [np.flatnonzero(predictions.image_ids == image) for image in images]
    there, boxes = truths.at(np.concatenate(rows)), predictions.at(np.concatenate(found))
    return (
        there._replace(images=len(images), image_ids=np.repeat(np.arange(len(images)), list(map(len, rows)))),
        boxes._replace(image_ids=np.repeat(np.arange(len(images)), list(map(len, found)))),
    )


@pytest.mark.parametrize("block", [1, detection.CELLS])
def test_intervals_are_those_of_resampled_images_matched_anew(monkeypatch, block) -> None:
    monkeypatch.setattr(detection, "CELLS", block)
    truths, predictions = scenes(3, images=12, classes=3)
    artists = [at // 2 for at in range(12)]
    draws = np.random.default_rng(0).multinomial(6, [1 / 6] * 6, size=15)
    values = []
    for times in draws:
        again = match(*resampled(truths, predictions, times[artists]))
        values.append(named(evaluate(again), "abc"))
    told = bootstrap(match(truths, predictions), "abc", artists, resamples=15)
    whole = judged(truths, predictions)
    for key, name in (("ap50", "ap50"), ("ap50 a", "ap50 0"), ("ap50 b", "ap50 1"), ("ap50 c", "ap50 2")):
        column = [value[key] for value in values if value[key] != NONE] or [NONE]
        assert told[key].value == pytest.approx(whole[name])
        assert told[key][1:] == pytest.approx(tuple(np.percentile(column, [2.5, 97.5])))


def test_intervals_of_little() -> None:
    matches = match(truths_of((0, 0, SQUARE), images=2, classes=2), predictions_of((0, 0, SQUARE, 0.5)))
    told = bootstrap(matches, "ab", resamples=50)
    assert told["ap50 a"] == told["ap50"] == (1.0, 1.0, 1.0)  # a resample without image 0 has no truths
    assert told["ap50 b"] == (NONE, NONE, NONE)
    assert bootstrap(matches, "ab", resamples=0)["ap50"] == (1.0, 1.0, 1.0)
    assert bootstrap(matches, "ab", resamples=50, iou=0.75)["ap75"] == (1.0, 1.0, 1.0)
    with pytest.raises(ValueError, match="expected one per image, and images, got 1 and 2"):
        bootstrap(matches, "ab", ["rubens"])
    with pytest.raises(ValueError, match="got 0 and 0 images"):
        bootstrap(match(truths_of(images=0), predictions_of()), "a")


@pytest.mark.parametrize(
    ("box", "words"),
    [
        ([0, 0, -1, 5], r"row 1: expected x1 <= x2 and y1 <= y2, got \[0.0, 0.0, -1.0, 5.0\]; give corners"),
        ([0, 0, np.nan, 5], "row 1: expected finite corners, got .*; drop the box"),
        ([0, 0, np.inf, 5], "row 1: expected finite corners"),
    ],
)
def test_wrong_boxes(box, words) -> None:
    with pytest.raises(ValueError, match="truths: " + words):
        truths_of((0, 0, SQUARE), (0, 0, box))
    with pytest.raises(ValueError, match="predictions: " + words):
        predictions_of((0, 0, SQUARE, 0.5), (0, 0, box, 0.5))


def test_other_wrong_input() -> None:
    with pytest.raises(
        ValueError, match=r"truths: row 1: expected a class id in \[0, 2\), got 2; drop the box, or mend"
    ):
        truths_of((0, 1, SQUARE), (0, 2, SQUARE), classes=2)
    with pytest.raises(ValueError, match=r"truths: row 0: expected an image id in \[0, 1\), got -1"):
        truths_of((-1, 0, SQUARE))
    with pytest.raises(ValueError, match=r"predictions: row 0: expected a class id in \[0, 1\), got 4"):
        match(truths_of(), predictions_of((0, 4, SQUARE, 0.5)))
    with pytest.raises(ValueError, match=r"predictions: row 0: expected an image id in \[0, 1\), got 1"):
        match(truths_of(), predictions_of((1, 0, SQUARE, 0.5)))
    with pytest.raises(ValueError, match="predictions: row 0: expected a finite score, got nan; drop the box"):
        predictions_of((0, 0, SQUARE, np.nan))
    with pytest.raises(ValueError, match=r"truths: row 0: expected an area >= 0, got -1.0; leave areas out"):
        truths_of((0, 0, SQUARE), areas=[-1])
    with pytest.raises(ValueError, match="class_ids: expected whole numbers, got float64; convert them"):
        truths_of((0, 0.5, SQUARE))
    with pytest.raises(ValueError, match=r"truths: expected crowd of shape \(1,\), one per box, got \(2,\)"):
        truths_of((0, 0, SQUARE), crowd=[True, False])
    with pytest.raises(ValueError, match=r"predictions: expected boxes_xyxy of shape \(N, 4\), got \(1, 3\)"):
        predictions_of((0, 0, [1, 2, 3], 0.5))


def test_selected_rows() -> None:
    truths = truths_of((0, 0, SQUARE), (1, 1, ASIDE), images=2, classes=2, crowd=[False, True])
    part = truths.at(np.array([1]))
    assert (part.images, part.image_ids.tolist(), part.crowd.tolist(), part.areas.tolist()) == (2, [1], [True], [100])
    predictions = predictions_of((0, 0, SQUARE, 0.5), (1, 1, ASIDE, 0.9))
    assert predictions.at(predictions.scores >= 0.9).class_ids.tolist() == [1]


def hard(name):
    truths, predictions = scenes(7, ties=True)
    random = np.random.default_rng(8)
    if name == "one image, many boxes":
        return scenes(9, images=2, classes=2, each=500)
    if name == "without area":
        flat = random.random(len(predictions.scores)) < 0.3
        boxes = predictions.boxes_xyxy.copy()
        boxes[flat, 2:] = boxes[flat, :2]
        lines = truths.boxes_xyxy.copy()
        lines[::4, 2] = lines[::4, 0]
        return Truths.of(*truths[:4], lines, truths.crowd), predictions._replace(boxes_xyxy=boxes)
    if name == "all scores equal":
        return truths, predictions._replace(scores=np.full(len(predictions.scores), 0.5))
    if name == "all crowds":
        return truths._replace(crowd=np.ones(len(truths.crowd), bool)), predictions
    if name == "areas of masks":
        return truths._replace(areas=truths.areas * random.uniform(0.1, 1, len(truths.areas))), predictions
    if name == "rows in any order":
        return (
            truths.at(random.permutation(len(truths.areas))),
            predictions.at(random.permutation(len(predictions.scores))),
        )
    if name == "same boxes":
        return truths.at(np.arange(len(truths.areas)).repeat(3)), predictions.at(np.arange(600).repeat(3))
    return truths, predictions.at(predictions.image_ids % 2 == 0)


def by_reference(truths, predictions):
    """What pycocotools makes of them: its twelve figures, and precisions and recalls by class."""
    coco = pytest.importorskip("pycocotools.coco")
    evaluation = pytest.importorskip("pycocotools.cocoeval")
    sides = [np.hstack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]]) for boxes in (truths[4], predictions[2])]
    there, found = coco.COCO(), None
    columns = (truths.image_ids, truths.class_ids, sides[0], truths.areas, truths.crowd.astype(int))
    names = ("image_id", "category_id", "bbox", "area", "iscrowd")
    rows = zip(*(column.tolist() for column in columns), strict=True)
    there.dataset = {
        "info": {},
        "images": [{"id": at} for at in range(truths.images)],
        "categories": [{"id": at} for at in range(truths.classes)],
        "annotations": [{"id": at + 1, **dict(zip(names, row, strict=True))} for at, row in enumerate(rows)],
    }
    columns = (predictions.image_ids, predictions.class_ids, sides[1], predictions.scores)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    with contextlib.redirect_stdout(io.StringIO()):
        there.createIndex()
        found = there.loadRes([dict(zip((*names[:3], "score"), row, strict=True)) for row in rows])
        told = evaluation.COCOeval(there, found, "bbox")
        told.evaluate()
        told.accumulate()
        told.summarize()
    return told.stats, told.eval["precision"].mean(axis=1)[..., -1], told.eval["recall"]


HARD = ("one image, many boxes", "without area", "all scores equal", "all crowds", "areas of masks")
HARD += ("rows in any order", "same boxes", "images without predictions")
CASES = [pytest.param(lambda s=seed: scenes(s, ties=s % 2 == 1), id=f"seed {seed}") for seed in range(4)]
CASES += [pytest.param(lambda n=name: hard(n), id=name) for name in HARD]


@pytest.mark.parametrize("make", CASES)
def test_as_pycocotools(make) -> None:
    truths, predictions = make()
    figures, precisions, recalls = by_reference(truths, predictions)
    told = evaluate(match(truths, predictions))
    assert told.precisions.transpose(1, 2, 0) == pytest.approx(precisions, abs=1e-9)
    assert told.recalls.transpose(2, 3, 0, 1) == pytest.approx(recalls, abs=1e-9)
    values = named(told, [f"{at}" for at in range(truths.classes)])
    assert [values[name] for name in COCO] == pytest.approx(figures, abs=1e-9)


def test_blocks_change_nothing(monkeypatch) -> None:
    truths, predictions = scenes(11, ties=True)
    whole = match(truths, predictions)
    monkeypatch.setattr("artray.metrics.matching.BLOCK", 7)
    monkeypatch.setattr("artray.metrics.matching.TURN", 3)
    for there, again in zip(whole, match(truths, predictions), strict=True):
        assert np.array_equal(there, again)
