"""What all works of a store look like, as arrays: for what compares every work with every other."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from artray.retrieve.alignment import Pictures
from artray.retrieve.duplicates import Works
from artray.retrieve.hashing import SIDE_PX, spectra
from artray.store import views
from artray.store.records import Records
from artray.store.searching import same_as
from artray.store.vectors import matrix_of

Tell: TypeAlias = Callable[[str, int, int], None]
"""Is told what is being done, and how many of how many are done."""

BATCH_ROWS: Final = 8_192
COLUMNS: Final = (
    *("image_id", "width_px", "height_px", "content_sha256", "error", "vanished_at"),
    *("thumbnail", "chroma", "embedding", "models"),
)


class Looks(NamedTuple):
    """What a store's works look like."""

    image_ids: list[str]  # N
    works: Works  # N of them
    note: str  # what is known of fewer, or ""


def read(records: Records, folder: Path, tell: Tell) -> Looks:
    """The works that are there and were processed well, in the records' order.

    Args:
        records: whose.
        folder: where the large arrays are kept, as files, for as long as they are used.
        tell: is told how far it is.

    Raises:
        TransientError: the storage failed.
    """
    arrays, total, read_rows = _Arrays(records, folder), records.count(), 0
    for table in views.batches(records, list(COLUMNS), BATCH_ROWS):
        well = pc.and_(pc.equal(table["error"], ""), pc.is_null(table["vanished_at"]))
        arrays.add(table.filter(pc.fill_null(pc.and_(well, pc.is_valid(table["thumbnail"])), False)))
        read_rows += len(table)
        tell("reading images", read_rows, total)
    return arrays.looks()


class _Arrays:
    """Columns that grow as records are read."""

    def __init__(self, records: Records, folder: Path) -> None:
        self.folder, self.rows = folder, max(records.count(), 1)
        described = records.store.embedding
        self.maker = same_as(described).maker
        self.dim = int(described.get("dimension", 0))
        self.image_ids: list[str] = []
        self.thumbnails = np.memmap(folder / "thumbnails", np.uint8, "w+", shape=(self.rows, SIDE_PX, SIDE_PX))
        self.embeddings = np.memmap(folder / "embeddings", np.float16, "w+", shape=(self.rows, max(self.dim, 1)))
        self.embedded = np.zeros(self.rows, bool)
        self.tables: list[pa.Table] = []

    def add(self, table: pa.Table) -> None:
        """The next records."""
        here = slice(len(self.image_ids), len(self.image_ids) + len(table))
        self.image_ids += table["image_id"].to_pylist()
        flat = np.frombuffer(b"".join(table["thumbnail"].to_pylist()), np.uint8)
        self.thumbnails[here] = flat.reshape(-1, SIDE_PX, SIDE_PX)
        there, matrix = matrix_of(table.select(["embedding"]), self.dim)
        own = _made_by(table["models"], self.maker)
        rows = np.flatnonzero(there.to_numpy())
        if self.dim and len(rows):
            self.embeddings[here.start + rows] = matrix if len(matrix) == len(rows) else matrix[rows]
            self.embedded[here.start + rows] = own[rows]
        self.tables.append(table.select(["width_px", "height_px", "content_sha256", "chroma"]))

    def looks(self) -> Looks:
        """All of them."""
        count = len(self.image_ids)
        table = pa.concat_tables(self.tables) if self.tables else None
        width, height, chroma = (_numbers(table, name) for name in ("width_px", "height_px", "chroma"))
        pictures = Pictures(
            self.thumbnails[:count],
            np.concatenate([np.zeros((0, 8, 8), np.float32), *self._spectra(count)]),
            np.log(np.maximum(width, 1) / np.maximum(height, 1)).astype(np.float32),
        )
        files = np.zeros(0, np.int64) if table is None else _numbered(table["content_sha256"])
        pixels = (width * height).astype(np.int64)
        embedded = self.embedded[:count]
        works = Works(pictures, chroma.astype(np.float32), pixels, files, self.embeddings[:count], embedded)
        others = count - int(embedded.sum())
        note = f"{others:,} works have no embedding of the store's model: compared by their looks alone"
        return Looks(self.image_ids, works, note if others else "")

    def _spectra(self, count: int) -> list[npt.NDArray[np.float32]]:
        starts = range(0, count, BATCH_ROWS)
        return [spectra(self.thumbnails[start : min(start + BATCH_ROWS, count)]) for start in starts]


def _made_by(models: pa.ChunkedArray, maker: str | None) -> npt.NDArray[np.bool_]:
    """bool[N]: whether records name this card."""
    encoded = models.combine_chunks().dictionary_encode()
    named = np.array([maker in (text or "").split(",") for text in encoded.dictionary.to_pylist()] + [False])
    found: npt.NDArray[np.bool_] = named[pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False)]
    return found


def _numbers(table: pa.Table | None, name: str) -> npt.NDArray[np.float64]:
    if table is None:
        return np.zeros(0)
    found: Any = pc.fill_null(table[name].cast(pa.float64()), 0).to_numpy()
    return np.asarray(found, np.float64)


def _numbered(texts: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """int64[N]: the same number for the same text; a number of its own for null."""
    codes = texts.combine_chunks().dictionary_encode().indices
    found = pc.fill_null(codes.cast(pa.int64()), -1).to_numpy(zero_copy_only=False)
    return np.where(found < 0, len(found) + np.arange(len(found)), found).astype(np.int64)
