"""Local regions of a picture that follow it through changes of size and of viewpoint: the Hessian-affine detector.

Blobs are found where the determinant of the Hessian matrix is largest among its neighbours in place and scale; a
blob's ellipse is then stretched until the picture's slopes in it are alike in all directions. OpenCV has no such
detector: its Harris-Laplace finds corners, its affine adaptation cannot be called from Python.

Source: Mikolajczyk and Schmid (2004), sections 3 and 4; Lindeberg (1998), of scales; Perdoch, Chum and Matas (2009), of
upright frames.
"""

import math
from typing import Final, NamedTuple, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from artray.classify.inputs import Image, resized
from artray.config import Section

Floats: TypeAlias = NDArray[np.float32]
Doubles: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]

SIGMA: Final = 1.6
"""Blur of an octave's first level, in its own pixels."""

SCALES: Final = 3
"""Levels per octave at which blobs are looked for."""

CAMERA_SIGMA: Final = 0.5
"""Blur that a picture is taken to have."""

SHORTEST_PX: Final = 32
"""An octave whose shorter side has less cannot hold a region."""

MEASURED: Final = 3 * math.sqrt(3)
"""Radius of what is described of a region, in units of its scale; that of Perdoch et al."""

WINDOW_PX: Final = 25
"""Side of the patch in which a region's slopes are compared."""

WINDOW_REACH: Final = 6.0
"""How far it reaches from the centre to each side, in units of the region's scale: three sigmas of its window."""

SLOPE_SIGMA: Final = 0.45
"""Blur at which slopes are taken, in units of a region's scale."""

ROUNDS: Final = 8
"""Of the adaptation of a shape, at most; a shape that has not settled then stays as it is."""

ISOTROPIC_MIN: Final = 0.95
"""A shape is settled if the weakest slopes of its region are this share of the strongest; that of Mikolajczyk."""

STRETCH_MAX: Final = 6.0
"""An ellipse whose longer axis is more times its shorter one is an edge."""


class RegionSettings(Section):
    """Which regions of a picture are taken.

    Args:
        longer_side_px: to this size pictures are brought first, smaller ones too.
        regions_max: at most so many per picture, the strongest. On reproductions in books weaker ones show the grain of
            the print.
        contrast_min: the least strength of a region, in [0, 1] of the range from black to white.
        upright: regions keep the direction that is down in the picture, for archives whose pictures are upright;
            else each is turned by its own strongest slope, and what it shows may be turned.
    """

    longer_side_px: int = Field(480, ge=64, le=2048)
    regions_max: int = Field(500, ge=1, le=10_000)
    contrast_min: float = Field(0.005, gt=0, lt=1)
    upright: bool = True


class Regions(NamedTuple):
    """N regions of a picture, any order; the frame of a region makes its ellipse of the unit circle."""

    centres_xy: Doubles  # float64[N, 2] px, of the upper left pixel's centre (0, 0)
    frames: Doubles  # float64[N, 2, 2] px
    strengths: Doubles  # float64[N] in [0, 1]
    octaves: Ints  # int64[N] in which they were found

    def at(self, index: NDArray[np.int64] | NDArray[np.bool_]) -> "Regions":
        """Some of them."""
        return Regions(self.centres_xy[index], self.frames[index], self.strengths[index], self.octaves[index])


class ScaleSpace(NamedTuple):
    """A picture at all scales."""

    picture: Floats  # float32[h, w] in [0, 1]
    octaves: list[Floats]  # float32[SCALES + 2, h, w] each, half as large as the one before it

    def source(self, octave: int) -> tuple[Floats, float]:
        """What regions of an octave are drawn from, and how many pixels of the picture one of its pixels is.

        It is sharper than that in which they were found: what blurs a picture alike in all directions makes long
        things rounder than they are.
        """
        return (self.octaves[octave - 1][0], 2.0 ** (octave - 1)) if octave else (self.picture, 1.0)


def grey(image: Image, settings: RegionSettings) -> Floats:
    """float32[h, w] in [0, 1]: the image in the size in which its regions are found.

    Raises:
        ValueError: not uint8[H, W, 3], or empty.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
        raise ValueError(f"image: expected uint8[H, W, 3], got {image.dtype}{list(image.shape)}")
    sized = resized(image, settings.longer_side_px, "longer")
    found: Floats = cv2.cvtColor(sized, cv2.COLOR_RGB2GRAY).astype(np.float32) / np.float32(255)
    return found


def scale_space(picture: Floats) -> ScaleSpace:
    """The picture float32[h, w] at all scales: level l of octave o is blurred by SIGMA * 2**(o + l / SCALES) px.

    There is no octave whose shorter side has less than :data:`SHORTEST_PX`.
    """
    octaves: list[Floats] = []
    base = _blurred(picture, math.sqrt(SIGMA**2 - CAMERA_SIGMA**2))
    while min(base.shape) >= SHORTEST_PX:
        levels = [base]
        for level in range(1, SCALES + 2):
            levels.append(_blurred(levels[-1], math.sqrt(_sigma(level) ** 2 - _sigma(level - 1) ** 2)))
        octaves.append(np.stack(levels))
        base = np.ascontiguousarray(levels[SCALES][::2, ::2])
    return ScaleSpace(picture, octaves)


def find(space: ScaleSpace, settings: RegionSettings) -> Regions:
    """The strongest regions, by falling strength; none is an answer, too.

    Regions whose shape becomes that of an edge are none. The frames are upright: they map what is
    below a region's centre to what is below it in the picture.

    Args:
        space: the picture's.
        settings: for ``contrast_min`` and ``regions_max``.
    """
    each = [_blobs(octave, number, settings.contrast_min) for number, octave in enumerate(space.octaves)]
    blobs = Regions(*(np.concatenate(columns) for columns in zip(_NOTHING, *each, strict=True)))
    # shapes of the strongest only, with some to spare for edges
    strongest = blobs.at(np.argsort(-blobs.strengths, kind="stable")[: 2 * settings.regions_max])
    shapes = adapted(space, strongest)
    shaped = strongest._replace(frames=MEASURED * strongest.frames @ _upright(shapes))
    return shaped.at(np.flatnonzero(_stretch(shapes) <= STRETCH_MAX)[: settings.regions_max])


def sampled(space: ScaleSpace, regions: Regions, side: int, reach: float) -> Floats:
    """float32[N, side, side]: each region drawn on a square, its ellipse as a circle.

    Args:
        space: the picture's.
        regions: N of them; what lies outside of the picture is mirrored at its edge.
        side: pixels of the squares.
        reach: of the square to each side, in radii of the circle.
    """
    patches = np.zeros((len(regions.strengths), side * side), np.float32)
    at = np.linspace(-reach, reach, side)
    for octave in np.unique(regions.octaves).tolist():
        source, scale = space.source(octave)
        rows = np.flatnonzero(regions.octaves == octave)
        across = (regions.frames[rows, :, :1] * at / scale).astype(np.float32)
        down = ((regions.frames[rows, :, 1:] * at + regions.centres_xy[rows, :, None]) / scale).astype(np.float32)
        x, y = ((across[:, axis, None] + down[:, axis, :, None]).reshape(len(rows), -1) for axis in (0, 1))
        patches[rows] = cv2.remap(source, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    return patches.reshape(-1, side, side)


def adapted(space: ScaleSpace, blobs: Regions) -> Doubles:
    """The shapes float64[N, 2, 2] of blobs, of determinant 1: what makes of a circle the blob's ellipse.

    Args:
        space: the picture's.
        blobs: N of them, whose frames are circles as large as their scales.

    Source: Mikolajczyk and Schmid (2004), section 4, with the place and the scale of a blob kept, and without leaving
    out shapes that do not settle: on pictures seen from the side these are found again as often as the others.
    """
    shapes = np.tile(np.eye(2), (len(blobs.strengths), 1, 1))
    moving = np.arange(len(shapes))
    for _ in range(ROUNDS):
        some = blobs.at(moving)
        drawn = some._replace(frames=some.frames @ shapes[moving])
        moments = second_moments(sampled(space, drawn, WINDOW_PX, WINDOW_REACH))
        unsettled = _isotropic(moments) < ISOTROPIC_MIN
        moving, moments = moving[unsettled], moments[unsettled]
        shapes[moving] = shapes[moving] @ _inverse_root(moments)
        moving = moving[_stretch(shapes[moving]) <= STRETCH_MAX]
    return shapes


def second_moments(patches: Floats) -> Doubles:
    """float64[N, 2, 2] of determinant 1: how strong slopes are by direction in patches float32[N, 25, 25].

    Patches without slopes in one direction have finite moments that are far from alike.
    """
    at = np.linspace(-WINDOW_REACH, WINDOW_REACH, WINDOW_PX)
    apart = at[:, None] - at
    blur = np.exp(-(apart**2) / (2 * SLOPE_SIGMA**2))
    slope, blur = (matrix.astype(np.float32) for matrix in (apart * blur, blur))
    window = np.exp(-(at[:, None] ** 2 + at**2) / (2 * (WINDOW_REACH / 3) ** 2)).astype(np.float32)
    x, y = blur @ patches @ slope.T, slope @ patches @ blur.T
    xx, xy, yy = (np.einsum("nij,ij->n", product, window).astype(np.float64) for product in (x * x, x * y, y * y))
    least = 1e-6 * (xx + yy) + 1e-12
    moments = np.stack([xx + least, xy, xy, yy + least], axis=-1).reshape(-1, 2, 2)
    unit: Doubles = moments / np.sqrt(np.linalg.det(moments))[:, None, None]
    return unit


_NOTHING: Final = Regions(np.zeros((0, 2)), np.zeros((0, 2, 2)), np.zeros(0), np.zeros(0, np.int64))


def _sigma(level: float) -> float:
    """Blur of an octave's level, in its own pixels."""
    return float(SIGMA * 2 ** (level / SCALES))


def _blurred(picture: Floats, sigma: float) -> Floats:
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), sigma, borderType=cv2.BORDER_REFLECT_101), np.float32)


def _determinant(level: Floats, sigma: float) -> Floats:
    """The determinant of the Hessian matrix float32[h, w], scaled so that sizes can be compared."""
    xx = cv2.Sobel(level, cv2.CV_32F, 2, 0, ksize=1)
    yy = cv2.Sobel(level, cv2.CV_32F, 0, 2, ksize=1)
    xy = cv2.Sobel(level, cv2.CV_32F, 1, 1, ksize=1, scale=0.25)
    return np.asarray((xx * yy - xy * xy) * np.float32(sigma**4), np.float32)


def _blobs(octave: Floats, number: int, contrast_min: float) -> Regions:
    """Where the determinant is largest among the 26 neighbours; a blob's frame is a circle as large as its scale."""
    volume = np.stack([_determinant(level, _sigma(n)) for n, level in enumerate(octave)])
    around = np.stack([cv2.dilate(level, np.ones((3, 3), np.uint8)) for level in volume])
    largest = np.maximum(np.maximum(around[:-2], around[2:]), around[1:-1])
    inner = volume[1:-1, 1:-1, 1:-1]
    peaks = (inner == largest[:, 1:-1, 1:-1]) & (inner > contrast_min**2)
    level, y, x = (axis + 1 for axis in np.nonzero(peaks))
    offsets, heights = _refined(volume, level, y, x)
    at = np.stack([level, y, x], axis=-1) + offsets
    sigmas = SIGMA * 2 ** (number + at[:, 0] / SCALES)
    frames = sigmas[:, None, None] * np.eye(2)
    return Regions(at[:, :0:-1] * 2.0**number, frames, np.sqrt(heights), np.full(len(x), number))


def _refined(volume: Floats, level: Ints, y: Ints, x: Ints) -> tuple[Doubles, Doubles]:
    """How far from its pixel a peak lies, float64[N, 3] in [-0.5, 0.5], and its height: by parabolas along the axes."""
    middle = volume[level, y, x].astype(np.float64)
    offsets, heights = np.zeros((len(x), 3)), middle.copy()
    for axis, (dl, dy, dx) in enumerate(np.eye(3, dtype=np.int64)):
        before = volume[level - dl, y - dy, x - dx].astype(np.float64)
        after = volume[level + dl, y + dy, x + dx].astype(np.float64)
        curve = 2 * middle - before - after  # not negative: it is a peak
        offsets[:, axis] = np.where(curve > 0, (after - before) / np.where(curve > 0, 2 * curve, 1), 0)
        heights += (after - before) * offsets[:, axis] / 4
    return offsets, heights


def _isotropic(moments: Doubles) -> Doubles:
    """float64[N] in [0, 1]: the root of the smaller eigenvalue over the larger, of symmetric matrices."""
    values = np.linalg.eigvalsh(moments)
    found: Doubles = np.sqrt(np.maximum(values[:, 0], 0) / values[:, 1])
    return found


def _inverse_root(moments: Doubles) -> Doubles:
    """The inverse square roots of symmetric matrices of determinant 1.

    By Cayley and Hamilton the root of such a matrix is itself plus the unit matrix, scaled to determinant 1.
    """
    a, b, d = moments[:, 0, 0], moments[:, 0, 1], moments[:, 1, 1]
    inverse = np.stack([d + 1, -b, -b, a + 1], axis=-1).reshape(-1, 2, 2)
    found: Doubles = inverse / np.sqrt(a + d + 2)[:, None, None]
    return found


def _stretch(shapes: Doubles) -> Doubles:
    """float64[N]: the longer axis of ellipses over the shorter one."""
    values = np.linalg.svd(shapes, compute_uv=False)
    found: Doubles = values[:, 0] / values[:, 1]
    return found


def _upright(shapes: Doubles) -> Doubles:
    """Frames of the same ellipses that leave the vertical direction as it is: lower triangular ones."""
    found: Doubles = np.linalg.cholesky(shapes @ shapes.transpose(0, 2, 1))
    return found
