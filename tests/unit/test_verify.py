"""A good store passes; each promise, broken in one row, is reported by its name with that row's image_id."""

import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from artray import schema
from artray.archive import listing
from artray.config import ArchiveConfig
from artray.errors import ConfigError
from artray.location import Location
from artray.store.layout import Store, create_store, open_store
from artray.store.records import Records
from artray.store.rewrite import update, upsert
from artray.store.vectors import opened
from artray.store.verify import ROWS, verify
from tests import made_store

GOOD, FAILED = "07/0000007.jpg", "49/0000049.jpg"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store of which every promise is kept."""
    made = made_store.store(tmp_path_factory.mktemp("verify") / "store", 120, batch=60)
    with opened(made) as index:
        index.sync(Records.open(made))
    return made


@pytest.fixture
def store(whole: Store, tmp_path: Path) -> Store:
    shutil.copytree(whole.uri, tmp_path / "store")
    return open_store(tmp_path / "store")


def broken(found: dict[str, Any]) -> dict[str, str]:
    assert found["ok"] == all(promise["ok"] for promise in found["promises"])
    return {promise["name"]: promise["detail"] for promise in found["promises"] if not promise["ok"]}


def row(store: Store, image_id: str) -> dict[str, Any]:
    table = Records.open(store).delta().to_pyarrow_table()
    found = next(row for row in table.to_pylist() if row["image_id"] == image_id)
    return {name: dict(value) if name.endswith("_scores") and value else value for name, value in found.items()}


def rewrite(store: Store, image_id: str, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    before = row(store, image_id)
    after = before | change(before)
    table = schema.table({name: [after[name]] for name in schema.RECORD.names}, schema.RECORD)
    upsert(Records.open(store), table, "breaker")


def test_a_good_store_keeps_every_promise(whole: Store) -> None:
    found = verify(whole)
    assert found["ok"] is True
    assert broken(found) == {}
    assert [promise["name"] for promise in found["promises"]] == [
        "every part is there",
        *ROWS,
        "every embedding can be searched",
    ]
    assert {promise["detail"] for promise in found["promises"][1:-1]} == {"120 rows"}


def scores(**changes: float) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda row: {"type_scores": row["type_scores"] | changes}


def box(**changes: object) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """A box in the middle, and one with something changed."""
    good = {
        **{"class_name": "dog", "category": "animals", "source": "x"},
        **{"score": 0.5, "x1_px": 1.0, "y1_px": 1.0, "x2_px": 640.0, "y2_px": 480.0},
    }
    return lambda _: {"objects": [good, good | changes]}


def vector(*values: object) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda _: {"embedding": list(values)}


STATE, WHOLE = "every row has a known state", "a good row is whole"
REASON, NORM = "a failed row has a reason and no results", "embeddings have unit norm"
COLOUR, BOXES = "mean colours have three values in [0, 255]", "boxes lie within their image"
LOOK = "thumbnails have 32 x 32 values, and no chroma is negative"
SCORES = "scores are in [0, 1] and the named class has the highest"
SEVENTH = 1 / math.sqrt(8)


@pytest.mark.parametrize(
    ("promise", "image_id", "change"),
    [
        (STATE, FAILED, {"error": "exploded"}),
        (STATE, FAILED, {"error": None}),
        *((WHOLE, GOOD, {name: None}) for name in ("width_px", "height_px", "content_sha256", "mean_rgb")),
        *((WHOLE, GOOD, {name: None}) for name in ("embedding", "objects", "models", "run_id")),
        *((WHOLE, GOOD, {name: None}) for name in ("perceptual_hash", "thumbnail", "chroma")),
        (REASON, FAILED, {"error_detail": ""}),
        (REASON, FAILED, {"error_detail": None}),
        (REASON, FAILED, {"mean_rgb": [1, 2, 3]}),
        (REASON, FAILED, {"objects": []}),
        (REASON, FAILED, {"perceptual_hash": 1}),
        (REASON, FAILED, {"thumbnail": bytes(1024)}),
        (REASON, FAILED, {"chroma": 0.0}),
        (LOOK, GOOD, {"thumbnail": bytes(1023)}),
        (LOOK, GOOD, {"chroma": -1.0}),
        (LOOK, GOOD, {"chroma": math.nan}),
        (REASON, FAILED, {"embedding": [SEVENTH] * 8}),
        (NORM, GOOD, vector(*[SEVENTH * 1.01] * 8)),
        (NORM, GOOD, vector(*[0.0] * 8)),
        (NORM, GOOD, vector(*[math.nan] * 8)),
        (NORM, GOOD, vector()),
        (COLOUR, GOOD, {"mean_rgb": [1, 2]}),
        (COLOUR, GOOD, {"mean_rgb": [1, 2, 256]}),
        (COLOUR, GOOD, {"mean_rgb": [1, 2, None]}),
        (COLOUR, GOOD, {"mean_rgb": [1, 2, math.nan]}),
        (SCORES, GOOD, {"type_score": None}),
        (SCORES, GOOD, {"type_score": math.nan}),
        (SCORES, GOOD, {"type_scores": None}),
        (SCORES, GOOD, {"type": "collage"}),
        (SCORES, GOOD, {"genre_score": 0.01}),
        (SCORES, GOOD, scores(painting=1.5, drawing=1.5)),
        (SCORES, GOOD, scores(other=1.0)),
        (SCORES, GOOD, scores(other=-0.1)),
        *((BOXES, GOOD, box(**{name: value})) for name, value in (("score", 1.01), ("score", None), ("x1_px", -0.1))),
        *((BOXES, GOOD, box(**{name: value})) for name, value in (("x2_px", 640.1), ("y2_px", 480.1), ("y1_px", None))),
        *((BOXES, GOOD, box(**{name: value})) for name, value in (("x2_px", 0.5), ("y2_px", math.nan))),
    ],
)
def test_a_promise_broken_in_one_row(store: Store, promise: str, image_id: str, change: Any) -> None:
    rewrite(store, image_id, change if callable(change) else lambda _: change)
    assert broken(verify(store))[promise] == f"broken by {image_id!r}"


def test_a_box_that_touches_the_edges_is_within(store: Store) -> None:
    rewrite(store, GOOD, box(x1_px=0.0, y1_px=0.0))
    assert broken(verify(store)) == {}


def test_an_image_with_two_rows(store: Store) -> None:
    table = Records.open(store).delta().to_pyarrow_table()
    twice = table.filter(pa.compute.is_in(table["image_id"], pa.array([GOOD, FAILED]))).cast(schema.RECORD)
    Records.open(store).append(twice, "breaker")
    assert broken(verify(store)) == {"one row per image": f"broken by {GOOD!r}, {FAILED!r}"}


def test_many_rows_are_counted(store: Store) -> None:
    table = Records.open(store).delta().to_pyarrow_table().cast(schema.RECORD)
    Records.open(store).append(table.slice(0, 50), "breaker")
    assert broken(verify(store))["one row per image"].endswith(" and 47 more")


@pytest.mark.parametrize("damage", ["gone", "cut"])
def test_a_part_that_is_not_there(store: Store, damage: str) -> None:
    part = Path(store.uri, "records", Records.open(store).delta().get_add_actions().column("path")[0].as_py())
    part.unlink() if damage == "gone" else part.write_bytes(part.read_bytes()[:-1])
    found = broken(verify(store))
    assert found["every part is there"] == f"broken by {part.name!r}"
    assert set(found) == {"every part is there", *ROWS}  # what cannot be checked is not said to be kept


def test_vectors_that_lag(store: Store) -> None:
    shutil.rmtree(Path(store.uri, "vectors"))
    assert list(broken(verify(store))) == ["every embedding can be searched"]
    assert "run: artray index" in broken(verify(store))["every embedding can be searched"]


def archived(folder: Path, names: list[str]) -> Store:
    """A store whose records are those of an archive of these images."""
    (folder / "archive").mkdir()
    for name in names:
        (folder / "archive" / name).write_bytes(b"x")
    store = create_store(folder / "store")
    entries = list(listing.entries(Location.of(folder / "archive"), ArchiveConfig(), print))
    rows: list[dict[str, Any]] = [
        entry._asdict() | {"error": "corrupt", "error_detail": "made", "models": "m", "run_id": "r"}
        for entry in entries
    ]
    batch = {name: [row.get(name) for row in rows] for name in schema.RECORD.names}
    Records.create(store).append(schema.table(batch, schema.RECORD))
    with opened(store) as index:
        index.sync(Records.open(store))
    return store


def test_against_the_archive(tmp_path: Path) -> None:
    store, archive = archived(tmp_path, ["a.jpg", "b.jpg", "c.jpg"]), tmp_path / "archive"
    assert broken(verify(store, str(archive))) == {}
    (archive / "a.jpg").unlink()
    (archive / "new.jpg").write_bytes(b"x")
    (archive / "notes.txt").write_bytes(b"x")
    os.utime(archive / "b.jpg", ns=(0, 0))
    assert broken(verify(store, str(archive))) == {
        "every image of the archive has a row": "broken by 'new.jpg'",
        "every row is of the image's present version": "broken by 'b.jpg'",
        "every row without an image is marked as vanished": "broken by 'a.jpg'",
    }
    gone = pa.table({"image_id": ["c.jpg"], "vanished_at": pa.array([made_store.START], pa.timestamp("us", tz="UTC"))})
    update(Records.open(store), gone, "breaker")
    assert broken(verify(store, str(archive)))["no row of an image that is there is marked as vanished"] == (
        "broken by 'c.jpg'"
    )


def test_against_the_archive_with_the_patterns_of_the_last_run(tmp_path: Path) -> None:
    store = archived(tmp_path, ["a.jpg"])
    (tmp_path / "archive" / "thumb.jpg").write_bytes(b"x")
    assert list(broken(verify(store, str(tmp_path / "archive")))) == ["every image of the archive has a row"]
    profile = {"archive": {"exclude": ["thumb*"]}}
    store.write_json("runs/20240101T000000-abc.json", {"started_at": "2024", "profile": profile})
    assert broken(verify(store, str(tmp_path / "archive"))) == {}


def test_what_cannot_be_verified(store: Store, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected a folder of images"):
        verify(store, str(tmp_path / "nothing"))
    with pytest.raises(ConfigError, match="no records yet"):
        verify(create_store(tmp_path / "new"))


def test_a_methods_embeddings_are_proved_too(tmp_path: Path) -> None:
    made = made_store.store(tmp_path / "store", 20)
    described = {"card": "other", "fingerprint": "0", "dimension": 4, "metric": "euclidean"}
    method = create_store(made.method("other").uri, method="other", embedding=described)
    records = Records.create(method)
    for table in made_store.tables(20, dim=4):
        columns = {name: table[name] for name in schema.RECORD.names}
        nothing = {
            name: pa.nulls(20, schema.RECORD.field(name).type) for name in ("type", "genre", "objects", "mean_rgb")
        }
        records.append(pa.table(columns | nothing, schema=schema.RECORD))
    for store in (made, method):
        with opened(store) as index:
            index.sync(Records.open(store))
    assert broken(verify(made)) == {}
    field = schema.RECORD.field("embedding")
    wrong = pa.array([[1.0, 2.0, float("nan"), 0.0]], field.type)
    update(Records.open(method), pa.table({"image_id": [made_store.name(3)], "embedding": wrong}), "breaker")
    promise = "method other: a good row has an embedding of the card's length, of finite numbers"
    assert broken(verify(made)) == {promise: "broken by '03/0000003.jpg'"}
