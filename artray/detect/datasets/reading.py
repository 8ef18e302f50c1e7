"""A set of labelled boxes into tables: everything that cannot be used is told, by file and line, and left out."""

import posixpath
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa

from artray.archive import listing
from artray.archive.listing import Entry
from artray.config import ArchiveConfig
from artray.detect.datasets import checking, pictures
from artray.detect.datasets.checking import Checked
from artray.detect.datasets.frames import Seen
from artray.detect.datasets.published import PART_NAMES, Box, Picture, Shelf
from artray.detect.datasets.readers import Reader, reader
from artray.detect.datasets.sources import BoxSource
from artray.detect.datasets.tables import BOXES, CORNERS, IMAGES, PUBLISHED, Labelled, with_boxes
from artray.detect.labels import LabelMap
from artray.errors import ConfigError, RowError
from artray.location import Location
from artray.train.works import PARTS


def read(source: BoxSource) -> Labelled:
    """A set's images and boxes.

    The images' files are opened for their sizes and their EXIF orientation, unless a store knows these; they are not
    decoded.

    Raises:
        ConfigError: no such set or kind, labels of another form than the kind's, a label that the source's labels do
            not have (unless ``unknown: drop``; lists near names), or no picture that the source takes.
        TransientError: the storage failed.
    """
    kind = reader(source.kind)
    place = Location.of(source.path)
    folder = Location(place.uri.rpartition("/")[0]) if source.is_file else place
    if not place.exists():
        raise ConfigError(f"{place}: expected labelled boxes of kind {source.kind}, found nothing there")
    root = _root(source, kind, folder)
    left_out = list[str]()
    unlisted = kind.places and source.images is None
    found = () if unlisted else listing.entries(root, ArchiveConfig(), left_out.append)
    entries = {entry.image_id: entry for entry in found}
    gathered = _Gathered(source, kind, Shelf(place, folder, root, entries), left_out)
    for picture in _taken(kind.read(gathered.shelf, source), source):
        gathered.add(picture)
    return gathered.tables()


def _taken(found: Iterable[Picture], source: BoxSource) -> Iterator[Picture]:
    """The pictures that the source takes, and what is told of without a file.

    Raises:
        ConfigError: there are pictures, but none that it takes.
    """
    taken, others, names = 0, 0, set[str]()
    for picture in found:
        values = source.values(picture.file, picture.values)
        if not picture.file or source.takes(values):
            taken += bool(picture.file)
            yield picture
        else:
            others += 1
            names |= values.keys()
    if others and not taken:
        wanted = ", ".join(f"{name}: {pattern}" for name, pattern in source.only.items())
        raise ConfigError(
            f"{source.title}: only: expected pictures with {wanted}, found none among {others:,}; their values are "
            f"{', '.join(sorted(names))}"
        )


def _root(source: BoxSource, kind: Reader, folder: Location) -> Location:
    """The folder of the pictures."""
    if source.images is None:
        return folder / kind.images if kind.images and (folder / kind.images).exists() else folder
    absolute = "://" in source.images or source.images.startswith(("/", "~"))
    return Location.of(source.images if absolute else posixpath.join(folder.uri, source.images))


class _Gathered:
    """What is read of a set so far."""

    def __init__(self, source: BoxSource, kind: Reader, shelf: Shelf, left_out: list[str]) -> None:
        self.source, self.kind, self.shelf, self.left_out = source, kind, shelf, left_out
        self.labels: LabelMap = source.label_map()
        self.classes = source.classes(self.labels)
        self.mended = list[str]()
        self.listed = 0
        self.published = Counter[str]()
        self.images: dict[str, dict[str, Any]] = {}
        self.boxes: dict[str, list[Any]] = {name: [] for name in BOXES.names}

    def add(self, picture: Picture) -> None:
        """Keep what can be used of a picture, and tell what cannot."""
        self.listed += bool(picture.file)
        known = tuple(self._known(box) for box in picture.boxes)
        self.published.update(box.label for box in picture.boxes)
        named = picture.file in picture.where  # as "" is
        where = picture.where if named else f"{picture.where} ({picture.file})"
        found = self._found(picture)
        if isinstance(found, str):
            self.left_out.append(f"{where}: {found}{with_boxes(len(picture.boxes))}")
            return
        entry, seen = found
        by = checking.scale(picture, seen, self.kind.frame, self.source.frame)
        if by.problem:
            self.left_out.append(f"{where}: {by.problem}{with_boxes(len(picture.boxes))}")
            return
        checked = checking.check(known, seen, by)
        self.left_out += checked.left_out
        self.mended += ([f"{where}: {by.mended}"] if by.mended else []) + checked.mended
        row = self._row(picture, entry, seen)
        self.images[entry.uri] = row
        self._keep(row["image_id"], checked)

    def tables(self) -> Labelled:
        """All of it."""
        title = self.source.title
        published = [
            {"source": title, "label": label, "class_name": self._class(label), "boxes": count}
            for label, count in self.published.most_common()
        ]
        return Labelled(
            pa.Table.from_pylist(list(self.images.values()), schema=IMAGES),
            pa.table(self.boxes, schema=BOXES),
            pa.Table.from_pylist(published, schema=PUBLISHED),
            ((title, self.listed),),
            tuple(f"{title}: {line}" for line in self.left_out),
            tuple(f"{title}: {line}" for line in self.mended),
        )

    def _known(self, box: Box) -> Box:
        """A box whose label is known; one whose label is not, with that as its problem.

        Raises:
            ConfigError: the label is not known, and is no reason to drop its box.
        """
        if box.problem or box.label in self.labels:
            return box
        try:
            self.labels.written(box.label)
        except ConfigError as error:
            if self.source.unknown == "error":
                raise ConfigError(
                    f"{self.source.title}: {box.where}: {error}; name it in labels, or set unknown: drop"
                ) from error
        return box._replace(problem=f"{box.label!r} is none of the labels of {self.labels.source}")

    def _found(self, picture: Picture) -> tuple[Entry, Seen] | str:
        """A picture's file and what its header says, or why it cannot be used."""
        part = self.source.part or PART_NAMES.get(picture.part.lower(), picture.part)
        if picture.problem:
            return picture.problem
        if part not in ("", *PARTS):
            return f"split: expected {', '.join(PARTS)} or nothing, got {part!r}"
        entry = picture.known.entry if picture.known else self.shelf.entries.get(_plain(picture.file))
        if entry is None:
            return f"no such picture below {self.shelf.root}"
        if entry.uri in self.images:
            return "is named a second time; the first one counts"
        try:
            return entry, picture.known.seen if picture.known else pictures.seen(entry)
        except RowError as error:
            return str(error)

    def _row(self, picture: Picture, entry: Entry, seen: Seen) -> dict[str, Any]:
        file = _plain(picture.file)
        image_id, values = f"{self.source.title}/{file}", self.source.values(file, picture.values)
        duplicates = _first(values, self.source.duplicates)
        return {
            "image_id": image_id,
            "source": self.source.title,
            "uri": entry.uri,
            "version": entry.version,
            "width_px": seen.upright_wh[0],
            "height_px": seen.upright_wh[1],
            "part": self.source.part or PART_NAMES.get(picture.part.lower()),
            "group": _first(values, self.source.group) or image_id,
            "duplicates": None if duplicates is None else f"{self.source.title}/{duplicates}",
            "labelled": self._labelled(picture),
        }

    def _labelled(self, picture: Picture) -> list[str]:
        """The classes of which a picture has every object boxed."""
        if picture.exhaustive is None or self.source.labelled is not None:
            return list(self.classes)
        named = {self._class(label) for label in picture.exhaustive}
        return [name for name in self.classes if name in named]

    def _keep(self, image_id: str, checked: Checked) -> None:
        for box, corners in zip(checked.boxes, checked.boxes_xyxy.tolist(), strict=True):
            row = {"image_id": image_id, "label": box.label, "class_name": self._class(box.label)}
            row |= dict(zip(CORNERS, corners, strict=True)) | {"crowd": box.crowd, "difficult": box.difficult}
            for name, value in row.items():
                self.boxes[name].append(value)

    def _class(self, label: str) -> str | None:
        known = label in self.labels  # a map of labels raises of others, whichever way it is asked
        return self.labels[label] if known else None


def _plain(file: str) -> str:
    """A path as a listing has it."""
    return str(PurePosixPath(file))


def _first(values: Mapping[str, str], names: tuple[str, ...]) -> str | None:
    return next((values[name] for name in names if values.get(name)), None)
