"""Local regions and their descriptors: hand-derived blobs, known affinities, reference implementations."""

import importlib.resources
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from artray.retrieve import descriptors, regions
from artray.retrieve.regions import Regions, RegionSettings


def picture(name: str = "wp_morisot_reading.jpg") -> NDArray[np.uint8]:
    with importlib.resources.as_file(importlib.resources.files("artray.archive.sample") / "images" / name) as path:
        return cv2.imread(str(path), cv2.IMREAD_COLOR_RGB).astype(np.uint8)


def blob(covariance: Any, height: int = 160, width: int = 200, x: float = 90.0, y: float = 70.0) -> regions.Floats:
    """A Gaussian hill of a covariance in px^2, on black."""
    grid = np.stack(np.meshgrid(np.arange(width) - x, np.arange(height) - y), axis=-1)
    return np.exp(-np.einsum("hwi,ij,hwj->hw", grid, np.linalg.inv(covariance), grid) / 2).astype(np.float32)


def strongest(drawn: regions.Floats) -> Regions:
    return regions.find(regions.scale_space(drawn), RegionSettings(regions_max=1))


@pytest.mark.parametrize("sigma", [4.0, 6.0, 9.0, 14.0])
def test_a_blob_is_found_at_its_place_in_its_size(sigma: float) -> None:
    """The scaled determinant of a Gaussian of variance v, blurred by variance t, is (v t / (v + t)^2)^2: most at t = v.

    The scale space takes the picture to be blurred by CAMERA_SIGMA already, so that its scale s has t = s^2 - 0.25.
    """
    found = strongest(blob(np.eye(2) * sigma**2))
    assert np.allclose(found.centres_xy, [[90, 70]], atol=0.2)
    expected = regions.MEASURED * np.hypot(sigma, regions.CAMERA_SIGMA)
    assert np.allclose(found.frames, expected * np.eye(2), rtol=0.06, atol=0.02 * expected)
    # at t = v the determinant is 1/16, its root 1/4; differences between pixels make it a little less
    assert found.strengths == pytest.approx([0.25], rel=0.05)


@pytest.mark.parametrize("turn", [0.0, 30.0, 45.0, 90.0, 160.0])
@pytest.mark.parametrize("ratio", [1.5, 2.0, 2.5])
def test_an_ellipse_is_as_long_as_the_blob(turn: float, ratio: float) -> None:
    angle = np.deg2rad(turn)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    found = strongest(blob(rotation @ np.diag([36 * ratio, 36 / ratio]) @ rotation.T))
    shape = found.frames[0] @ found.frames[0].T
    values, vectors = np.linalg.eigh(shape)
    # what blurs the picture for the slopes makes it somewhat rounder
    assert np.sqrt(values[1] / values[0]) == pytest.approx(ratio, rel=0.15)
    assert abs(vectors[:, 1] @ rotation[:, 0]) > np.cos(np.deg2rad(3))
    assert found.frames[0, 0, 1] == 0  # upright


def test_what_has_no_blobs_has_no_regions() -> None:
    for drawn in (np.full((90, 120), 0.4), np.tile(np.linspace(0, 1, 120), (90, 1)), np.zeros((31, 500))):
        found = regions.find(regions.scale_space(drawn.astype(np.float32)), RegionSettings())
        assert [column.shape for column in found] == [(0, 2), (0, 2, 2), (0,), (0,)]
        assert descriptors.sift(
            regions.sampled(regions.scale_space(drawn.astype(np.float32)), found, 49, 1.5)
        ).shape == (0, 128)


def test_the_strongest_regions_come_first_and_not_too_many() -> None:
    image = picture()
    every = descriptors.describe(image, RegionSettings(regions_max=10_000))
    assert len(every.regions.strengths) > 600
    assert (np.diff(every.regions.strengths) <= 0).all()
    assert every.regions.strengths.min() >= 0.005
    some = descriptors.describe(image, RegionSettings(regions_max=100))
    assert np.array_equal(some.descriptors, every.descriptors[:100])
    assert all(np.array_equal(a, b[:100]) for a, b in zip(some.regions, every.regions, strict=True))
    fewer = descriptors.describe(image, RegionSettings(regions_max=10_000, contrast_min=0.05))
    assert 0 < len(fewer.descriptors) < len(every.descriptors)


def test_regions_do_not_depend_on_how_bright_a_picture_is() -> None:
    image = cv2.resize(picture(), (400, 300)).astype(np.float32).mean(axis=2) / 255
    settings = RegionSettings(regions_max=10_000, contrast_min=0.01)
    whole = regions.find(regions.scale_space(image), settings)
    # slopes half as steep are strengths half as large
    half = regions.find(regions.scale_space(image / 2 + 0.2), settings.model_copy(update={"contrast_min": 0.005}))
    assert len(whole.strengths) == pytest.approx(len(half.strengths), rel=0.02)
    assert np.allclose(whole.strengths[:50], 2 * half.strengths[:50], rtol=1e-3)


AFFINITIES = {
    "smaller": [[0.7, 0.0], [0.0, 0.7]],
    "seen from the side": [[0.6, 0.0], [0.0, 1.0]],
    "slanted": [[0.9, 0.4], [0.0, 0.8]],
    "turned": [[0.8, -0.5], [0.5, 0.8]],
}


def warped(image: NDArray[np.uint8], linear: NDArray[np.float64]) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """The picture seen under an affinity, around its middle, and the matrix float64[2, 3] from it to what is seen."""
    height, width = image.shape[:2]
    middle = np.array([width - 1, height - 1]) / 2
    matrix = np.concatenate([linear, (middle - linear @ middle)[:, None]], axis=1)
    return cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REPLICATE), matrix


def overlaps(frames: regions.Doubles, others: regions.Doubles) -> regions.Doubles:
    """float64[N]: intersection over union of ellipses of one centre, counted on a grid."""
    reach = np.linspace(-1, 1, 61) * np.linalg.norm(frames, ord=2, axis=(1, 2)).max()
    grid = np.stack(np.meshgrid(reach, reach), axis=-1).reshape(-1, 2)
    inside = [(np.square(grid @ np.linalg.inv(some).transpose(0, 2, 1)).sum(axis=2) <= 1) for some in (frames, others)]
    return (inside[0] & inside[1]).sum(axis=1) / (inside[0] | inside[1]).sum(axis=1)


def repeated(settings: RegionSettings, linear: NDArray[np.float64]) -> tuple[float, float]:
    """Which share of regions is found again under an affinity, and of these which share has the descriptor nearest."""
    image = cv2.resize(picture(), (480, 360), interpolation=cv2.INTER_AREA).astype(np.uint8)
    seen, matrix = warped(image, linear)
    before, after = descriptors.describe(image, settings), descriptors.describe(seen, settings)
    centres = before.regions.centres_xy @ linear.T + matrix[:, 2]
    inside = ((centres > 10) & (centres < np.array([470, 350]))).all(axis=1)
    mapped = before.regions.at(inside)._replace(
        centres_xy=centres[inside], frames=linear @ before.regions.frames[inside]
    )
    apart = np.linalg.norm(mapped.centres_xy[:, None] - after.regions.centres_xy, axis=2)
    at = apart.argmin(axis=1)
    near = apart[np.arange(len(at)), at] < 3
    share = overlaps(mapped.frames[near], after.regions.frames[at[near]]) >= 0.6
    nearest = (before.descriptors[inside][near][share] @ after.descriptors.T).argmax(axis=1)
    return share.sum() / len(at), float((apart[near][share][np.arange(share.sum()), nearest] < 3).mean())


@pytest.mark.parametrize("kind", AFFINITIES)
def test_regions_and_descriptors_are_found_again_under_an_affinity(kind: str) -> None:
    linear = np.array(AFFINITIES[kind])
    settings = RegionSettings(longer_side_px=480, regions_max=400, upright=kind != "turned")
    again, matched = repeated(settings, linear)
    assert again > 0.35
    assert matched > 0.6


def test_a_frame_is_turned_by_the_strongest_slope() -> None:
    """A ramp that rises to the right, one that rises downwards, and one halfway between them."""
    ramp = np.tile(np.linspace(0, 1, 49, dtype=np.float32), (49, 1))
    angles = descriptors.directions(np.stack([ramp, ramp.T, (ramp + ramp.T) / 2]))
    assert np.allclose(np.rad2deg(angles), [0, 90, 45], atol=1)
    right = np.array([1.0, 0.0])
    assert np.allclose(descriptors.turns(angles) @ right, [[1, 0], [0, 1], [2**-0.5, 2**-0.5]], atol=0.02)


def test_sift_of_a_patch_is_that_of_the_patch_alone() -> None:
    """The sheet on which patches are laid out must not let one look into another."""
    space = regions.scale_space(regions.grey(picture(), RegionSettings()))
    found = regions.find(space, RegionSettings(regions_max=50))
    patches = regions.sampled(space, found, descriptors.PATCH_PX, descriptors.REACH)
    together = descriptors.sift(patches)
    assert together.shape == (50, 128)
    for number in (0, 7, 49):
        assert np.array_equal(descriptors.sift(patches[number : number + 1]), together[number : number + 1])
    sift = cv2.SIFT.create(sigma=descriptors.SIFT_SIGMA)
    _, alone = sift.compute(descriptors.spread(patches)[7], [cv2.KeyPoint(24.0, 24.0, 16 / 3, 0.0)])
    assert np.allclose(alone, together[7], atol=2)


def test_root_sift_is_as_published() -> None:
    """Arandjelovic and Zisserman: L1-normalise, take roots; Euclidean distances are then 2 - 2 H of Hellinger's H."""
    x, y = np.random.default_rng(3).integers(0, 256, (2, 128)).astype(np.float32)
    root_x, root_y = descriptors.root(np.stack([x, y]))
    hellinger = sum(np.sqrt(a * b) for a, b in zip(x / x.sum(), y / y.sum(), strict=True))
    assert np.square(root_x - root_y).sum() == pytest.approx(2 - 2 * hellinger, rel=1e-5)
    assert np.linalg.norm(root_x) == pytest.approx(1)
    assert descriptors.root(np.zeros((1, 128), np.float32)).tolist() == [[0] * 128]
    assert descriptors.root(np.zeros((0, 128), np.float32)).shape == (0, 128)


@pytest.mark.parametrize("wrong", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)])
def test_what_is_no_image_is_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"image: expected uint8\[H, W, 3\], got"):
        descriptors.describe(wrong, RegionSettings())
