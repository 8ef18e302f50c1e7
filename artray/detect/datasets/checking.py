"""What of a published picture can be used: its size, its frame and each of its boxes. Pure arithmetic."""

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

from artray.detect.datasets import frames
from artray.detect.datasets.frames import Floats, Frame, Seen, Size
from artray.detect.datasets.published import Box, Picture

ROUNDING_PX: Final = 1.0
"""Boxes that reach no further beyond the picture are clipped without a word: publishers round."""

SAME_PX: Final = 2
"""Decimal places of pixels in which the boxes of one object agree."""


class Scale(NamedTuple):
    """How corners become pixels of a picture."""

    frame: Frame
    factors: Size  # of x and y
    problem: str = ""  # why they cannot
    mended: str = ""  # what is told of it


class Checked(NamedTuple):
    """A picture's boxes that can be used, and what is wrong with the others."""

    boxes: tuple[Box, ...]  # M of them
    boxes_xyxy: Floats  # float64[M, 4], pixels of the upright picture, in it, each with an area
    left_out: list[str]
    mended: list[str]


def scale(picture: Picture, seen: Seen, usual: Frame, told: Frame | None) -> Scale:
    """What the published size of a picture says of its corners.

    Args:
        picture: as published.
        seen: what its file says.
        usual: what boxes of its kind refer to where the size does not say.
        told: what they refer to for certain.
    """
    frame = told or frames.frame_of(seen, picture.size_wh, usual)
    size_wh = seen.size_wh(frame)
    given = picture.size_wh or size_wh
    sizes = f"labelled at {given[0]:g} x {given[1]:g} px, is {size_wh[0]} x {size_wh[1]} px"
    if not frames.alike(given, size_wh):
        return Scale(frame, (0.0, 0.0), problem=f"{sizes}: another aspect ratio, so another picture or crop")
    mended = "" if given == size_wh else sizes
    if picture.fractions:
        return Scale(frame, size_wh, mended=mended)
    factors = size_wh[0] / given[0], size_wh[1] / given[1]
    return Scale(frame, factors, mended=f"{mended}: boxes are scaled" if mended else "")


def check(boxes: Sequence[Box], seen: Seen, by: Scale) -> Checked:
    """Which of a picture's boxes can be used, and where they are."""
    left_out, mended = list[str](), list[str]()
    good = list[Box]()
    for box in boxes:
        if problem := box.problem or _wrong(box):
            left_out.append(f"{box.where}: {problem}")
        else:
            good.append(box)
    placed = np.array([box.corners for box in good], np.float64).reshape(-1, 4)
    placed = placed * np.array([*by.factors, *by.factors])
    placed = frames.upright(placed, seen) if by.frame == "stored" else placed
    beyond, inside = frames.beyond(placed, seen.upright_wh), frames.clipped(placed, seen.upright_wh)
    kept, done = list[int](), set[tuple[object, ...]]()
    for row, box in enumerate(good):
        key = (box.label, *np.round(inside[row], SAME_PX).tolist())
        if (inside[row, 2:] <= inside[row, :2]).any():
            left_out.append(f"{box.where}: {_shown(placed[row])} px lies outside the picture of {_size(seen)} px")
        elif key in done:
            left_out.append(f"{box.where}: the picture has this box of {box.label!r} already; the first one counts")
        else:
            kept.append(row)
            done.add(key)
            if beyond[row] > ROUNDING_PX:
                mended.append(f"{box.where}: reached {beyond[row]:.1f} px beyond the picture and is clipped")
    return Checked(tuple(good[row] for row in kept), inside[kept], left_out, mended)


def _wrong(box: Box) -> str:
    """What is wrong with a box's corners in themselves."""
    x1, y1, x2, y2 = box.corners
    if not np.isfinite(box.corners).all():
        return "expected four numbers as its corners, got something else"
    if x2 <= x1 or y2 <= y1:
        what = "is reversed" if x2 < x1 or y2 < y1 else "has no area"
        return f"expected x1 < x2 and y1 < y2, got {_shown(box.corners)}, which {what}"
    return ""


def _shown(corners: Sequence[float] | Floats) -> str:
    return f"[{', '.join(f'{value:.6g}' for value in corners)}]"


def _size(seen: Seen) -> str:
    return f"{seen.upright_wh[0]} x {seen.upright_wh[1]}"
