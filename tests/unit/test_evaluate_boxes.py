"""A store's objects against labelled boxes: figures worked out by hand."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from artray import config, schema
from artray.cli import app
from artray.detect.datasets.sources import BoxSource
from artray.errors import ConfigError
from artray.store import evaluate_boxes
from artray.store.layout import Store, create_store
from artray.store.records import Records
from tests.labelled_boxes import write_photo_art_50

SIZE_WH = (100, 80)
DOG, BOAT, BUS = 18, 9, 6
"""COCO's ids."""


def box(name: str, category: str, score: float, corners: tuple[float, float, float, float]) -> dict[str, Any]:
    edges = dict(zip(("x1_px", "y1_px", "x2_px", "y2_px"), corners, strict=True))
    return {"class_name": name, "category": category, "score": score, "source": "test"} | edges


FOUND = {
    "a/one.png": [
        box("dog", "animals", 0.9, (10, 10, 50, 50)),  # right
        box("cat", "animals", 0.8, (60, 10, 90, 40)),  # a dog there: right as an animal only
        box("face", "faces", 0.9, (0, 0, 5, 5)),  # not judged: COCO has no faces
    ],
    "two.png": [box("ship", "structures", 0.6, (0, 0, 40, 40)), box("ship", "structures", 0.5, (60, 60, 90, 75))],
    "three.png": [],
}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    archive = tmp_path / "archive"
    made = create_store(tmp_path / "store")
    rows = []
    for image_id, objects in FOUND.items():
        path = archive / image_id
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", SIZE_WH).save(path)
        rows.append(
            {"image_id": image_id, "uri": str(path), "error": "", "objects": objects}
            | dict(zip(("width_px", "height_px"), SIZE_WH, strict=True))
        )
    batch = {name: [row.get(name) for row in rows] for name in schema.RECORD.names}
    Records.create(made).append(schema.table(batch, schema.RECORD))
    made.write_json("store.json", (made.read_json("store.json") or {}) | {"archive": str(archive)})
    return made


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    truths = [
        ("a/one.png", DOG, (10, 10, 40, 40)),
        ("a/one.png", DOG, (60, 10, 30, 30)),
        ("two.png", BOAT, (60, 60, 30, 15)),
        ("two.png", BUS, (0, 0, 40, 40)),  # no class of ours
    ]
    names = ["a/one.png", "two.png", "three.png", "elsewhere.png"]
    images = [
        {"id": at, "file_name": name, "width": SIZE_WH[0], "height": SIZE_WH[1]} for at, name in enumerate(names, 1)
    ]
    annotations = [
        {"id": at, "image_id": names.index(name) + 1, "category_id": label, "bbox": list(xywh), "iscrowd": 0}
        for at, (name, label, xywh) in enumerate(truths, 1)
    ]
    categories = [{"id": DOG, "name": "dog"}, {"id": BOAT, "name": "boat"}, {"id": BUS, "name": "bus"}]
    path = tmp_path / "coco.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return path


def test_figures_are_those_of_the_boxes(store: Store, coco: Path) -> None:
    told = evaluate_boxes.evaluate(store, BoxSource(kind="coco", path=str(coco), labels="coco"), resamples=20)
    assert (told["images"], told["boxes"]) == (3, 3)
    assert told["counts"]["dog"] == 2
    # of two dogs one is found, and nothing wrong is said: precision 1 up to recall 0.5, that is 51 of 101 recalls
    assert told["fine"]["ap50 dog"] == pytest.approx(51 / 101)
    assert told["fine"]["ap50 ship"] == pytest.approx(0.5)  # the wrong one scores higher
    assert told["fine"]["ap50"] == pytest.approx((51 / 101 + 0.5) / 2)
    assert told["coarse"]["ap50 animals"] == 1.0
    assert told["errors"]["cat"]["class"] == 1
    assert told["errors"]["ship"] | {} == dict.fromkeys(told["errors"]["ship"], 0) | {"correct": 1, "background": 1}
    assert told["intervals"]["ap50 dog"]["value"] == pytest.approx(51 / 101)
    assert told["thresholds"]["dog"] == pytest.approx(0.9)
    assert any("elsewhere.png" in line for line in told["left_out"])
    assert "face" not in told["classes"]


def test_the_worst_and_the_best_are_shown(store: Store, coco: Path, tmp_path: Path) -> None:
    told = evaluate_boxes.evaluate(store, BoxSource(kind="coco", path=str(coco), labels="coco"), resamples=0)
    ranked = [(entry["image_id"], entry["right"], entry["wrong"], entry["missed"]) for entry in told["looked_at"]]
    assert ranked == [("a/one.png", 1, 1, 1), ("two.png", 1, 1, 0)]  # F1 1/2 and 2/3; in the third nothing is
    assert told["looked_at"][0]["labelled"] == [[10, 10, 50, 50], [60, 10, 90, 40]]
    assert evaluate_boxes.save_sheet(store, told["looked_at"], tmp_path / "sheet.png") == 2
    drawn = np.asarray(Image.open(tmp_path / "sheet.png"))
    assert len(np.unique(drawn.reshape(-1, 3), axis=0)) > 10  # boxes of several colours, and captions


def test_a_table_of_ones_own_is_judged_for_what_it_has_boxes_of(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "boxes.csv"
    path.write_text("file,x1,y1,x2,y2,label\na/one.png,10,10,50,50,dog\ntwo.png,,,,,\n")
    told = evaluate_boxes.evaluate(store, BoxSource(kind="csv", path=str(path)), resamples=0)
    assert (told["classes"], told["images"], told["fine"]["ap50"]) == (["dog"], 2, 1.0)
    assert [entry["wrong"] for entry in told["looked_at"]] == [0]  # the ship is nothing that the table speaks of


def test_sets_of_one_class_a_picture_are_judged_a_class_at_a_time(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "archive"
    for number, name in (("1", "dog"), ("2", "cat")):
        (folder / f"{number}.{name}").mkdir()
        Image.new("RGB", SIZE_WH).save(folder / f"{number}.{name}" / "one.png")
        write_photo_art_50(folder, number, "one.png 11 11 40 40")
    source = BoxSource(kind="photo-art-50", path=str(folder), labels={"dog": "dog", "cat": "cat"})
    with pytest.raises(ConfigError, match=r"expected pictures in which every one of cat, dog is labelled, found none"):
        evaluate_boxes.evaluate(store, source, resamples=0)
    dogs = source.model_copy(update={"labels": {"dog": "dog", "cat": None}})
    told = evaluate_boxes.evaluate(store, dogs, resamples=0)
    assert (told["images"], told["fine"]["ap50 dog"]) == (1, 1.0)


def test_the_command_prints_tables_and_json(store: Store, coco: Path) -> None:
    arguments = ["evaluate", store.uri, "--boxes", str(coco), "--label-map", "coco"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert "3 images with labelled boxes" in done.output
    setting = next(line for line in done.output.splitlines() if "--set" in line).split("'")[1]
    least = config.load("bundled", [setting]).detect.fuse.class_score_min
    assert 0 < least["ship"] <= 1
    told = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)
    assert np.isclose(told["fine"]["ap50 ship"], 0.5)


def test_what_cannot_be_is_told(store: Store, coco: Path, tmp_path: Path) -> None:
    for arguments in ([], ["--labels", "x.csv", "--boxes", str(coco)]):
        done = CliRunner().invoke(app, ["evaluate", store.uri, *arguments])
        assert (done.exit_code, "expected one of --labels and --boxes" in done.output) == (2, True)
    other = tmp_path / "other"
    other.mkdir()
    Image.new("RGB", SIZE_WH).save(other / "elsewhere.png")
    with pytest.raises(ConfigError, match=r"expected boxes of images of .*, found none of 1 images there"):
        evaluate_boxes.evaluate(store, BoxSource(kind="coco", path=str(coco), labels="coco", images=str(other)))
    with pytest.raises(ConfigError, match="expected one of its"):
        evaluate_boxes.evaluate(store, BoxSource(kind="coco", path=str(coco), labels="iconart"))
