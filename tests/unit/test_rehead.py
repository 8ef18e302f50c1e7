"""New labels from stored embeddings: the classify stage's own, exactly once, and the old ones are still there."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from deltalake import DeltaTable

from artray.classify import heads
from artray.errors import ConfigError
from artray.location import Location
from artray.models import cards
from artray.pipeline.progress import Silent
from artray.pipeline.rehead import labelled, rehead
from artray.store import rewrite
from artray.store.layout import Store
from artray.store.records import Records
from artray.taxonomy import TYPES
from artray.train import exchange, fit, run, stored
from artray.train.profile import TrainProfile
from artray.train.rundir import RunFolder
from tests import made_store
from tests.made_store import card

DIM = 512
ROWS = 300


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Made rows whose embeddings a card made, with that card's run."""
    return made_store.classified(tmp_path / "store", ROWS, cards.load(card(tmp_path, "old", 1)), batch=100)


def rows(store: Store, version: int | None = None) -> dict[str, dict[str, Any]]:
    table = DeltaTable(store.records_uri, version).to_pyarrow_table()
    found = {row["image_id"]: row for row in table.to_pylist()}
    assert len(found) == len(table)
    return found


def test_labels_are_those_that_the_picture_would_get(store: Store, tmp_path: Path) -> None:
    path = card(tmp_path, "new", 2)
    before = rows(store)
    done = rehead(store, str(path), Silent())
    new, after = cards.load(path), rows(store)
    loaded = heads.load(new)
    assert set(after) == set(before)
    for name, row in after.items():
        old = before[name]
        if old["embedding"] is None:
            assert row == old
            continue
        expected = heads.scored(loaded, np.array(row["embedding"], np.float32))
        assert {key: row[key] for key in expected} == expected
        assert (row["genre_disagreement"], old["genre_disagreement"]) == (None, pytest.approx(0.2))
        assert row["models"] == f"new@{new.fingerprint()},decode@640"
        assert row["run_id"] == done.run_id
        assert row["processed_at"] > old["processed_at"]
        same = ("embedding", "objects", "metadata", "uri", "version", "error", "vanished_at", "mean_rgb")
        assert {key: row[key] for key in same} == {key: old[key] for key in same}
    embedded = sum(row["embedding"] is not None for row in before.values())
    assert (done.rows, done.skipped) == (embedded, ROWS - embedded)
    assert done.changed["genre"] == sum(after[name]["genre"] != before[name]["genre"] for name in before)
    assert rows(store, done.version_before) == before  # time travel
    assert (store.read_json("store.json") or {})["embedding"]["card"] == "new"


def test_again_changes_nothing_and_back_is_where_it_was(store: Store, tmp_path: Path) -> None:
    path = card(tmp_path, "new", 2)
    rehead(store, str(path), Silent())
    version = Records.open(store).version
    again = rehead(store, str(path), Silent())
    assert (again.rows, again.changed, Records.open(store).version) == (0, {"type": 0, "genre": 0}, version)
    labels = {name: row["genre"] for name, row in rows(store).items()}
    rehead(store, str(tmp_path / "old.yaml"), Silent())
    rehead(store, str(path), Silent())
    assert {name: row["genre"] for name, row in rows(store).items()} == labels


def test_another_trunk_or_fewer_heads_are_refused(store: Store, tmp_path: Path) -> None:
    other = card(tmp_path, "other", 3, input={"size_px": 32, "mean": [1, 1, 1], "std": [1, 1, 1]})
    with pytest.raises(ConfigError, match="expected the trunk that made the embeddings"):
        rehead(store, str(other), Silent())
    fewer = card(tmp_path, "fewer", 3, yields=["type", "embedding"], heads={"type": list(TYPES)})
    with pytest.raises(ConfigError, match="heads: expected one for each of genre, type, got no genre"):
        rehead(store, str(fewer), Silent())


def test_a_store_without_a_run_is_told_so(tmp_path: Path) -> None:
    made = made_store.store(tmp_path / "bare", 10)
    with pytest.raises(ConfigError, match="expected a run that stored embeddings"):
        rehead(made, str(card(tmp_path, "new", 2)), Silent())


def test_one_row_is_scored_as_many_are() -> None:
    random = np.random.default_rng(0)
    layers = (
        heads.Layer(random.normal(size=(7, DIM)), random.normal(size=7)),
        heads.Layer(random.normal(size=(3, 7)), random.normal(size=3)),
    )
    head = heads.Head(("a", "b", "c"), layers)
    embeddings = random.normal(size=(200, DIM)).astype(np.float32)
    whole = heads.score(head, embeddings)
    assert np.array_equal(whole, np.stack([head(row) for row in embeddings]))
    assert heads.score(head, embeddings[:0]).shape == (0, 3)


def test_columns_are_placed_where_told() -> None:
    scores = np.array([[0.25, 0.75], [1.0, 0.0]], np.float32)
    columns = labelled("type", TYPES, scores)
    assert columns["type"].to_pylist() == ["drawing", "painting"]
    assert columns["type_scores"].to_pylist() == [
        [("painting", 0.25), ("drawing", 0.75)],
        [("painting", 1.0), ("drawing", 0.0)],
    ]
    table = pa.table({"type": pa.array([None, "x", "y"], pa.string())})
    assert rewrite.with_columns(table, pa.array([0, None, 1]), pa.table({"type": columns["type"]}))[
        "type"
    ].to_pylist() == [
        "drawing",
        "x",
        "painting",
    ]


def test_heads_trained_on_stored_embeddings_rehead_the_store(store: Store, tmp_path: Path) -> None:
    """Labels that a plane through the embeddings decides are learned from records alone, and come back as labels."""
    before = rows(store)
    normal = np.random.default_rng(5).normal(size=DIM)
    lines = ["file,type,split"]
    truth = {}
    for number, (name, row) in enumerate(sorted(before.items())):
        if row["embedding"] is None or row["error"] or row["vanished_at"]:
            continue
        truth[name] = TYPES[int(np.dot(row["embedding"], normal) > 0)]
        lines.append(
            f"{name if number % 2 else Path(name).name},{truth[name]},{('train', 'val', 'train', 'test')[number % 4]}"
        )
    (tmp_path / "labels.csv").write_text("\n".join([*lines, "gone.jpg,painting,train"]) + "\n")
    profile = TrainProfile.model_validate(
        {
            "name": "my-heads",
            "data": {"sources": [{"path": str(tmp_path / "labels.csv")}], "embeddings": store.uri},
            "heads": {"type": {"hidden": [16]}, "genre": {}},
            "network": {"card": str(tmp_path / "old.yaml"), "trained": "head"},
            "optimiser": {"lr": 0.01},
            "training": {"epochs": 12, "batch_size": 32},
        }
    )
    with pytest.raises(ConfigError, match=r"heads\.genre: expected works of every class to learn from"):
        run.check(run.usable(run.read(profile), None, profile)[0], profile)
    profile = profile.model_copy(update={"heads": {"type": profile.heads["type"]}})
    found = run.read(profile)
    assert found.left_out == [f"csv: labels.csv line {len(lines) + 1}: gone.jpg: no such picture in {store.uri}"]
    works, _ = run.usable(found, None, profile)
    folder = RunFolder(Location.of(tmp_path / "run"))
    folder.begin(profile, cards.load(tmp_path / "old.yaml"), works, [])
    fit.fit(folder, exchange.alone())
    result = folder.result
    assert result is not None
    assert result["heads"]["type"]["test"]["metrics"]["accuracy"]["value"] > 0.7  # a random plane, from 145 works
    new = cards.load(result["card"])
    assert new.trunk_key() == cards.load(tmp_path / "old.yaml").trunk_key()
    assert new.yields == ("type", "embedding", "mean_rgb")
    with pytest.raises(ConfigError, match="got no genre"):  # it says less than the store's own card
        rehead(store, result["card"], Silent())
    said = heads.load(new)["type"]
    right = [
        said.class_names[int(np.argmax(said(np.array(before[name]["embedding"], np.float32))))] == truth[name]
        for name in truth
    ]
    assert np.mean(right) > 0.85  # most of them were learned from


def test_what_was_learned_before_a_loss_was_not_finite_is_kept(store: Store, tmp_path: Path) -> None:
    good = [
        name for name, row in sorted(rows(store).items()) if row["embedding"] is not None and not row["vanished_at"]
    ]
    lines = [f"{name},{TYPES[n % 2]},{'val' if n % 4 > 1 else 'train'}" for n, name in enumerate(good)]
    (tmp_path / "labels.csv").write_text("\n".join(["file,type,split", *lines]) + "\n")
    profile = TrainProfile.model_validate(
        {
            "name": "x",
            "data": {"sources": [{"path": str(tmp_path / "labels.csv")}], "embeddings": store.uri},
            "heads": {"type": {}},
            "network": {"card": str(tmp_path / "old.yaml"), "trained": "head"},
            "optimiser": {"name": "sgd", "lr": 1e38, "schedule": "constant"},
            "training": {"epochs": 3, "batch_size": 32, "checkpoint_batches": 1},
        }
    )
    works, _ = run.usable(run.read(profile), None, profile)
    folder = RunFolder(Location.of(tmp_path / "run"))
    folder.begin(profile, cards.load(tmp_path / "old.yaml"), works, [])
    with pytest.raises(
        ConfigError, match=r"finite number, got \w+ at batch \d of epoch 1; the last good checkpoint is kept"
    ):
        fit.fit(folder, exchange.alone())
    state = folder.checkpoints.load()
    assert state is not None
    assert all(torch.isfinite(loss) for loss in state["losses"])


def test_embeddings_of_another_trunk_are_not_learned_from(store: Store, tmp_path: Path) -> None:
    stored.check(store.uri, cards.load(tmp_path / "old.yaml"))
    with pytest.raises(ConfigError, match=r"network\.card: expected old, whose trunk made the embeddings"):
        stored.check(store.uri, cards.load("efficientnet-lite2-art"))
