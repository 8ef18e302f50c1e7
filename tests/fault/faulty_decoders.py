"""Decoders of formats of our own that really crash, hang and exhaust memory; imported by the decoding process."""

import ctypes
import os
import signal
import sys
import time

import numpy as np

from artray.archive import formats
from artray.errors import RowError


def _segfault(_data, _cfg):
    ctypes.string_at(0)


def _forever(_data, _cfg):
    while True:
        pass


def _forever_in_c(_data, _cfg):
    """A C call that never returns and never lets go of the interpreter."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    ctypes.PyDLL(None).pause()


def _hoard(_data, _cfg):
    kept = []
    while True:
        kept.append(bytearray(2**24))
        kept[-1][:: 2**12] = b"x" * 2**12


def _leave(_data, _cfg):
    os._exit(3)


def _killed(_data, _cfg):
    """As the kernel does when the machine is out of memory."""
    os.kill(os.getpid(), signal.SIGKILL)


def _talk(_data, _cfg):
    """Writes where the replies once went."""
    os.write(1, b"x" * 5000)
    sys.stdout.write("y" * 5000)
    return np.full((2, 2, 3), 7, np.uint8)


def _refuse(_data, _cfg):
    raise RowError("unsupported", "a variant that nobody reads")


def _slow(data, _cfg):
    time.sleep(float(data[5:]))
    return np.full((1, 1), 5, np.uint8)


_later = []


def _poison(_data, _cfg):
    """Decodes well, and leaves the process in a state in which whatever comes next kills it."""
    _later.append(formats.decode_bytes)
    formats.decode_bytes = lambda _data, _cfg: os.abort()
    return np.full((1, 1), 6, np.uint8)


def _fill(_data, cfg):
    """Decodes well, and keeps all but a little of the memory allowed."""
    _later.append(np.empty(cfg.memory_bytes - 2**25, np.uint8))
    return np.full((1, 1), 8, np.uint8)


def _need(_data, _cfg):
    return np.zeros((8000, 8000), np.uint8)[:1, :1].copy()


DECODERS = {
    b"SEGV": _segfault,
    b"LOOP": _forever,
    b"WAIT": _forever_in_c,
    b"HOARD": _hoard,
    b"EXIT": _leave,
    b"KILL": _killed,
    b"TALK": _talk,
    b"REFUSE": _refuse,
    b"SLEEP": _slow,
    b"POISON": _poison,
    b"FILL": _fill,
    b"NEED": _need,
}

for _magic, _decode in DECODERS.items():
    formats.register(_magic.decode(), lambda head, magic=_magic: head.startswith(magic), _decode)
