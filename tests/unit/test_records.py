"""Records: whole commits, one row per image, whoever else writes and whatever gets lost on the way."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from artray.errors import ConfigError, InvariantError, StoreBusyError, TransientError
from artray.store import records as module
from artray.store import rewrite, views
from artray.store.layout import Store
from artray.store.records import Records, write_part
from tests import made_store

ROWS = pa.concat_tables(made_store.tables(60))
MOMENT = datetime(2025, 1, 1, tzinfo=timezone.utc)


def ids(records: Records) -> list[str]:
    return sorted(views.dataset(records).to_table(columns=["image_id"]).column("image_id").to_pylist())


def named(start: int, stop: int) -> list[str]:
    return sorted(ROWS.slice(start, stop - start).column("image_id").to_pylist())


def changed(start: int, stop: int, **values: object) -> pa.Table:
    table = ROWS.slice(start, stop - start)
    for name, value in values.items():
        index = table.schema.get_field_index(name)
        field = table.schema.field(index)
        table = table.set_column(index, field, pa.array([value] * table.num_rows, field.type))
    return table


def column(records: Records, name: str) -> dict[str, Any]:
    table = views.dataset(records).to_table(columns=["image_id", name])
    return dict(zip(table.column("image_id").to_pylist(), table.column(name).to_pylist(), strict=True))


def test_rows_come_back_as_they_were_written(any_store: Store) -> None:
    records = Records.create(any_store)
    assert (records.count(), records.version) == (0, 0)
    records.append(ROWS.slice(0, 20))
    records.add([write_part(any_store.records, ROWS.slice(at, 10)) for at in (20, 30)], "run")
    assert (records.count(), records.version) == (40, 2)  # one commit, however many parts
    found = views.dataset(Records.open(any_store)).to_table().sort_by("image_id")
    assert found.equals(ROWS.slice(0, 40).sort_by("image_id"))
    assert Records.create(any_store).count() == 40  # made once


def test_merge_inserts_and_replaces(any_store: Store) -> None:
    records = Records.create(any_store)
    records.append(ROWS.slice(0, 20))
    rewrite.upsert(records, changed(10, 30, models="m2"), "run")
    assert ids(records) == named(0, 30)
    models = column(records, "models")
    assert {models[name] for name in named(0, 10)} == {"m1"}
    assert {models[name] for name in named(10, 30)} == {"m2"}
    expected = pa.concat_tables([ROWS.slice(0, 10), changed(10, 30, models="m2")]).sort_by("image_id")
    assert views.dataset(records).to_table().sort_by("image_id").equals(expected)  # maps, lists and nulls, too


def test_replace_commits_the_parts_as_they_are(any_store: Store) -> None:
    records = Records.create(any_store)
    records.append(ROWS.slice(0, 20))
    parts = [write_part(any_store.records, changed(at, at + 5, models="m2")) for at in (0, 15)]
    rewrite.replace(records, parts, "run")
    assert ids(records) == named(0, 20)
    assert list(column(records, "models").values()).count("m2") == 10
    assert {part.path for part in parts} < set(records.parts()[0])


def test_update_sets_the_given_columns_only(any_store: Store) -> None:
    records = Records.create(any_store)
    records.append(changed(0, 20, vanished_at=None))
    names = named(0, 3)
    marks = pa.table({"image_id": names, "vanished_at": pa.array([MOMENT] * 3, pa.timestamp("us", tz="UTC"))})
    rewrite.update(records, marks, "run")
    assert {name for name, moment in column(records, "vanished_at").items() if moment == MOMENT} == set(names)
    rewrite.update(
        records, marks.set_column(1, "vanished_at", pa.array([None] * 3, pa.timestamp("us", tz="UTC"))), "run"
    )
    assert set(column(records, "vanished_at").values()) == {None}
    said = pa.table({"image_id": names[:1], "metadata": pa.array([{"a": "b"}], ROWS.schema.field("metadata").type)})
    rewrite.update(records, said, "run")
    assert dict(column(records, "metadata")[names[0]]) == {"a": "b"}
    rewrite.update(records, said.set_column(1, "metadata", pa.array([None], said.schema.field(1).type)), "run")
    assert column(records, "metadata")[names[0]] is None
    expected = changed(0, 20, vanished_at=None).drop_columns(["metadata"]).sort_by("image_id")
    assert views.dataset(records).to_table().drop_columns(["metadata"]).sort_by("image_id").equals(expected)


def test_writing_nothing_is_no_commit_and_no_conflict(store: Store) -> None:
    records = Records.create(store)
    records.append(ROWS.slice(0, 10))
    none = ROWS.slice(30, 5)
    rewrite.update(records, none.select(["image_id", "vanished_at"]), "run")  # none of which has a row
    rewrite.update(records, none.slice(0, 0).select(["image_id", "vanished_at"]), "run")
    rewrite.upsert(records, none.slice(0, 0), "run")
    records.append(ROWS.slice(10, 10), "run")
    assert ids(records) == named(0, 20)


@pytest.mark.parametrize("write", ["append", "merge", "replace", "update"])
def test_of_two_writers_the_later_one_stops(any_store: Store, write: str) -> None:
    Records.create(any_store).append(ROWS.slice(0, 10), "before")
    first, second = Records.open(any_store), Records.open(any_store)
    first.append(ROWS.slice(10, 10), "first")
    attempts: dict[str, Callable[[], None]] = {
        "append": lambda: second.append(ROWS.slice(10, 10), "second"),
        "merge": lambda: rewrite.upsert(second, ROWS.slice(10, 10), "second"),
        "replace": lambda: rewrite.replace(second, [write_part(any_store.records, ROWS.slice(10, 10))], "second"),
        "update": lambda: rewrite.update(second, ROWS.slice(0, 2).select(["image_id", "vanished_at"]), "second"),
    }
    for _ in range(2):  # and trying again does not help
        with pytest.raises(StoreBusyError, match="another run wrote to this store meanwhile; nothing was doubled"):
            attempts[write]()
    assert ids(Records.open(any_store)) == named(0, 20)
    first.append(ROWS.slice(20, 10), "first")  # the one that was first goes on
    assert ids(first) == named(0, 30)


def test_an_update_that_is_stopped_between_parts_changes_nothing(any_store: Store) -> None:
    records = Records.create(any_store)
    for at in (0, 10, 20):
        records.append(ROWS.slice(at, 10))
    moments = iter([None, KeyboardInterrupt()])

    def go_on() -> None:
        if error := next(moments):
            raise error

    marks = changed(0, 30, vanished_at=MOMENT).select(["image_id", "vanished_at"])
    with pytest.raises(KeyboardInterrupt):
        rewrite.update(records, marks, "run", go_on)
    assert set(column(Records.open(any_store), "vanished_at").values()) == {None}
    rewrite.update(records, marks, "run")
    assert set(column(Records.open(any_store), "vanished_at").values()) == {MOMENT}


def test_a_writer_that_changes_nothing_notices_others_all_the_same(store: Store) -> None:
    Records.create(store)
    first, second = Records.open(store), Records.open(store)
    first.append(ROWS.slice(0, 10), "first")
    # In the second one's version there is nothing to update: no commit, and so no conflict that Delta could find.
    with pytest.raises(StoreBusyError):
        rewrite.update(second, ROWS.slice(0, 10).select(["image_id", "vanished_at"]), "second")
    with pytest.raises(StoreBusyError):
        second.append(ROWS.slice(0, 10), "second")
    assert ids(Records.open(store)) == named(0, 10)


def test_after_a_refresh_the_other_writer_may_go_on(store: Store) -> None:
    Records.create(store)
    first, second = Records.open(store), Records.open(store)
    first.append(ROWS.slice(0, 10), "first")
    second.refresh()
    second.append(ROWS.slice(10, 10), "second")
    assert ids(second) == named(0, 20)
    with pytest.raises(StoreBusyError):
        first.append(ROWS.slice(20, 10), "first")


class Flaky:
    """A real Delta table of which some commits fail: before they are written, or after, when the answer gets lost."""

    def __init__(self, table: DeltaTable, failures: list[str]) -> None:
        self.table, self.failures, self.calls = table, failures, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.table, name)

    def create_write_transaction(self, *args: Any, **kwargs: Any) -> None:
        self.calls += 1
        failure = self.failures.pop(0) if self.failures else ""
        if failure != "before":
            self.table.create_write_transaction(*args, **kwargs)
        if failure:
            raise OSError("connection reset") if failure == "before" else DeltaError("timed out")


def flaky(store: Store, monkeypatch: pytest.MonkeyPatch, failures: list[str]) -> tuple[Records, Flaky]:
    records = Records.create(store)
    table = Flaky(records.delta(), failures)
    monkeypatch.setattr(records, "_delta", table)
    monkeypatch.setattr(time, "sleep", lambda _: None)
    return records, table


@pytest.mark.parametrize("failures", [["before"], ["after"], ["before", "before", "after"], ["after", "", "after"]])
def test_a_commit_is_made_once_whatever_gets_lost(
    store: Store, monkeypatch: pytest.MonkeyPatch, failures: list[str]
) -> None:
    made_once(store, monkeypatch, failures)


def test_a_commit_is_made_once_on_s3(any_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    made_once(any_store, monkeypatch, ["after", "before"])


def made_once(store: Store, monkeypatch: pytest.MonkeyPatch, failures: list[str]) -> None:
    records, _ = flaky(store, monkeypatch, failures)
    for start in (0, 10, 20):
        records.append(ROWS.slice(start, 10), "run")
    assert ids(Records.open(store)) == named(0, 30)
    assert Records.open(store).version == 3


def test_a_storage_that_stays_away_is_transient(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    records, table = flaky(store, monkeypatch, ["before"] * 100)
    with pytest.raises(TransientError, match="commit failed: connection reset"):
        records.append(ROWS.slice(0, 10), "run")
    assert table.calls == module.ATTEMPTS
    assert Records.open(store).count() == 0
    table.failures.clear()
    records.append(ROWS.slice(0, 10), "run")
    assert ids(Records.open(store)) == named(0, 10)


def test_a_lost_answer_is_not_taken_for_somebody_elses_commit(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    records, _ = flaky(store, monkeypatch, ["before"])
    other = Records.open(store)
    other.append(ROWS.slice(0, 10), "other")
    with pytest.raises(StoreBusyError):
        records.append(ROWS.slice(0, 10), "run")
    assert ids(Records.open(store)) == named(0, 10)


def test_earlier_versions_stay(any_store: Store) -> None:
    records = Records.create(any_store)
    records.append(ROWS.slice(0, 10))
    rewrite.upsert(records, changed(0, 20, models="m2"), "run")
    assert [Records.open(any_store, version).count() for version in (0, 1, 2)] == [0, 10, 20]
    assert set(column(Records.open(any_store, 1), "models").values()) == {"m1"}
    for version in (3, -1, 2**70):
        with pytest.raises(ConfigError, match="records cannot be read"):
            Records.open(any_store, version)


def test_compaction_changes_files_not_rows(any_store: Store) -> None:
    records = Records.create(any_store)
    for start in range(0, 60, 15):
        records.append(ROWS.slice(start, 15), "run")
    assert len(records.delta().file_uris()) == 4
    assert rewrite.compact(records, "run") == 3
    assert len(records.delta().file_uris()) == 1
    assert views.dataset(records).to_table().sort_by("image_id").equals(ROWS.sort_by("image_id"))
    rewrite.upsert(records, changed(0, 5, models="m2"), "run")  # the fence holds across it
    assert ids(Records.open(any_store)) == named(0, 60)
    assert rewrite.compact(records, "run") == 1  # the changed rows and those that were beside them
    assert rewrite.compact(records, "run") == 0


def test_compaction_is_fenced(any_store: Store) -> None:
    """A run that was overtaken by another one's compaction does not put rows that it moved there a second time."""
    records = Records.create(any_store)
    for start in range(0, 60, 20):
        records.append(ROWS.slice(start, 20), "run")
    late = Records.open(any_store)
    assert rewrite.compact(records, "run") == 2
    with pytest.raises(StoreBusyError):
        rewrite.upsert(late, changed(0, 10, models="m2"), "late")
    with pytest.raises(StoreBusyError):
        rewrite.compact(late, "late")
    assert ids(Records.open(any_store)) == named(0, 60)


def test_another_programs_optimize_in_between_is_told(any_store: Store) -> None:
    """It carries no fence, and Delta sees no conflict."""
    records = Records.create(any_store)
    for start in range(0, 60, 20):
        records.append(ROWS.slice(start, 20), "run")
    DeltaTable(any_store.records_uri, storage_options=any_store.storage_options).optimize.compact()
    with pytest.raises(InvariantError, match="another program changed the table between versions 3 and 5"):
        rewrite.upsert(records, changed(0, 10, models="m2"), "run")


def test_compaction_makes_parts_of_a_size(store: Store) -> None:
    records = Records.create(store)
    for start in range(60):
        records.append(ROWS.slice(start, 1), "run")
    largest = max(records.parts()[1])
    assert rewrite.compact(records, "run", part_bytes=10 * largest) >= 48
    assert 3 <= len(records.parts()[0]) <= 12
    assert views.dataset(records).to_table().sort_by("image_id").equals(ROWS.sort_by("image_id"))


def test_an_image_twice_in_one_commit_is_refused(store: Store) -> None:
    records = Records.create(store)
    twice = pa.concat_tables([ROWS.slice(0, 2), ROWS.slice(1, 1)])
    with pytest.raises(InvariantError, match="got one twice"):
        rewrite.upsert(records, twice, "run")
    assert records.count() == 0


def test_a_rewrite_touches_no_other_part(any_store: Store) -> None:
    records = Records.create(any_store)
    for start in range(0, 60, 20):
        records.append(ROWS.slice(start, 20), "run")
    before = set(records.delta().file_uris())
    rewrite.upsert(records, changed(45, 60, models="m2"), "run")
    after = set(records.delta().file_uris())
    assert (len(before - after), len(after - before)) == (1, 2)  # new rows, and those that were beside the old ones
    assert records.version == 4
    rewrite.upsert(records, changed(40, 45, models="m2"), "run")  # all that was left of a part
    assert (len(records.delta().file_uris()), ids(records)) == (4, named(0, 60))


def test_vacuum_takes_what_no_late_version_needs(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    records = Records.create(store)
    records.append(ROWS.slice(0, 20), "run")
    write_part(store.records, ROWS.slice(20, 20))  # of a run that was killed before it could commit
    now = time.time_ns()
    monkeypatch.setattr(module.time, "time_ns", lambda: now - 3 * 3_600_000_000_000)  # three hours ago
    rewrite.upsert(records, changed(0, 5, models="m2"), "run")
    monkeypatch.undo()
    for path in Path(store.uri, "records").glob("*.parquet"):
        os.utime(path, (now / 1e9 - 3 * 3600,) * 2)
    assert records.vacuum(4) == 0
    version = records.version
    assert records.vacuum(2) == 2
    assert len(list(Path(store.uri, "records").glob("*.parquet"))) == 2
    assert version < records.version
    assert records.vacuum(2) == 0
    rewrite.upsert(records, changed(0, 10, models="m3"), "run")  # the fence holds across it
    assert ids(Records.open(store)) == named(0, 20)


def test_part_names_never_meet(store: Store) -> None:
    parts = [write_part(store.records, ROWS.slice(0, 1)) for _ in range(50)]
    assert len({part.path for part in parts}) == 50
    for part in parts[:3]:
        file = Path(store.uri) / "records" / part.path
        assert file.stat().st_size == part.size_bytes
        assert pq.read_metadata(file).num_rows == part.rows == 1


def test_a_part_states_no_bounds(store: Store) -> None:
    """Of bounds for one column, readers conclude that the others are all null, and skip rows that pass a filter."""
    records = Records.create(store)
    failed = ROWS.slice(0, 1).set_column(ROWS.schema.get_field_index("error"), "error", pa.array(["empty"]))
    records.add([write_part(store.records, failed)], "run")
    dataset = records.delta().to_pyarrow_dataset()
    assert dataset.count_rows(filter=pyarrow.dataset.field("error") == "empty") == 1
    assert dataset.count_rows(filter=pyarrow.dataset.field("vanished_at").is_null()) == 1


def test_no_records_yet(store: Store) -> None:
    with pytest.raises(ConfigError, match="no records yet; make some with"):
        Records.open(store)


def test_a_broken_log_is_named(store: Store) -> None:
    Records.create(store).append(ROWS.slice(0, 1))
    (Path(store.uri) / "records" / "_delta_log" / "00000000000000000001.json").write_text("{broken")
    with pytest.raises(ConfigError, match="records cannot be read") as caught:
        Records.open(store)
    assert "\n" not in str(caught.value)


def test_two_processes_on_one_store_never_double_a_row(store: Store) -> None:
    Records.create(store)
    script = (
        "import sys; from artray.errors import StoreBusyError; from artray.store.layout import open_store\n"
        "from artray.store.records import Records; from tests import made_store\n"
        "records = Records.open(open_store(sys.argv[1])); print('ready', flush=True); sys.stdin.readline()\n"
        "try:\n"
        "    for table in made_store.tables(40, batch=5): records.append(table, sys.argv[2])\n"
        "    print('done')\n"
        "except StoreBusyError: print('busy')\n"
    )
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", script, store.uri, name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        for name in ("one", "two")
    ]
    for run in runs:
        assert run.stdout is not None
        assert run.stdout.readline() == "ready\n"
    answers = sorted(run.communicate("go\n", timeout=60)[0] for run in runs)
    assert answers == ["busy\n", "done\n"]
    assert ids(Records.open(store)) == named(0, 40)
