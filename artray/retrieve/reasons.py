"""What makes two pictures copies of each other, as far as their thumbnails and how they lie over each other tell."""

import itertools
import math
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from artray.retrieve.duplicates import Copies, Works
from artray.retrieve.hashing import GREY_CHROMA, SIDE_PX, TURNS

Thumbnail: TypeAlias = NDArray[np.uint8]
Floats: TypeAlias = NDArray[Any]

PART_MAX: Final = 0.95
"""A part shows at most so much of the area of the other picture."""

FLAT_MAX: Final = 0.1
"""Of a frame or a margin each row (each column at the sides) varies by at most so much of what the picture varies."""

SKEW_MIN: Final = 0.02
"""Turned by 0.8 degrees, or sheared likewise."""

ROUNDING: Final = 0.3
"""Of a pixel, by which a picture may reach into one that counts as margin."""

NOISE: Final = 3.0
"""Grey levels that any paper varies by."""

COLOURED: Final = 4.0
"""So much more chroma than a grey picture may have is colour beyond doubt."""

SAME_MIN: Final = 0.985
"""What scores less was changed: in tone, or with something on it."""

WORDS: Final = ("identical", "mirrored", "turned", "framed", "cropped", "skewed", "colour", "edited", "same")


def why(works: Works, copies: Copies) -> list[str]:
    """For each of P pairs some of :data:`WORDS`, with commas between.

    ``identical`` files; ``mirrored``; ``turned`` by quarters; ``framed``: one is the other with a frame or a margin;
    ``cropped``: one is a part of the other; ``skewed``: turned by a few degrees, or in perspective; ``colour``: one is
    a greyscale picture, the other is not; where none of these is so, ``same``, or ``edited`` where details differ.
    """
    shapes = copies.maps[:, :, :2]
    areas, skew = np.linalg.det(shapes), np.hypot(shapes[:, 0, 1], shapes[:, 1, 0])
    chroma = np.sort(np.stack([works.chroma[copies.first], works.chroma[copies.second]]), axis=0)
    turns = [TURNS[turn] for turn in copies.turn.tolist()]
    part = (areas < PART_MAX) | (areas > 1 / PART_MAX)
    margin = np.zeros(len(areas), bool)
    for row in np.flatnonzero(part).tolist():
        margin[row] = has_margin(*_outer(works, copies, row, inside_out=bool(areas[row] > 1)))
    changes = {
        "mirrored": np.array([turn.is_mirror_image for turn in turns], bool),
        "turned": np.array([turn.is_turned for turn in turns], bool),
        "framed": part & margin,
        "cropped": part & ~margin,
        "skewed": skew > SKEW_MIN,
        "colour": (chroma[0] <= GREY_CHROMA) & (chroma[1] > GREY_CHROMA + COLOURED),
    }
    equal = works.files[copies.first] == works.files[copies.second]
    words = list(zip(*changes.values(), strict=True))
    plain = np.where(copies.score >= SAME_MIN, "same", "edited").tolist()
    return [
        "identical" if equal[row] else ", ".join(itertools.compress(changes, words[row])) or plain[row]
        for row in range(len(areas))
    ]


def _outer(works: Works, copies: Copies, row: int, *, inside_out: bool) -> tuple[Thumbnail, Floats]:
    """The picture that holds the other one of a pair, and the map from the inner one into it."""
    first_is_inner = (copies.inner[row] == 1) ^ inside_out
    outer = copies.second[row] if first_is_inner else copies.first[row]
    whole = np.vstack([copies.maps[row], [0, 0, 1]])
    return works.pictures.thumbnails[outer], np.linalg.inv(whole)[:2] if inside_out else whole[:2]


def has_margin(outer: Thumbnail, into: Floats) -> bool:
    """Whether what surrounds a picture is the same all along each of its sides, as a frame or the rim of a page is.

    Args:
        outer: uint8[32, 32].
        into: floating[2, 3]: from the inner picture into it, see artray.retrieve.registration.
    """
    corners = np.array([[-0.5, -0.5, 1], [0.5, -0.5, 1], [0.5, 0.5, 1], [-0.5, 0.5, 1]]) @ into.T
    left, top, right, bottom = np.concatenate([corners.min(axis=0), corners.max(axis=0)]) * SIDE_PX + SIDE_PX / 2
    left, top = (max(0, math.floor(edge + ROUNDING)) for edge in (left, top))
    right, bottom = (min(SIDE_PX, math.ceil(edge - ROUNDING)) for edge in (right, bottom))
    values = outer.astype(np.float32)
    inside = values[top:bottom, left:right]
    across, along = values[:, left:right], values[top:bottom].T
    strips = (across[:top], across[bottom:], along[:left], along[right:])
    spreads = [strip.std(axis=1) for strip in strips if len(strip)]
    if not spreads or not inside.size:
        return False
    return bool(np.concatenate(spreads).mean() <= FLAT_MAX * (inside.std() + NOISE))
