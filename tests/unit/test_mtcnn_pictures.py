"""Pictures made smaller and crops of them: values derived by hand."""

import numpy as np
import pytest
import torch

from artray.detect.mtcnn_pictures import area_weights, crop, normalised, shrink, stack

CPU = torch.device("cpu")


def ramp(height, width):
    """Each pixel is its column + 10 times its row, the channels 0, 100 and 200 more."""
    values = np.arange(width)[None, :, None] + 10 * np.arange(height)[:, None, None] + np.array([0, 100, 200])
    return torch.from_numpy(values.astype(np.float32))


def test_black_and_white_are_almost_one_apart_from_grey():
    values = normalised(np.array([[[0, 255, 127]]], np.uint8), CPU)
    assert values.tolist() == [[[-0.99609375, 0.99609375, -0.00390625]]]  # (x - 127.5) / 128


def test_three_pixels_into_two_share_the_middle_one():
    # over x: (0 + 1/2) / 1.5 = 1/3 and (1/2 + 2) / 1.5 = 5/3; over y ten times that
    expected = np.array([[1 / 3, 5 / 3]]) + 10 * np.array([[1 / 3], [5 / 3]])
    np.testing.assert_allclose(shrink(ramp(3, 3), (2, 2))[..., 0], expected, rtol=1e-6)


@pytest.mark.parametrize("size", [(287, 383), (18, 24), (480, 640), (1, 1)])
def test_both_ways_of_shrinking_agree(size):
    image = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
    pixels = normalised(image, CPU)
    rows, columns = area_weights(480, size[0], CPU), area_weights(640, size[1], CPU)
    products = torch.einsum("hH,HWc,wW->hwc", rows, pixels, columns)
    torch.testing.assert_close(shrink(pixels, size), products, rtol=0, atol=1e-5)


def test_weights_of_an_area_sum_to_one():
    assert area_weights(640, 271, CPU).sum(1).tolist() == pytest.approx([1.0] * 271)


def test_a_crop_of_all_of_a_picture_ends_in_its_last_pixels():
    # corners 0 and 4 of 4 px become 0 and 1 of the distance between the first and the last pixel's centres
    pixels = ramp(4, 4)
    crops = crop(pixels, np.array([[0.0, 0.0, 4.0, 4.0]]), 4)
    np.testing.assert_allclose(crops[0].permute(1, 2, 0), pixels, atol=1e-4)


def test_a_crop_is_zero_beyond_the_picture():
    # corners 2 and 6 of 4 px: 1.5 to 4.5 in steps of 1, of which 1.5 and 2.5 lie within the last pixel's centre, 3
    crops = crop(ramp(4, 4), np.array([[2.0, 0.0, 6.0, 4.0]]), 4)
    np.testing.assert_allclose(crops[0, 0, 1], [11.5, 12.5, 0, 0], atol=1e-5)
    assert not crop(ramp(4, 4), np.array([[-9.0, -9.0, -1.0, -1.0]]), 4).any()


def test_crops_may_be_flat_or_none_at_all():
    assert crop(ramp(4, 5), np.empty((0, 4)), 24).shape == (0, 3, 24, 24)
    point = crop(ramp(5, 5), np.array([[2.5, 2.5, 2.5, 2.5]]), 24)  # 2.5 / 5 * 4 = 2: column 2 of row 2
    np.testing.assert_allclose(point[0, 0], 22, atol=1e-4)


def test_smaller_pictures_are_padded_at_the_right_and_below():
    together = stack([ramp(2, 3), ramp(4, 2)])
    assert together.shape == (2, 3, 4, 3)
    assert together.is_contiguous(memory_format=torch.channels_last)
    np.testing.assert_array_equal(together[0, :, :2].permute(1, 2, 0), ramp(2, 3))
    assert not together[0, :, 2:].any()
    assert not together[1, :, :, 2:].any()


def test_shrinking_reads_a_picture_that_may_not_be_written():
    image = np.zeros((30, 40, 3), np.uint8)
    image.setflags(write=False)
    assert shrink(normalised(image, CPU), (15, 20)).shape == (15, 20, 3)
