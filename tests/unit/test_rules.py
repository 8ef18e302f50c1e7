"""The report's rules: values derived by hand."""

import numpy as np
import pytest

from artray.detect.proposals import proposals
from artray.detect.rules import NESTING, each_then_all, most_specific, not_oversized, outermost
from artray.taxonomy import CATEGORY

NAMES = list(CATEGORY)
NONE = np.empty((0, 4))


def ids(*names):
    return np.array([NAMES.index(name) for name in names], np.int64)


def boxes(*rows):
    return np.array(rows, np.float32)


def outer(rows, names, images=None, **how):
    images = np.zeros(len(names), np.int64) if images is None else np.array(images)
    return outermost(images, boxes(*rows), ids(*names), NAMES, **how).tolist()


PLANT, BLOOM, PETAL, BESIDE = [0, 0, 100, 100], [10, 10, 50, 50], [20, 20, 30, 30], [60, 60, 110, 90]


def test_the_classes_that_nest_are_those_of_the_report_in_the_taxonomy():
    assert set(NESTING) == {"flower", "fruit", "produce (others)", "ship"} < set(CATEGORY)


@pytest.mark.parametrize("name", NESTING)
def test_only_the_largest_of_nested_boxes_stays(name):
    assert outer([PETAL, PLANT, BLOOM, BESIDE], [name] * 4) == [False, True, False, True]


def test_other_classes_and_other_images_do_not_nest():
    assert outer([PLANT, BLOOM], ["dog"] * 2) == [True, True]
    assert outer([PLANT, BLOOM], ["flower", "fruit"]) == [True, True]
    assert outer([PLANT, BLOOM], ["flower"] * 2, images=[4, 5]) == [True, True]
    assert outer([PLANT, BLOOM], ["dog"] * 2, classes=["dog"]) == [True, False]


def test_of_equal_boxes_the_first_stays():
    assert outer([BLOOM, BLOOM, PLANT], ["ship"] * 3, images=[0, 0, 1]) == [True, False, True]


def test_a_share_can_be_enough():
    # 40 of 50 columns of BESIDE are within PLANT
    assert outer([BESIDE, PLANT], ["flower"] * 2, inside_min=0.8) == [False, True]
    assert outer([BESIDE, PLANT], ["flower"] * 2, inside_min=0.81) == [True, True]


def test_boxes_without_area_are_let_be():
    assert outer([PLANT, [5, 5, 5, 9], [3, 3, 3, 3]], ["flower"] * 3) == [True, True, True]


def test_many_images_are_as_each_alone():
    rng = np.random.default_rng(0)
    low = rng.integers(0, 6, (400, 2))
    drawn = np.concatenate([low, low + rng.integers(1, 6, (400, 2))], axis=1).astype(float)
    images, names = rng.integers(0, 20, 400), rng.choice(["flower", "ship", "dog"], 400)
    together = outermost(images, drawn, ids(*names), NAMES)
    for image in range(20):
        here = images == image
        for place in np.flatnonzero(here):
            x1, y1, x2, y2 = drawn[place]
            size = (x2 - x1) * (y2 - y1)
            holds = (drawn[:, 0] <= x1) & (drawn[:, 1] <= y1) & (drawn[:, 2] >= x2) & (drawn[:, 3] >= y2)
            sizes = (drawn[:, 2] - drawn[:, 0]) * (drawn[:, 3] - drawn[:, 1])
            holds &= here & (names == names[place]) & ((sizes > size) | (np.arange(400) < place))
            assert together[place] == (names[place] == "dog" or not holds.any())


def test_a_building_of_more_than_85_percent_of_the_image_goes():
    found = boxes([0, 0, 100, 85], [0, 0, 100, 86], [0, 0, 100, 100], [-50, 0, 85, 100])
    sizes = np.array([[100, 100]] * 4)
    # just 85 %; 86 %; not a building; 85 % once clipped
    names = ids("building", "building", "ruins", "building")
    assert not_oversized(found, sizes, names, NAMES).tolist() == [True, False, True, True]
    assert not_oversized(found, sizes, names, NAMES, share_max=0.8).tolist() == [False, False, True, False]
    assert not_oversized(found, sizes * 2, names, NAMES).all()


def test_the_specific_class_goes_before_the_general_one():
    # of 100 rows: the same 70 (IoU 0.7, no more), 71
    found = boxes([0, 0, 1, 100], [0, 0, 1, 70], [0, 0, 1, 71])
    images = np.array([0, 0, 0])
    assert most_specific(images, found, ids("persons (others)", "mary", "dog"), NAMES).all()
    assert most_specific(images, found, ids("persons (others)", "dog", "mary"), NAMES).tolist() == [False, True, True]
    assert most_specific(images, found, ids("mary", "dog", "persons (others)"), NAMES).tolist() == [True, True, False]


def test_the_general_class_stays_beside_its_like_other_categories_and_other_images():
    found = boxes(*[[0, 0, 10, 10]] * 3)
    same, apart = np.array([1, 1, 1]), np.array([1, 2, 3])
    assert most_specific(same, found, ids("persons (others)", "persons (others)", "face"), NAMES).all()
    assert most_specific(same, found, ids("animals (others)", "mary", "angel"), NAMES).all()
    assert most_specific(apart, found, ids("persons (others)", "mary", "angel"), NAMES).all()
    assert most_specific(same, found, ids("persons (others)", "mary", "persons (others)"), NAMES).tolist() == [
        False,
        True,
        False,
    ]


def test_suppression_within_each_member_then_among_all():
    # the first two are one member's and of one class: the worse goes; the third is another class and stays until all
    # are compared; the fourth is of another member; the last is elsewhere
    rows = [[0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 10, 8], [0, 0, 10, 7], [50, 50, 60, 60]]
    found = proposals([6] * 5, [0, 0, 0, 1, 1], rows, [0.5, 0.6, 0.9, 0.8, 0.1], [1, 1, 2, 1, 2])
    kept = each_then_all(found, members=2)
    assert kept.best.tolist() == [2, 4]
    assert kept.class_ids.tolist() == kept.groups.tolist() == [2, 2]
    by_class = each_then_all(found, members=2, across_classes=False)
    assert by_class.best.tolist() == [2, 3, 4]


def test_a_box_that_its_own_member_suppressed_suppresses_nobody():
    # IoU: 0 and 1: 8 / 12, 1 and 2: 8 / 12, 0 and 2: 6 / 14
    rows = [[0, 0, 10, 1], [2, 0, 12, 1], [4, 0, 14, 1]]
    found = proposals([0] * 3, [0, 0, 1], rows, [0.9, 0.8, 0.7], [1] * 3)
    assert each_then_all(found, 2).best.tolist() == [0, 2]


def test_nothing_gives_nothing():
    none, sizes = np.empty(0, np.int64), np.empty((0, 2))
    assert outermost(none, NONE, none, NAMES).shape == (0,)
    assert not_oversized(NONE, sizes, none, NAMES).shape == (0,)
    assert most_specific(none, NONE, none, NAMES).shape == (0,)
    assert each_then_all(proposals([], [], NONE, [], []), 3).best.shape == (0,)


@pytest.mark.parametrize("rule", [outermost, most_specific])
def test_bad_columns_are_refused(rule):
    one = np.zeros(1, np.int64)
    with pytest.raises(ValueError, match=r"boxes_xyxy: expected x1 <= x2 and y1 <= y2, got \[3.0, .*\] at position 0"):
        rule(one, boxes([3, 0, 1, 1]), one, NAMES)
    with pytest.raises(ValueError, match="boxes_xyxy: expected finite numbers"):
        rule(one, boxes([0, 0, np.nan, 1]), one, NAMES)
    with pytest.raises(ValueError, match=r"image_ids: expected shape \(1,\), got \(2,\)"):
        rule(np.zeros(2, np.int64), boxes(PLANT), one, NAMES)
    with pytest.raises(ValueError, match=r"class_ids: expected numbers in \[0, 1\), got 1 at position 0"):
        rule(one, boxes(PLANT), one + 1, ["flower"])


def test_bad_values_are_refused():
    one = np.zeros(1, np.int64)
    with pytest.raises(ValueError, match="inside_min: expected a share"):
        outermost(one, boxes(PLANT), one, NAMES, inside_min=0)
    with pytest.raises(ValueError, match="share_max: expected a share"):
        not_oversized(boxes(PLANT), np.ones((1, 2)), one, NAMES, share_max=85)
    with pytest.raises(ValueError, match="size_wh: expected positive numbers"):
        not_oversized(boxes(PLANT), np.array([[0, 5]]), one, NAMES)
    with pytest.raises(ValueError, match="size_wh: expected shape"):
        not_oversized(boxes(PLANT), np.array([5, 5]), one, NAMES)
    with pytest.raises(ValueError, match="iou_max: expected a number"):
        most_specific(one, boxes(PLANT), one, NAMES, iou_max=7)
    with pytest.raises(ValueError, match="class_names: expected classes of the taxonomy, got 'unicorn'"):
        most_specific(one, boxes(PLANT), one, ["unicorn"])
    with pytest.raises(ValueError, match="scores: expected numbers"):
        each_then_all(proposals([0], [0], [PLANT], [0.1], [0])._replace(scores=np.array([np.nan])), 1)
