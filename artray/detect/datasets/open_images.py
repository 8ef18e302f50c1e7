"""Open Images' tables of boxes: a row each, corners as fractions of the sides, labels by their identifiers.

Only pictures that are there are read: nobody has all nine million. In a picture every object is boxed of the labels
that people found in it, so those of its boxes; what was looked for and not found is not read.
"""

from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Final

from artray.detect.datasets import texts
from artray.detect.datasets.published import Box, Picture, Shelf, corners
from artray.detect.datasets.sources import BoxSource
from artray.errors import ConfigError
from artray.location import Location

COLUMNS: Final = ("ImageID", "LabelName", "XMin", "XMax", "YMin", "YMax")
SIDES: Final = ("XMin", "YMin", "XMax", "YMax")
BOXES: Final = "annotations-bbox.csv"
CLASSES: Final = "class-descriptions-boxable.csv"


def read(shelf: Shelf, source: BoxSource) -> Iterator[Picture]:
    """The pictures that are there and have boxes; a file's name may say their part, as train-annotations-bbox.csv does.

    Raises:
        ConfigError: no such table, or one without a column.
        TransientError: the storage failed.
    """
    found = shelf.folder.names()
    files = [shelf.path] if source.is_file else [shelf.folder / name for name in found if name.endswith(BOXES)]
    if not files:
        raise ConfigError(f"{shelf.folder}: expected a table *{BOXES}, found none")
    classes = next((shelf.folder / name for name in found if name.endswith(CLASSES)), None)
    names = {} if classes is None else _names(classes)
    here = {PurePosixPath(name).stem: name for name in shelf.entries}
    for file in files:
        yield from _pictures(file, names, here)


def _names(file: Location) -> dict[str, str]:
    """Identifier to name; the table has no header, or one that begins with LabelName."""
    rows = (line.partition(",") for line in texts.read(file, "the classes' names").splitlines())
    return {key.strip(): name.strip().strip('"') for key, _, name in rows if key.strip() != "LabelName"}


def _pictures(file: Location, names: Mapping[str, str], here: Mapping[str, str]) -> Iterator[Picture]:
    name = texts.name(file)
    words = name.replace("_", "-").split("-")
    part = next((word for word in words if word in ("train", "validation", "test")), "")
    boxes: dict[str, list[Box]] = {}
    away = set[str]()
    for line, row in texts.table(file, "a table of boxes", COLUMNS):
        key = row["ImageID"]
        if key in here:
            boxes.setdefault(key, []).append(_box(row, names, f"{name} line {line}"))
        else:
            away.add(key)
    for key, found in boxes.items():
        labels = tuple(dict.fromkeys(box.label for box in found if box.label))
        where = f"{name}: {key}"
        yield Picture(where, here[key], tuple(found), {}, part, fractions=True, exhaustive=labels)
    if away:
        yield Picture(name, "", (), problem=f"{len(away):,} pictures of the table are not here")


def _box(row: Mapping[str, str], names: Mapping[str, str], where: str) -> Box:
    label = names.get(row["LabelName"], row["LabelName"])
    problem = "" if label else "expected a LabelName, got none"
    crowd = row.get("IsGroupOf") == "1"
    return Box(where, label, corners(row[side] for side in SIDES), crowd=crowd, problem=problem)
