"""Counts of a store: by state, class and kind, whatever its runs have come to."""

from pathlib import Path
from typing import Any

import pytest

from artray.errors import ConfigError, TransientError
from artray.store.layout import Store
from artray.store.records import Records
from artray.store.status import RUNS, status
from artray.store.vectors import Index
from tests import made_store


def run(store: Store, number: int, **values: object) -> None:
    run_id = f"202401{number:02d}T000000-abc"
    made = {"run_id": run_id, "state": "done", "started_at": f"2024-01-{number:02d}", "images": 100, "pending": 0}
    store.write_json(f"runs/{run_id}.json", made | values)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return made_store.store(tmp_path_factory.mktemp("status") / "store", 100)


@pytest.fixture
def fresh(made: Store) -> Store:
    for path in Path(made.uri, "runs").glob("*.json"):
        path.unlink()
    return made


def states(store: Store) -> dict[str, Any]:
    found = status(store)
    return {name: found[name] for name in ("images", "done", "failed", "pending", "vanished")}


def test_counts(fresh: Store) -> None:
    found = status(fresh)
    # of 100 rows every 50th failed, every 97th vanished
    assert states(fresh) == {"images": 99, "done": 97, "failed": 2, "pending": 0, "vanished": 1}
    assert found["errors"] == {"truncated": 2}
    assert sum(found["types"].values()) == sum(found["genres"].values()) == 97
    assert found["objects"]
    for name in ("types", "genres", "objects"):
        assert list(found[name].values()) == sorted(found[name].values(), reverse=True)
    assert found["runs"] == []
    assert found["version"] == Records.open(fresh).version
    assert found["vectors"] == {"count": 0, "lag": 97}


def test_pending_images_are_those_of_the_latest_run(fresh: Store) -> None:
    run(fresh, 1, images=500, pending=400)
    assert states(fresh) == {"images": 500, "done": 97, "failed": 2, "pending": 400, "vanished": 1}
    run(fresh, 2, images=500, pending=0)
    assert states(fresh)["pending"] == 0
    # with other models every image is pending, and has a row all the same: it is one image
    run(fresh, 3, images=99, pending=99)
    assert (states(fresh)["images"], states(fresh)["pending"]) == (99, 99)


def test_a_run_that_was_killed_has_committed_what_is_there(fresh: Store) -> None:
    table = next(made_store.tables(100))
    assert set(table.column("run_id").to_pylist()) == {"made"}
    run(fresh, 1, run_id="made", state="running", images=500, pending=500)
    assert (states(fresh)["images"], states(fresh)["pending"]) == (500, 401)  # 99 works are of this run
    run(fresh, 2, run_id="other", state="running", images=0, pending=0)  # killed while it was listing
    assert states(fresh)["images"] == 500


def test_the_latest_runs_are_told_of(fresh: Store) -> None:
    for number in range(1, RUNS + 6):
        run(fresh, number, n=number, failed=number)
    found = status(fresh)["runs"]
    assert [entry["failed"] for entry in found] == list(range(6, RUNS + 6))
    assert "n" not in found[0]
    assert found[0]["images_per_s"] is None


def test_on_s3(s3_bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARTRAY_CACHE", str(tmp_path))
    made = made_store.store(f"s3://{s3_bucket}/store", 20)
    assert states(made) == {"images": 20, "done": 20, "failed": 0, "pending": 0, "vanished": 0}


def test_vectors_that_cannot_be_asked_are_noted(fresh: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> int:
        raise TransientError("milvus is away")

    monkeypatch.setattr(Index, "lag", fails)
    assert status(fresh)["vectors"] == {"count": None, "lag": None, "note": "milvus is away"}


def test_records_that_cannot_be_read(store: Store) -> None:
    with pytest.raises(ConfigError, match="no records yet"):
        status(store)
    made = made_store.store(store.uri, 10)
    for part in Path(made.uri, "records").glob("*.parquet"):
        part.unlink()
    with pytest.raises(TransientError, match="if that does not help: artray verify"):
        status(made)
