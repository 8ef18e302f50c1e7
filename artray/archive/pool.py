"""Decoding in processes of its own: a file that crashes, hangs or exhausts its decoder costs that file and no other.

Each process has two slots (files in memory), so that it decodes one file while the next is put into its other slot and
the last one's pixels are taken out. Measured on 2 MP JPEGs, one process, on a busy machine: 8.9 ms of processor time
an image in the child and 8.7 ms for decoding in this process, with 0.8 ms here meanwhile.

A crash, or memory that ran out, is blamed on an image only when a fresh process that has decoded nothing else fails
on it too: whatever happened to its neighbours, an image gets the same verdict.
"""

import select
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Final

from artray.archive.decode_child import SLOTS, Child
from artray.archive.formats import Decoded
from artray.archive.limits import OUT_OF_MEMORY
from artray.config import DecodeConfig
from artray.errors import InvariantError, RowError, TransientError

LOOK_AHEAD: Final = 8
"""Images per process that may be taken from the source and not yet delivered."""
START_S: Final = 60.0
STARTS: Final = 3
"""How often in a row a process may fail to start."""
DYING_S: Final = 1.0
"""How long a process that closed its pipe is given to end, so that it can be said how."""


class DecodePool:
    """Owns ``cfg.processes`` decoding processes; use it as a context manager, or call :meth:`close`.

    Any one thread at a time may use it.

    Raises:
        ConfigError: a plugin cannot be imported, or registers a name twice.
        TransientError: the processes do not start.
    """

    def __init__(self, cfg: DecodeConfig) -> None:
        self._busy = threading.Lock()
        # Children die with the thread that made them, so one thread that lives as long as the pool makes them all.
        self._spawner = ThreadPoolExecutor(1, thread_name_prefix="decode-spawn")
        self._lanes: list[_Lane] = []
        try:
            self._lanes += [_Lane(cfg, self._spawn) for _ in range(cfg.processes)]
            while not all(lane.child.ready for lane in self._lanes):
                self._serve()
        except BaseException:
            self.close()
            raise

    def decode_many(self, datas: Iterable[bytes | RowError]) -> Iterator[Decoded | RowError]:
        """Decode files, in order; at most :data:`LOOK_AHEAD` per process are taken ahead of what is delivered.

        Args:
            datas: whole files; a RowError in place of one comes out as it is.

        Yields:
            What :func:`~artray.archive.formats.decode_bytes` returns or raises, and ``decoder_crashed`` or
            ``decoder_hung``; the pixels own their memory.

        Raises:
            InvariantError: another iteration over this pool is under way.
            TransientError: a process that died cannot be replaced.
        """
        if not self._busy.acquire(blocking=False):
            raise InvariantError("decode pool: expected one iteration at a time, got a second one; make another pool")
        try:
            yield from self._ordered(iter(datas))
        finally:
            self._busy.release()

    def close(self) -> None:
        """End the processes. Closing twice is harmless."""
        for lane in self._lanes:
            lane.child.stop()
        self._spawner.shutdown()

    def __enter__(self) -> "DecodePool":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ordered(self, source: Iterator[bytes | RowError]) -> Iterator[Decoded | RowError]:
        """Deliver from the front, feed the emptiest lane, and wait only when neither can be done."""
        waiting: deque[_Job] = deque()
        more, room = True, LOOK_AHEAD * len(self._lanes)
        while more or waiting:
            while waiting and (result := waiting[0].result) is not None:
                waiting.popleft()
                yield result
            lane = min(self._lanes, key=lambda lane: len(lane.jobs))
            if not more or len(waiting) >= room or len(lane.jobs) >= SLOTS:
                if waiting or lane.jobs:
                    self._serve()
                continue
            try:
                data = next(source)
            except StopIteration:
                more = False
                continue
            waiting.append(job := _Job(result=data) if isinstance(data, RowError) else _Job(data))
            if job.result is None:
                lane.give(job)
            self._serve(wait=False)

    def _serve(self, *, wait: bool = True) -> None:
        """Handle what the processes have said or failed to say; wait for that, or only look."""
        due = min((lane.due for lane in self._lanes if lane.active), default=0.0)
        poller, ends = select.poll(), [lane.child.fileno() for lane in self._lanes]
        for end in ends:
            poller.register(end, select.POLLIN)
        ready = {end for end, _ in poller.poll(max(0.0, due - time.monotonic()) * 1000 + 1 if wait else 0)}
        for lane, end in zip(self._lanes, ends, strict=True):
            if end in ready:
                lane.take()
            elif lane.active and time.monotonic() > lane.due:
                lane.lost(hung=True)

    def _spawn(self, cfg: DecodeConfig) -> Child:
        return self._spawner.submit(Child, cfg).result()


@dataclass(eq=False)
class _Job:
    """One image on its way."""

    data: bytes = b""
    result: Decoded | RowError | None = None


class _Lane:
    """One process after another, the jobs it holds (the first is being decoded), and when it must have answered."""

    def __init__(self, cfg: DecodeConfig, spawn: Callable[[DecodeConfig], Child]) -> None:
        self._cfg, self._spawn = cfg, spawn
        self.jobs: deque[_Job] = deque()
        self._failed_starts = 0
        self._start()

    @property
    def active(self) -> bool:
        """Whether an answer is awaited."""
        return bool(self.jobs) or not self.child.ready

    def give(self, job: _Job) -> None:
        """Hand a job to the process."""
        if not self.active:
            self.due = time.monotonic() + self._cfg.timeout_s
        self.jobs.append(job)
        self.child.send(job.data)

    def take(self) -> None:
        """Handle the process's next answer, or its death."""
        try:
            answer = self.child.receive()
        except EOFError:
            self.lost()
            return
        self.due = time.monotonic() + self._cfg.timeout_s
        if answer is None:
            self._failed_starts = 0
        elif isinstance(answer, RowError) and answer.detail == OUT_OF_MEMORY and self.child.answered > 1:
            self._restart()  # the memory may have been taken by those before it
        else:
            self._finish(answer)

    def lost(self, *, hung: bool = False) -> None:
        """The process is dead, or stuck: blame its first job where that is certain, and start another.

        Raises:
            TransientError: it never got ready, several times in a row.
        """
        how = self.child.stop(0.0 if hung else DYING_S)
        if not self.child.ready:
            self._failed_starts += 1
            if self._failed_starts >= STARTS:
                raise TransientError(f"decoder process: {how} before it was ready, {STARTS} times; run again to resume")
        elif self.jobs and (hung or self.child.alarmed):
            self._finish(RowError("decoder_hung", f"no answer within {self._cfg.timeout_s:g} s"))
        elif self.jobs and not self.child.answered:
            self._finish(RowError("decoder_crashed", how))
        self._restart()

    def _finish(self, result: Decoded | RowError) -> None:
        job = self.jobs.popleft()
        job.data, job.result = b"", result

    def _restart(self) -> None:
        """A fresh process, with the jobs that are left."""
        self.child.stop()
        self._start()
        for job in self.jobs:
            self.child.send(job.data)

    def _start(self) -> None:
        self.child = self._spawn(self._cfg)
        self.due = time.monotonic() + START_S
