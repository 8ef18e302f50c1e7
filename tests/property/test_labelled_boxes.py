"""Whatever is in a file of labels, it is read or told of in one line: nothing else is raised."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from artray.detect.datasets import frames, reading, tables
from artray.detect.datasets.frames import Seen
from artray.detect.datasets.sources import BoxSource
from artray.errors import ConfigError
from tests.labelled_boxes import LABELS, picture

CALM = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None)
NUMBERS = st.one_of(st.integers(-99, 99), st.floats(-99, 99), st.sampled_from([10**400, float("nan"), float("inf")]))
SCALARS = st.one_of(st.none(), st.booleans(), NUMBERS, st.text(max_size=5), st.sampled_from(["a.jpg", "dog", "train"]))
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


def like(**usual):
    """Objects whose values are as usual, or anything, or missing."""
    return st.fixed_dictionaries({}, optional={name: st.one_of(value, ANYTHING) for name, value in usual.items()})


IDS = st.integers(0, 2)
FOUR = st.lists(NUMBERS, min_size=4, max_size=4)
COCO = like(
    images=st.lists(
        like(id=IDS, file_name=st.sampled_from(["a.jpg", "b.jpg"]), width=NUMBERS, height=NUMBERS, artist=st.text()),
        max_size=3,
    ),
    annotations=st.lists(like(id=IDS, image_id=IDS, category_id=IDS, bbox=FOUR, iscrowd=IDS), max_size=5),
    categories=st.lists(like(id=IDS, name=st.sampled_from([*LABELS])), max_size=3),
)
REGION = like(
    type=st.just("rectanglelabels"),
    original_width=st.just(60),
    original_height=st.just(40),
    value=like(
        rotation=NUMBERS,
        rectanglelabels=st.lists(st.sampled_from([*LABELS]), max_size=2),
        **dict.fromkeys(("x", "y", "width", "height"), NUMBERS),
    ),
)
TASKS = st.lists(
    like(
        data=like(image=st.just("a.jpg")), annotations=st.lists(like(result=st.lists(REGION, max_size=3)), max_size=2)
    ),
    max_size=3,
)
LINES = st.lists(st.lists(st.one_of(NUMBERS.map(str), st.text(max_size=3)), max_size=8).map(" ".join), max_size=5)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    picture(tmp_path / "a.jpg")
    picture(tmp_path / "b.jpg", orientation=6)
    return tmp_path


def check(kind: str, path: Path) -> None:
    """Read it; what is kept is sound, and every published box is kept or told."""
    try:
        found = reading.read(BoxSource(kind=kind, path=str(path), labels=LABELS, unknown="drop"))
    except ConfigError:
        return
    assert found.boxes.num_rows <= sum(found.published["boxes"].to_pylist())
    assert found.images.num_rows <= found.listed[0][1]
    assert all("\n" not in line for line in found.left_out)
    sizes = {row["image_id"]: (row["width_px"], row["height_px"]) for row in found.images.to_pylist()}
    assert set(sizes.values()) <= {(60, 40)}
    for row in found.boxes.to_pylist():
        x1, y1, x2, y2 = (row[name] for name in tables.CORNERS)
        width, height = sizes[row["image_id"]]
        assert 0 <= x1 < x2 <= width
        assert 0 <= y1 < y2 <= height


@CALM
@given(document=COCO)
def test_any_coco_document(folder, document):
    (folder / "c.json").write_text(json.dumps(document))
    check("coco", folder / "c.json")


@CALM
@given(document=TASKS)
def test_any_label_studio_export(folder, document):
    (folder / "l.json").write_text(json.dumps(document))
    check("label-studio", folder / "l.json")


@CALM
@given(lines=LINES)
def test_any_text_of_yolo(folder, lines):
    (folder / "a.txt").write_text("\n".join(lines), encoding="utf-8", errors="replace")
    (folder / "classes.txt").write_text("dog\nperson\n")
    check("yolo", folder)


@CALM
@given(lines=st.lists(st.tuples(st.sampled_from(["1a_1.jpg", "1p_1.jpg", ""]), LINES.map(" ".join)).map(" ".join)))
def test_any_text_of_photo_art_50(folder, lines):
    picture(folder / "1.dog" / "1a_1.jpg")
    (folder / "gt_bb").mkdir(exist_ok=True)
    (folder / "gt_bb" / "1.txt").write_text("\n".join(lines), encoding="utf-8", errors="replace")
    check("photo-art-50", folder)


@CALM
@given(data=st.binary(max_size=60), kind=st.sampled_from(["csv", "coco", "label-studio", "voc"]))
def test_any_bytes(folder, data, kind):
    (folder / "Annotations").mkdir(exist_ok=True)
    (folder / "Annotations" / "a.xml").write_bytes(b"<annotation>" + data + b"</annotation>")
    (folder / "b.csv").write_bytes(b"file,x1,y1,x2,y2,label\na.jpg," + data)
    (folder / "b.json").write_bytes(data)
    check(kind, folder if kind == "voc" else folder / ("b.csv" if kind == "csv" else "b.json"))


@given(
    corners=st.lists(st.tuples(*[st.integers(0, 50)] * 4), max_size=4),
    orientation=st.integers(1, 8),
    stored=st.tuples(st.integers(1, 50), st.integers(1, 50)),
)
def test_turning_keeps_areas_and_turning_back_gives_the_boxes(corners, orientation, stored):
    boxes = np.array(corners, np.float64).reshape(-1, 4)
    boxes = np.concatenate([np.minimum(boxes[:, :2], boxes[:, 2:]), np.maximum(boxes[:, :2], boxes[:, 2:])], axis=1)
    seen = Seen(stored, orientation)
    turned = frames.upright(boxes, seen)
    sides, before = turned[:, 2:] - turned[:, :2], boxes[:, 2:] - boxes[:, :2]
    assert np.array_equal(sides, before[:, ::-1] if orientation >= 5 else before)
    back = {6: 8, 8: 6}.get(orientation, orientation)
    assert np.array_equal(frames.upright(turned, Seen(seen.upright_wh, back)), boxes)
