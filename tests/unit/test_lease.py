"""Who writes: told by a process on this machine, by a heartbeat elsewhere."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from artray.errors import StoreBusyError, TransientError
from artray.store import lease as module
from artray.store.layout import Store
from artray.store.lease import Lease


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BEAT_S", 0.05)
    monkeypatch.setattr(module, "DEAD_S", 0.4)


def held(store: Store, **changes: object) -> None:
    """Somebody's lease."""
    values = {
        **{"run_id": "theirs", "host": "elsewhere", "pid": 1, "process_start": "1", "beat": 0.0},
        **changes,
    }
    store.write_json("lease.json", values)


def here(store: Store, **changes: object) -> None:
    """A lease of this machine, and of this process where nothing else is said."""
    with Lease(store, "mine", print):
        document = store.read_json("lease.json")
    store.write_json("lease.json", (document or {}) | {"run_id": "theirs"} | changes)


def test_it_is_there_while_held_and_beats(any_store: Store) -> None:
    with Lease(any_store, "run", print):
        first = any_store.read_json("lease.json")
        assert first is not None
        assert (first["run_id"], first["pid"]) == ("run", os.getpid())
        until = time.monotonic() + 10
        while any_store.read_json("lease.json") == first and time.monotonic() < until:
            time.sleep(0.02)
        assert any_store.read_json("lease.json") != first
    assert any_store.read_json("lease.json") is None


def test_it_goes_away_whatever_happens(store: Store) -> None:
    with pytest.raises(KeyboardInterrupt), Lease(store, "run", print):
        raise KeyboardInterrupt
    assert store.read_json("lease.json") is None


def test_a_live_process_of_this_machine_is_not_disturbed(store: Store) -> None:
    here(store)
    with pytest.raises(StoreBusyError, match=rf"run theirs on .* \(process {os.getpid()}\) is writing"):
        Lease(store, "mine", print).__enter__()
    assert (store.read_json("lease.json") or {})["run_id"] == "theirs"


@pytest.mark.parametrize(
    "changes",
    [
        {"process_start": "1"},  # the process id belongs to another process by now
        {"pid": 2**22 + 1},  # more than Linux gives
        {"pid": 0},
        {"pid": None},
        {"process_start": None, "pid": 2**22 + 1},
    ],
)
def test_a_dead_process_of_this_machine_is_not_waited_for(store: Store, changes: dict[str, object]) -> None:
    here(store, **changes)
    told: list[str] = []
    with Lease(store, "mine", told.append):
        assert (store.read_json("lease.json") or {})["run_id"] == "mine"
    assert told == []


def test_a_zombie_is_dead(store: Store) -> None:
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    started = module._process_start(child.pid)
    assert started is not None
    until = time.monotonic() + 10
    while module._process_start(child.pid) is not None and time.monotonic() < until:
        time.sleep(0.02)  # it has ended, but nobody has asked it how
    here(store, pid=child.pid, process_start=started)
    with Lease(store, "mine", print):
        pass
    child.wait()


def test_a_silent_run_elsewhere_is_dead(store: Store) -> None:
    held(store)
    told: list[str] = []
    with Lease(store, "mine", told.append):
        pass
    assert len(told) == 1
    assert told[0].startswith("run theirs did not say that it ended; waiting up to")


def test_a_beating_run_elsewhere_is_alive(store: Store) -> None:
    held(store)

    def beat(_: str) -> None:
        held(store, beat=1.0)

    with pytest.raises(StoreBusyError, match="run theirs on elsewhere"):
        Lease(store, "mine", beat).__enter__()


def test_a_run_elsewhere_that_ends_meanwhile_is_not_waited_for(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DEAD_S", 60.0)
    held(store)
    begun = time.monotonic()
    with Lease(store, "mine", lambda _: (store.location / "lease.json").remove()):
        pass
    assert time.monotonic() - begun < 10


def test_the_lease_of_another_is_left_where_it_is(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BEAT_S", 60.0)
    with Lease(store, "mine", print):
        held(store)
    assert (store.read_json("lease.json") or {})["run_id"] == "theirs"


def test_a_storage_that_is_away_at_the_end_does_not_undo_a_run(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise TransientError("away")

    with Lease(store, "mine", print):
        monkeypatch.setattr(Store, "read_json", fails)


def test_two_processes_at_once(store: Store) -> None:
    script = (
        "import sys, time; from artray.errors import StoreBusyError; from artray.store.layout import open_store\n"
        "from artray.store.lease import Lease; store = open_store(sys.argv[1])\n"
        "try:\n"
        "    with Lease(store, sys.argv[2], print): print('held', flush=True); sys.stdin.readline()\n"
        "except StoreBusyError as error: print('busy', flush=True)\n"
    )

    def start(name: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-c", script, store.uri, name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )

    first = start("one")
    assert first.stdout is not None
    assert first.stdout.readline() == "held\n"
    assert start("two").communicate("\n", timeout=60)[0] == "busy\n"
    first.kill()  # it cannot take its lease away
    first.wait()
    assert json.loads((Path(store.uri) / "lease.json").read_text())["run_id"] == "one"
    assert start("three").communicate("\n", timeout=60)[0] == "held\n"
    assert not (Path(store.uri) / "lease.json").exists()
