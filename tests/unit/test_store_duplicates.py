"""Duplicates of a store: found among what is there, kept, shown, asked for, and said to be old when they are."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from typer.testing import CliRunner

from artray import api, cli, console, schema
from artray.archive.sample import works as sample
from artray.errors import ConfigError
from artray.retrieve.hashing import look, stored
from artray.store import duplicates, looks, sql
from artray.store.layout import Store, create_store, open_store
from artray.store.records import Records
from artray.store.show import show
from tests import made_store
from tests.benchmarks.copies import made

RUNNER = CliRunner()
MAKER = {"card": "made", "fingerprint": "f", "dimension": 8}


def record(image_id: str, picture: np.ndarray, embedding: Sequence[float] | None, **changes: Any) -> dict[str, Any]:
    seen = look(picture)
    return {
        "image_id": image_id,
        "uri": f"/archive/{image_id}",
        "version": "1",
        "error": "",
        "width_px": picture.shape[1],
        "height_px": picture.shape[0],
        "content_sha256": image_id.encode().hex(),
        "perceptual_hash": stored(seen.perceptual_hash),
        "thumbnail": seen.thumbnail.tobytes(),
        "chroma": seen.chroma,
        "embedding": embedding,
        "models": "made@f,decode@640",
        "processed_at": made_store.START,
    } | changes


def append(store: Store, rows: Sequence[dict[str, Any]]) -> None:
    batch = {name: [row.get(name) for row in rows] for name in schema.RECORD.names}
    Records.create(store).append(schema.table(batch, schema.RECORD))


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    return [np.asarray(Image.open(work.path).convert("RGB")) for work in sample.shipped()[:10]]


@pytest.fixture
def store(tmp_path: Path, pictures: list[np.ndarray]) -> Store:
    """Ten works; of two there are copies; one failed, one vanished, one is another model's."""
    units = np.eye(8).tolist() + [(np.ones(8) / np.sqrt(8)).tolist()] * 2
    rows = [record(f"{number}.jpg", picture, units[number]) for number, picture in enumerate(pictures)]
    rows += [
        record("0-cut.jpg", made(pictures[0], "cropped 10 %", 1), units[0]),
        record("0-mirrored.jpg", made(pictures[0], "mirrored", 1), units[1]),
        record("0-gone.jpg", pictures[0], units[0], vanished_at=made_store.START),
        record("1-framed.jpg", made(pictures[1], "border", 1), [5.0] * 5, models="other@1"),
        record("1-broken.jpg", pictures[1], None, error="truncated", error_detail="it ends", thumbnail=None),
    ]
    found = create_store(tmp_path / "store")
    found.write_json("store.json", (found.read_json("store.json") or {}) | {"embedding": MAKER})
    append(found, rows)
    return found


def told(found: duplicates.Saved) -> list[tuple[Any, ...]]:
    return [(row["group_id"], row["image_id"], row["of"], row["why"]) for row in found.table.to_pylist()]


def test_groups_are_found_and_kept(store: Store) -> None:
    assert duplicates.read(store) is None
    phases: list[str] = []
    found = duplicates.find(store, tell=lambda doing, *_: phases.append(doing), threads=1)
    assert told(found) == [
        (1, "0.jpg", None, None),
        (1, "0-cut.jpg", "0.jpg", "cropped"),
        (1, "0-mirrored.jpg", "0.jpg", "mirrored"),
        (2, "1-framed.jpg", None, None),  # the largest picture; both have one copy
        (2, "1.jpg", "1-framed.jpg", "framed"),
    ]
    rows = found.table.to_pylist()
    assert [row["similarity"] for row in rows] == [None, pytest.approx(1), pytest.approx(0), None, None]
    assert all(0.9 <= row["score"] <= 1 for row in rows if row["of"])
    assert (found.images, found.score_min, found.note) == (
        13,
        0.9,
        "1 works have no embedding of the store's model: compared by their looks alone",
    )
    assert list(dict.fromkeys(phases)) == ["reading images", "comparing images", "laying over pairs"]
    kept = duplicates.read(store)
    assert kept is not None
    assert kept.table.equals(found.table)
    assert kept._replace(table=None) == found._replace(table=None)  # type: ignore[arg-type]
    open_store(store.uri)
    create_store(store.uri)  # the folder is no stranger there


def test_what_is_kept_says_when_it_is_old(store: Store, pictures: list[np.ndarray]) -> None:
    found = duplicates.find(store)
    assert not found.stale(Records.open(store))
    append(store, [record("9-more.jpg", pictures[9], np.eye(8)[3].tolist())])
    assert found.stale(Records.open(store))
    assert api.duplicates(store.uri)["groups"] == 3  # found anew
    assert duplicates.read(store).version == 2  # type: ignore[union-attr]


def test_json(store: Store) -> None:
    first = api.duplicates(store.uri)
    assert {name: first[name] for name in ("groups", "members", "images", "min_score", "version")} == {
        **{"groups": 2, "members": 5, "images": 13},
        **{"min_score": 0.9, "version": 1},
    }
    group = first["duplicates"][1]
    assert (group["group_id"], group["representative"]) == (2, "1-framed.jpg")
    assert [work["image_id"] for work in group["works"]] == ["1-framed.jpg", "1.jpg"]
    assert set(group["works"][1]) == {"image_id", "of", "why", "score", "similarity"}
    json.dumps(first, allow_nan=False)
    moment = duplicates.file(store).path.stat().st_mtime_ns
    assert api.duplicates(store.uri) == first
    assert duplicates.file(store).path.stat().st_mtime_ns == moment  # nothing was done
    assert len(api.duplicates(store.uri, limit=1)["duplicates"]) == 1
    api.duplicates(store.uri, again=True)
    assert duplicates.file(store).path.stat().st_mtime_ns > moment
    assert api.duplicates(store.uri, min_score=1.0)["groups"] <= 1


def test_records_are_shown_with_their_copies(store: Store) -> None:
    assert show(store, "1.jpg")["duplicates"] == []
    duplicates.find(store)
    (other,) = show(store, "1.jpg")["duplicates"]
    assert (other["image_id"], other["of"], other["why"]) == ("1-framed.jpg", None, None)
    shown = show(store, "0.jpg")
    assert [(work["image_id"], work["why"]) for work in shown["duplicates"]] == [
        ("0-cut.jpg", "cropped"),
        ("0-mirrored.jpg", "mirrored"),
    ]
    assert "thumbnail" not in shown
    assert show(store, "2.jpg")["duplicates"] == []
    assert console._whole(shown["duplicates"][1:]) == "0-mirrored.jpg 1.000 mirrored"
    assert console._whole([other]) == "1-framed.jpg"


def test_sql_over_duplicates(store: Store) -> None:
    count = "SELECT count(*) FROM duplicates"
    assert sql.query(store, count).rows == [[0]]
    duplicates.find(store)
    assert sql.query(store, count).rows == [[5]]
    joined = "SELECT d.why, w.width_px FROM duplicates d JOIN works w USING (image_id) WHERE d.of = '0.jpg' ORDER BY 1"
    assert [row[0] for row in sql.query(store, joined).rows] == ["cropped", "mirrored"]


def test_tables_and_pictures(store: Store, tmp_path: Path) -> None:
    out = tmp_path / "copies.csv"
    api.duplicates(store.uri, out=out)
    with out.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["group_id"], row["image_id"], row["why"]) for row in rows[:2]] == [
        ("1", "0.jpg", ""),
        ("1", "0-cut.jpg", "cropped"),
    ]
    assert {row["representative"] for row in rows} == {"0.jpg", "1-framed.jpg"}
    picture = tmp_path / "copies.png"
    api.duplicates(store.uri, out=picture)  # the archive is not there: captions alone
    assert Image.open(picture).size[1] > 2 * 240
    with pytest.raises(ConfigError, match=r"copies\.txt: expected a name that ends with \.csv, \.jpg"):
        api.duplicates(store.uri, out=tmp_path / "copies.txt")


def test_the_command(store: Store) -> None:
    done = RUNNER.invoke(cli.app, ["duplicates", store.uri])
    assert done.exit_code == 0, done.output
    assert "5 of 13 works are in 2 groups" in done.output
    assert "0-mirrored.jpg" in done.output
    printed = RUNNER.invoke(cli.app, ["duplicates", store.uri, "--json", "--limit", "1"])
    assert json.loads(printed.stdout)["groups"] == 2
    few = RUNNER.invoke(cli.app, ["duplicates", store.uri, "--limit", "1"])
    assert "these are the largest; --limit and --out give more" in few.output
    for arguments, message in (
        (["--min-score", "0"], "--min-score: expected more than 0 and at most 1, got 0"),
        (["--min-score", "1.5"], "got 1.5"),
        (["--limit", "0"], "--limit: expected at least 1, got 0"),
    ):
        wrong = RUNNER.invoke(cli.app, ["duplicates", store.uri, *arguments])
        assert (wrong.exit_code, message in wrong.output) == (2, True)


def test_a_store_without_works_and_one_without_embeddings(tmp_path: Path, pictures: list[np.ndarray]) -> None:
    store = create_store(tmp_path / "store")
    with pytest.raises(ConfigError, match="no records yet"):
        duplicates.find(store)
    Records.create(store)
    found = duplicates.find(store)
    assert (found.table.num_rows, found.images, found.note) == (0, 0, "")
    append(store, [record(f"{n}.jpg", pictures[n % 2], None) for n in range(4)])  # no card, no embeddings
    assert told(duplicates.find(store)) == [
        (1, "0.jpg", None, None),
        (1, "2.jpg", "0.jpg", "same"),
        (2, "1.jpg", None, None),
        (2, "3.jpg", "1.jpg", "same"),
    ]


def test_damaged_groups_are_named(store: Store) -> None:
    duplicates.file(store).write_bytes(b"no table")
    with pytest.raises(
        ConfigError, match=r"groups\.parquet: expected groups of duplicates, got something else; remove"
    ):
        duplicates.read(store)
    duplicates.file(store).write_bytes(b"")
    pa.parquet.write_table(pa.table({"a": [1]}), duplicates.file(store).path)
    with pytest.raises(ConfigError, match="got something else"):
        show(store, "0.jpg")


def test_looks_are_the_records(store: Store, tmp_path: Path) -> None:
    (tmp_path / "arrays").mkdir()
    found = looks.read(Records.open(store), tmp_path / "arrays", lambda *_: None)
    assert "1-broken.jpg" not in found.image_ids
    assert "0-gone.jpg" not in found.image_ids
    at = found.image_ids.index("3.jpg")
    row = next(row for row in Records.open(store).delta().to_pyarrow_table().to_pylist() if row["image_id"] == "3.jpg")
    works = found.works
    assert works.pictures.thumbnails[at].tobytes() == row["thumbnail"]
    assert works.pictures.aspects[at] == pytest.approx(np.log(row["width_px"] / row["height_px"]), rel=1e-5)
    assert works.pixels[at] == row["width_px"] * row["height_px"]
    assert works.embeddings[at].tolist() == row["embedding"]
    assert works.embedded.tolist() == [name != "1-framed.jpg" for name in found.image_ids]
