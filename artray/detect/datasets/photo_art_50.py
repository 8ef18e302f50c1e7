"""Photo-Art-50 as it is published: a folder of pictures per class, and a text of boxes per class.

002.american-flag/002a_0001.jpg is art and 002p_0001.jpg a photo; gt_bb/002.txt has a line "002a_0001.jpg 77 81 209 149"
per object: x, y, width and height. Pixels are counted from 1, which nothing says: counted from 0, one box in ten would
reach a pixel beyond its picture, and those of whole pictures begin at 1. Only objects of the picture's own class have
boxes, whatever else it shows: horses before a covered wagon have none.

Source: github.com/BathVisArtData/PhotoArt50.
"""

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from artray.detect.datasets import texts
from artray.detect.datasets.published import Box, Corners, Picture, Shelf, from_xywh
from artray.detect.datasets.sources import BoxSource
from artray.errors import ConfigError

BOXES: Final = "gt_bb"
TEXT: Final = re.compile(r"(?P<number>\d+)\.txt")
PATH: Final = re.compile(r"(?P<number>\d+)\.(?P<label>[^/]+)/[^/]+")
DOMAIN: Final = re.compile(r"\d+\.?(?P<letter>[ap])_")
DOMAINS: Final = {"a": "art", "p": "photo"}


class Folder(NamedTuple):
    """A class and its pictures' folder."""

    name: str
    label: str


def read(shelf: Shelf, source: BoxSource) -> Iterator[Picture]:
    """Every picture that the texts name, then those that none names; values are class and domain: art or photo.

    Raises:
        ConfigError: the path is no such folder.
        TransientError: the storage failed.
    """
    folder = shelf.folder / BOXES
    found = [] if source.is_file else [name for name in folder.names() if TEXT.fullmatch(name)]
    if not found:
        raise ConfigError(f"{shelf.path}: expected Photo-Art-50's folder, with {BOXES}/002.txt and others, found none")
    named = [(match, name) for name in shelf.entries if (match := PATH.fullmatch(name))]
    folders = {match["number"]: Folder(name.partition("/")[0], match["label"]) for match, name in named}
    done = set[str]()
    for name in found:
        number = name.removesuffix(".txt")
        if number not in folders:
            problem = f"expected pictures in a folder {number}.CLASS, found none"
            yield Picture(f"{BOXES}/{name}", "", (), problem=problem)
            continue
        for picture in _pictures(texts.read(folder / name, "a text of boxes"), f"{BOXES}/{name}", folders[number]):
            done.add(picture.file)
            yield picture
    for match, name in named:
        if name not in done:
            problem = f"expected boxes of it in {BOXES}/{match['number']}.txt, found none"
            yield _picture(name, name, match["label"], ())._replace(problem=problem)


def _pictures(text: str, where: str, folder: Folder) -> Iterator[Picture]:
    """A class's pictures, each with the boxes of all of its lines."""
    boxes: dict[str, list[Box]] = {}
    for at, line in enumerate(text.splitlines(), 1):
        if line.strip():
            name, *sides = line.rsplit(maxsplit=4)
            boxes.setdefault(name.strip(), []).append(Box(f"{where} line {at}", folder.label, _corners(sides)))
    for name, found in boxes.items():
        yield _picture(found[0].where, f"{folder.name}/{name}", folder.label, tuple(found))


def _corners(sides: list[str]) -> Corners:
    """Corners measured from 0 of x and y counted from 1, width and height.

    >>> _corners(["1", "1", "400", "244"])
    (0.0, 0.0, 400.0, 244.0)
    """
    x1, y1, x2, y2 = from_xywh(sides)
    return x1 - 1, y1 - 1, x2 - 1, y2 - 1


def _picture(where: str, file: str, label: str, boxes: tuple[Box, ...]) -> Picture:
    letter = DOMAIN.match(file.rpartition("/")[2])
    values = {"class": label} | ({"domain": DOMAINS[letter["letter"]]} if letter else {})
    return Picture(where, file, boxes, values, exhaustive=(label,))
