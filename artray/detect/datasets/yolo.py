"""Ultralytics' and Darknet's layout: a text per picture, a line per object: class, centre and size as fractions.

A line with more numbers is a polygon, of which the box around it is taken. A picture without a text shows no objects,
as Ultralytics has it. The text of a/images/b.jpg is a/labels/b.txt, or else b.txt beside the picture.
"""

import posixpath
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath
from typing import Any, Final

from artray.config import plain_yaml
from artray.detect.datasets import texts
from artray.detect.datasets.published import NOWHERE, Box, Corners, Picture, Shelf, corners, number
from artray.detect.datasets.sources import BoxSource
from artray.errors import ConfigError

SETTINGS: Final = ("data.yaml", "data.yml", "dataset.yaml")
NAMES: Final = ("classes.txt", "obj.names", "labels/classes.txt", "classes.names")
SPLITS: Final = ("train", "val", "test")


def read(shelf: Shelf, source: BoxSource) -> Iterator[Picture]:
    """Every picture of the parts that data.yaml names; without it every picture there is, and classes.txt for names.

    Raises:
        ConfigError: nothing names the classes, or names pictures that are not there.
        TransientError: the storage failed.
    """
    file = next((shelf.folder / name for name in SETTINGS if (shelf.folder / name).exists()), None)
    file = shelf.path if source.is_file else file
    if file is None:
        listed = next((shelf.folder / name for name in NAMES if (shelf.folder / name).exists()), None)
        if listed is None:
            raise ConfigError(
                f"{shelf.folder}: expected {SETTINGS[0]} or {NAMES[0]} with the classes' names, found none"
            )
        names = [line.strip() for line in texts.read(listed, "a list of classes").splitlines() if line.strip()]
        yield from (_picture(shelf, name, names, "") for name in shelf.entries)
        return
    settings = plain_yaml(texts.read(file, "a set's settings"), str(file))
    settings = settings if isinstance(settings, dict) else {}
    names = _names(settings.get("names"), str(file))
    for part in SPLITS:
        for name in _files(shelf, settings, part, str(file)):
            yield _picture(shelf, name, names, part)


def _names(given: Any, where: str) -> list[str]:
    """The classes' names by their numbers."""
    if isinstance(given, dict) and set(given) == set(range(len(given))):
        given = [given[key] for key in range(len(given))]
    if not isinstance(given, list) or not given:
        raise ConfigError(f"{where}: names: expected the classes' names, from 0 on, got {given!r}")
    return [str(name) for name in given]


def _files(shelf: Shelf, settings: dict[str, Any], part: str, where: str) -> Iterator[str]:
    """A part's pictures: of a folder, a list, or several of these."""
    given = settings.get(part) or (settings.get("valid") if part == "val" else None) or ()
    for each in given if isinstance(given, list | tuple) else [given]:
        tried = _candidates(str(settings.get("path") or ""), str(each))
        for path in tried:
            found = list(_listed(shelf, path) if path.endswith(".txt") else _below(shelf.entries, path))
            if found:
                yield from found
                break
        else:
            raise ConfigError(
                f"{where}: {part}: expected a folder or list of pictures below {shelf.root}, got {each!r}"
            )


def _candidates(folder: str, path: str) -> list[str]:
    """Where a part may be meant to lie; Roboflow writes ../ before a folder that lies beside data.yaml."""
    plain = path.removeprefix("../")
    return list(dict.fromkeys(posixpath.normpath(each) for each in (posixpath.join(folder, path), path, plain)))


def _below(entries: Iterable[str], folder: str) -> Iterator[str]:
    return (name for name in entries if folder == "." or name.startswith(f"{folder}/"))


def _listed(shelf: Shelf, path: str) -> Iterator[str]:
    """The pictures that a list names, relative to itself."""
    if (shelf.root / path).exists():
        for line in texts.read(shelf.root / path, "a list of pictures").splitlines():
            if line.strip():
                yield posixpath.normpath(posixpath.join(posixpath.dirname(path), line.strip()))


def _picture(shelf: Shelf, name: str, names: list[str], part: str) -> Picture:
    boxes = list[Box]()
    for path in _texts(name):
        try:
            text = (shelf.root / path).read_bytes().decode("utf-8", "replace")
        except FileNotFoundError:
            continue
        lines = (line.split() for line in text.splitlines())
        boxes = [_box(words, names, f"{path} line {at}") for at, words in enumerate(lines, 1) if words]
        break
    return Picture(name, name, tuple(boxes), part=part, fractions=True)


def _texts(name: str) -> list[str]:
    """Where a picture's text may be."""
    plain = PurePosixPath(name).with_suffix(".txt")
    parts = list(plain.parts)
    if "images" in parts[:-1]:
        at = len(parts) - 2 - parts[-2::-1].index("images")
        return [str(PurePosixPath(*parts[:at], "labels", *parts[at + 1 :])), str(plain)]
    return [str(plain)]


def _box(words: list[str], names: list[str], where: str) -> Box:
    index = number(words[0])
    if not index.is_integer() or not 0 <= index < len(names):
        return Box(where, "", NOWHERE, problem=f"expected a class from 0 to {len(names) - 1}, got {words[0]!r}")
    label, values = names[int(index)], [number(word) for word in words[1:]]
    if len(values) == 4:
        return Box(where, label, _centred(corners(values)))
    if len(values) >= 6 and len(values) % 2 == 0:
        xs, ys = values[::2], values[1::2]
        return Box(where, label, corners((min(xs), min(ys), max(xs), max(ys))))
    return Box(where, label, NOWHERE, problem=f"expected 4 numbers, or 6 and more of a polygon, got {len(values)}")


def _centred(values: Corners) -> Corners:
    """Corners of a centre and a size."""
    x, y, width, height = values
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2
