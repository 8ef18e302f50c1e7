"""The parent's end of one decoding process: what goes in, what comes back, how it ended."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from typing import Final

import numpy as np

from artray.archive.decode_worker import ERROR, NOT_STARTED, READY, REPLY, REQUEST, read_slot, write_slot
from artray.archive.formats import Decoded
from artray.config import MIB, DecodeConfig
from artray.errors import ConfigError, RowError

SLOTS: Final = 2
"""Files that a process may hold: one being decoded, one waiting."""
SLOT_BYTES: Final = 64 * MIB
"""A slot that took a larger file than this gives its memory back at once."""

_SETTINGS: Final = {
    "PYTHONSAFEPATH": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    # glibc: keep freed memory for the next image; asking the system for it anew costs a fifth of a JPEG's time.
    "MALLOC_MMAP_THRESHOLD_": str(32 * MIB),
    "MALLOC_TRIM_THRESHOLD_": str(128 * MIB),
}


class Child:
    """One decoding process and its slots; ``ready`` once it has loaded its decoders."""

    def __init__(self, cfg: DecodeConfig) -> None:
        self.cfg, self.ready, self.sent, self.answered = cfg, False, 0, 0
        self._slots = [_memory_file() for _ in range(SLOTS)]
        self._sizes = [0] * SLOTS
        command = [sys.executable, "-m", "artray.archive.decode_worker", cfg.model_dump_json(), str(os.getpid())]
        self.process = subprocess.Popen(
            [*command, *map(str, self._slots)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # libtiff and others write what the reply says anyway
            bufsize=0,
            pass_fds=self._slots,
            env=_environment(),
        )

    def fileno(self) -> int:
        """What becomes readable when the process has said something, or has died."""
        assert self.process.stdout is not None  # it is a pipe
        return self.process.stdout.fileno()

    def send(self, data: bytes) -> None:
        """Put a file into the next slot; at most :data:`SLOTS` may be unanswered. A dead process is noticed later."""
        index = self.sent % SLOTS
        write_slot(self._slots[index], data)
        self._sizes[index] = len(data)
        self.sent += 1
        with contextlib.suppress(BrokenPipeError):
            assert self.process.stdin is not None  # it is a pipe
            self.process.stdin.write(REQUEST.pack(index, len(data)))

    def receive(self) -> Decoded | RowError | None:
        """The next answer, in the order of sending; None, once, when the process is ready.

        Raises:
            EOFError: the process has died, or talks nonsense.
            ConfigError: it could not load a plugin.
        """
        message = os.read(self.fileno(), REPLY.size)
        if len(message) != REPLY.size:
            raise EOFError("decoder process: it ended")
        state, height, width, width_px, height_px, kind, detail = REPLY.unpack(message)
        if state == NOT_STARTED:
            raise ConfigError(_text(detail))
        if state == READY:
            self.ready = True
            return None
        index = self.answered % SLOTS
        self.answered += 1
        try:
            if state == ERROR:
                return RowError(_text(kind), _text(detail))
            return Decoded(self._pixels(self._slots[index], height, width), width_px, height_px)
        finally:
            if self._sizes[index] > SLOT_BYTES:
                os.ftruncate(self._slots[index], 0)

    def stop(self, patience_s: float = 0.0) -> str:
        """End the process, which may be about to end by itself; how it ended, in words. Stopping twice is harmless."""
        try:
            code = self.process.wait(patience_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()
        while self._slots:
            os.close(self._slots.pop())
        return f"the decoder was killed by {_signal(-code)}" if code < 0 else f"the decoder exited with status {code}"

    @property
    def alarmed(self) -> bool:
        """Whether it ended by the alarm that it sets itself for every file."""
        return self.process.returncode == -signal.SIGALRM

    def _pixels(self, slot: int, height: int, width: int) -> "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]":
        """uint8[height, width, 3] out of a slot."""
        if not (1 <= height <= self.cfg.max_side_px and 1 <= width <= self.cfg.max_side_px):
            raise EOFError(
                f"decoder process: expected at most {self.cfg.max_side_px} px a side, got {width} x {height}"
            )
        pixels = np.empty((height, width, 3), np.uint8)
        read_slot(slot, pixels)
        return pixels


def _memory_file() -> int:
    """A file in memory, or an unnamed one on disk where the system has no such thing."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("artray-decode")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _environment() -> dict[str, str]:
    """The parent's, with its module path (plugins are looked up there)."""
    path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)  # noqa: PTH109 - a string is what is needed
    return os.environ | _SETTINGS | {"PYTHONPATH": path}


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _text(field: bytes) -> str:
    return field.rstrip(b"\0").decode("ascii", "replace")
