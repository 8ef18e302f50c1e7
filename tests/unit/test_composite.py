"""Cut-outs on pictures: boxes are where the pixels are."""

from typing import Any

import numpy as np
import pytest

from artray.detect.composite import CutOut, Pasting, composite, trimmed

HARD = Pasting(tone=0.0, soft_px=0.0)
GROUND = np.full((100, 160, 3), 40, np.uint8)


def cut(height: int, width: int, colour: tuple[int, int, int], class_id: int = 0, margin: int = 3) -> CutOut:
    """A rectangle of a colour, with nothing around it but another colour that must not be seen."""
    pixels = np.zeros((height + 2 * margin, width + 2 * margin, 4), np.uint8)
    pixels[..., 1] = 255
    pixels[margin:-margin, margin:-margin] = (*colour, 255)
    return CutOut(pixels, class_id)


def where(image: Any, colour: tuple[int, int, int]) -> list[float]:
    rows, columns = np.nonzero((image == np.array(colour)).all(axis=2))
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


@pytest.mark.parametrize("seed", range(8))
def test_boxes_are_around_what_was_pasted(seed: int) -> None:
    made = composite(GROUND, [cut(40, 20, (200, 10, 10), 3)], np.random.default_rng(seed), HARD)
    assert made.boxes_xyxy.tolist() == [where(made.image, (200, 10, 10))]
    assert made.class_ids.tolist() == [3]
    x1, y1, x2, y2 = made.boxes_xyxy[0]
    assert 0 <= x1 < x2 <= 160
    assert 0 <= y1 < y2 <= 100
    assert 9 <= y2 - y1 <= 70  # the longer side: a tenth to seven tenths of the shorter one
    outside = np.ones((100, 160), bool)
    outside[int(y1) : int(y2), int(x1) : int(x2)] = False
    assert (made.image[outside] == 40).all()


def test_what_is_covered_has_a_smaller_box_or_none() -> None:
    whole = Pasting(side_share=(1.0, 1.0), tone=0.0, soft_px=0.0)
    square = np.full((100, 100, 3), 40, np.uint8)
    lower, upper = cut(100, 100, (200, 10, 10), 1), cut(100, 100, (10, 10, 200), 2)
    made = composite(square, [lower, upper], np.random.default_rng(0), whole)
    assert made.class_ids.tolist() == [2]
    half = CutOut(upper.pixels.copy(), 2)
    half.pixels[3:-3, 53:-3, 3] = 0
    half.pixels[3, -4, 3] = 255  # keeps its extent: the left half, and a corner
    made = composite(square, [lower, half], np.random.default_rng(0), Pasting((1.0, 1.0), 0.0, 0.0, 0.0, 0.4))
    assert made.class_ids.tolist() == [1, 2]
    assert made.boxes_xyxy[0].tolist() == [50, 0, 100, 100]
    strict = Pasting((1.0, 1.0), 0.0, 0.0, 0.0, 0.6)
    assert len(composite(square, [lower, half], np.random.default_rng(0), strict).class_ids) == 1


def test_tone_moves_towards_the_ground_and_edges_are_soft() -> None:
    bright = cut(40, 40, (250, 250, 250))
    plain, toned, soft = (
        composite(GROUND, [bright], np.random.default_rng(1), cfg).image
        for cfg in (HARD, Pasting(tone=0.5, soft_px=0.0), Pasting(tone=0.0, soft_px=1.5))
    )
    assert plain.max() == 250
    assert 140 <= toned.max() <= 150  # half way from 250 to 40
    assert len(np.unique(soft)) > len(np.unique(plain))


def test_nothing_pasted_is_the_ground_and_the_ground_stays() -> None:
    before = GROUND.copy()
    made = composite(GROUND, [], np.random.default_rng(0))
    assert np.array_equal(made.image, GROUND)
    assert made.boxes_xyxy.shape == (0, 4)
    composite(GROUND, [cut(9, 9, (1, 2, 3))], np.random.default_rng(0))
    assert np.array_equal(GROUND, before)
    tiny = composite(np.zeros((2, 3, 3), np.uint8), [cut(300, 20, (1, 2, 3))], np.random.default_rng(0))
    assert tiny.image.shape == (2, 3, 3)


def test_margins_go_and_what_is_no_cut_out_is_told() -> None:
    assert trimmed(cut(8, 5, (1, 1, 1)).pixels).shape == (8, 5, 4)
    for wrong in (np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4, 4)), np.zeros((4, 4, 4), np.uint8)):
        with pytest.raises(ValueError, match="cut-out: expected"):
            trimmed(wrong)
