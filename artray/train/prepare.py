"""Prepare a training's pictures: decoded once, kept small, hashed, and what is broken found out before it begins."""

from types import TracebackType
from typing import Any, Final

import pyarrow as pa

from artray.pipeline.decode import Decode
from artray.retrieve.hashing import GREY_CHROMA, TURNS, hashes, look, spectra, turned
from artray.schema import Batch
from artray.train.cache import Cache
from artray.train.transforms import Image

PREPARED: Final = pa.schema(
    [
        pa.field("work_id", pa.string(), nullable=False),
        pa.field("near_hash", pa.uint64(), nullable=False),  # perceptual; 0 where there is none
        pa.field("mirrored_hash", pa.uint64(), nullable=False),  # likewise, of the mirror image
        pa.field("colour", pa.string()),  # grey or colour; null where there is no picture
        pa.field("error", pa.string(), nullable=False),
        pa.field("error_detail", pa.string(), nullable=False),
    ]
)


class Prepare:
    """One worker's: works in, rows of :data:`PREPARED` out; a context manager. Knows nothing of Ray.

    Args:
        cache: where pictures are kept.
        max_file_bytes: the most that is read of an original.
    """

    def __init__(self, cache: Cache, max_file_bytes: int) -> None:
        self.cache = cache
        self._decode = Decode(cache.decode_config(), max_file_bytes)

    def __enter__(self) -> "Prepare":
        self._decode.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._decode.__exit__(kind, error, trace)

    def __call__(self, batch: Batch) -> pa.Table:
        """Keep and hash the pictures of works (work_id, uri, version).

        Raises:
            ConfigError: the cache cannot be written.
            TransientError: the storage of the pictures is down.
        """
        images = [self.cache.read(uri, version) for uri, version in zip(batch["uri"], batch["version"], strict=True)]
        told: list[dict[str, Any]] = [{"error": "", "error_detail": ""} for _ in images]
        todo = [number for number, image in enumerate(images) if image is None]
        decoded = self._decode({name: [batch[name][number] for number in todo] for name in ("uri", "version")})
        for place, number in enumerate(todo):
            if decoded["error"][place]:
                told[number] = {name: decoded[name][place] for name in ("error", "error_detail")}
            else:
                uri, version = batch["uri"][number], batch["version"][number]
                images[number] = self.cache.keep(uri, version, decoded["pixels"][place])
        rows = [
            {"work_id": work_id} | _seen(image) | said
            for work_id, image, said in zip(batch["work_id"], images, told, strict=True)
        ]
        return pa.Table.from_pylist(rows, schema=PREPARED)


def _seen(image: Image | None) -> dict[str, Any]:
    """What is found out of a picture."""
    if image is None:
        return {"near_hash": 0, "mirrored_hash": 0, "colour": None}
    seen = look(image)
    mirrored = turned(spectra(seen.thumbnail[None]), TURNS[1])
    return {
        "near_hash": seen.perceptual_hash,
        "mirrored_hash": int(hashes(mirrored)[0]),
        "colour": "colour" if seen.chroma > GREY_CHROMA else "grey",
    }
