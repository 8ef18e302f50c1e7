"""What a local region looks like: SIFT of its normalised patch, made comparable by Hellinger's measure (RootSIFT)."""

from typing import Final, NamedTuple, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from artray.classify.inputs import Image
from artray.retrieve import regions
from artray.retrieve.regions import Regions, RegionSettings

Floats: TypeAlias = NDArray[np.float32]
Doubles: TypeAlias = NDArray[np.float64]

DIM: Final = 128
"""Length of a SIFT descriptor: 4 x 4 cells of 8 directions."""

CELL_PX: Final = 8
"""Side of a cell in a normalised patch."""

PATCH_PX: Final = 6 * CELL_PX + 1
"""Side of a patch: 4 cells, one more around them, of which SIFT's interpolation takes half, and the middle pixel."""

REACH: Final = 1.5
"""A patch is so many times as large as the four cells, which surround the region's circle."""

SIFT_CELL: Final = 1.5
"""OpenCV's SIFT has cells so many times as large as a key point's diameter."""

SIFT_SIGMA: Final = 0.8
"""SIFT blurs patches to this, in their pixels: they are blurred already."""

DIRECTIONS: Final = 36
"""Bins of the histogram that finds a region's strongest direction."""


class Described(NamedTuple):
    """N regions of a picture and what they look like, by falling strength."""

    regions: Regions  # in pixels of the picture in the size of its settings
    descriptors: Floats  # float32[N, 128], of unit norm


def describe(image: Image, settings: RegionSettings) -> Described:
    """The regions of an image uint8[H, W, 3] RGB and their RootSIFT descriptors; N may be 0.

    Raises:
        ValueError: not uint8[H, W, 3], or empty.
    """
    space = regions.scale_space(regions.grey(image, settings))
    found = regions.find(space, settings)
    patches = regions.sampled(space, found, PATCH_PX, REACH)
    if not settings.upright:
        found = found._replace(frames=found.frames @ turns(directions(patches)))
        patches = regions.sampled(space, found, PATCH_PX, REACH)
    return Described(found, root(sift(patches)))


def sift(patches: Floats) -> Floats:
    """float32[N, 128] in [0, 255]: OpenCV's SIFT of upright patches float32[N, 49, 49], whatever their contrast.

    The patches are laid out in one picture, in which a descriptor does not reach its patch's neighbours.

    Source: Lowe (2004), section 6.
    """
    if not len(patches):
        return np.zeros((0, DIM), np.float32)
    columns = int(np.ceil(np.sqrt(len(patches))))
    rows = -(-len(patches) // columns)
    tiles = np.zeros((rows * columns, PATCH_PX, PATCH_PX), np.uint8)
    tiles[: len(patches)] = spread(patches)
    sheet = tiles.reshape(rows, columns, PATCH_PX, PATCH_PX).transpose(0, 2, 1, 3).reshape(rows * PATCH_PX, -1)
    points = [
        cv2.KeyPoint(float(x + PATCH_PX // 2), float(y + PATCH_PX // 2), CELL_PX / SIFT_CELL, 0.0)
        for y in range(0, rows * PATCH_PX, PATCH_PX)
        for x in range(0, columns * PATCH_PX, PATCH_PX)
    ][: len(patches)]
    _, found = cv2.SIFT.create(nOctaveLayers=1, sigma=SIFT_SIGMA).compute(np.ascontiguousarray(sheet), points)
    return np.asarray(found, np.float32)


def spread(patches: Floats) -> NDArray[np.uint8]:
    """Patches float32[N, S, S] as uint8 from black to white, each by itself; one without contrast is black."""
    least = patches.min(axis=(1, 2), keepdims=True)
    most = patches.max(axis=(1, 2), keepdims=True)
    scale = np.where(most > least, 255 / np.where(most > least, most - least, 1), 0)
    found: NDArray[np.uint8] = np.rint((patches - least) * scale).astype(np.uint8)
    return found


def root(descriptors: Floats) -> Floats:
    """RootSIFT of SIFT descriptors float32[N, D] of no negative values: unit norm, all zero where all are zero.

    Their inner product is Hellinger's kernel of the originals, scaled to sum to 1.

    Source: Arandjelovic and Zisserman (2012), section 2.

    >>> root(np.array([[9, 16, 0, 0]], np.float32)).tolist()
    [[0.6000000238418579, 0.800000011920929, 0.0, 0.0]]
    """
    sums = descriptors.astype(np.float64).sum(axis=1, keepdims=True)
    found: Floats = np.sqrt(descriptors / np.where(sums > 0, sums, 1)).astype(np.float32)
    return found


def directions(patches: Floats) -> Doubles:
    """float64[N] radians: where the slopes of patches float32[N, S, S] point most, from right towards down.

    Source: Lowe (2004), section 5, with the highest peak only.
    """
    x = patches[:, 1:-1, 2:] - patches[:, 1:-1, :-2]
    y = patches[:, 2:, 1:-1] - patches[:, :-2, 1:-1]
    at = np.linspace(-REACH, REACH, patches.shape[1])[1:-1]
    weights = np.hypot(x, y) * np.exp(-2 * (at[:, None] ** 2 + at**2))
    at_bins = np.arctan2(y, x) * (DIRECTIONS / (2 * np.pi))
    lower = np.floor(at_bins)
    upper_share = at_bins - lower
    first = DIRECTIONS * np.arange(len(patches))[:, None, None]
    counts = np.zeros(DIRECTIONS * len(patches))
    for bins, share in ((lower, 1 - upper_share), (lower + 1, upper_share)):
        ids = first + bins.astype(np.int64) % DIRECTIONS
        counts += np.bincount(ids.ravel(), (weights * share).ravel(), len(counts))
    counts = counts.reshape(-1, DIRECTIONS)
    near = np.stack([np.roll(counts, shift, axis=1) for shift in range(-2, 3)], axis=-1)
    return _peaks(near @ np.array([1.0, 4.0, 6.0, 4.0, 1.0])) * (2 * np.pi / DIRECTIONS)


def _peaks(histograms: Doubles) -> Doubles:
    """float64[N]: where circular histograms float64[N, B] are highest, by a parabola between bins."""
    rows, highest = np.arange(len(histograms)), histograms.argmax(axis=1)
    before, after = (histograms[rows, (highest + shift) % histograms.shape[1]] for shift in (-1, 1))
    curve = 2 * histograms[rows, highest] - before - after
    found: Doubles = highest + np.where(curve > 0, (after - before) / np.where(curve > 0, 2 * curve, 1), 0)
    return found


def turns(angles: Doubles) -> Doubles:
    """float64[N, 2, 2]: what turns the horizontal direction by angles float64[N], from right towards down."""
    cosines, sines = np.cos(angles), np.sin(angles)
    return np.stack([cosines, -sines, sines, cosines], axis=-1).reshape(-1, 2, 2)
