"""An image's bytes, if it is still what was listed."""

import errno
import os
import stat
from urllib.parse import unquote_to_bytes

from artray.archive import s3
from artray.errors import RowError, TransientError
from artray.location import first_line

BLOCK = 2**20


def read(uri: str, version: str, max_bytes: int) -> bytes:
    """All bytes of a file or an object.

    Args:
        uri: from the listing.
        version: from the listing; another one now is an error, for a half-written picture must not pass as a picture.
        max_bytes: the most that is read.

    Raises:
        RowError: missing, denied, unreadable, changed, too_large, empty.
        TransientError: the storage does not answer.
    """
    data = s3.read(uri, version, max_bytes) if uri.startswith("s3://") else _read_file(uri, version, max_bytes)
    if not data:
        raise RowError("empty", "no bytes in it")
    return data


def _read_file(uri: str, version: str, max_bytes: int) -> bytes:
    path = unquote_to_bytes(uri.removeprefix("file://")) if uri.startswith("file://") else os.fsencode(uri)
    try:
        # Non-blocking: were it a pipe by now, opening it would wait for a writer for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise _reading_error(error) from error
    try:
        return _read_descriptor(descriptor, version, max_bytes)
    except OSError as error:
        raise _reading_error(error) from error
    finally:
        os.close(descriptor)


def _read_descriptor(descriptor: int, version: str, max_bytes: int) -> bytes:
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise RowError("changed", "no longer a file")
    _check_version(status, version)
    if status.st_size > max_bytes:
        raise RowError("too_large", f"{status.st_size:,} bytes; the limit is {max_bytes:,}")
    data = _all(descriptor, status.st_size)
    _check_version(os.fstat(descriptor), version, len(data))
    return data


def _all(descriptor: int, size_bytes: int) -> bytes:
    """What is in the file; a byte more than expected is enough, for it may be written to without end."""
    blocks: list[bytes] = []
    left = size_bytes + 1
    while left > 0 and (block := os.read(descriptor, min(BLOCK, left))):
        blocks.append(block)
        left -= len(block)
    return b"".join(blocks)


def _check_version(status: os.stat_result, version: str, size_bytes: int | None = None) -> None:
    if f"{status.st_mtime_ns}-{status.st_size}" != version or size_bytes not in (None, status.st_size):
        raise RowError("changed", "written to since it was listed; the next run takes the new version")


def _reading_error(error: OSError) -> RowError | TransientError:
    if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
        return RowError("missing", f"gone since it was listed: {error.strerror}")
    if error.errno in (errno.EACCES, errno.EPERM):
        return RowError("denied", "no permission to read it")
    if error.errno in (errno.ESTALE, errno.ETIMEDOUT, errno.EMFILE, errno.ENFILE, errno.ENOMEM):
        return TransientError(f"reading failed: {first_line(error)}")
    return RowError("unreadable", error.strerror or first_line(error))
