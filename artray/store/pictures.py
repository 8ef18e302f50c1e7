"""The picture behind a record, or any other, as the pipeline sees it: decoded in a guarded process, upright, RGB."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from artray.config import ArchiveConfig, DecodeConfig
from artray.errors import ConfigError, RowError
from artray.store.export import replacing
from artray.store.layout import Store

if TYPE_CHECKING:
    from artray.archive.pool import DecodePool
    from artray.models.cards import Card

Pixels = npt.NDArray[np.uint8]


SUFFIXES: Final = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".webp": "WEBP"}
"""The ends of names under which pictures are written."""


def check_name(out: Path) -> None:
    """Raises ConfigError where a picture cannot be written under this name."""
    if out.suffix.lower() not in SUFFIXES:
        raise ConfigError(f"{out}: expected a name that ends with {', '.join(SUFFIXES)}")


def write(image: Any, out: Path, quality: int) -> None:
    """Write a PIL image in the format that the name says, whole or not at all.

    Raises:
        ConfigError: another kind of file, or one that cannot be written.
    """
    check_name(out)
    with replacing(out) as file:
        image.save(file, format=SUFFIXES[out.suffix.lower()], quality=quality)


class Picture(NamedTuple):
    """A decoded picture."""

    pixels: Pixels  # uint8[H, W, 3]
    width_px: int  # of the original, upright
    height_px: int

    def crop(self, region: Sequence[float]) -> Pixels:
        """The part x1, y1, x2, y2, in pixels of the original: uint8[h, w, 3], h and w at least 1.

        Raises:
            ConfigError: no part of the picture.
        """
        x1, y1, x2, y2 = region
        size = f"{self.width_px} x {self.height_px}"
        if not (0 <= x1 < x2 <= self.width_px and 0 <= y1 < y2 <= self.height_px):
            text = ",".join(f"{value:g}" for value in region)
            raise ConfigError(f"--region {text}: expected 0 <= x1 < x2 and 0 <= y1 < y2 within {size} pixels")
        scale_x, scale_y = self.pixels.shape[1] / self.width_px, self.pixels.shape[0] / self.height_px
        left, top = min(int(x1 * scale_x), self.pixels.shape[1] - 1), min(int(y1 * scale_y), self.pixels.shape[0] - 1)
        right, bottom = max(left + 1, round(x2 * scale_x)), max(top + 1, round(y2 * scale_y))
        return self.pixels[top:bottom, left:right]


class Pictures:
    """Reads pictures as the latest run of a store did: within its limits, with its decoders.

    Args:
        store: whose run; one without any has the defaults.
    """

    def __init__(self, store: Store) -> None:
        runs = store.runs(1)
        profile = runs[-1].get("profile", {}) if runs else {}
        decode = DecodeConfig.reported(profile.get("decode", {}))
        here = tuple(module for module in decode.plugins if _installed(module))  # others may be on the cluster alone
        self.decode = decode.model_copy(update={"plugins": here})
        self.max_file_bytes = ArchiveConfig.reported(profile.get("archive", {})).max_file_bytes
        self._kept: tuple[int, DecodePool] | None = None

    @contextlib.contextmanager
    def kept(self, max_side_px: int) -> Iterator["Pictures"]:
        """Inside, the process that decodes pictures of this size stays, where else each picture has one of its own."""
        with self._pool(max_side_px) as pool:
            self._kept = max_side_px, pool
            try:
                yield self
            finally:
                self._kept = None

    def of_record(self, record: dict[str, Any], max_side_px: int | None = None) -> Picture:
        """The picture of a record, no larger than ``max_side_px`` on its longer side (None: than the run made it).

        Raises:
            ConfigError: it is gone, was changed since, or cannot be decoded.
            TransientError: the storage does not answer.
        """
        return self._read(str(record["uri"]), str(record["version"]), max_side_px, str(record["image_id"]))

    def of_file(self, path: str | os.PathLike[str], max_side_px: int | None = None) -> Picture:
        """The picture in a local file, likewise.

        Raises:
            ConfigError: there is none, or it cannot be decoded.
        """
        target = Path(path).expanduser().absolute()
        try:
            status = target.stat()
        except OSError as error:
            raise ConfigError(f"{path}: neither an image_id of the store nor a file ({error.strerror})") from error
        return self._read(str(target), f"{status.st_mtime_ns}-{status.st_size}", max_side_px, str(path))

    def _read(self, uri: str, version: str, max_side_px: int | None, name: str) -> Picture:
        from artray.archive import reading

        side_px = max_side_px or self.decode.max_side_px
        try:
            data = reading.read(uri, version, self.max_file_bytes)
        except RowError as error:
            raise ConfigError(f"{name}: its picture cannot be read: {error}") from error
        with self._pool(side_px) as pool:
            [found] = pool.decode_many([data])
        if isinstance(found, RowError):
            raise ConfigError(f"{name}: its picture cannot be decoded: {found}")
        return Picture(found.pixels, found.width_px, found.height_px)

    def _pool(self, side_px: int) -> "contextlib.AbstractContextManager[DecodePool]":
        from artray.archive.pool import DecodePool

        if self._kept and self._kept[0] == side_px:
            return contextlib.nullcontext(self._kept[1])
        return DecodePool(self.decode.model_copy(update={"max_side_px": side_px, "processes": 1}))


def card_of(store: Store) -> "Card":
    """The card that made the embeddings of a store, or of a method's.

    Raises:
        ConfigError: the store has none, or its card is another one by now.
    """
    described = store.embedding
    if not described:
        raise ConfigError(f"{store.uri}: has no embeddings; run artray process with a profile that yields them")
    from artray.models import cards

    card = cards.load(described["card"])
    if card.fingerprint() != described["fingerprint"]:
        raise ConfigError(
            f"card {card.name}: is not the one that {store.uri} was made with; run artray process again, or restore it"
        )
    return card


def embedding(store: Store, pixels: Pixels) -> npt.NDArray[np.float32]:
    """The embedding float32[D] of a picture, by the model that made those of the store, or of a method's.

    Raises:
        ConfigError: the store has none, its card is another one by now, or the picture has none.
    """
    from artray.retrieve import embedder

    card = card_of(store)
    try:
        vector: npt.NDArray[np.float32] = embedder.build(card)([pixels])[0]
    except ValueError as error:
        raise ConfigError(f"card {card.name}: this picture has no embedding: {error}") from error
    return vector


def _installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):
        return False
