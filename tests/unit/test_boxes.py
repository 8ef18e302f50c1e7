"""Box arithmetic: values derived by hand."""

import numpy as np
import pytest
import torch
from torchvision.ops import batched_nms

from artray.detect.boxes import BLOCK, areas, nms, pairwise_iomin, pairwise_iou, suppress_any

NONE = np.empty((0, 4), np.float32)


def test_iou_of_two_squares_that_share_a_quarter_of_each():
    a, b = np.array([[0, 0, 2, 2]], np.float32), np.array([[1, 1, 3, 3]], np.float32)
    assert pairwise_iou(a, b).tolist() == [[1 / 7]]  # 1 of 4 + 4 - 1


def test_iomin_is_the_share_of_the_smaller_box():
    a, b = np.array([[0, 0, 10, 10]], np.float32), np.array([[5, 0, 15, 2], [2, 2, 3, 3], [10, 0, 12, 2]], np.float32)
    assert pairwise_iomin(a, b).tolist() == [[0.5, 1.0, 0.0]]  # half of it inside; all of it; side by side


def test_boxes_apart_share_nothing_though_both_differences_are_negative():
    a, b = np.array([[0, 0, 1, 1]], np.float32), np.array([[5, 5, 6, 6]], np.float32)
    assert pairwise_iou(a, b).tolist() == [[0.0]]


@pytest.mark.filterwarnings("error")
def test_boxes_without_area_give_zero_not_nan():
    point = np.array([[3, 3, 3, 3]], np.float32)
    assert pairwise_iou(point, point).tolist() == [[0.0]]
    assert pairwise_iomin(point, np.array([[0, 0, 9, 9]], np.float32)).tolist() == [[0.0]]


def test_float32_boxes_are_compared_in_float64():
    wide = np.array([[0, 0, 20_000, 20_001]], np.float32)  # its area is no float32
    assert areas(wide).tolist() == [400_020_000.0]
    assert pairwise_iou(wide, wide).dtype == np.float64


def test_shapes_of_nothing():
    some = np.zeros((3, 4), np.float32)
    assert pairwise_iou(NONE, some).shape == (0, 3)
    assert pairwise_iomin(some, NONE).shape == (3, 0)
    assert suppress_any(NONE, 0.5).shape == (0,)


@pytest.mark.parametrize("wrong", [np.zeros(4), np.zeros((2, 5)), np.zeros((1, 2, 4))])
def test_other_shapes_are_refused(wrong):
    with pytest.raises(ValueError, match=r"boxes: expected shape \(N, 4\), got"):
        pairwise_iou(wrong, np.zeros((1, 4)))


def test_a_suppressed_box_still_suppresses():
    chain = np.array([[0, 0, 4, 1], [1, 0, 5, 1], [2, 0, 6, 1]], float)
    # neighbours share 3 of 5 (0.6), the ends 2 of 6 (0.33): greedy suppression would keep the last
    assert suppress_any(chain, 0.5).tolist() == [True, False, False]
    assert suppress_any(chain, 0.6).all(), "an overlap of just the limit is allowed"


def test_suppression_by_the_smaller_area():
    face, nose = [0, 0, 10, 10], [4, 4, 6, 6]
    both = np.array([face, nose], float)
    assert suppress_any(both, 0.7).all()  # IoU 0.04
    assert suppress_any(both, 0.7, pairwise_iomin).tolist() == [True, False]


def test_suppression_reaches_across_blocks():
    count = 2 * BLOCK + 3
    apart = np.arange(count)[:, None] * 10 + np.array([0, 0, 5, 5])
    apart[-1] = apart[0]  # the last is the first again
    assert suppress_any(apart.astype(float), 0.5).tolist() == [True] * (count - 1) + [False]


def test_nms_lets_a_removed_box_remove_no_other():
    # the second overlaps the first by 3/5, the third the second likewise, but the first only by 1/3
    row = np.array([[0, 0, 4, 1], [1, 0, 5, 1], [2, 0, 6, 1]], np.float32)
    ids = np.zeros(3, np.int64)
    assert nms(row, np.array([0.9, 0.8, 0.7]), ids, iou_max=0.5).tolist() == [0, 2]
    assert nms(row, np.array([0.8, 0.9, 0.7]), ids, iou_max=0.5).tolist() == [1]


def test_nms_keeps_an_overlap_of_just_iou_max_and_other_classes():
    halves = np.array([[0, 0, 2, 2], [0, 0, 2, 1], [0, 0, 2, 2]], np.float32)
    assert nms(halves, np.array([0.9, 0.8, 0.7]), np.array([0, 0, 1]), iou_max=0.5).tolist() == [0, 1, 2]
    assert nms(halves, np.array([0.9, 0.8, 0.7]), np.array([0, 0, 1]), iou_max=0.49).tolist() == [0, 2]


def test_nms_takes_the_earlier_of_equals_and_stops_at_max_boxes():
    apart = np.array([[9 * n, 0, 9 * n + 5, 5] for n in range(4)], np.float32)
    assert nms(apart, np.array([0.5, 0.7, 0.5, 0.7]), np.zeros(4, np.int64), 0.5, max_boxes=3).tolist() == [1, 3, 0]
    assert nms(NONE, np.empty(0), np.empty(0, np.int64), 0.5).tolist() == []


@pytest.mark.parametrize("iou_max", [0.1, 0.45, 0.8])
def test_nms_keeps_what_torchvision_keeps(iou_max):
    rng = np.random.default_rng(5)
    corners = rng.uniform(0, 100, (800, 2))
    made = np.concatenate([corners, corners + rng.uniform(5, 60, (800, 2))], axis=1).astype(np.float32)
    scores, ids = rng.permutation(800).astype(np.float32) / 800, rng.integers(0, 3, 800)
    kept = batched_nms(*map(torch.from_numpy, (made, scores, ids)), iou_max)
    assert nms(made, scores, ids, iou_max).tolist() == kept.tolist()
