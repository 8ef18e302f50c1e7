"""What artray itself found, read from a store: boxes to train on where nobody drew any.

An object that scores less than ``score_min``, but at least ``ignore_min``, is difficult: neither there nor not. A
picture is where its record says, of the size that it says; its file is not looked for. What its metadata say are its
values, and so are type and genre.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np

from artray.archive.listing import Entry
from artray.detect.datasets.frames import Seen
from artray.detect.datasets.published import Box, Known, Picture, Shelf, corners, size
from artray.detect.datasets.sources import BoxSource
from artray.detect.datasets.tables import CORNERS
from artray.errors import ConfigError
from artray.store import objects
from artray.store.layout import open_store
from artray.taxonomy import fallback

FACE: Final = fallback("faces")
"""Of another detector than objects: it is taken only where ``labelled`` names it."""

COLUMNS: Final = (
    *("image_id", "uri", "size_bytes", "version", "metadata", "width_px", "height_px"),
    *("type", "genre", "objects", "models"),
)


def read(shelf: Shelf, source: BoxSource) -> Iterator[Picture]:
    """Every image of the store that was processed well; exhaustive is what its detectors look for.

    Raises:
        ConfigError: the path is no store, or nothing says what its detectors look for.
        TransientError: the storage failed.
    """
    store = open_store(shelf.path.uri)
    known = objects.known_cards(store)
    if source.labelled is None and not {name for names in known.values() for name in names} - {FACE}:
        raise ConfigError(
            f"{store.uri}: expected a run with a detector of more than faces, found none; name the classes that "
            "were looked for in labelled"
        )
    for record in objects.good(store, COLUMNS):
        yield _picture(record, source, _exhaustive(record, source, known))


def _exhaustive(
    record: Mapping[str, Any], source: BoxSource, known: Mapping[str, tuple[str, ...]]
) -> tuple[str, ...] | None:
    """The classes that a record's detectors look for; None where the source says it.

    Raises:
        ConfigError: nobody does.
    """
    if source.labelled is not None:
        return None
    models = str(record["models"] or "")
    names = objects.looked_for(models, known)
    if names is None:
        raise ConfigError(
            f"{source.path}: {record['image_id']}: expected cards that the store's runs describe, got {models!r}; name "
            "the classes that were looked for in labelled"
        )
    return tuple(name for name in names if name != FACE)


def _picture(record: Mapping[str, Any], source: BoxSource, exhaustive: tuple[str, ...] | None) -> Picture:
    image_id, size_wh = str(record["image_id"]), size(record["width_px"], record["height_px"])
    values = {name: str(value) for name, value in (record["metadata"] or {}).items()}
    values |= {name: record[name] for name in ("type", "genre") if record[name]}
    entry = Entry(image_id, record["uri"], record["size_bytes"] or 0, record["version"] or "")
    here = source.images is None and size_wh is not None
    known = Known(entry, Seen((record["width_px"], record["height_px"]), 1)) if here else None
    boxes = tuple(_boxes(record, source))
    return Picture(image_id, image_id, boxes, values, size_wh=size_wh, exhaustive=exhaustive, known=known)


def _boxes(record: Mapping[str, Any], source: BoxSource) -> Iterator[Box]:
    """A record's objects, by falling score."""
    sure = _stored(source.score_min or 0.0)
    least = sure if source.ignore_min is None else _stored(source.ignore_min)
    found = [(each["score"] or 0.0, at, each) for at, each in enumerate(record["objects"] or (), 1)]
    for score, at, each in sorted(found, key=lambda entry: -entry[0]):
        name = str(each["class_name"])
        if score >= least and (name != FACE or FACE in (source.labelled or ())):
            where = f"{record['image_id']}: object {at}"
            yield Box(where, name, corners(each[side] for side in CORNERS), difficult=score < sure)


def _stored(score: float) -> float:
    """A score as records have it: 0.7 is a little less there."""
    return float(np.float32(score))
