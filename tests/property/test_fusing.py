"""What holds of any fusion."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from artray.detect.boxes import pairwise_iou
from artray.detect.fusion import METHODS, SCORINGS, Options, fuse
from artray.detect.proposals import proposals
from artray.detect.rules import most_specific, outermost
from artray.taxonomy import CATEGORY

MEMBERS = 3
MEANS = ["wbf", "consensus", "nmw"]
IOUS = st.sampled_from([0.0, 0.25, 0.4, 0.55, 0.9, 1.0])


@st.composite
def found(draw, most=14):
    """Boxes on a coarse grid, so that many overlap; no two scores tie, whatever the member's weight."""
    count = draw(st.integers(0, most))
    numbers = st.integers(0, 8)
    low = np.array(draw(st.lists(st.tuples(numbers, numbers), min_size=count, max_size=count))).reshape(-1, 2)
    size = np.array(draw(st.lists(st.tuples(numbers, numbers), min_size=count, max_size=count))).reshape(-1, 2) + 1
    scores = np.array(draw(st.permutations(range(count))), float) * 0.0713 % 1
    ids = [draw(st.lists(st.integers(0, top), min_size=count, max_size=count)) for top in (1, MEMBERS - 1, 2, 1)]
    return proposals(ids[0], ids[1], np.concatenate([low, low + size], axis=1) * 7.3, scores, ids[2], ids[3])


def options(iou, **how):
    return Options(**({"members": MEMBERS, "iou_match": iou, "found_by_min": 1} | how))


def assert_equal(one, two):
    for name, a, b in zip(one._fields, one, two, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9, err_msg=name)


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=50)
@given(given_=found(), iou=IOUS, order=st.randoms(use_true_random=False), names=st.permutations(range(MEMBERS)))
def test_neither_the_members_nor_the_boxes_have_an_order(method, given_, iou, order, names):
    shuffle = np.array(order.sample(range(len(given_.scores)), len(given_.scores)), np.int64)
    other = given_._replace(members=np.array(names)[given_.members]).at(shuffle)
    one, two = fuse(method, given_, options(iou)), fuse(method, other, options(iou))
    assert_equal(one, two._replace(best=shuffle[two.best]))


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=60)
@given(given_=found(), iou=IOUS, weights=st.sampled_from([None, (1.0, 2.0, 0.3)]), scoring=st.sampled_from([*SCORINGS]))
def test_scores_are_in_0_to_1_and_no_box_leaves_its_images_hull(method, given_, iou, weights, scoring):
    fused = fuse(method, given_, options(iou, weights=weights, scoring=scoring))
    assert ((fused.scores >= 0) & (fused.scores <= 1)).all()
    assert (fused.class_ids == given_.class_ids[fused.best]).all()
    for image, group, box in zip(fused.image_ids, fused.groups, fused.boxes_xyxy, strict=True):
        here = given_.boxes_xyxy[(given_.image_ids == image) & (given_.groups == group)]
        assert (box[:2] >= here[:, :2].min(axis=0) - 1e-9).all()
        assert (box[2:] <= here[:, 2:].max(axis=0) + 1e-9).all()


@pytest.mark.parametrize("method", MEANS)
@settings(max_examples=50)
@given(given_=found(most=8))
def test_no_box_leaves_the_hull_of_what_was_fused(method, given_):
    """Every box of a group in one cluster: where all pairs overlap, an IoU of 0 is enough."""
    given_ = given_._replace(boxes_xyxy=given_.boxes_xyxy + np.array([-100, -100, 100, 100]))
    fused = fuse(method, given_, options(0.0))
    for place, box in enumerate(fused.boxes_xyxy):
        here = (given_.image_ids == fused.image_ids[place]) & (given_.groups == fused.groups[place])
        low, high = given_.boxes_xyxy[here].min(axis=0), given_.boxes_xyxy[here].max(axis=0)
        assert ((box >= low - 1e-9) & (box <= high + 1e-9)).all()
        assert fused.found_by[place] == len(np.unique(given_.members[here]))


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=50)
@given(given_=found(), weights=st.sampled_from([None, (1.0,)]))
def test_one_members_boxes_apart_stay_what_they_are(method, given_, weights):
    apart = given_._replace(members=np.zeros_like(given_.members))
    kept = fuse("nms", apart, Options(1, iou_match=0.0)).best  # none overlaps another of its image and group
    apart = apart.at(kept)
    fused = fuse(method, apart, Options(1, weights, found_by_min=1, lowered_min=0.0))
    some = apart.scores[fused.best] > 0
    assert (apart.scores > 0).sum() == some.sum(), "nothing lost"
    assert np.array_equal(fused.boxes_xyxy, apart.boxes_xyxy[fused.best])
    assert_equal(fused, fused._replace(scores=apart.scores[fused.best]))


@given(given_=found(), iou=IOUS)
def test_nms_twice_is_nms_once_and_what_it_keeps_does_not_overlap(given_, iou):
    kept = given_.at(fuse("nms", given_, options(iou)).best)
    assert len(fuse("nms", kept, options(iou)).best) == len(kept.scores)
    overlap = np.triu(pairwise_iou(kept.boxes_xyxy, kept.boxes_xyxy), k=1) > iou + 1e-9
    together = (kept.image_ids[:, None] == kept.image_ids) & (kept.groups[:, None] == kept.groups)
    assert not (overlap & together).any()


@given(given_=found(), iou=IOUS)
def test_consensus_is_what_of_wbf_enough_members_found(given_, iou):
    fused = fuse("wbf", given_, options(iou))
    for enough in range(1, MEMBERS + 1):
        some = fused.found_by >= enough
        assert_equal(
            type(fused)(*(c[some] for c in fused)), fuse("consensus", given_, options(iou, found_by_min=enough))
        )


@settings(max_examples=40)
@given(given_=found(most=8))
def test_images_at_once_are_as_each_alone(given_):
    for method in METHODS:
        together = fuse(method, given_, options(0.4))
        for image in range(2):
            place = np.flatnonzero(given_.image_ids == image)
            alone = fuse(method, given_.at(place), options(0.4))
            here = together.image_ids == image
            assert_equal(type(together)(*(c[here] for c in together)), alone._replace(best=place[alone.best]))


@given(given_=found(), classes=st.lists(st.sampled_from([*CATEGORY]), min_size=3, max_size=3))
def test_rules_applied_twice_remove_no_more_and_keep_one_of_each(given_, classes):
    for rule in (outermost, most_specific):
        stays = rule(given_.image_ids, given_.boxes_xyxy, given_.class_ids, classes)
        kept = given_.at(stays)
        assert rule(kept.image_ids, kept.boxes_xyxy, kept.class_ids, classes).all()
        assert set(kept.image_ids) == set(given_.image_ids)
