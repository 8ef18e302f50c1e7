"""A table of one's own: file, x1, y1, x2, y2 and label, and where they are known split, artist, crowd, width, height.

A row with an empty box is a picture without objects.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from artray.detect.datasets import texts
from artray.detect.datasets.published import NOWHERE, Box, Picture, Shelf, corners, size
from artray.detect.datasets.sources import BoxSource
from artray.errors import ConfigError

SIDES: Final = ("x1", "y1", "x2", "y2")
COLUMNS: Final = ("file", *SIDES, "label")


def read(shelf: Shelf, source: BoxSource) -> Iterator[Picture]:
    """Every picture with the boxes of all of its rows; what else is told is of the first.

    Raises:
        ConfigError: the path is no such table, or lacks a column.
        TransientError: the storage failed.
    """
    if not source.is_file:
        raise ConfigError(f"{shelf.path}: expected a CSV table of boxes, got a folder; name the table")
    name = texts.name(shelf.path)
    rows: dict[str, list[tuple[int, dict[str, str]]]] = {}
    for line, row in texts.table(shelf.path, "a table of boxes", COLUMNS):
        rows.setdefault(row["file"], []).append((line, row))
    return (_picture(file, lines, name) for file, lines in rows.items())


def _picture(file: str, lines: Sequence[tuple[int, dict[str, str]]], name: str) -> Picture:
    line, first = lines[0]
    boxes = tuple(_box(row, f"{name} line {at}") for at, row in lines if any(row[side] for side in (*SIDES, "label")))
    part = first.get("split") or first.get("part") or ""
    parts = {row.get("split") or row.get("part") or "" for _, row in lines}
    problem = "" if len(parts) == 1 else f"expected one split in all of its rows, got {', '.join(sorted(parts))}"
    if not problem and 0 < len(boxes) < len(lines):
        problem = "a row says that it has no objects, another has one"
    if not file:
        problem = "expected a file, got none"
    size_wh = size(first.get("width"), first.get("height"))
    return Picture(f"{name} line {line}", file, boxes, first, part, size_wh, problem=problem)


def _box(row: Mapping[str, str], where: str) -> Box:
    label = row["label"]
    found = corners(row[side] for side in SIDES) if label else NOWHERE
    return Box(where, label, found, crowd=row.get("crowd") in ("1", "true"), problem="" if label else "has no label")
