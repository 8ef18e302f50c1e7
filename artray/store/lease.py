"""Who writes to a store: one run at a time, known by its heartbeat.

The lease is a courtesy that turns an accident into a clear message before any work is done. What makes doubled rows
impossible is the fence in the records' log (see artray.store.records), which needs no clock.
"""

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final

from artray.errors import ArtrayError, StoreBusyError
from artray.store.layout import Store

BEAT_S: Final = 3.0
DEAD_S: Final = 12.0
"""A holder that has not beaten for so long is dead."""


class Lease:
    """Held while a run writes; a context manager.

    Args:
        store: what is written to.
        run_id: who writes.
        tell: told, in one line, when another run's sign of life is awaited.

    Raises:
        StoreBusyError: on entering, another run is alive.
    """

    def __init__(self, store: Store, run_id: str, tell: Callable[[str], None]) -> None:
        self.store, self.run_id, self.tell = store, run_id, tell
        self._stop = threading.Event()
        self._beater = threading.Thread(target=self._beat, name="artray-lease", daemon=True)

    def __enter__(self) -> "Lease":
        held = self.store.read_json("lease.json")
        if held and held.get("run_id") != self.run_id and self._alive(held):
            raise StoreBusyError(
                f"{self.store.uri}: run {held.get('run_id')} on {held.get('host')} (process {held.get('pid')}) "
                "is writing to this store; wait until it has ended, then run again"
            )
        self._write()
        self._beater.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._beater.join()
        with contextlib.suppress(ArtrayError, OSError):  # one that stays is found to be dead by the next run
            held = self.store.read_json("lease.json")
            if held and held.get("run_id") == self.run_id:
                (self.store.location / "lease.json").remove()

    def _alive(self, held: dict[str, Any]) -> bool:
        """On this machine the process tells; elsewhere a beat, or none for DEAD_S seconds."""
        if held.get("host") == socket.gethostname():
            started = _process_start(int(held.get("pid") or 0))
            return started is not None and started == held.get("process_start")
        self.tell(
            f"run {held.get('run_id')} did not say that it ended; waiting up to {DEAD_S:.0f} s for a sign of life"
        )
        until = time.monotonic() + DEAD_S
        while time.monotonic() < until:
            time.sleep(min(1.0, BEAT_S))
            now = self.store.read_json("lease.json")
            if now is None:
                return False
            if now != held:
                return True
        return False

    def _write(self) -> None:
        self.store.write_json(
            "lease.json",
            {
                "run_id": self.run_id,
                "host": socket.gethostname(),
                "pid": os.getpid(),
                "process_start": _process_start(os.getpid()),
                "beat": time.time(),
            },
        )

    def _beat(self) -> None:
        while not self._stop.wait(BEAT_S):
            try:
                self._write()
            except (ArtrayError, OSError):
                continue  # a storage that is down stops the run by its commits, not by a missed beat


def _process_start(pid: int) -> str | None:
    """When a process of this machine started, in clock ticks since boot; None where it does not run.

    A process id alone comes back after a while for another process.
    """
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:  # noqa: PTH123 (a proc file, not a path of ours)
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return _runs(pid)
    return None if fields[0] == "Z" else fields[19]


def _runs(pid: int) -> str | None:
    """Whether a process runs, where there is no /proc."""
    if os.path.exists("/proc/self") or pid <= 0:  # noqa: PTH110
        return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        return "running"
    return "running"
