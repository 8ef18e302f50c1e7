"""COCO's JSON: images, annotations and categories; further values of an image (split, artist, ...) are kept.

A list ``labelled`` of an image names the labels of which it has every object, as artray itself writes it.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from artray.detect.datasets import texts
from artray.detect.datasets.published import Box, Corners, Picture, Shelf, from_xywh, size
from artray.detect.datasets.sources import BoxSource
from artray.errors import ConfigError

SECTIONS: Final = ("images", "annotations", "categories")


def read(shelf: Shelf, source: BoxSource) -> Iterator[Picture]:
    """Every image with its annotations; those of an image that is not listed come last.

    Raises:
        ConfigError: the path is no file of that form.
    """
    if not source.is_file:
        raise ConfigError(f"{shelf.path}: expected a JSON file of COCO's form, got a folder; name the file")
    document = texts.read_json(shelf.path, "a COCO document")
    name = texts.name(shelf.path)
    for section in SECTIONS:
        rows = document.get(section) if isinstance(document, dict) else None
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise ConfigError(f"{shelf.path}: expected a list of objects named {section!r}, as COCO has it, got none")
    names = {_key(category.get("id")): str(category.get("name", "")) for category in document["categories"]}
    boxes: dict[Any, list[Box]] = {}
    for row in document["annotations"]:
        boxes.setdefault(_key(row.get("image_id")), []).append(_box(row, names, f"{name}: annotation {row.get('id')}"))
    listed = set[Any]()
    for image in document["images"]:
        key = _key(image.get("id"))
        again = key in listed
        listed.add(key)
        yield _picture(image, () if again else tuple(boxes.get(key, ())), name, again)
    for key, orphans in boxes.items():
        if key not in listed:
            yield Picture(f"{name}: image {key}", "", tuple(orphans), problem="is not listed")


def _picture(image: Mapping[str, Any], boxes: tuple[Box, ...], name: str, again: bool) -> Picture:
    key, file = image.get("id"), image.get("file_name")
    plain = {name: str(value) for name, value in image.items() if isinstance(value, str | int | float)}
    problem = "its id is given a second time; the first image counts" if again else ""
    if not isinstance(file, str) or not file:
        file, problem = "", problem or "expected a file_name, got none"
    part = plain.get("split") or plain.get("part") or ""
    size_wh = size(image.get("width"), image.get("height"))
    given = image.get("labelled")
    exhaustive = tuple(str(label) for label in given) if isinstance(given, list) else None
    where = f"{name}: image {key}"
    return Picture(where, file, boxes, plain, part, size_wh, exhaustive=exhaustive, problem=problem)


def _box(row: Mapping[str, Any], names: Mapping[Any, str], where: str) -> Box:
    label = names.get(_key(row.get("category_id")))
    given = row.get("bbox")
    if label is None:
        return Box(where, "", from_xywh(()), problem=f"expected a listed category, got {row.get('category_id')!r}")
    found: Corners = from_xywh(given if isinstance(given, list) else ())
    crowd, difficult = (row.get(name) in (1, True) for name in ("iscrowd", "difficult"))
    return Box(where, label, found, crowd=crowd, difficult=difficult)


def _key(value: Any) -> Any:
    """An id that can be looked up, whatever is there."""
    return value if isinstance(value, str | int) else repr(value)
