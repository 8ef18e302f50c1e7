"""Pictures small enough to be read again in every epoch: JPEG files by the hash of where the original is.

A file is named after the original's URI and version, so a changed original gets a new one, and is written under another
name first, so a reader finds a whole one or none.
"""

import hashlib
import os
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import simplejpeg

from artray.archive import reading
from artray.archive.formats import Decoded
from artray.archive.pool import DecodePool
from artray.classify.inputs import Image, resized
from artray.config import DecodeConfig
from artray.errors import ConfigError, RowError

QUALITY: Final = 95
SUBSAMPLING: Final = "444"
"""Quality 90 with 420 is read in two thirds of the time, but moved scores of small pictures by more than 0.03."""

LONG_SIDES: Final = 4
"""The longer side is at most so many times the length of the shorter one: strips become narrower than that."""


class Cache:
    """A folder of pictures whose shorter side has a given length.

    Args:
        folder: where; it is made.
        short_side_px: the length. Source: report, Image Classification, section 4.2: 400.
    """

    def __init__(self, folder: Path, short_side_px: int) -> None:
        self.folder, self.short_side_px = folder / f"{short_side_px}px", short_side_px

    def path(self, uri: str, version: str) -> Path:
        """Where a picture is kept."""
        digest = hashlib.sha256(f"{uri}\n{version}".encode("utf-8", "backslashreplace")).hexdigest()
        return self.folder / digest[:2] / f"{digest[2:34]}.jpg"

    def read(self, uri: str, version: str) -> Image | None:
        """uint8[H, W, 3]; None where it is not kept yet."""
        try:
            data = self.path(uri, version).read_bytes()
        except FileNotFoundError:
            return None
        image: Image = simplejpeg.decode_jpeg(data, colorspace="RGB")
        return image

    def keep(self, uri: str, version: str, pixels: Image) -> Image:
        """Keep a picture of any size; returns what :meth:`read` will.

        Raises:
            ConfigError: it cannot be written.
        """
        long_px = LONG_SIDES * self.short_side_px
        strip = max(pixels.shape[:2]) > LONG_SIDES * min(pixels.shape[:2])
        image = resized(pixels, long_px, "longer") if strip else resized(pixels, self.short_side_px, "shorter")
        data = simplejpeg.encode_jpeg(image.copy(order="C"), QUALITY, colorspace="RGB", colorsubsampling=SUBSAMPLING)
        target = self.path(uri, version)
        temporary = target.with_name(f".{uuid.uuid4().hex}.tmp")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(data)
            temporary.replace(target)
        except OSError as error:
            raise ConfigError(
                f"{self.folder}: a picture cannot be kept ({error.strerror}); name another folder in data.cache"
            ) from error
        kept: Image = simplejpeg.decode_jpeg(data, colorspace="RGB")
        return kept

    def decode_config(self) -> DecodeConfig:
        """How originals are decoded for it."""
        return DecodeConfig(max_side_px=LONG_SIDES * self.short_side_px)


class Reader:
    """Pictures by row, from the cache, or from the original where this machine's cache has it not.

    It may be sent to other processes.

    Args:
        cache: where they are kept.
        uris: N of them.
        versions: likewise.
        max_file_bytes: the most that is read of an original.
    """

    def __init__(self, cache: Cache, uris: Sequence[str], versions: Sequence[str], max_file_bytes: int) -> None:
        self.cache, self.uris, self.versions, self.max_file_bytes = cache, uris, versions, max_file_bytes
        self._pool: tuple[int, DecodePool] | None = None

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"_pool": None}

    def __call__(self, row: int) -> Image:
        """uint8[H, W, 3].

        Raises:
            ConfigError: the picture cannot be read any more; names it.
            TransientError: the storage does not answer.
        """
        uri, version = self.uris[row], self.versions[row]
        image = self.cache.read(uri, version)
        return self._decoded(uri, version) if image is None else image

    def _decoded(self, uri: str, version: str) -> Image:
        try:
            data: bytes | RowError = reading.read(uri, version, self.max_file_bytes)
            found = next(self._own_pool().decode_many([data]))
        except RowError as error:
            found = error
        if not isinstance(found, Decoded):
            raise ConfigError(f"{uri}: could be read before, and cannot now: {found}; run again without it")
        return self.cache.keep(uri, version, found.pixels)

    def _own_pool(self) -> DecodePool:
        """This process's own: a pool does not survive a fork."""
        if self._pool is None or self._pool[0] != os.getpid():
            self._pool = os.getpid(), DecodePool(self.cache.decode_config())
        return self._pool[1]


def opened(folder: str | None, short_side_px: int) -> Cache:
    """The cache of a profile's ``data``; None for the user's own folder."""
    return Cache(Path(folder).expanduser() if folder else default_folder(), short_side_px)


def default_folder() -> Path:
    """``$ARTRAY_CACHE/pictures``, by default ``~/.cache/artray/pictures``."""
    home = os.environ.get("ARTRAY_CACHE")
    return (Path(home) if home else Path.home() / ".cache" / "artray") / "pictures"
