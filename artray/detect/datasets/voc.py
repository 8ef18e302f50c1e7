"""Pascal VOC: a record in XML per picture, and lists of what is in which part.

A name in a list may be followed by 1 or -1: whether an object of the list's class is there. People-Art has no record of
pictures without a person, and lists these with -1: they are read as pictures without objects.
"""

from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Final, NamedTuple
from xml.etree import ElementTree

from artray.archive import listing
from artray.config import ArchiveConfig
from artray.detect.datasets import texts
from artray.detect.datasets.published import NOWHERE, Box, Picture, Shelf, corners, size
from artray.detect.datasets.sources import BoxSource
from artray.errors import ConfigError
from artray.location import Location
from artray.train.works import PARTS

SIDES: Final = ("xmin", "ymin", "xmax", "ymax")
RECORD_BYTES: Final = 2**20


class Listed(NamedTuple):
    """A line of a list."""

    where: str
    name: str
    part: str
    absent: bool  # no object of the list's class is there


def read(shelf: Shelf, source: BoxSource) -> Iterator[Picture]:
    """Every picture of the lists, then every record that none of them has.

    Raises:
        ConfigError: no folder Annotations, or no such list.
        TransientError: the storage failed.
    """
    folder = shelf.folder / "Annotations"
    if not folder.exists():
        raise ConfigError(f"{folder}: expected a folder of records in XML, found none")
    cfg = ArchiveConfig(include=("*.xml",), max_file_bytes=RECORD_BYTES)
    records = {entry.image_id.removesuffix(".xml") for entry in listing.entries(folder, cfg, lambda _: None)}
    stems = {str(PurePosixPath(name).with_suffix("")): name for name in shelf.entries}
    lists = _lists(shelf.folder, source)
    done = set[str]()
    for file, part in lists:
        for line in _listed(file, part):
            done.add(line.name)
            yield _picture(line, folder, records, _file(line.name, shelf.entries, stems), source.first_px)
    for name in sorted(records - done):
        line = Listed(f"Annotations/{name}.xml", name, "", absent=False)
        found = _picture(line, folder, records, _file(name, shelf.entries, stems), source.first_px)
        yield found._replace(problem=found.problem or "is in none of the lists") if lists else found


def _lists(folder: Location, source: BoxSource) -> list[tuple[Location, str]]:
    """The lists and the part that each is."""
    if source.lists:
        return [(folder / name, part) for part, name in source.lists.items()]
    usual = ((folder / "ImageSets" / "Main" / f"{part}.txt", part) for part in PARTS)
    return [(file, part) for file, part in usual if file.exists()]


def _listed(file: Location, part: str) -> Iterator[Listed]:
    """A list's lines; a name may have spaces in it."""
    for at, line in enumerate(texts.read(file, "a list of pictures").splitlines(), 1):
        name, _, flag = line.strip().rpartition(" ")
        if flag not in ("1", "-1", "0") or not name:
            name, flag = line.strip(), ""
        if name:
            yield Listed(f"{texts.name(file)} line {at}", name.strip(), part, flag == "-1")


def _file(name: str, entries: Mapping[str, object], stems: Mapping[str, str]) -> str:
    """A listed name's picture, which may be listed without what its name ends with."""
    if name in entries:
        return name
    usual = name if PurePosixPath(name.lower()).suffix in listing.SUFFIXES else f"{name}.jpg"
    return stems.get(name, usual)


def _picture(line: Listed, folder: Location, records: set[str], file: str, first_px: int) -> Picture:
    if line.name not in records:
        problem = "" if line.absent else f"expected a record Annotations/{line.name}.xml, found none"
        return Picture(line.where, file, (), part=line.part, problem=problem)
    record = folder / f"{line.name}.xml"
    try:
        root = ElementTree.fromstring(record.read_bytes())  # noqa: S314 (expat bounds what entities expand to)
    except (ElementTree.ParseError, ValueError, LookupError, FileNotFoundError) as error:
        return Picture(line.where, file, (), part=line.part, problem=f"Annotations/{line.name}.xml: no record: {error}")
    size_wh = size(root.findtext("size/width"), root.findtext("size/height"))
    where = f"Annotations/{line.name}.xml"
    boxes = tuple(
        _box(element, f"{where}: object {at}", first_px) for at, element in enumerate(root.findall("object"), 1)
    )
    values = {"owner": _text(root, "owner/name"), "style": _text(root, "style")}
    return Picture(line.where, file, boxes, values, line.part, size_wh)


def _box(element: ElementTree.Element, where: str, first_px: int) -> Box:
    label = _text(element, "name")
    x1, y1, x2, y2 = corners(_text(element, f"bndbox/{side}") for side in SIDES)
    found = (x1 - first_px, y1 - first_px, x2, y2)  # counted from 1, the last pixel is in the box
    problem = "" if label else "expected a name, got none"
    return Box(where, label, found if label else NOWHERE, difficult=_text(element, "difficult") == "1", problem=problem)


def _text(element: ElementTree.Element, path: str) -> str:
    return (element.findtext(path) or "").strip()
