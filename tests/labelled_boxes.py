"""Small sets of labelled boxes in each layout, and what is read of them."""

import json
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

from PIL import Image

from artray.archive.sample.encode import STORED, orientation_exif
from artray.detect.datasets import reading, splitting, tables
from artray.detect.datasets.sources import BoxSource
from artray.detect.datasets.splitting import Looks
from artray.detect.datasets.tables import Labelled
from artray.train.cache import Cache
from artray.train.prepare import Prepare

LABELS = {"dog": "dog", "person": "persons (others)", "bicycle": None}
UPRIGHT = (60, 40)
BOX = (10, 5, 30, 25)
"""In the upright picture of 60 x 40 pixels."""


def picture(path: Path, size: tuple[int, int] = UPRIGHT, orientation: int = 1) -> None:
    """A picture that is so large when it is upright."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGB", size, "white")
    if orientation != 1:
        image = image.transpose(STORED[orientation])
    image.save(path, exif=orientation_exif(orientation))


def read(kind: str, path: Path, **given: Any) -> Labelled:
    return reading.read(BoxSource.model_validate({"kind": kind, "path": str(path), "labels": LABELS} | given))


def boxes(found: Labelled) -> list[tuple[Any, ...]]:
    """Image without its source, label and corners."""
    rows = found.boxes.to_pylist()
    return [(row["image_id"].partition("/")[2], row["label"], *(row[name] for name in tables.CORNERS)) for row in rows]


def column(found: Labelled, name: str) -> list[Any]:
    return list(found.images[name].to_pylist())


def look(found: Labelled, mirrored: Collection[str] = ()) -> tuple[Labelled, Looks]:
    """How a set's pictures look."""
    works = found.images.select(["uri", "version"]).add_column(0, "work_id", found.images["image_id"])
    with tempfile.TemporaryDirectory() as folder, Prepare(Cache(Path(folder), 256), 2**29) as prepare:
        return splitting.look(found, prepare(works.to_pydict()), mirrored)


def told(lines: tuple[str, ...]) -> list[str]:
    """Lines without the set's name."""
    return [line.partition(": ")[2] for line in lines]


def write_coco(folder: Path, images: list[Any], annotations: list[Any], **more: Any) -> Path:
    categories = [{"id": number, "name": name} for number, name in enumerate(LABELS, 1)]
    document = {"images": images, "annotations": annotations, "categories": categories} | more
    (folder / "annotations.json").write_text(json.dumps(document))
    return folder / "annotations.json"


def image(number: int, name: str, **more: Any) -> dict[str, Any]:
    return {"id": number, "file_name": name, "width": 60, "height": 40} | more


def annotation(number: int, of: int, bbox: Any, category: int = 1, **more: Any) -> dict[str, Any]:
    return {"id": number, "image_id": of, "bbox": bbox, "category_id": category} | more


def write_voc(folder: Path, name: str, size: tuple[int, int] | None, *objects: str) -> None:
    path = folder / "Annotations" / f"{name}.xml"
    path.parent.mkdir(parents=True, exist_ok=True)
    sizes = f"<size><width>{size[0]}</width><height>{size[1]}</height></size>" if size else ""
    path.write_text(f"<annotation><owner><name>Anker</name></owner>{sizes}{''.join(objects)}</annotation>")


def voc_object(corners: tuple[Any, ...] = (11, 6, 30, 25), name: str = "dog", more: str = "") -> str:
    sides = zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True)
    inner = "".join(f"<{side}>{value}</{side}>" for side, value in sides)
    return f"<object><name>{name}</name>{more}<bndbox>{inner}</bndbox></object>"


def write_lists(folder: Path, **lists: str) -> None:
    (folder / "ImageSets" / "Main").mkdir(parents=True, exist_ok=True)
    for part, text in lists.items():
        (folder / "ImageSets" / "Main" / f"{part}.txt").write_text(text)


def write_csv(folder: Path, *lines: str, header: str = "file,x1,y1,x2,y2,label,split,artist") -> Path:
    (folder / "boxes.csv").write_text("\n".join([header, *lines]) + "\n")
    return folder / "boxes.csv"


def write_photo_art_50(folder: Path, number: str, *lines: str) -> None:
    (folder / "gt_bb").mkdir(parents=True, exist_ok=True)
    (folder / "gt_bb" / f"{number}.txt").write_text("\n".join([*lines, ""]))


def region(box: tuple[float, float, float, float], *names: str, **more: Any) -> dict[str, Any]:
    """Of a picture of 60 x 40 pixels: x, y, width and height in per cent."""
    value = dict(zip(("x", "y", "width", "height"), box, strict=True)) | {"rotation": 0, "rectanglelabels": [*names]}
    value |= more.pop("value", {})
    sizes = {"original_width": 60, "original_height": 40, "image_rotation": 0}
    return {"type": "rectanglelabels", "value": value} | sizes | more


def task(number: int, path: str, *results: Any, **data: Any) -> dict[str, Any]:
    made = [{"result": result} if isinstance(result, list) else result for result in results]
    return {"id": number, "data": {"image": path} | data, "annotations": made}


def write_tasks(folder: Path, *tasks: Any) -> Path:
    (folder / "export.json").write_text(json.dumps(tasks))
    return folder / "export.json"


PER_CENT = (100 / 6, 12.5, 100 / 3, 50)
"""BOX as Label Studio has it."""
