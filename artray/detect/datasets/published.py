"""A picture of a set and its boxes, as their publisher has them."""

import math
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple, TypeAlias

from artray.archive.listing import Entry
from artray.detect.datasets.frames import Seen
from artray.location import Location

Corners: TypeAlias = tuple[float, float, float, float]

NOWHERE: Final[Corners] = (math.nan, math.nan, math.nan, math.nan)
"""The corners of a box that has none."""

PART_NAMES: Final = MappingProxyType(
    {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
    | {"testing": "test"}
)
"""What publishers call parts, to what they are called here."""


class Box(NamedTuple):
    """One box, in whatever order its corners are."""

    where: str  # "boxes.csv line 12"
    label: str  # as published
    corners: Corners  # x1, y1, x2, y2, the lower right one exclusive; pixels, or fractions of the picture's sides
    crowd: bool = False  # a region of many objects
    difficult: bool = False  # hard to make out: not counted by its publisher
    problem: str = ""  # why it cannot be used


class Known(NamedTuple):
    """A picture's file, and what would be read from its header."""

    entry: Entry
    seen: Seen


class Picture(NamedTuple):
    """One picture: where it is told of, its path below the pictures' folder, and what is told."""

    where: str
    file: str
    boxes: tuple[Box, ...]
    values: Mapping[str, str] = MappingProxyType({})
    part: str = ""  # as published; "" where nothing is said
    size_wh: tuple[float, float] | None = None  # as published
    fractions: bool = False  # the corners' unit
    exhaustive: tuple[str, ...] | None = None  # labels of which every object has a box; None: all of the set's
    problem: str = ""  # why it cannot be used
    known: Known | None = None  # where it is; None: below the pictures' folder


class Shelf(NamedTuple):
    """Where a set lies."""

    path: Location  # what the source names
    folder: Location  # itself, or the folder of a file
    root: Location  # of the pictures
    entries: Mapping[str, Entry]  # every picture, by its path below the root


def number(value: object) -> float:
    """A number however it is written; NaN of what is none.

    >>> number("1.5"), number(2), number(None)
    (1.5, 2.0, nan)
    """
    try:
        return float(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else math.nan
    except (ValueError, OverflowError):
        return math.nan


def corners(values: Iterable[object]) -> Corners:
    """Four numbers; :data:`NOWHERE` where they are not four, or one is none."""
    found = [number(value) for value in values]
    return (found[0], found[1], found[2], found[3]) if len(found) == 4 and all(map(math.isfinite, found)) else NOWHERE


def size(width: object, height: object) -> tuple[float, float] | None:
    """A picture's size; None where it is not said, or makes no sense.

    >>> size("60", 40), size(60, None), size(0, 40)
    ((60.0, 40.0), None, None)
    """
    sides = number(width), number(height)
    return sides if all(math.isfinite(side) and side > 0 for side in sides) else None


def from_xywh(values: Iterable[object]) -> Corners:
    """Corners of x, y, width and height.

    >>> from_xywh([10, 20, 5, 5])
    (10.0, 20.0, 15.0, 25.0)
    """
    x, y, width, height = corners(values)
    return x, y, x + width, y + height
