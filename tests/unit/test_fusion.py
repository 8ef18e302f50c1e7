"""Fusion: values derived by hand, and the boxes of ensemble-boxes and torchvision."""

import numpy as np
import pytest

from artray.detect.fusion import METHODS, SCORINGS, Options, fuse
from artray.detect.proposals import Proposals, proposals

SIDE_PX = 1000.0
"""ensemble-boxes wants boxes in [0, 1]."""


def scene(rng, images, members=3, each=8, classes=4):
    """Members that see the same few things in their own ways, of scores that never tie."""
    rows = []
    for image in range(images):
        corner = rng.uniform(0, 0.6, (5, 2))
        things = np.concatenate([corner, corner + rng.uniform(0.1, 0.4, (5, 2))], axis=1)
        for member in range(members):
            which = rng.integers(0, 5, rng.integers(0, each + 1))
            near = np.clip(things[which] + rng.normal(0, 0.03, (len(which), 4)), 0, 1)
            labels = np.where(rng.random(len(which)) < 0.8, which % classes, rng.integers(0, classes, len(which)))
            rows.append((np.full(len(which), image), np.full(len(which), member), near, rng.random(len(which)), labels))
    images_, members_, boxes, scores, labels = (np.concatenate(column) for column in zip(*rows, strict=True))
    good = (boxes[:, :2] < boxes[:, 2:]).all(axis=1)
    return proposals(images_[good], members_[good], boxes[good] * SIDE_PX, scores[good], labels[good])


def lists(found, image, members):
    """One image, as ensemble-boxes wants it."""
    some = [found.at((found.image_ids == image) & (found.members == member)) for member in range(members)]
    return [one.boxes_xyxy / SIDE_PX for one in some], [one.scores for one in some], [one.class_ids for one in some]


def of(fused, image):
    here = fused.image_ids == image
    return fused.boxes_xyxy[here] / SIDE_PX, fused.scores[here], fused.class_ids[here]


def ordered(boxes, scores, labels):
    boxes, scores, labels = np.asarray(boxes).reshape(-1, 4), np.asarray(scores), np.asarray(labels, float)
    order = np.lexsort((*boxes.T.round(3), scores.round(4), labels))
    return np.column_stack([labels, scores, boxes])[order]


def assert_same(found, fused, members, reference):
    assert len(fused.scores)
    for image in range(int(found.image_ids.max()) + 1):
        theirs = reference(*lists(found, image, members))
        np.testing.assert_allclose(ordered(*of(fused, image)), ordered(*theirs), atol=1e-5, rtol=0)


@pytest.mark.parametrize("weights", [None, (1.0, 3.0, 0.5)])
@pytest.mark.parametrize("scoring", SCORINGS)
@pytest.mark.parametrize(("iou", "score_min", "overflow"), [(0.55, 0.0, False), (0.3, 0.2, True), (0.0, 0.0, False)])
def test_wbf_is_that_of_ensemble_boxes(weights, scoring, iou, score_min, overflow):
    from ensemble_boxes import weighted_boxes_fusion

    found = scene(np.random.default_rng(1), images=60)
    options = Options(3, weights, iou, score_min, scoring, allows_overflow=overflow)

    def reference(boxes, scores, labels):
        boxes, scores, labels = weighted_boxes_fusion(
            boxes, scores, labels, weights, iou, score_min, scoring, allows_overflow=overflow
        )
        return boxes, scores if overflow else np.minimum(scores, 1), labels  # unequal weights take theirs above 1

    assert_same(found, fuse("wbf", found, options), 3, reference)


@pytest.mark.parametrize("weights", [None, (1.0, 3.0, 0.5)])
@pytest.mark.parametrize("iou", [0.3, 0.6])
def test_nmw_is_that_of_ensemble_boxes(weights, iou):
    from ensemble_boxes import non_maximum_weighted

    found = scene(np.random.default_rng(2), images=150)
    assert_same(
        found,
        fuse("nmw", found, Options(3, weights, iou, 0.1)),
        3,
        lambda *lists: non_maximum_weighted(*lists, weights, iou, 0.1),
    )


@pytest.mark.parametrize("weights", [None, (1.0, 3.0, 0.5)])
@pytest.mark.parametrize("iou", [0.3, 0.6])
@pytest.mark.parametrize(("method", "number"), [("soft_nms_linear", 1), ("soft_nms_gaussian", 2), ("nms", 3)])
def test_suppression_is_that_of_ensemble_boxes(method, number, iou, weights):
    from ensemble_boxes import nms_method

    found = scene(np.random.default_rng(3), images=100)
    options = Options(3, weights, iou, lowered_min=0.05, sigma=0.3)
    assert_same(
        found,
        fuse(method, found, options),
        3,
        lambda *lists: nms_method(*lists, method=number, iou_thr=iou, sigma=0.3, thresh=0.05, weights=weights),
    )


@pytest.mark.parametrize("iou", [0.0, 0.5, 0.7, 1.0])
@pytest.mark.parametrize("levels", [4, 1_000_000], ids=["ties", "no ties"])
def test_nms_keeps_what_torchvision_keeps(iou, levels):
    import torch
    from torchvision.ops import nms

    rng = np.random.default_rng(4)
    found = scene(rng, images=40, each=40)
    found = found._replace(
        boxes_xyxy=found.boxes_xyxy.round(-1),  # many an IoU is just the limit
        scores=rng.integers(0, levels, len(found.scores)) / levels,
    )
    found = found.at((found.boxes_xyxy[:, :2] < found.boxes_xyxy[:, 2:]).all(axis=1))
    found = found.at(rng.permutation(len(found.scores)))
    best = set(fuse("nms", found, Options(3, iou_match=iou)).best.tolist())
    for run in np.unique(np.column_stack([found.image_ids, found.class_ids]), axis=0):
        here = np.flatnonzero((found.image_ids == run[0]) & (found.class_ids == run[1]))
        kept = nms(torch.from_numpy(found.boxes_xyxy[here]), torch.from_numpy(found.scores[here]), iou)
        assert best & set(here.tolist()) == set(here[kept.numpy()].tolist())


def test_nms_keeps_what_torchvision_keeps_of_all_classes_at_once():
    import torch
    from torchvision.ops import batched_nms

    found = scene(np.random.default_rng(5), images=1, each=200)
    boxes, scores, labels = (torch.from_numpy(column) for column in found[2:5])
    assert (
        fuse("nms", found, Options(3, iou_match=0.5)).best.tolist() == batched_nms(boxes, scores, labels, 0.5).tolist()
    )


def two(scores=(0.8, 0.4), members=(0, 1), classes=(3, 5), boxes=([0, 0, 10, 10], [0, 0, 10, 13])):
    """IoU 10 / 13, the same group."""
    return proposals([9, 9], members, boxes, scores, classes, groups=[0, 0])


def test_wbf_takes_the_mean_weighted_by_score_and_the_class_of_the_surer():
    fused = fuse("wbf", two((0.4, 0.8)), Options(members=2))
    assert fused.boxes_xyxy.tolist() == [[0, 0, 10, pytest.approx(12)]]  # (0.4 * 10 + 0.8 * 13) / 1.2
    assert fused.scores.tolist() == [pytest.approx(0.6)]  # (0.4 + 0.8) / 2, of two members
    assert (fused.class_ids.tolist(), fused.best.tolist(), fused.found_by.tolist()) == ([5], [1], [2])
    assert (fused.image_ids.tolist(), fused.groups.tolist()) == ([9], [0])


def test_weights_multiply_scores_so_the_surer_is_another():
    fused = fuse("wbf", two((0.4, 0.5)), Options(members=2, weights=(3, 1)))
    assert fused.best.tolist() == [0]  # 1.2 beats 0.5
    assert fused.scores.tolist() == [pytest.approx(1.7 / 4)]


@pytest.mark.parametrize(
    ("scoring", "score"),
    [
        ("avg", 0.4),  # 1.2 / 2 boxes * 2 of 3 members
        ("max", 0.8),
        ("box_and_model_avg", 0.4),  # 1.2 / a weight of 2 * 2 / 3
        ("absent_model_aware_avg", 0.4),  # 1.2 / (2 + 1 that is absent)
    ],
)
def test_scores_where_one_of_three_found_nothing(scoring, score):
    assert fuse("wbf", two(), Options(members=3, scoring=scoring)).scores.tolist() == [pytest.approx(score)]


def test_a_member_of_great_weight_that_finds_a_box_twice_cannot_make_it_surer_than_1():
    twice = two((1.0, 1.0), members=(0, 0))
    assert fuse("wbf", twice, Options(2, (10, 1))).scores.tolist() == [1.0]  # 20 / 2 * 2 / 11 is 1.8
    loose = fuse("wbf", twice, Options(2, (10, 1), allows_overflow=True))
    assert loose.scores.tolist() == [pytest.approx(20 / 11)]


def test_consensus_counts_members_not_boxes():
    assert len(fuse("consensus", two(), Options(2, found_by_min=2)).scores) == 1
    assert len(fuse("consensus", two(members=(1, 1)), Options(2, found_by_min=2)).scores) == 0
    assert len(fuse("consensus", two(members=(1, 1)), Options(2, found_by_min=1)).scores) == 1


def test_a_fused_box_moves_so_that_it_matches_what_its_first_box_did_not():
    # 0..10; then 2..12 (IoU 8/12), which moves it to 1..11; then 4..14: IoU 6/14 with the first, 7/13 with the mean
    row = [[0, 0, 10, 1], [2, 0, 12, 1], [4, 0, 14, 1]]
    found = proposals([0] * 3, [0, 1, 2], row, [0.9, 0.9, 0.1], [0] * 3)
    assert fuse("wbf", found, Options(3, iou_match=0.5)).best.tolist() == [0]
    assert fuse("nmw", found, Options(3, iou_match=0.5)).best.tolist() == [0, 2]


def test_a_box_joins_the_cluster_that_it_overlaps_most():
    row = [[0, 0, 10, 1], [6, 0, 16, 1], [4, 0, 14, 1]]  # the last shares 6 of 14 with the first, 8 of 12 with the next
    found = proposals([0] * 3, [0, 0, 1], row, [0.9, 0.8, 0.7], [0] * 3)
    assert fuse("wbf", found, Options(2)).found_by.tolist() == [2, 1]
    assert fuse("wbf", found, Options(2)).boxes_xyxy[1].tolist() == [0, 0, 10, 1]


def test_an_overlap_of_just_the_limit_is_no_match():
    half = two(boxes=([0, 0, 10, 10], [0, 0, 10, 5]))
    for method in ("wbf", "nmw", "nms"):
        assert len(fuse(method, half, Options(2, iou_match=0.5)).scores) == 2
        assert len(fuse(method, half, Options(2, iou_match=0.499)).scores) == 1


def test_nmw_weighs_by_overlap_with_the_best():
    fused = fuse("nmw", two(), Options(members=2))
    weight = 0.4 * 10 / 13
    assert fused.boxes_xyxy[0, 3] == pytest.approx((0.8 * 10 + weight * 13) / (0.8 + weight))
    assert fused.scores.tolist() == [0.8]


def test_soft_nms_lowers_and_the_former_scores_can_be_had():
    found = two()
    for lowered, score in ((True, 0.4 * (1 - 10 / 13)), (False, 0.4)):
        fused = fuse("soft_nms_linear", found, Options(2, lowered=lowered))
        assert fused.scores.tolist() == [0.8, pytest.approx(score)]
    fused = fuse("soft_nms_gaussian", found, Options(2, lowered=True, sigma=0.5))
    assert fused.scores[1] == pytest.approx(0.4 * np.exp(-((10 / 13) ** 2) / 0.5))
    assert len(fuse("soft_nms_linear", found, Options(2, lowered_min=0.1)).scores) == 1


def test_soft_nms_takes_every_box_once_though_twins_lower_each_other_to_nothing():
    twins = proposals([0] * 4, [0] * 4, [[0, 0, 5, 5]] * 3 + [[9, 9, 12, 12]], [0.9, 0.9, 0.8, 0.0], [0] * 4)
    fused = fuse("soft_nms_linear", twins, Options(1, lowered=True))
    assert (fused.best.tolist(), fused.scores.tolist()) == ([0], [0.9])


@pytest.mark.parametrize("method", METHODS)
def test_images_and_groups_stay_apart(method):
    box = [[0, 0, 10, 10]] * 4
    found = proposals([7, -3, 7, 7], [0, 0, 1, 1], box, [0.5, 0.6, 0.7, 0.8], [1, 1, 2, 1], groups=[0, 0, 0, 1])
    fused = fuse(method, found, Options(2, found_by_min=1, lowered_min=0.1))
    pairs = list(zip(fused.image_ids.tolist(), fused.groups.tolist(), strict=True))
    assert pairs[0] == (-3, 0)
    assert {(7, 0), (7, 1)} <= set(pairs)
    assert (np.diff(fused.image_ids) >= 0).all()


@pytest.mark.parametrize("method", METHODS)
def test_ids_of_any_size(method):
    far = np.array([2**62, -(2**62), 2**62])
    found = proposals(far, [0, 0, 1], [[0, 0, 10, 10]] * 3, [0.5, 0.6, 0.7], far)
    fused = fuse(method, found, Options(2, found_by_min=1))
    assert sorted(set(fused.image_ids.tolist())) == [-(2**62), 2**62]


@pytest.mark.parametrize("method", METHODS)
def test_nothing_gives_nothing(method):
    fused = fuse(method, proposals([], [], np.empty((0, 4)), [], []), Options(3))
    assert [column.shape for column in fused] == [(0,), (0, 4), (0,), (0,), (0,), (0,), (0,)]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("method", METHODS)
def test_boxes_without_area_go_and_those_without_score_have_a_mean(method):
    boxes = [[0, 0, 10, 10], [0, 0, 10, 14], [3, 3, 3, 9], [3, 3, 3, 3]]
    found = proposals([0] * 4, [0, 1, 0, 1], boxes, [0, 0, 1, 1], [0] * 4)
    fused = fuse(method, found, Options(2))
    assert np.isfinite(fused.boxes_xyxy).all()
    assert (fused.boxes_xyxy[:, 3] >= 10).all()
    assert (fused.scores == 0).all()


def test_score_min_is_compared_before_weights():
    found = two((0.5, 0.3))
    assert fuse("wbf", found, Options(2, (1, 9), score_min=0.5)).best.tolist() == [0]


def wrong(**columns):
    good = {"image_ids": [0], "members": [0], "boxes_xyxy": [[0, 0, 1, 1]], "scores": [0.5], "class_ids": [0]}
    return proposals(**(good | columns))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"scores": [np.nan]}, r"scores: expected numbers in \[0, 1\], got nan at position 0"),
        ({"scores": [1.5]}, r"scores: expected numbers in \[0, 1\], got 1.5"),
        ({"boxes_xyxy": [[5, 0, 1, 1]]}, r"boxes_xyxy: expected x1 <= x2 and y1 <= y2, got \[5.0, 0.0, 1.0, 1.0\]"),
        ({"boxes_xyxy": [[0, 0, np.inf, 1]]}, "boxes_xyxy: expected finite numbers"),
        ({"boxes_xyxy": [0, 0, 1, 1]}, r"boxes_xyxy: expected shape \(1, 4\)"),
        ({"scores": [0.5, 0.5]}, r"scores: expected shape \(1,\), as image_ids has 1, got \(2,\)"),
        ({"members": [-1]}, "members: expected numbers from 0, got -1"),
        ({"class_ids": [0.5]}, "class_ids: expected whole numbers, got float64"),
    ],
)
def test_bad_columns_are_refused(columns, message):
    with pytest.raises(ValueError, match=message):
        wrong(**columns)


def test_a_member_too_many_and_an_unknown_method_are_refused():
    with pytest.raises(ValueError, match="members: expected numbers below 1, got 1 at position 1"):
        fuse("wbf", two(), Options(members=1))
    with pytest.raises(ValueError, match=r"method: expected one of wbf, consensus, .*, got 'magic'"):
        fuse("magic", two(), Options(members=2))
    with pytest.raises(ValueError, match="scores: expected numbers"):
        fuse("wbf", Proposals(*two()[:3], np.array([np.nan, 0]), *two()[4:]), Options(members=2))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"members": 0}, "members: expected at least 1, got 0"),
        ({"members": 2, "weights": (1,)}, r"weights: expected 2, one per member, got \(1,\)"),
        ({"members": 1, "weights": (0,)}, "weights: expected positive numbers"),
        ({"members": 1, "iou_match": 1.2}, r"iou_match: expected a number in \[0, 1\], got 1.2"),
        ({"members": 1, "score_min": float("nan")}, "score_min: expected a number"),
        ({"members": 1, "scoring": "mean"}, "scoring: expected one of avg, max"),
        ({"members": 1, "sigma": 0}, "sigma: expected a positive number"),
        ({"members": 1, "found_by_min": 0}, "found_by_min: expected at least 1"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Options(**options)
