"""Lays thumbnails of two pictures over each other as exactly as they go, and says how alike they are then.

A window of the alignment is right to a fourteenth of a side. From there an affine map is improved, step by step, until
the details fit; copies that are cut, framed, skewed or photographed from one side then agree nearly everywhere, and
pictures that merely have the same composition do not. Contrast is evened out locally before, so that tones, colours
and fading do not count.
"""

from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from artray.retrieve.hashing import SIDE_PX

Floats: TypeAlias = NDArray[np.float32]
Bools: TypeAlias = NDArray[np.bool_]

STEP_MAX: Final = 0.05
"""No parameter of the map changes by more in a step, in sides of the picture."""

DAMPING: Final = 0.01
FINE_PX: Final = 1.0
COARSE_PX: Final = 4.0
"""Details are what is larger than the first and smaller than the second, as standard deviations of Gaussians."""

NOISE: Final = 2.0
"""Grey levels that are no detail; added to a share of the picture's own contrast."""

CONTRAST_SHARE: Final = 0.15
RIM_PX: Final = 2
"""What lies so near to the edge of the inner picture does not count: there the other's frame may show."""

OUTLIER: Final = 1.5
"""Differences of more than so many times the mean one count less: text and stains are no shift."""


class Registered(NamedTuple):
    """P pairs laid over each other."""

    score: Floats  # float32[P] in [-1, 1]: correlation of the details, 1 for the same
    maps: Floats  # float32[P, 2, 3]: from a place in the inner picture (x, y, 1) to one in the outer; middles are 0, 0


def register(outer: Floats, inner: Floats, maps: Floats, steps: int) -> Registered:
    """Improve the maps from inner pictures into outer ones.

    Args:
        outer: float32[P, 32, 32]; P may be 0.
        inner: float32[P, 32, 32], laid down as they are in the outer ones.
        maps: float32[P, 2, 3], to begin with: see :func:`into_windows`.
        steps: of improvement.

    Returns:
        The best of all steps, the maps as they are given included.

    Source: Baker and Matthews, Lucas-Kanade 20 Years On (2004), the inverse compositional algorithm, affine, with the
    robust weights of Huber.
    """
    count, rim = len(outer), _rim()
    target = details(inner)
    slopes = _slopes(target) * rim
    inverse = np.linalg.inv(_damped(slopes @ slopes.transpose(0, 2, 1)))
    target = target.reshape(count, SIDE_PX**2)
    best, best_maps = np.full(count, -1, np.float32), maps
    for step in range(steps + 1):
        values, within = sample(outer, maps)
        found, weights = details(values).reshape(count, SIDE_PX**2), within.reshape(count, SIDE_PX**2) * rim
        score = correlation(found, target, weights)
        better = score > best
        best, best_maps = np.where(better, score, best), np.where(better[:, None, None], maps, best_maps)
        if step < steps:
            error = _residual(found, target, weights)
            change = np.clip((inverse @ (slopes @ error[..., None]))[..., 0], -STEP_MAX, STEP_MAX)
            maps = _without(maps, change)
    return Registered(best, best_maps)


def places() -> Floats:
    """float32[1024, 3]: x, y, 1 of every pixel's middle, by rows; the picture's middle is 0, 0 and its sides are 1."""
    along = (np.arange(SIDE_PX) + 0.5) / SIDE_PX - 0.5
    y, x = np.meshgrid(along, along, indexing="ij")
    return np.stack([x.ravel(), y.ravel(), np.ones(SIDE_PX**2)], axis=1).astype(np.float32)


def sample(pictures: Floats, maps: Floats) -> tuple[Floats, Bools]:
    """float32[P, 32, 32]: pictures float32[P, 32, 32] as they are where maps float32[P, 2, 3] lead; bool: within them.

    Between pixels linearly; beyond the edge it is the edge's value.
    """
    x, y = ((places() @ maps.transpose(0, 2, 1) + 0.5) * SIDE_PX - 0.5).transpose(2, 0, 1)
    within = (x > -0.5) & (x < SIDE_PX - 0.5) & (y > -0.5) & (y < SIDE_PX - 0.5)
    x, y = (np.clip(each, 0, SIDE_PX - 1.001) for each in (x, y))
    left, top = x.astype(np.int32), y.astype(np.int32)
    right_share, low_share = x - left, y - top
    flat, corner = pictures.reshape(-1, SIDE_PX**2), top * SIDE_PX + left
    above, below = (
        np.take_along_axis(flat, corner + row, 1) * (1 - right_share)
        + np.take_along_axis(flat, corner + row + 1, 1) * right_share
        for row in (0, SIDE_PX)
    )
    values = above * (1 - low_share) + below * low_share
    return values.reshape(-1, SIDE_PX, SIDE_PX), within.reshape(-1, SIDE_PX, SIDE_PX)


def details(pictures: Floats) -> Floats:
    """float32[P, 32, 32]: pictures with their contrast evened out: about 1 wherever there is any."""
    fine, coarse = _gaussian(FINE_PX), _gaussian(COARSE_PX)
    smooth = fine @ pictures @ fine.T
    differences = smooth - coarse @ smooth @ coarse.T
    spread = CONTRAST_SHARE * smooth.std(axis=(1, 2), keepdims=True)
    found: Floats = differences / np.sqrt(coarse @ np.square(differences) @ coarse.T + NOISE**2 + np.square(spread))
    return found


def correlation(a: Floats, b: Floats, weights: Floats) -> Floats:
    """float32[P]: of the rows of float32[P, N], in [-1, 1]; 0 of what has no details."""
    total = np.maximum(weights.sum(axis=1, keepdims=True), 1)
    a, b = (weights * (each - (each * weights).sum(axis=1, keepdims=True) / total) for each in (a, b))
    energy = np.square(a).sum(axis=1) * np.square(b).sum(axis=1)
    found: Floats = (a * b).sum(axis=1) / np.sqrt(energy + 1e-6)
    return found


def _gaussian(sigma_px: float) -> Floats:
    """float32[32, 32]: the blur of a side, each row of which sums to 1."""
    apart = np.arange(SIDE_PX)[:, None] - np.arange(SIDE_PX)
    found = np.exp(-0.5 * np.square(apart / sigma_px))
    blur: Floats = (found / found.sum(axis=1, keepdims=True)).astype(np.float32)
    return blur


def _rim() -> Floats:
    """float32[1024]: 1 inside, 0 near the edge."""
    found = np.zeros((SIDE_PX, SIDE_PX), np.float32)
    found[RIM_PX:-RIM_PX, RIM_PX:-RIM_PX] = 1
    return found.ravel()


def _slopes(target: Floats) -> Floats:
    """float32[P, 6, 1024]: how the details change with each parameter of the map."""
    down, right = (slope.reshape(-1, SIDE_PX**2) * SIDE_PX for slope in np.gradient(target, axis=(1, 2)))
    x, y, _ = places().T
    return np.stack([right * x, right * y, right, down * x, down * y, down], axis=1)


def _damped(hessian: Floats) -> Floats:
    trace = np.trace(hessian, axis1=1, axis2=2)[:, None, None]
    found: Floats = hessian + np.eye(6, dtype=np.float32) * (DAMPING * trace / 6 + 1e-6)
    return found


def _residual(found: Floats, target: Floats, weights: Floats) -> Floats:
    """float32[P, 1024]: what is left between them, the contrast of one fitted to the other's."""
    gain = (found * target * weights).sum(axis=1) / (np.square(found) * weights).sum(axis=1).clip(1e-6)
    error = (found * np.clip(gain, 0.3, 3)[:, None] - target) * weights
    usual = np.abs(error).sum(axis=1, keepdims=True) / weights.sum(axis=1, keepdims=True).clip(1)
    kept: Floats = error / np.maximum(1, np.abs(error) / (OUTLIER * usual + 1e-3))
    return kept


def into_windows(windows: Floats) -> Floats:
    """float32[P, 2, 3]: the maps into windows float32[P, 4]: left, top, right, bottom in [0, 1]."""
    maps = np.zeros((len(windows), 2, 3), np.float32)
    left, top, right, bottom = windows.T
    maps[:, 0, 0], maps[:, 1, 1] = right - left, bottom - top
    maps[:, 0, 2], maps[:, 1, 2] = (left + right - 1) / 2, (top + bottom - 1) / 2
    return maps


def _without(maps: Floats, change: NDArray[Any]) -> Floats:
    """The maps after what is done by small maps float32[P, 6] is undone."""
    small = np.concatenate([change.reshape(-1, 2, 3), np.zeros((len(change), 1, 3), np.float32)], axis=1)
    found: Floats = maps @ np.linalg.inv(np.eye(3, dtype=np.float32) + small)
    return found
