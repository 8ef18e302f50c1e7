"""Labelled boxes as what detectors are judged against, and as a COCO document."""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow.compute as pc

from artray.detect.datasets.tables import CORNERS, Labelled
from artray.location import Location
from artray.metrics.matching import Truths
from artray.taxonomy import CATEGORY, coarse

DECIMALS: Final = 3
"""Of a pixel, in a COCO document."""


class Judged(NamedTuple):
    """What predictions are compared with."""

    truths: Truths
    image_ids: tuple[str, ...]  # of which the truths' image ids are positions


def truths(found: Labelled, class_names: Sequence[str]) -> Judged:
    """What images show of some classes.

    Only images whose set labels every one of the classes exhaustively count: on others a right prediction would pass
    for a wrong one. Boxes that a publisher calls difficult are as crowds here: predictions of them are ignored, as in
    Pascal VOC's evaluation; there a prediction must overlap such a box by IoU, here by its own area.

    Args:
        found: images with their boxes, such as those of one part.
        class_names: C classes of artray.taxonomy, in the order of the class ids.

    Raises:
        ConfigError: the taxonomy has no such class.
        ValueError: a class is named twice.
    """
    for name in class_names:
        coarse(name)
    if len(set(class_names)) < len(class_names):
        raise ValueError(f"class_names: expected each once, got {', '.join(class_names)}")
    rows = zip(found.images["image_id"].to_pylist(), found.images["labelled"].to_pylist(), strict=True)
    image_ids = tuple(image_id for image_id, labelled in rows if set(class_names) <= set(labelled))
    places, ids = {name: at for at, name in enumerate(image_ids)}, {name: at for at, name in enumerate(class_names)}
    columns = found.boxes.to_pydict()
    images = np.array([places.get(name, -1) for name in columns["image_id"]], np.int64)
    classes = np.array([ids.get(name, -1) for name in columns["class_name"]], np.int64)
    chosen = (images >= 0) & (classes >= 0)
    boxes = np.array([columns[name] for name in CORNERS], np.float64).reshape(4, -1).T
    crowd = np.array(columns["crowd"], bool) | np.array(columns["difficult"], bool)
    made = Truths.of(len(image_ids), len(ids), images[chosen], classes[chosen], boxes[chosen], crowd[chosen])
    return Judged(made, image_ids)


def write_coco(found: Labelled, path: Location) -> int:
    """Write images and boxes as one COCO document; returns how many boxes of no class of artray's it leaves out.

    Pictures are named relative to the document where they lie below its folder. Beyond COCO's own keys an image has
    image_id, split, source, group, duplicates and labelled, an annotation label and difficult.

    Args:
        found: images with their boxes.
        path: the file; it is replaced.

    Raises:
        ConfigError: it cannot be written.
        TransientError: the storage failed.
    """
    boxes = found.boxes.filter(pc.is_valid(found.boxes["class_name"]))
    folder = path.uri.rpartition("/")[0]
    images = found.images.to_pylist()
    numbers = {row["image_id"]: at for at, row in enumerate(images, 1)}
    categories = {name: at for at, name in enumerate(CATEGORY, 1)}
    path.write_json(
        {
            "info": {"description": f"labelled boxes of {', '.join(title for title, _ in found.listed)}"},
            "images": [_image(row, numbers[row["image_id"]], folder) for row in images],
            "annotations": [
                _annotation(row, at, numbers[row["image_id"]], categories[row["class_name"]])
                for at, row in enumerate(boxes.to_pylist(), 1)
            ],
            "categories": [
                {"id": at, "name": name, "supercategory": CATEGORY[name]} for name, at in categories.items()
            ],
        }
    )
    return int(found.boxes.num_rows - boxes.num_rows)


def _image(row: dict[str, Any], number: int, folder: str) -> dict[str, Any]:
    told = {name: row[name] for name in ("image_id", "source", "group", "duplicates", "labelled")}
    size = {"width": row["width_px"], "height": row["height_px"]}
    return {"id": number, "file_name": row["uri"].removeprefix(f"{folder}/"), "split": row["part"]} | size | told


def _annotation(row: dict[str, Any], number: int, image: int, category: int) -> dict[str, Any]:
    x1, y1, x2, y2 = (row[name] for name in CORNERS)
    width, height = x2 - x1, y2 - y1
    return {
        "id": number,
        "image_id": image,
        "category_id": category,
        "bbox": [round(value, DECIMALS) for value in (x1, y1, width, height)],
        "area": round(width * height, DECIMALS),
        "iscrowd": int(row["crowd"]),
        "label": row["label"],
        "difficult": int(row["difficult"]),
    }
