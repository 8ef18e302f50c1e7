"""How each kind of set is read."""

from collections.abc import Callable, Iterator
from types import MappingProxyType
from typing import Final, NamedTuple

from artray.detect.datasets import coco, flat, label_studio, open_images, photo_art_50, stored, voc, yolo
from artray.detect.datasets.frames import Frame
from artray.detect.datasets.published import Picture, Shelf
from artray.detect.datasets.sources import BoxSource
from artray.errors import ConfigError


class Reader(NamedTuple):
    """A kind's reader."""

    read: Callable[[Shelf, BoxSource], Iterator[Picture]]
    frame: Frame  # what boxes refer to where a published size does not say
    images: str  # the folder of pictures, where there is one of this name
    places: bool = False  # whether the labels themselves say where each picture is


READERS: Final[MappingProxyType[str, Reader]] = MappingProxyType(
    {
        "coco": Reader(coco.read, "upright", "images"),
        "csv": Reader(flat.read, "upright", ""),
        "label-studio": Reader(label_studio.read, "upright", "images"),
        "open-images": Reader(open_images.read, "stored", ""),
        "photo-art-50": Reader(photo_art_50.read, "stored", ""),
        "store": Reader(stored.read, "upright", "", places=True),
        "voc": Reader(voc.read, "stored", "JPEGImages"),
        "yolo": Reader(yolo.read, "upright", ""),
    }
)


def reader(kind: str) -> Reader:
    """A kind's reader.

    Raises:
        ConfigError: no such kind.
    """
    if kind not in READERS:
        raise ConfigError(f"sources: kind: expected one of {', '.join(READERS)}, got {kind!r}")
    return READERS[kind]
