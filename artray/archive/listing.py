"""What is in an archive: a stream of entries, one per image, in bounded memory.

Local folders are walked with ``scandir``, one folder at a time; S3 prefixes are paged through. A link is followed
where it leads somewhere new, not round to a folder that it lies in; one that leads nowhere is an entry with an error,
for somebody put it there as an image. Pipes, sockets and devices are no files and are left alone.
"""

import errno
import fnmatch
import hashlib
import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import quote_from_bytes

from artray.config import ArchiveConfig
from artray.errors import ConfigError
from artray.location import Location

SUFFIXES: Final = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".tif", ".tiff", ".webp", ".gif", ".bmp", ".dib"),
    *(".jp2", ".j2k", ".jpx", ".jpf", ".avif", ".heic", ".heif"),
)
"""What an image's name ends with, where a profile includes nothing else."""

SIDECARS: Final = ("._*", "*/._*", "*/@eaDir/*", "@eaDir/*")
"""What file managers leave beside images, under an image's name: never part of an archive."""


class Entry(NamedTuple):
    """One image of the archive, unread."""

    image_id: str  # key relative to the archive, / between folders
    uri: str
    size_bytes: int
    version: str  # ETag, or modification time and size
    error: str = ""  # a kind, where it cannot even be looked at
    error_detail: str = ""


Warn = Callable[[str], None]

MAX_LINKS: Final = 3
"""So many links to folders are followed on the way to an image: among folders that link to one another ways abound."""

WRITTEN_OUT: Final = re.compile(r"[0-9a-f]{8}~")
"""How a name begins that is no UTF-8, see :func:`text`; one that has it of its own gets another before it."""


def entries(archive: Location, cfg: ArchiveConfig, warn: Warn) -> Iterator[Entry]:
    """Every image of an archive.

    Args:
        archive: a folder or an S3 prefix.
        cfg: which names are images.
        warn: told, in one line, of every folder that could not be listed: what is below it is unknown, not gone.

    Raises:
        ConfigError: there is no such archive, or it may not be read.
        TransientError: the storage failed.
    """
    wanted = name_filter(cfg)
    found = _s3_entries(archive) if archive.is_s3 else _local_entries(archive.path, warn)
    return (entry for entry in found if wanted(entry.image_id))


def check(archive: Location) -> None:
    """Make sure that there is something to list.

    Raises:
        ConfigError: there is no such folder, bucket or prefix, or it may not be read.
        TransientError: the storage does not answer.
    """
    if archive.is_s3:
        next(_s3_entries(archive), None)
        return
    try:
        os.scandir(archive.path).close()
    except (FileNotFoundError, NotADirectoryError) as error:
        what = "nothing there" if isinstance(error, FileNotFoundError) else "a file"
        raise ConfigError(f"{archive}: expected a folder of images or s3://bucket/prefix, got {what}") from error
    except OSError as error:
        raise ConfigError(f"{archive}: cannot be listed ({error.strerror}); check its name and permissions") from error


def name_filter(cfg: ArchiveConfig) -> Callable[[str], bool]:
    """Whether an image_id is wanted: shell patterns, upper and lower case alike, ``*`` crosses folders.

    >>> wanted = name_filter(ArchiveConfig(exclude=("*/thumbs/*",)))
    >>> wanted("a/b.JPG"), wanted("a/thumbs/b.jpg"), wanted("a/notes.txt")
    (True, False, False)
    """
    include = _pattern(cfg.include) if cfg.include else _pattern([f"*{suffix}" for suffix in SUFFIXES])
    exclude = _pattern([*cfg.exclude, *SIDECARS])
    return lambda image_id: bool(include(image_id.lower())) and not exclude(image_id.lower())


def _pattern(globs: Sequence[str]) -> Callable[[str], object]:
    return re.compile("|".join(fnmatch.translate(glob.lower()) for glob in globs)).match


def _local_entries(root: Path, warn: Warn) -> Iterator[Entry]:
    check(Location(str(root)))
    base = os.fsencode(root).rstrip(b"/")
    # Not recursive: folders are nested deeper than Python's calls may be.
    waiting, too_deep = [_Folder(base or b"/", (_identity(root.stat()),), 0)], b""
    while waiting:
        folder, folders = waiting.pop(), list[_Folder]()
        if folder.links > MAX_LINKS:
            too_deep = too_deep or folder.path
            continue
        yield from _files(folder, len(base) + 1, folders, warn)
        waiting += reversed(folders)
    if too_deep:
        warn(f"{_shown(too_deep)}: not followed, it is reached by more than {MAX_LINKS} links; so may be others")


class _Folder(NamedTuple):
    """A folder to be listed."""

    path: bytes
    ancestors: tuple[tuple[int, int], ...]  # device and inode of it and of all above it
    links: int  # how many of these are reached through a link


def _files(folder: _Folder, skip: int, folders: list[_Folder], warn: Warn) -> Iterator[Entry]:
    """The files of a folder by name; adds its folders to ``folders``."""
    try:
        with os.scandir(folder.path) as found:
            children = sorted(found, key=lambda child: child.name, reverse=True)
    except OSError as error:
        warn(f"{_shown(folder.path)}: cannot be listed ({error.strerror}); its images are left as they are")
        return
    while children:  # what is done with is let go, for its status takes most of the memory
        child = children.pop()
        try:
            status = child.stat()
        except OSError as error:
            yield from _unreachable(child, skip, error, warn)
            continue
        if stat.S_ISREG(status.st_mode):
            yield _entry(child.path, skip, status)
        elif stat.S_ISDIR(status.st_mode) and (identity := _identity(status)) not in folder.ancestors:
            ancestors = (*folder.ancestors, identity)
            folders.append(_Folder(child.path, ancestors, folder.links + child.is_symlink()))


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _shown(path: bytes) -> str:
    return path.decode("utf-8", "backslashreplace")


def _entry(path: bytes, skip: int, status: os.stat_result) -> Entry:
    return Entry(text(path[skip:]), local_uri(path), status.st_size, f"{status.st_mtime_ns}-{status.st_size}")


def _unreachable(child: "os.DirEntry[bytes]", skip: int, error: OSError, warn: Warn) -> Iterator[Entry]:
    """An entry for a link that leads nowhere or in a circle, and for what may not be looked at.

    A file that went away while its folder was read is not in the archive; of one of which the storage would not tell
    nothing is known.
    """
    if not child.is_symlink() and isinstance(error, FileNotFoundError):
        return
    if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EACCES, errno.EPERM):
        warn(f"{_shown(child.path)}: cannot be looked at ({error.strerror}); it is left as it is")
        return
    kind = "denied" if isinstance(error, PermissionError) else "missing"
    detail = f"link leads to nothing: {error.strerror}" if child.is_symlink() else str(error.strerror)
    yield Entry(text(child.path[skip:]), local_uri(child.path), 0, f"unreachable-{error.errno}", kind, detail)


def text(name: bytes) -> str:
    r"""A file name as text; bytes that are not UTF-8 are written out, with a hash that keeps the name unique.

    >>> text("Dürer.jpg".encode()), text(b"D\xfcrer.jpg")
    ('Dürer.jpg', 'b60037ee~D\\xfcrer.jpg')
    """
    decoded = name.decode("utf-8", "backslashreplace")
    if decoded.encode() == name and not WRITTEN_OUT.match(decoded):
        return decoded
    return f"{hashlib.sha256(name).hexdigest()[:8]}~{decoded}"


def local_uri(path: bytes) -> str:
    """The path itself, or a percent-encoded ``file://`` where it is no text."""
    try:
        return path.decode("utf-8")
    except UnicodeDecodeError:
        return f"file://{quote_from_bytes(path)}"


def _s3_entries(archive: Location) -> Iterator[Entry]:
    from artray.archive.s3 import pages

    bucket, prefix = archive.bucket_and_prefix
    empty = True
    for page in pages(bucket, prefix):
        empty = False
        for found in page:
            if not found["Key"].endswith("/"):
                tag = found["ETag"].strip('"')
                yield Entry(found["Key"][len(prefix) :], f"s3://{bucket}/{found['Key']}", found["Size"], tag)
    if empty:
        raise ConfigError(f"{archive}: expected images under this prefix, found no keys; check bucket and prefix")
