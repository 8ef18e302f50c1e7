"""What is to do: the archive less what is recorded, and what became of the rest."""

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from artray import schema
from artray.archive import metadata
from artray.archive.listing import Entry
from artray.location import Location
from artray.pipeline import plan
from artray.pipeline.plan import Planner, Work, WorkFile, parts, write_manifest
from artray.store import rewrite
from artray.store.layout import Store
from artray.store.records import Records


def entry(name: str, version: str = "v1", **more: str) -> Entry:
    return Entry(name, f"/archive/{name}", 10, version, **more)


def record(name: str, **values: object) -> dict[str, Any]:
    made = {"image_id": name, "uri": f"/archive/{name}", "version": "v1", "models": "m1", "error": ""}
    return dict.fromkeys(schema.RECORD.names) | made | values


def recorded(store: Store, *rows: dict[str, Any]) -> Records:
    records = Records.create(store)
    for row in rows:  # a part each, so that each has bounds of its own
        records.append(schema.table({name: [row[name]] for name in schema.RECORD.names}, schema.RECORD), "before")
    return records


def known(**said: dict[str, str]) -> pa.Table:
    return pa.Table.from_pylist([{"key": k, "metadata": list(v.items())} for k, v in said.items()], metadata.TABLE)


@contextmanager
def planner(
    folder: Path,
    records: Records,
    entries: list[Entry],
    said: pa.Table | None = None,
    problems: list[str] | None = None,
) -> Iterator[Planner]:
    manifest = write_manifest(entries, Location.of(folder) / "m.parquet", problems or [], lambda _: None)
    with Planner(manifest, records, said) as planner:
        yield planner


def work(
    folder: Path, planner: Planner, models: str = "m1", retry: bool = False, limit: int | None = None
) -> tuple[Work, list[dict[str, Any]]]:
    made = planner.write_work(Location.of(folder) / "w.arrow", models, retry_errors=retry, limit=limit)
    rows = WorkFile(made.location).rows(0, made.images).to_pylist() if made.images else []
    assert len(rows) == made.images
    return made, rows


def done(rows: list[dict[str, Any]]) -> list[tuple[str, bool]]:
    return [(row["image_id"], row["recorded"]) for row in rows]


def test_new_changed_remodelled_and_failed_images(any_store: Store, tmp_path: Path) -> None:
    records = recorded(
        any_store,
        record("same"),
        record("changed"),
        record("failed", error="truncated"),
        record("other models", models="m0"),
        record("unknown models", models=None),
        record("gone"),
    )
    names = ["same", "failed", "other models", "unknown models"]
    entries = [entry("new"), *map(entry, names), entry("changed", "v2"), entry("bad", "v1", error="denied")]
    with planner(tmp_path, records, entries) as made:
        found, rows = work(tmp_path, made)
        redone = [("changed", True), ("other models", True), ("unknown models", True)]
        assert done(rows)[:2] == [("bad", False), ("new", False)]
        assert sorted(done(rows)[2:]) == redone
        assert (found.images, found.recorded, found.pending) == (5, 3, 5)
        assert [row["error"] for row in rows] == ["denied", "", "", "", ""]
        assert ("failed", True) in done(work(tmp_path, made, retry=True)[1])
        everything = done(work(tmp_path, made, models="m2")[1])
        assert len(everything) == 7
        assert [name for name, again in everything if not again] == ["bad", "new"]
        limited, rows = work(tmp_path, made, limit=3)
        assert done(rows)[:2] == [("bad", False), ("new", False)]
        assert done(rows)[2] in redone
        assert (limited.images, limited.recorded, limited.pending) == (3, 1, 5)


def test_rows_of_one_part_are_redone_together(any_store: Store, tmp_path: Path) -> None:
    records = Records.create(any_store)
    parts = [{"a", "d", "f"}, {"b", "c", "e"}]
    for names in parts:
        rows = [record(name) for name in sorted(names)]
        columns = {name: [row[name] for row in rows] for name in schema.RECORD.names}
        records.append(schema.table(columns, schema.RECORD), "before")
    with planner(tmp_path, records, [entry(name) for name in "abcdefg"]) as made:
        order = [name for name, _ in done(work(tmp_path, made, models="m2")[1])]
    assert order[0] == "g"
    assert [set(order[1:4]), set(order[4:])] in (parts, parts[::-1])
    assert [order[1:4], order[4:]] == [sorted(order[1:4]), sorted(order[4:])]


def test_nothing_to_do(store: Store, tmp_path: Path) -> None:
    with planner(tmp_path, recorded(store, record("a")), [entry("a")]) as made:
        assert work(tmp_path, made)[0] == Work(Location.of(tmp_path) / "w.arrow", 0, 0, 0)
    with planner(tmp_path, recorded(store), []) as made:
        assert work(tmp_path, made)[0].images == 0


def test_vanished_and_returned(any_store: Store, tmp_path: Path) -> None:
    moment = plan._now()
    records = recorded(
        any_store,
        record("here"),
        record("gone"),
        record("gone long ago", vanished_at=moment),
        record("back", vanished_at=moment),
        record("back, but changed", vanished_at=moment),
    )
    entries = [entry("here"), entry("back"), entry("back, but changed", "v2")]
    with planner(tmp_path, records, entries) as made:
        assert made.vanished().column("image_id").to_pylist() == ["gone"]
        assert made.vanished().column("vanished_at")[0].as_py() >= moment
        assert made.returned().to_pylist() == [{"image_id": "back", "vanished_at": None}]
        assert done(work(tmp_path, made)[1]) == [("back, but changed", True)]  # that makes it be there again
        rewrite.update(records, made.returned(), "run")
    with planner(tmp_path, records, entries) as made:
        assert made.returned().num_rows == 0
    with planner(tmp_path, records, entries, problems=["a folder that could not be listed"]) as made:
        assert made.vanished().num_rows == 0
        assert made.vanished().schema.names == ["image_id", "vanished_at"]


def test_what_verify_asks(store: Store, tmp_path: Path) -> None:
    records = recorded(store, record("a"), record("b"), record("c", version=None))
    with planner(tmp_path, records, [entry("a"), entry("b", "v2"), entry("c"), entry("d")]) as made:
        assert made.unrecorded() == ["d"]
        assert made.outdated() == ["b", "c"]


def test_metadata_join_on_the_id_or_else_the_file_name(store: Store, tmp_path: Path) -> None:
    said = known(**{"a/x.jpg": {"t": "by id"}, "x.jpg": {"t": "by name"}, "y.jpg": {}, "z.jpg": {"t": "nobody's"}})
    names = ["a/x.jpg", "b/x.jpg", "y.jpg", "b\\x.jpg", "q.jpg"]
    with planner(tmp_path, recorded(store), list(map(entry, names)), said) as made:
        rows = {row["image_id"]: row["metadata"] for row in work(tmp_path, made)[1]}
    assert rows == {
        "a/x.jpg": [("t", "by id")],
        "b/x.jpg": [("t", "by name")],
        "y.jpg": [],
        "b\\x.jpg": None,  # a backslash is a character like any other
        "q.jpg": None,
    }


def test_metadata_stay_where_no_file_is_given(store: Store, tmp_path: Path) -> None:
    records = recorded(
        store, record("changed", metadata={"a": "1"}), record("failed", metadata={"b": "2"}, error="empty")
    )
    names = [entry("changed", "v2"), entry("failed"), entry("new")]
    with planner(tmp_path, records, names) as made:
        rows = {row["image_id"]: row["metadata"] for row in work(tmp_path, made, retry=True)[1]}
    assert rows == {"changed": [("a", "1")], "failed": [("b", "2")], "new": None}
    with planner(tmp_path, records, names, known(changed={"a": "3"})) as made:
        rows = {row["image_id"]: row["metadata"] for row in work(tmp_path, made, retry=True)[1]}
    assert rows == {"changed": [("a", "3")], "failed": None, "new": None}  # the file says all that there is to say


def test_relabelled(store: Store, tmp_path: Path) -> None:
    records = recorded(
        store,
        record("same", metadata={"a": "1", "b": "2"}),
        record("new value", metadata={"a": "1"}),
        record("no more", metadata={"a": "1"}),
        record("first word", metadata=None),
        record("empty", metadata={}),
        record("gone", metadata={"a": "1"}),
    )
    names = ["same", "new value", "no more", "first word", "empty"]
    said = known(
        **{
            "same": {"a": "1", "b": "2"},
            "new value": {"a": "2"},
            "first word": {"a": "'; DROP"},
            "empty": {},
            "gone": {},
        }
    )
    with planner(tmp_path, records, list(map(entry, names)), said) as made:
        found = made.relabelled()
        assert {row["image_id"]: row["metadata"] for row in found.to_pylist()} == {
            "new value": [("a", "2")],
            "no more": None,
            "first word": [("a", "'; DROP")],
        }
        rewrite.update(records, found, "run")
    with planner(tmp_path, records, list(map(entry, names)), said) as made:
        assert made.relabelled().num_rows == 0  # done once
    with planner(tmp_path, records, list(map(entry, names))) as made:
        assert made.relabelled().num_rows == 0  # without a metadata file nothing is said


@pytest.mark.parametrize("images", [0, 1, 9, 10, 11, 25, 30])
def test_chunks(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, images: int) -> None:
    monkeypatch.setattr(plan, "CHUNK", 10)
    seen: list[int] = []
    entries = [entry(f"{number:03d}") for number in range(images)]
    manifest = write_manifest(iter(entries), Location.of(tmp_path) / "m.parquet", [], seen.append)
    assert (manifest.images, manifest.size_bytes, manifest.complete) == (images, images * 10, True)
    assert seen == [*range(10, images, 10), *([images] if images else [])]
    with Planner(manifest, recorded(store), None) as made:
        found = made.write_work(Location.of(tmp_path) / "w.arrow", "m1", retry_errors=False, limit=None)
    file = WorkFile(found.location)
    names = [entry.image_id for entry in entries]
    for start in range(images):
        for stop in range(start + 1, min(start + 13, images) + 1):
            assert file.rows(start, stop).column("image_id").to_pylist() == names[start:stop]
    assert images == 0 or file.rows(0, images).schema == plan.WORK


def test_parts_never_mix_new_images_with_recorded_ones() -> None:
    def cut(images: int, recorded: int, rows: int) -> list[tuple[int, int]]:
        return list(parts(Work(Location("w"), images, recorded, images), rows))

    assert cut(0, 0, 4) == []
    assert cut(3, 0, 4) == [(0, 3)]
    assert cut(3, 3, 2) == [(0, 2), (2, 3)]
    assert cut(5, 2, 10) == [(0, 3), (3, 5)]
    assert cut(8, 4, 4) == [(0, 4), (4, 8)]


def test_the_work_list_on_s3(any_store: Store) -> None:
    folder = any_store.run("run")
    manifest = write_manifest([entry("a"), entry("b")], folder / "manifest.parquet", [], lambda _: None)
    with Planner(manifest, recorded(any_store, record("a")), None) as made:
        found = made.write_work(folder / "work.arrow", "m1", retry_errors=False, limit=None)
    assert WorkFile(found.location).rows(0, 1).column("image_id").to_pylist() == ["b"]


def test_two_hundred_thousand_images_stream_by(store: Store, tmp_path: Path) -> None:
    count = 200_000

    def listing() -> Iterator[Entry]:
        return (entry(f"{number % 97:02d}/{number:07d}.jpg", str(number)) for number in range(count))

    names = [f"{number % 97:02d}/{number:07d}.jpg" for number in range(0, count, 2)]
    batch = {
        **{"image_id": names, "uri": names, "models": ["m1"] * len(names), "error": [""] * len(names)},
        "version": [str(number) for number in range(0, count, 2)],
    }
    records = Records.create(store)
    records.append(schema.table(batch, schema.RECORD), "before")
    begun, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    manifest = write_manifest(listing(), Location.of(tmp_path) / "m.parquet", [], lambda _: None)
    with Planner(manifest, records, None) as made:
        found = made.write_work(Location.of(tmp_path) / "w.arrow", "m1", retry_errors=False, limit=None)
        assert made.vanished().num_rows == 0
    assert (found.images, found.recorded) == (count // 2, 0)
    assert time.process_time() - begun < 20
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 < 400
