"""Finished parts become rows in commits that are neither too many nor too late."""

import pyarrow as pa
import pytest

from artray.config import StoreConfig
from artray.errors import StoreBusyError
from artray.pipeline import sink
from artray.pipeline.messages import Done
from artray.pipeline.sink import Committer
from artray.store import views
from artray.store.layout import Store
from artray.store.records import Records, write_part
from tests import made_store

ROWS = pa.concat_tables(made_store.tables(40))


def done(store: Store, start: int, stop: int, recorded: bool = False) -> Done:
    return Done(write_part(store.records, ROWS.slice(start, stop - start)), recorded, {}, 0.1)


def test_it_is_due_by_rows_or_by_time(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(sink.time, "monotonic", lambda: clock[0])
    committer = Committer(Records.create(store), "run", StoreConfig(commit_s=5, commit_rows=20))
    clock[0] += 100
    assert not committer.due  # nothing waits
    committer.flush()
    committer.add(done(store, 0, 10))
    assert not committer.due
    clock[0] += 5
    assert committer.due
    assert committer.flush() == 10
    committer.add(done(store, 10, 20))
    committer.add(done(store, 20, 30))
    assert committer.due  # 20 rows, and no time went by
    assert committer.flush() == 20
    assert not committer.due
    assert Records.open(store).version == 2


def test_the_longer_a_commit_took_the_later_the_next_one_is(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(sink.time, "monotonic", lambda: clock[0])
    records = Records.create(store)
    committer = Committer(records, "run", StoreConfig(commit_s=5, commit_rows=10))
    add, took_s = records.add, [3]
    monkeypatch.setattr(records, "add", lambda *args: (add(*args), clock.__setitem__(0, clock[0] + took_s[0])))
    committer.add(done(store, 0, 10))
    committer.flush()
    committer.add(done(store, 10, 20))
    clock[0] += 3 * sink.REST - 1
    assert not committer.due  # neither by rows nor by time
    clock[0] += 1
    assert committer.due
    took_s[0] = 100
    committer.flush()
    committer.add(done(store, 20, 30))
    clock[0] += sink.REST_MAX_S
    assert committer.due  # what a crash can cost is bounded


def test_new_rows_are_added_and_recorded_ones_replaced(any_store: Store) -> None:
    records = Records.create(any_store)
    records.append(ROWS.slice(0, 10), "before")
    committer = Committer(records, "run", StoreConfig())
    committer.add(done(any_store, 5, 10, recorded=True))
    committer.add(done(any_store, 10, 20))
    committer.add(done(any_store, 0, 5, recorded=True))
    assert committer.flush() == 20
    assert committer.flush() == 0
    found = views.dataset(records).to_table(columns=["image_id"]).column("image_id").to_pylist()
    assert sorted(found) == sorted(ROWS.slice(0, 20).column("image_id").to_pylist())
    assert records.version == 3  # one for all the new ones, one for all the others


def test_what_was_refused_is_not_tried_again(store: Store) -> None:
    committer = Committer(Records.create(store), "run", StoreConfig())
    committer.add(done(store, 0, 10))
    Records.open(store).append(ROWS.slice(0, 10), "other")
    with pytest.raises(StoreBusyError):
        committer.flush()
    assert committer.flush() == 0
    committer.add(done(store, 10, 20))
    with pytest.raises(StoreBusyError):
        committer.flush()
    assert Records.open(store).count() == 10


def test_done_travels_as_text(store: Store) -> None:
    made = Done(write_part(store.records, ROWS.slice(0, 3)), True, {"truncated": 2}, 0.5)
    assert Done.of(made.row().column("done")[0].as_py()) == made
