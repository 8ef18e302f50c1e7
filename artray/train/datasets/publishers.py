"""Sets that are neither a table nor a folder per label; a store's corrections are one of them."""

from collections.abc import Callable, Iterator
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any, Final
from xml.etree import ElementTree

from artray.archive import listing
from artray.config import ArchiveConfig
from artray.errors import ConfigError
from artray.location import Location
from artray.store import corrections as corrected
from artray.store import find, views
from artray.store.layout import open_store
from artray.store.records import Records
from artray.train.datasets.items import Item
from artray.train.datasets.layouts import Layout

RECORD_BYTES: Final = 2**20
DUBLIN_CORE: Final = "{http://purl.org/dc/elements/1.1/}"


def iconclass(folder: Location, layout: Layout) -> Iterator[Item]:
    """Brill's Iconclass AI test set: data.json, from a picture's name to its Iconclass notations.

    Raises:
        ConfigError: no data.json, or not of that form.
    """
    file = folder / "data.json"
    content: Any = file.read_json()
    if content is None or not all(isinstance(codes, list) for codes in content.values()):
        raise ConfigError(f"{file}: expected a mapping of pictures to lists of Iconclass notations")
    wanted = layout.type.map or {}
    for name, codes in content.items():
        found = {wanted[code]: code for code in (str(each).lower() for each in codes) if code in wanted}
        code = next(iter(found.values())) if len(found) == 1 else ""  # of both, it is neither
        yield Item(f"data.json: {name}", name, {"notation": code}, None)


def rijksmuseum(folder: Location, layout: Layout) -> Iterator[Item]:
    """The Rijksmuseum Challenge 2014: a record in Dublin Core per work, xml/NAME.xml beside jpg/NAME.jpg."""
    del layout
    cfg = ArchiveConfig(include=("*.xml",), max_file_bytes=RECORD_BYTES)
    for entry in listing.entries(folder / "xml", cfg, lambda _: None):
        record = folder / "xml" / entry.image_id
        name = f"jpg/{PurePosixPath(entry.image_id).with_suffix('.jpg')}"
        try:
            root = ElementTree.fromstring(record.read_bytes())  # noqa: S314 (expat bounds what entities expand to)
        except ElementTree.ParseError:
            yield Item(f"xml/{entry.image_id}: not a record", "", {}, None)
            continue
        values = {tag: _text(root, tag) for tag in ("type", "creator", "title")}
        yield Item(f"xml/{entry.image_id}", name, values, None)


def corrections(folder: Location, layout: Layout) -> Iterator[Item]:
    """What people put right in a store of artray's; an image's metadata stand beside its labels.

    Raises:
        ConfigError: there is no such store.
    """
    del layout
    store = open_store(folder.uri)
    said = corrected.read(store)
    with views.opened(Records.open(store)) as connection:
        statement = "SELECT image_id, metadata FROM works WHERE image_id IN (SELECT unnest(?))"
        held = {row["image_id"]: row["metadata"] for row in find.works(connection, statement, [[*said]])}
    for image_id, correction in said.items():
        about = {name: value for name, value in (held.get(image_id) or {}).items() if name not in corrected.CLASSES}
        labels = {head: label for head, label in correction.labels.items() if label != corrected.NONE}
        yield Item(f"correction of {image_id}", image_id, about | labels, None)


def _text(root: ElementTree.Element, tag: str) -> str:
    return next((element.text.strip() for element in root.iter(f"{DUBLIN_CORE}{tag}") if element.text), "")


READERS: Final[MappingProxyType[str, Callable[[Location, Layout], Iterator[Item]]]] = MappingProxyType(
    {"corrections": corrections, "iconclass": iconclass, "rijksmuseum": rijksmuseum}
)
