"""What a store found, as labelled boxes: thresholds, what its detectors look for, and where its pictures are."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from artray import schema
from artray.config import DetectConfig, FuseConfig, Profile
from artray.detect.datasets import reading, tables
from artray.detect.datasets.sources import BoxSource
from artray.detect.datasets.truths import truths
from artray.errors import ConfigError
from artray.models import cards
from artray.pipeline.report import Report
from artray.pipeline.run import fingerprint
from artray.store import evaluate_boxes
from artray.store.layout import Store, create_store
from artray.store.records import Records
from artray.taxonomy import CATEGORY
from tests.labelled_boxes import BOX, annotation, boxes, column, image, look, picture, read, told, write_coco

PETS = "pets@1,decode@640"
RUN = {"cards": {"pets": {"task": "detect", "labels": {"c": "cat", "d": "dog", "x": None}, "fingerprint": "1"}}}
"""What a run's report says of its cards, as far as it matters."""


def found(name: str, score: float, corners: tuple[float, ...] = BOX) -> dict[str, Any]:
    edges = dict(zip(tables.CORNERS, corners, strict=True))
    return {"class_name": name, "category": CATEGORY[name], "score": score, "source": "pets"} | edges


def record(archive: Path, image_id: str, *objects: Any, **more: Any) -> dict[str, Any]:
    """A record of a picture of 60 x 40 pixels that is there, unless more is said."""
    path = archive / image_id
    picture(path, orientation=6)
    status = path.stat()
    row = {"image_id": image_id, "uri": str(path), "size_bytes": status.st_size, "error": "", "error_detail": ""}
    row |= {"version": f"{status.st_mtime_ns}-{status.st_size}", "width_px": 60, "height_px": 40}
    return row | {"objects": [*objects], "models": PETS, "run_id": "run-1"} | more


def store(folder: Path, rows: Sequence[dict[str, Any]], **runs: Any) -> Store:
    made = create_store(folder)
    batch = {name: [row.get(name) for row in rows] for name in schema.RECORD.names}
    Records.create(made).append(schema.table(batch, schema.RECORD))
    for name, report in runs.items():
        made.write_json(f"runs/{name}.json", report)
    return made


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return tmp_path / "archive"


def test_objects_are_boxes_difficult_or_nothing_by_their_score(archive: Path, tmp_path: Path) -> None:
    sides = [(at, 5, 30, 25) for at in range(5)]
    scores = (0.3, 0.7, 0.69, 0.9, 0.29)  # 0.7 and 0.3 are less as float32, which they are stored in
    rows = [record(archive, "a.jpg", *(found("dog", score, side) for score, side in zip(scores, sides, strict=True)))]
    made = store(tmp_path / "store", rows, run=RUN)
    got = read("store", Path(made.uri), labels=None, score_min=0.7, ignore_min=0.3)
    assert boxes(got) == [("a.jpg", "dog", *sides[at]) for at in (3, 1, 2, 0)]  # the surest first
    assert got.boxes["difficult"].to_pylist() == [False, False, True, True]
    judged = truths(got, ["cat", "dog"])
    assert judged.truths.crowd.tolist() == [False, False, True, True]  # neither learned nor denied
    assert read("store", Path(made.uri), labels=None, score_min=0.7).boxes["x1_px"].to_pylist() == [3, 1]
    assert read("store", Path(made.uri), labels=None).boxes.num_rows == 5


def test_thresholds_are_of_stores_and_in_order() -> None:
    for name in ("score_min", "ignore_min"):
        with pytest.raises(ValueError, match=f"{name}: expected only with the kind store, got csv"):
            BoxSource.model_validate({"path": "x", name: 0.0})
    for given in ({"score_min": 0.5, "ignore_min": 0.6}, {"ignore_min": 0.1}):
        with pytest.raises(ValueError, match=r"ignore_min: expected at most score_min"):
            BoxSource.model_validate({"kind": "store", "path": "x"} | given)
    with pytest.raises(ValueError, match="score_min"):
        BoxSource(kind="store", path="x", score_min=1.5)


def test_a_picture_is_labelled_for_what_its_detectors_look_for(archive: Path, tmp_path: Path) -> None:
    rows = [
        record(archive, "a.jpg", found("dog", 0.9), found("face", 0.9)),
        record(archive, "b.jpg", found("ship", 0.9), models="pets@1,ships@2,mtcnn@3,detect.fuse@0,decode@640"),
        record(archive, "c.jpg", models="types@4,decode@640"),
    ]
    later = {
        "ships": {"task": "detect", "labels": {"boat": "ship"}, "fingerprint": "2"},
        "mtcnn": {"task": "detect", "labels": {"face": "face"}, "fingerprint": "3"},
        "types": {"task": "classify", "labels": {}, "fingerprint": "4"},
    }
    made = store(tmp_path / "store", rows, one=RUN, two={"cards": later})
    got = read("store", Path(made.uri), labels=None)
    assert column(got, "labelled") == [["cat", "dog"], ["cat", "dog", "ship"], []]
    assert [row[1] for row in boxes(got)] == ["dog", "ship"]  # a face is none of the objects
    assert got.published["boxes"].to_pylist() == [1, 1]
    faces = read("store", Path(made.uri), labels=None, labelled=["face", "dog"])
    assert column(faces, "labelled") == [["dog", "face"]] * 3
    assert [row[1] for row in boxes(faces)] == ["dog", "face", "ship"]


def test_a_run_says_what_its_cards_find(archive: Path, tmp_path: Path) -> None:
    """As artray process writes reports and records."""
    described = [cards.load("ssdlite-mobilenet-coco"), cards.load("mtcnn")]
    detect = DetectConfig(cards=tuple(card.name for card in described), fuse=FuseConfig(method="wbf"))
    profile = Profile(name="made", detect=detect)
    models = fingerprint(profile, described)
    made = store(tmp_path / "store", [record(archive, "a.jpg", models=models)])
    with Report(made, str(archive), "run-1", profile, described):
        pass
    labelled = set(column(read("store", Path(made.uri), labels=None), "labelled")[0])
    assert labelled == {*described[0].labels.values()} - {None}
    assert "detect.fuse@" in models


def test_what_nothing_says_must_be_named(archive: Path, tmp_path: Path) -> None:
    made = store(tmp_path / "store", [record(archive, "a.jpg", found("dog", 0.9))])
    with pytest.raises(ConfigError, match=r"expected a run with a detector of more than faces, found none; .*labelled"):
        read("store", Path(made.uri), labels=None)
    made.write_json("runs/one.json", {"cards": {"pets": RUN["cards"]["pets"] | {"fingerprint": "2"}}})
    with pytest.raises(ConfigError, match=r"a\.jpg: expected cards that the store's runs describe, got 'pets@1,.*lab"):
        read("store", Path(made.uri), labels=None)
    assert column(read("store", Path(made.uri), labels=None, labelled=["dog"]), "labelled") == [["dog"]]
    with pytest.raises(ConfigError, match="no artray store here"):
        read("store", archive, labels=None)


def test_pictures_are_where_their_records_say(archive: Path, tmp_path: Path) -> None:
    rows = [
        record(archive, "a/one.jpg", found("dog", 0.9), metadata={"artist": "Anker", "file": "x"}, type="painting"),
        record(archive, "two.jpg", found("dog", 0.9), type="drawing"),
        record(archive, "broken.jpg", error="corrupt", objects=None),
        record(archive, "gone.jpg", found("dog", 0.9), vanished_at=0),
        record(archive, "changed.jpg", found("dog", 0.9), version="1-1"),
        record(archive, "odd.jpg", found("dog", 0.9, (70, 5, 80, 25))),
    ]
    made = store(tmp_path / "store", rows, run=RUN)
    got = read("store", Path(made.uri), labels=None)
    names = ["store/a/one.jpg", "store/two.jpg", "store/changed.jpg", "store/odd.jpg"]
    assert column(got, "image_id") == names
    assert column(got, "uri")[0] == str(archive / "a" / "one.jpg")
    assert column(got, "width_px") == [60] * 4
    assert column(got, "group")[:2] == ["Anker", "store/two.jpg"]
    assert told(got.left_out) == ["odd.jpg: object 1: [70, 5, 80, 25] px lies outside the picture of 60 x 40 px"]
    seen, _ = look(got)
    assert column(seen, "image_id") == [name for name in names if "changed" not in name]
    painted = read("store", Path(made.uri), labels=None, only={"type": "painting", "file": "a/.*"})
    assert column(painted, "image_id") == ["store/a/one.jpg"]
    archive.rename(tmp_path / "moved")
    moved = read("store", Path(made.uri), labels=None, images=str(tmp_path / "moved"), only={"type": "painting"})
    assert column(moved, "uri") == [str(tmp_path / "moved" / "a" / "one.jpg")]
    assert boxes(moved) == [("a/one.jpg", "dog", *BOX)]


def test_boxes_that_people_drew_come_before_those_of_a_store(archive: Path, tmp_path: Path) -> None:
    rows = [record(archive, f"images/{name}.jpg", found("cat", 0.9)) for name in "ab"]
    made = store(tmp_path / "store", rows, run=RUN)
    drawn = read("coco", write_coco(archive, [image(1, "a.jpg")], [annotation(1, 1, [10, 5, 20, 20])]))
    both = tables.merged([drawn, read("store", Path(made.uri), labels=None)])
    assert column(both, "image_id") == ["coco/a.jpg", "store/images/b.jpg"]
    assert both.boxes["class_name"].to_pylist() == ["dog", "cat"]


def test_a_store_is_judged_by_another(archive: Path, tmp_path: Path) -> None:
    rows = [record(archive, "a.jpg", found("dog", 0.9)), record(archive, "b.jpg", found("cat", 0.4))]
    one = store(tmp_path / "one", rows, run=RUN)
    other = store(tmp_path / "other", [rows[0], rows[1] | {"objects": []}], run=RUN)
    source = BoxSource(kind="store", path=other.uri)
    one.write_json("store.json", (one.read_json("store.json") or {}) | {"archive": str(tmp_path / "away")})
    judged = evaluate_boxes.evaluate(one, source, resamples=0)
    assert (judged["images"], judged["classes"], judged["fine"]["ap50 dog"]) == (2, ["dog"], 1.0)


def test_a_store_on_s3(archive: Path, s3_bucket: str) -> None:
    made = create_store(f"s3://{s3_bucket}/store")
    row = record(archive, "a.jpg", found("dog", 0.9), uri=f"s3://{s3_bucket}/archive/a.jpg", models=PETS)
    batch = {name: [row.get(name)] for name in schema.RECORD.names}
    Records.create(made).append(schema.table(batch, schema.RECORD))
    made.write_json("runs/run.json", RUN)
    got = reading.read(BoxSource(kind="store", path=made.uri))
    assert column(got, "uri") == [f"s3://{s3_bucket}/archive/a.jpg"]  # which is not there, and was not asked for
    assert boxes(got) == [("a.jpg", "dog", *BOX)]


def test_an_empty_store(tmp_path: Path) -> None:
    made = create_store(tmp_path / "store")
    Records.create(made)
    got = reading.read(BoxSource(kind="store", path=made.uri, labelled=("dog",)))
    assert (got.images.num_rows, got.boxes.num_rows) == (0, 0)
