"""Heads of exported detectors: a known rectangle, written down as each head would, comes out."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from artray.detect import onnx_heads as heads
from artray.detect.found import Found
from artray.detect.onnx_heads import Layout
from artray.errors import ConfigError

BOX = [40.0, 24.0, 104.0, 56.0]
"""Centre (72, 40), size 64 x 32."""

INPUT = (160, 96)
"""Width and height: grids of 20 x 12, 10 x 6 and 5 x 3 cells, 315 in all."""

CELLS = {8: (20, 12), 16: (10, 6), 32: (5, 3)}


def decoded(name: str, outputs: Sequence[Any], classes: int = 3, **layout: Any) -> Found:
    found = heads.decode(
        heads.get(name), [np.asarray(output, np.float32) for output in outputs], Layout(INPUT, classes, **layout)
    )
    assert found.boxes_xyxy.dtype == np.float32
    assert found.scores.dtype == np.float32
    assert found.class_ids.dtype == np.int64
    return found


def only(found: Found, score: float, class_id: int, box: Sequence[float] = BOX) -> None:
    """The best box is this one, and no other scores."""
    best = int(found.scores.argmax())
    np.testing.assert_allclose(found.boxes_xyxy[best], box, atol=1e-4)
    assert found.scores[best] == pytest.approx(score, abs=1e-6)
    assert found.class_ids[best] == class_id
    assert (np.delete(found.scores, best) < 1e-3).all()


def row_of(stride: int, column: int, row: int) -> int:
    """Where a cell stands among those of all grids."""
    before = sum(width * height for side, (width, height) in CELLS.items() if side < stride)
    return before + row * CELLS[stride][0] + column


@pytest.mark.parametrize("landmarks", [0, 10])
def test_yolov5_multiplies_object_and_class(landmarks: int) -> None:
    row = [72, 40, 64, 32, 0.5, *([99.0] * landmarks), 0.1, 0.2, 0.8]
    only(decoded("yolov5", [[[row, [0.0] * len(row)]]], extras=landmarks), 0.4, 2)


@pytest.mark.parametrize("masks", [0, 32])
def test_yolov8_has_boxes_in_columns_and_no_object(masks: int) -> None:
    column = [72, 40, 64, 32, 0.1, 0.7, 0.2, *([99.0] * masks)]
    only(decoded("yolov8", [np.array([[column, [0.0] * len(column)]]).transpose(0, 2, 1)], extras=masks), 0.7, 1)


def test_end2end_rows_are_the_boxes_and_fillers_are_dropped() -> None:
    rows = [[*BOX, 0.9, 2], [1, 2, 3, 4, 0, 1], [0, 0, 0, 0, 0.5, -1], [*BOX, 0.1, 0]]
    found = decoded("end2end", [[rows]])
    assert found.boxes_xyxy.tolist() == [BOX, BOX]
    assert found.class_ids.tolist() == [2, 0]
    np.testing.assert_allclose(found.scores, [0.9, 0.1])


def test_end2end_keeps_scores_that_are_no_numbers_to_be_seen() -> None:
    assert np.isnan(decoded("end2end", [[[[*BOX, np.nan, 1], [*BOX, 0.5, np.nan]]]]).scores[0])


def test_end2end_refuses_a_class_that_the_card_does_not_name() -> None:
    with pytest.raises(ConfigError, match="expected one for each id of the model, got 3 and id 79"):
        decoded("end2end", [[[[*BOX, 0.9, 79], [*BOX, 0.9, 1]]]])


def test_yolox_counts_in_cells_from_the_upper_left_of_one() -> None:
    rows = np.zeros((1, 315, 8))
    # centre (72, 40) is (4.5, 2.5) cells of 16 px: half a cell into column 4, row 2; 64 x 32 px are 4 x 2 cells
    rows[0, row_of(16, 4, 2)] = [0.5, 0.5, math.log(4), math.log(2), 0.5, 0.1, 0.6, 0.2]
    only(decoded("yolox", [rows]), 0.3, 1)


def test_yolox_may_place_a_centre_outside_its_cell() -> None:
    rows = np.zeros((1, 315, 8))
    rows[0, row_of(32, 4, 2)] = [72 / 32 - 4, 40 / 32 - 2, math.log(2), 0, 1, 0, 0, 0.9]
    only(decoded("yolox", [rows]), 0.9, 2)


def test_a_wild_size_is_large_and_finite() -> None:
    rows = np.full((1, 315, 8), 500.0)
    assert np.isfinite(decoded("yolox", [rows]).boxes_xyxy).all()


def test_nanodet_measures_from_the_middle_of_a_cell_to_each_side() -> None:
    scores = [np.zeros((1, width * height, 3)) for width, height in CELLS.values()]
    logits = [np.zeros((1, width * height, 32)) for width, height in CELLS.values()]
    # the middle of column 4, row 2 of 16 px is (72, 40): left and right side are 2 cells away, top and bottom 1
    at = 2 * CELLS[16][0] + 4
    scores[1][0, at] = [0.1, 0.1, 0.8]
    logits[1][0, at].reshape(4, 8)[range(4), [2, 1, 2, 1]] = 50
    only(decoded("nanodet", [*scores, *logits]), 0.8, 2)


def test_nanodet_takes_the_mean_of_its_distances() -> None:
    logits = [np.zeros((1, width * height, 32)) for width, height in CELLS.values()]
    logits[0][0, 0].reshape(4, 8)[:, [1, 2]] = 50  # either, equally: 1.5 cells of 8 px from (4, 4)
    scores = [np.zeros((1, width * height, 1)) for width, height in CELLS.values()]
    np.testing.assert_allclose(
        decoded("nanodet", [*scores, *logits], classes=1).boxes_xyxy[0], [-8, -8, 16, 16], atol=1e-4
    )


def test_yunet_scores_by_the_geometric_mean() -> None:
    outputs = [np.zeros((1, width * height, size)) for size in (1, 1, 4, 10) for width, height in CELLS.values()]
    at = 2 * CELLS[16][0] + 4
    for output, value in zip(outputs[1::3], [0.81, 0.25, [0.5, 0.5, math.log(4), math.log(2)], 7], strict=True):
        output[0, at] = value
    only(decoded("yunet", outputs, classes=1), 0.45, 0)


def test_ultraface_has_shares_of_the_input_and_a_background() -> None:
    scores = [[[0.2, 0.8], [1.0, 0.0]]]
    shares = [[[40 / 160, 24 / 96, 104 / 160, 56 / 96], [0, 0, 1, 1]]]
    only(decoded("ultraface", [scores, shares], classes=1), 0.8, 0)


EMPTY = {"yolov5": [(1, 0, 8)], "yolov8": [(1, 7, 0)], "end2end": [(1, 0, 6)], "ultraface": [(1, 0, 4), (1, 0, 4)]}


@pytest.mark.parametrize("name", EMPTY)
def test_no_boxes_are_no_boxes(name: str) -> None:
    found = decoded(name, [np.empty(shape) for shape in EMPTY[name]])
    assert found.boxes_xyxy.shape == (0, 4)


def test_the_dimension_of_the_batch_may_lack() -> None:
    assert decoded("end2end", [[[*BOX, 0.9, 2]]]).boxes_xyxy.tolist() == [BOX]


@pytest.mark.parametrize(
    ("name", "shapes", "message"),
    [
        ("yolov8", [(1, 9, 7)], r"expected 1 of shape \[1, 7, N\], got 1 of shape \[1, 9, 7\]; do architecture"),
        ("yolov5", [(2, 9, 8)], r"expected 1 of shape \[1, N, 8\], got 1 of shape \[2, 9, 8\]"),
        ("yolov5", [(1, 9, 8), (1, 3)], r"expected 1 of .*, got 2 of shape \[1, 9, 8\], \[1, 3\]"),
        ("yolox", [(1, 314, 8)], r"expected 1 of shape \[1, 315, 8\], got 1 of shape \[1, 314, 8\]"),
        ("end2end", [(1, 9, 7)], r"expected 1 of shape \[1, N, 6\]"),
        ("ultraface", [(1, 9, 4)], r"expected 2 of shape \[1, N, 4\], \[1, N, 4\], got 1"),
        ("ultraface", [(1, 9, 4), (1, 8, 4)], r"got 2 of shape \[1, 9, 4\], \[1, 8, 4\]"),
        ("nanodet", [(1, 3)] * 6, r"expected 6 of shape \[1, 240, 3\], \[1, 60, 3\], \[1, 15, 3\], \[1, 240, 32\]"),
        ("yunet", [(1, 3)], r"expected 12 of shape \[1, 240, 3\]"),
        ("yolov8", [(1, 1, 1, 7)], r"got 1 of shape \[1, 1, 1, 7\]"),
        ("yolov8", [()], r"got 1 of shape \[\]"),
    ],
)
def test_other_outputs_are_refused_with_both_shapes(name: str, shapes: list[tuple[int, ...]], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        decoded(name, [np.zeros(shape) for shape in shapes])


def test_heads_are_known_by_name_and_refuse_duplicates() -> None:
    assert heads.names() == ("end2end", "nanodet", "ultraface", "yolov5", "yolov8", "yolox", "yunet")
    with pytest.raises(ConfigError, match=r"architecture: expected one of onnx/end2end, .*, got 'onnx/yolov9'"):
        heads.get("yolov9")
    with pytest.raises(ValueError, match="expected a name that is not registered, got 'yolox'"):
        heads.register("yolox", lambda _: ())(heads.yolox)


@pytest.mark.parametrize("size_wh", [(320, 240), (416, 416), (33, 40)])
def test_grids_cover_the_input_cell_by_cell(size_wh: tuple[int, int]) -> None:
    cells, sides = heads.grid(Layout(size_wh, 1))
    expected = [
        (column, row, stride)
        for stride in (8, 16, 32)
        for row in range(math.ceil(size_wh[1] / stride))
        for column in range(math.ceil(size_wh[0] / stride))
    ]
    assert np.concatenate([cells, sides], axis=1).tolist() == [list(cell) for cell in expected]
