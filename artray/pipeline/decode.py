"""Read and decode: archive rows -> decoded rows."""

import hashlib
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any

from artray.archive import reading
from artray.archive.formats import Decoded
from artray.archive.pool import DecodePool
from artray.config import DecodeConfig
from artray.errors import RowError, TransientError
from artray.schema import Batch, rows

CELLS = ("pixels", "width_px", "height_px", "error", "error_detail")
STORAGE_DOWN = 4
"""So many images in a row, all unreadable for a reason that passes: then it is the storage, not the images."""


class Decode:
    """One worker's reader threads and decoding processes; a context manager.

    Threads wait for the storage and hash; processes decode, so that a decoder that dies or hangs costs one image.

    Args:
        cfg: sizes, limits and how many of each.
        max_file_bytes: the most that is read of one file.
    """

    def __init__(self, cfg: DecodeConfig, max_file_bytes: int) -> None:
        self.cfg, self.max_file_bytes = cfg, max_file_bytes
        self._down = 0  # images in a row that the storage did not deliver, up to the last batch
        self._pool = DecodePool(cfg)
        self._threads = ThreadPoolExecutor(cfg.readers, "artray-read")

    def __enter__(self) -> "Decode":
        self._pool.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._threads.shutdown(cancel_futures=True)
        self._pool.__exit__(kind, error, trace)

    def __call__(self, batch: Batch) -> Batch:
        """Add pixels, width_px, height_px, content_sha256, error, error_detail.

        Raises:
            TransientError: the storage is down: not one image of several could be read, in this batch and before it.
        """
        hashes: list[str | None] = []
        cells = [_cells(outcome) for outcome in self._pool.decode_many(self._bytes(batch, hashes))]
        columns = {name: [row[index] for row in cells] for index, name in enumerate(CELLS)}
        return batch | columns | {"content_sha256": hashes}

    def _bytes(self, batch: Batch, hashes: list[str | None]) -> Iterator[bytes | RowError]:
        """Every image's bytes in order, read ahead by the threads; fills ``hashes`` as it goes."""
        count = rows(batch)
        tried = count - sum(map(bool, batch.get("error", ())))
        down: list[TransientError] = []
        waiting: deque[Future[tuple[bytes | RowError, str | None]]] = deque()
        for index in range(count + self.cfg.readers):
            if index < count:
                waiting.append(self._threads.submit(self._read, {name: batch[name][index] for name in batch}, down))
            if index >= self.cfg.readers or index >= count:
                if not waiting:
                    break
                data, sha256 = waiting.popleft().result()
                hashes.append(sha256)
                yield data
        self._down = self._down + tried if len(down) == tried else 0
        if down and self._down >= STORAGE_DOWN:
            self._down = 0
            raise down[0]

    def _read(self, row: dict[str, Any], down: list[TransientError]) -> tuple[bytes | RowError, str | None]:
        if row.get("error"):
            return RowError(row["error"], row["error_detail"]), None
        try:
            data = reading.read(row["uri"], row["version"], self.max_file_bytes)
        except RowError as error:
            return error, None
        except TransientError as error:
            down.append(error)
            return RowError("unreadable", str(error)), None
        return data, hashlib.sha256(data).hexdigest()


def _cells(outcome: Decoded | RowError) -> tuple[Any, ...]:
    if isinstance(outcome, RowError):
        return None, None, None, outcome.kind, outcome.detail
    return outcome.pixels, outcome.width_px, outcome.height_px, "", ""
