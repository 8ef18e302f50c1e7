"""Painting to drawing, on arrays small enough to work out by hand."""

import numpy as np
import pytest

from artray.archive.sample.drawing import to_drawing


def grey(*rows):
    return np.repeat(np.array(rows, np.uint8)[:, :, None], 3, axis=2)


@pytest.mark.parametrize("level", [1, 100, 255])
def test_what_is_flat_turns_white(level):
    # The blur of a constant is itself, so grey / blur = 1.
    assert (to_drawing(grey([level] * 4, [level] * 4)) == 255).all()


def test_black_stays_black():
    assert (to_drawing(grey([0, 0], [0, 0])) == 0).all()


def test_two_pixels():
    # Mirrored at the border, [100, 200] is 100, 200, 100, 200, ...: blurred with sigma 10 it is 150 everywhere.
    # 255 * 100 / 150 = 170; 255 * 200 / 150 is over 255.
    assert to_drawing(grey([100, 200]))[0, :, 0].tolist() == [170, 255]


def test_colour_counts_by_its_luma():
    # Pure red has luma 0.299 * 255 = 76; beside 152 the blur is 114, and 255 * 76 / 114 = 170.
    assert to_drawing(np.array([[[255, 0, 0], [152, 152, 152]]], np.uint8))[0, :, 0].tolist() == [170, 255]


def test_an_edge_becomes_a_stroke_on_its_dark_side_with_a_sigma_of_10():
    row = to_drawing(grey([100] * 100 + [200] * 100))[0, :, 0]
    # Half a pixel from the edge the blur has 100 + 100 * Phi(-0.05) = 148.0: 255 * 100 / 148.0 = 172.3.
    assert row[99] == 172
    # Ten and a half pixels away: 100 + 100 * Phi(-1.05) = 114.7: 255 / 1.147 = 222.3.
    assert row[89] == 222
    assert (row[:50] == 255).all()
    assert (row[100:] == 255).all()


def test_shape_type_and_input_are_kept():
    rgb = np.random.default_rng(0).integers(0, 256, (7, 5, 3), np.uint8)
    before = rgb.copy()
    drawing = to_drawing(rgb)
    assert (drawing.shape, drawing.dtype) == (rgb.shape, np.uint8)
    assert (drawing[:, :, 0] == drawing[:, :, 1]).all()
    assert (drawing[:, :, 0] == drawing[:, :, 2]).all()
    assert (rgb == before).all()


@pytest.mark.parametrize("shape", [(4, 4), (4, 4, 4), (0, 4, 3), (4, 0, 3)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(ValueError, match=r"rgb: expected uint8\[H, W, 3\]"):
        to_drawing(np.zeros(shape, np.uint8))
