"""What lies where in a store, and what is no store."""

import json
import pickle
from pathlib import Path

import pytest

from artray import schema
from artray.errors import ConfigError
from artray.store.layout import Store, create_store, open_store


def test_a_store_is_made_once_and_found_again(any_store: Store) -> None:
    found = open_store(any_store.uri)
    assert found == any_store == create_store(any_store.uri + "/")
    described = found.read_json("store.json")
    assert described is not None
    assert described["format_version"] == schema.FORMAT_VERSION
    assert pickle.loads(pickle.dumps(found)) == found
    assert found.is_local == (found.local_path is not None)
    assert found.records_uri == f"{found.uri}/records"
    assert found.root == found.uri.removeprefix("s3://")
    assert bool(found.storage_options) != found.is_local


def test_what_is_no_store_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_text("x")
    for name in ("nothing", "photos"):
        with pytest.raises(ConfigError, match="no artray store here; make one with: artray process ARCHIVE"):
            open_store(tmp_path / name)
    with pytest.raises(ConfigError, match="Not a directory"):
        open_store(tmp_path / "file")
    with pytest.raises(ConfigError, match="expected a folder, got a file"):
        create_store(tmp_path / "file")
    with pytest.raises(ConfigError, match=r"expected an empty folder or a store, found a\.jpg"):
        create_store(tmp_path / "photos")
    with pytest.raises(ConfigError, match="% and two digits"):
        create_store(tmp_path / "100%20")
    assert not (tmp_path / "100%20").exists()


@pytest.mark.parametrize("name", ["a b", "ümlaut", "100%", "a#b?c", "a[1]*", "素", "it's"])
def test_a_store_may_have_any_other_name(tmp_path: Path, name: str) -> None:
    from artray.store import views
    from artray.store.records import Records
    from tests import made_store

    made = made_store.store(tmp_path / name, 20, batch=10)
    with views.opened(Records.open(made)) as database:
        assert database.execute("SELECT count(*) FROM stored").fetchall() == [(20,)]


def test_what_is_left_of_a_store_that_was_interrupted_is_taken_up(tmp_path: Path) -> None:
    (tmp_path / "store" / "records").mkdir(parents=True)
    (tmp_path / "store" / "lease.json").write_text("{}")
    assert create_store(tmp_path / "store").read_json("store.json")


@pytest.mark.parametrize("version", [schema.FORMAT_VERSION + 1, "1", None])
def test_a_store_of_a_newer_artray_is_left_alone(tmp_path: Path, version: object) -> None:
    (tmp_path / "store.json").write_text(json.dumps({"format_version": version}))
    for function in (open_store, create_store):
        with pytest.raises(ConfigError, match="newer than this artray"):
            function(tmp_path)


def test_a_store_of_a_trial_version_is_told_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "store.json").write_text(json.dumps({"format_version": 1}))
    with pytest.raises(ConfigError, match=r"expected store format 3, got 1, .* process the archive into a new store"):
        open_store(tmp_path)


def test_a_broken_store_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "store.json").write_text("{")
    with pytest.raises(ConfigError, match=r"store\.json: expected JSON"):
        open_store(tmp_path)


def test_runs_are_told_oldest_first(any_store: Store) -> None:
    assert any_store.runs() == []
    for number in (3, 1, 2):
        any_store.write_json(f"runs/20240{number}01T000000-abc.json", {"started_at": f"2024-0{number}", "n": number})
    any_store.write_json("runs/20240101T000000-abc/manifest.parquet", {})
    assert [run["n"] for run in any_store.runs()] == [1, 2, 3]
    assert [run["n"] for run in any_store.runs(2)] == [2, 3]


def test_vectors_are_on_disk_even_of_a_store_on_s3(
    s3_bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARTRAY_CACHE", str(tmp_path / "cache"))
    first, second = (create_store(f"s3://{s3_bucket}/{name}") for name in "ab")
    assert first.vectors_path.is_relative_to(tmp_path / "cache")
    assert first.vectors_path != second.vectors_path
    assert create_store(tmp_path / "s").vectors_path == tmp_path / "s" / "vectors"


@pytest.mark.parametrize("name", ["photos#store", "photos?store", "a%20b"])
def test_a_name_that_delta_lake_would_cut(s3_bucket: str, name: str) -> None:
    """It would take s3://bucket/photos#store for s3://bucket/photos, and delete there what is not its own."""
    for open_or_make in (create_store, open_store):
        with pytest.raises(ConfigError, match="which Delta Lake takes apart"):
            open_or_make(f"s3://{s3_bucket}/{name}")
