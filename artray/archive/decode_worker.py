"""The decoding process: ``python -m artray.archive.decode_worker CONFIG PARENT_PID SLOT SLOT``.

Requests come on stdin, replies go to what was stdout; a file's bytes, and its pixels after them, are in one of the two
inherited memory files (the slots). It ends with its parent: when stdin ends, when the parent's thread dies, and, should
it be stuck in a decoder just then, by an alarm.
"""

import ctypes
import os
import resource
import signal
import struct
import sys
import warnings
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from artray.config import DecodeConfig
from artray.errors import ArtrayError, RowError

REQUEST: Final = struct.Struct("<BQ")
"""Slot, and the length of the file in it."""
REPLY: Final = struct.Struct("<B4I16s224s")
"""State; height and width of the pixels; width and height of the original; error kind and detail. 257 bytes, which a
pipe delivers whole."""
READY, PIXELS, ERROR, NOT_STARTED = range(4)
ALARM_GRACE_S: Final = 5.0
"""How much later than the parent's own timeout the alarm goes off: only for an orphan, or a parent that is busy."""


def main() -> None:
    """Answer requests until stdin ends."""
    cfg = DecodeConfig.model_validate_json(sys.argv[1])
    slots = [int(argument) for argument in sys.argv[3:]]
    replies = os.dup(1)
    os.dup2(2, 1)  # what a plugin prints must not get among the replies
    _end_with(int(sys.argv[2]))
    try:
        _prepare(cfg)
    except (ArtrayError, ImportError) as error:
        os.write(replies, _reply(NOT_STARTED, detail=str(error)))
        return
    os.write(replies, _reply(READY))
    while len(request := os.read(0, REQUEST.size)) == REQUEST.size:
        slot, length = REQUEST.unpack(request)
        signal.setitimer(signal.ITIMER_REAL, cfg.timeout_s + ALARM_GRACE_S)
        answer = _answer(slots[slot], length, cfg)
        signal.setitimer(signal.ITIMER_REAL, 0)
        os.write(replies, answer)


def read_slot(slot: int, into: "NDArray[np.uint8]") -> None:
    """Fill an array from the start of a memory file.

    Raises:
        EOFError: it holds less.
    """
    view, at = into.data.cast("B"), 0
    while at < len(view):
        if not (got := os.preadv(slot, [view[at:]], at)):
            raise EOFError(f"slot: expected {len(view)} bytes, got {at}")
        at += got


def write_slot(slot: int, data: "bytes | memoryview") -> None:
    """Write to the start of a memory file, which grows as needed."""
    view, at = memoryview(data).cast("B"), 0
    while at < len(view):
        at += os.pwrite(slot, view[at:], at)


def _answer(slot: int, length: int, cfg: DecodeConfig) -> bytes:
    """Decode what is in a slot, leave its pixels there, and say so."""
    from artray.archive.formats import decode_bytes
    from artray.archive.limits import OUT_OF_MEMORY

    try:
        decoded = decode_bytes(_read(slot, length), cfg)
        write_slot(slot, decoded.pixels.data)
    except RowError as error:
        return _reply(ERROR, kind=error.kind, detail=error.detail)
    except MemoryError:
        return _reply(ERROR, kind="too_large", detail=OUT_OF_MEMORY)
    height, width = decoded.pixels.shape[:2]
    return _reply(PIXELS, (height, width, decoded.width_px, decoded.height_px))


def _read(slot: int, length: int) -> bytes:
    """A file out of its slot; one system call reads at most 2 GiB."""
    chunks: list[bytes] = []
    while (at := sum(map(len, chunks))) < length:
        chunks.append(os.pread(slot, length - at, at))
    return b"".join(chunks)


def _reply(state: int, sizes: tuple[int, int, int, int] = (0, 0, 0, 0), kind: str = "", detail: str = "") -> bytes:
    return REPLY.pack(state, *sizes, kind.encode(), detail.encode("ascii", "replace"))


def _end_with(parent: int) -> None:
    """Die with the parent, on nobody's Ctrl-C, and without leaving a core file."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal sends it to all; the parent decides
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:
        raise SystemExit  # it was gone before it could be followed


def _prepare(cfg: DecodeConfig) -> None:
    """Load every decoder and plugin, then limit memory to what they take plus ``memory_bytes``."""
    warnings.simplefilter("ignore")
    import cv2
    from PIL import AvifImagePlugin

    from artray.archive import formats

    cv2.setNumThreads(1)
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    formats.load_plugins(cfg.plugins)
    if sys.platform == "linux":
        mapped = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (mapped + cfg.memory_bytes, resource.RLIM_INFINITY))


if __name__ == "__main__":
    main()
