"""Watching a contestant from outside, with no help from it: first read, use of the cores, memory."""

import contextlib
import ctypes
import os
import struct
import threading
import time
from pathlib import Path

from typing_extensions import Self

from tests.benchmarks.work import SUFFIXES

IN_OPEN = 0x20
IN_ISDIR = 0x40000000
EVENT = struct.Struct("iIII")
EVERY_S = 0.2
CORES_EVERY_S = 1.0


class Watch:
    """Something that is looked at, in a thread, until the end of a block."""

    def __enter__(self) -> Self:
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        """Look, until ``self._ended`` is set."""
        raise NotImplementedError


class FirstRead(Watch):
    """When a picture below a folder was opened for the first time since; a context manager. Linux only (inotify)."""

    def __init__(self, archive: Path) -> None:
        self._archive = archive
        self.at: float | None = None

    def __enter__(self) -> Self:
        libc = ctypes.CDLL(None, use_errno=True)
        self._queue = libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        for folder in [self._archive, *(path for path in self._archive.rglob("*") if path.is_dir())]:
            if self._queue < 0 or libc.inotify_add_watch(self._queue, os.fsencode(folder), IN_OPEN) < 0:
                raise OSError(ctypes.get_errno(), "inotify: cannot watch", str(folder))
        return super().__enter__()

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        os.close(self._queue)

    def _watch(self) -> None:
        while not self._ended.wait(0.02):
            try:
                data = os.read(self._queue, 65536)
            except BlockingIOError:
                continue
            if any(not mask & IN_ISDIR and name.endswith(SUFFIXES) for mask, name in _events(data)):
                self.at = time.time()
                return


def _events(data: bytes) -> list[tuple[int, str]]:
    found, at = [], 0
    while at < len(data):
        _, mask, _, length = EVENT.unpack_from(data, at)
        name = data[at + EVENT.size : at + EVENT.size + length].rstrip(b"\0")
        found.append((mask, os.fsdecode(name).lower()))
        at += EVENT.size + length
    return found


class Cores(Watch):
    """How many cores this process's children kept busy, and how many the rest of the machine; a context manager."""

    def __init__(self) -> None:
        self._samples: list[tuple[float, float, float]] = []  # moment, busy, of which our children's; seconds
        self._of: dict[int, float] = {}

    def _watch(self) -> None:
        while True:
            self._samples.append((time.time(), _busy_s(), self._children_s()))
            if self._ended.wait(CORES_EVERY_S):
                return

    def _children_s(self) -> float:
        """Seconds that all children have worked, those that ended included (but for their last moments)."""
        import psutil

        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                times = process.cpu_times()
                self._of[process.pid] = times.user + times.system
        return sum(self._of.values())

    def busy(self, begun: float, ended: float) -> tuple[float, float]:
        """Cores busy on average between two moments: by anything, and by what is none of our children."""
        within = [sample for sample in self._samples if begun <= sample[0] <= ended]
        if len(within) < 2:
            return float("nan"), float("nan")
        span, total, own = (last - first for first, last in zip(within[0], within[-1], strict=True))
        return total / span, max(0.0, total - own) / span


def _busy_s() -> float:
    """Seconds that all cores together have worked since boot."""
    user, nice, system, _idle, _iowait, irq, softirq = map(
        int, Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:8]
    )
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


class Memory(Watch):
    """The most memory that a process and all below it hold together (PSS, so that shared pages count once)."""

    def __init__(self, pid: int) -> None:
        self._pid, self.peak_bytes, self.samples = pid, 0, 0

    def _watch(self) -> None:
        while not self._ended.wait(EVERY_S):
            self.peak_bytes = max(self.peak_bytes, tree_bytes(self._pid))
            self.samples += 1


def tree_bytes(pid: int) -> int:
    """PSS of a process and all its descendants, in bytes; a process that ends meanwhile counts as nothing."""
    import psutil

    try:
        root = psutil.Process(pid)
        tree = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    total = 0
    for process in tree:
        try:
            total += process.memory_full_info().pss
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return total
