"""Labelled boxes that people published, where the project's shared data are: counts, copies and oddities."""

import csv
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pytest

from artray.detect.datasets import reading, splitting, tables
from artray.detect.datasets.sources import BoxSource
from artray.detect.datasets.tables import NO_CLASS, Labelled
from artray.detect.datasets.truths import truths
from artray.train.works import PARTS
from tests.labelled_boxes import column, look

DATA = Path(__file__).parents[3] / "shared" / "data" / "boxes"
SIDES = ("xmin", "ymin", "xmax", "ymax")
ROBOFLOW = {"source": r"^(?P<duplicates>.*)_jpg\.rf\."}
"""What it made of one picture has one name up to there."""


def published(folder: str, labels: str) -> Labelled:
    path = DATA / folder / "annotations.json"
    if not path.exists():
        pytest.skip(f"{path} is not here")
    return reading.read(BoxSource(kind="coco", name=labels, path=str(path), labels=labels, told=ROBOFLOW))


def test_iconart_299() -> None:
    found = published("iconart", "iconart-299")
    assert (found.images.num_rows, found.boxes.num_rows) == (299, 914)
    assert (found.left_out, found.mended) == ((), ())
    assert Counter(column(found, "part")) == {"train": 241, "val": 38, "test": 20}
    counts = tables.counts(found, "iconart-299")
    assert {name: count.kept for name, count in counts.items()} == {
        "angel": 106,
        "child jesus": 95,
        "mary": 120,
        "persons (others)": 386,
        "animals (others)": 1,
        "flower": 14,
        "fruit": 4,
        "building": 1,
        NO_CLASS: 187,
    }
    assert all(count.kept == count.published for count in counts.values())


def test_iconart_299_holds_208_pictures_that_are_mirror_images_of_each_other() -> None:
    found, looks = look(published("iconart", "iconart-299"), mirrored=["iconart-299"])
    said = column(found, "duplicates")
    copies = [(a, b) for a, b in splitting.near(looks, 4) if said[a] == said[b]]
    assert len(copies) == 104
    assert len({row for pair in copies for row in pair}) == 208
    assert splitting.near(looks, 4) == copies
    assert splitting.near(looks._replace(mirrored=np.zeros_like(looks.plain)), 8) == []
    parts = column(found, "part")
    assert all(parts[a] == parts[b] for a, b in copies)


def test_byzart() -> None:
    found = published("byzart", "byzart")
    assert (found.images.num_rows, found.boxes.num_rows) == (473, 4740)
    assert (found.left_out, found.mended) == ((), ())
    assert Counter(column(found, "part")) == {"train": 331, "val": 96, "test": 46}
    counts = tables.counts(found, "byzart")
    assert {name: counts[name].kept for name in ("angel", "mary", "persons (others)", NO_CLASS)} == {
        "angel": 279,
        "mary": 254,
        "persons (others)": 1162,
        NO_CLASS: 2750,
    }


def test_photo_art_50() -> None:
    """Its repository's checkout, which ARTRAY_PHOTO_ART_50 names."""
    checkout = os.environ.get("ARTRAY_PHOTO_ART_50")
    if not checkout:
        pytest.skip("ARTRAY_PHOTO_ART_50 names no checkout of Photo-Art-50")
    source = BoxSource(kind="photo-art-50", path=checkout, labels="photo-art-50")
    found = reading.read(source)
    assert (found.images.num_rows, found.boxes.num_rows) == (5375, 5703)
    assert (found.left_out, found.mended) == ((), ())  # counted from 1, no box reaches beyond its picture
    assert len({row["label"] for row in found.published.to_pylist()}) == 50
    counts = tables.counts(found, "photo-art-50")
    assert {name: count.kept for name, count in counts.items()} == {
        "persons (others)": 224,
        "horse": 101,
        "animals (others)": 1041,
        "flower": 126,
        "fish": 139,
        "ship": 135,
        "building": 323,
        "structures (others)": 221,
        "face": 112,
        NO_CLASS: 3281,
    }
    assert all(count.kept == count.published for count in counts.values())
    turned = found.boxes.filter(pc.match_substring(found.boxes["image_id"], "158p_0028"))  # the only one: orientation 6
    assert [turned[name].to_pylist() for name in tables.CORNERS] == [[119], [68], [338], [216]]
    for domain, images, boxes in (("art", 2699, 2883), ("photo", 2676, 2820)):
        part = reading.read(source.model_copy(update={"only": {"domain": domain}}))
        assert (part.images.num_rows, part.boxes.num_rows) == (images, boxes)


def test_people_art() -> None:
    """Its repository's checkout, which ARTRAY_PEOPLE_ART names, says the same as the flat copy of its boxes."""
    flat, checkout = DATA / "peopleart_boxes.csv", os.environ.get("ARTRAY_PEOPLE_ART")
    if not flat.exists() or not checkout:
        pytest.skip(f"{flat} or ARTRAY_PEOPLE_ART is not here")
    found = reading.read(
        BoxSource(
            kind="voc",
            name="people-art",
            path=checkout,
            labels={"person": "persons (others)"},
            lists={part: f"Annotations/person_{part}.txt" for part in PARTS},
            told={"file": "^[^/]+/(?P<artist>[^_]+)_"},
        )
    )
    assert sum(found.published["boxes"].to_pylist()) == 3870
    unlisted = [line for line in found.left_out if line.endswith("is in none of the lists")]
    away = [line for line in found.left_out if "no such picture" in line]
    assert (len(unlisted), len(unlisted) + len(away)) == (154, len(found.left_out))  # left over, and without a box
    assert found.images.num_rows + len(away) == 1623 + 1384 + 1616
    assert found.mended == ()
    with flat.open(newline="") as file:
        given = Counter(
            (row["image"].partition("/")[2], *(int(row[side]) for side in SIDES)) for row in csv.DictReader(file)
        )
    names = [name.partition("/")[2] for name in found.boxes["image_id"].to_pylist()]
    sides = np.add([found.boxes[name].to_pylist() for name in tables.CORNERS], [[1], [1], [0], [0]])
    mine = Counter((name, *map(int, corners)) for name, corners in zip(names, sides.T, strict=True))
    here = {name.partition("/")[2] for name in column(found, "image_id")}
    assert mine == Counter({key: count for key, count in given.items() if key[0] in here})
    judged = truths(splitting.part(found, "test"), ["persons (others)"])
    assert len(judged.image_ids) <= 1616
    assert judged.truths.crowd.sum() == sum(splitting.part(found, "test").boxes["difficult"].to_pylist())
