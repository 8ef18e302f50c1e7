"""Pictures on a canvas: known rectangles there and back."""

from typing import Any

import numpy as np
import pytest

from artray.detect import letterbox


def test_a_rectangle_comes_to_its_place_and_back() -> None:
    picture = np.zeros((100, 200, 3), np.uint8)
    picture[20:60, 50:150] = 255
    letter = letterbox.letterbox(picture, (64, 64))
    assert letter.canvas.shape == (64, 64, 3)
    assert letter.scale_xy == (0.32, 0.32)
    assert (letter.canvas[32:] == 114).all()
    placed = letter.to_canvas(np.array([[50, 20, 150, 60]], np.float32))
    assert np.allclose(placed, [[16, 6.4, 48, 19.2]])
    assert placed.dtype == np.float32
    y, x = (letter.canvas[:32, :, 0] > 127).nonzero()
    assert (x.min(), y.min(), x.max() + 1, y.max() + 1) == (16, 6, 48, 19)
    back = letter.to_image(placed, (200, 100))
    assert np.allclose(back, [[50, 20, 150, 60]], atol=1e-4)
    assert letter.to_image(np.array([[-9, -9, 99, 99]]), (200, 100)).tolist() == [[0, 0, 200, 100]]
    assert letter.to_image(np.empty((0, 4)), (200, 100)).shape == (0, 4)


def test_centred_or_squashed() -> None:
    picture = np.full((100, 200, 3), 9, np.uint8)
    letter = letterbox.letterbox(picture, (64, 48), ground=0, centred=True)
    assert (letter.scale_xy, letter.offset_xy) == ((0.32, 0.32), (0, 8))
    assert letter.to_canvas(np.array([[50, 25, 150, 75]])).tolist() == [[16, 16, 48, 32]]
    assert letter.to_image(np.array([[16, 16, 48, 32]]), (200, 100)).tolist() == [[50, 25, 150, 75]]
    letter = letterbox.letterbox(picture, (50, 50), squash=True)
    assert (letter.scale_xy, letter.offset_xy) == ((0.25, 0.5), (0, 0))
    assert (letter.canvas == 9).all()


@pytest.mark.parametrize("size_hw", [(1, 300), (300, 1), (416, 416), (5, 3)])
def test_any_size_fits(size_hw: tuple[int, int]) -> None:
    letter = letterbox.letterbox(np.zeros((*size_hw, 3), np.uint8), (64, 64))
    whole = np.array([[0, 0, size_hw[1], size_hw[0]]], np.float32)
    placed = letter.to_canvas(whole)[0]
    assert placed[:2].tolist() == [0, 0]
    assert max(placed) == 64
    assert min(placed[2:]) >= 1
    assert np.allclose(letter.to_image(placed[None], (size_hw[1], size_hw[0])), whole)


@pytest.mark.parametrize("wrong", [np.zeros((4, 4), np.uint8), np.zeros((0, 4, 3), np.uint8), np.zeros((4, 4, 3))])
def test_what_is_no_picture(wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"image: expected uint8\[H, W, 3\]"):
        letterbox.letterbox(wrong, (64, 64))
