"""Which record each vector is from: a small Parquet file beside the vectors.

It names every vector that may be there, so a crash at any moment leaves at worst work that is done again: an image
under way has no processed_at, which is no record's.
"""

import io
from collections.abc import Iterable
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from artray.location import Location

SCHEMA: Final = pa.schema(
    [
        ("image_id", pa.string()),
        ("processed_at", pa.timestamp("us", tz="UTC")),  # the record's; null while it is under way
        ("vector", pa.bool_()),  # whether there is one: a record can lack an embedding
    ]
)
EVERY_ROWS: Final = 20_000


class Marks:
    """The marks of a folder of vectors.

    Args:
        folder: where the vectors lie, or a server's marks.
    """

    def __init__(self, folder: Location) -> None:
        self.file = folder / "synced.parquet"
        self._of: dict[str, tuple[int | None, bool]] = {}
        self._unsaved = 0

    def table(self) -> pa.Table:
        """The file's rows of SCHEMA; none where it is missing or broken."""
        try:
            return pq.read_table(io.BytesIO(self.file.read_bytes()), schema=SCHEMA)
        except (FileNotFoundError, pa.ArrowException):
            return SCHEMA.empty_table()

    def moment(self) -> tuple[Any, ...]:
        """Changes whenever the file does."""
        info = self.file.filesystem.get_file_info(self.file.root)
        return info.type.name, info.size, info.mtime_ns

    def begin(self, image_ids: Iterable[str]) -> None:
        """These are under way."""
        table = self.table()
        moments = table["processed_at"].cast(pa.int64()).to_pylist()
        pairs = zip(moments, table["vector"].to_pylist(), strict=True)
        self._of = dict(zip(table["image_id"].to_pylist(), pairs, strict=True))
        self._of |= dict.fromkeys(image_ids, (None, False))
        self.save()

    def done(self, image_ids: list[str], moments_us: list[int], vectors: list[bool]) -> None:
        """These are there now."""
        self._of |= dict(zip(image_ids, zip(moments_us, vectors, strict=True), strict=True))
        self._unsaved += len(image_ids)
        if self._unsaved >= EVERY_ROWS:
            self.save()

    def forget(self, image_ids: Iterable[str]) -> None:
        """These are no longer there."""
        for image_id in image_ids:
            self._of.pop(image_id, None)

    def save(self) -> None:
        """Replace the file."""
        entries: list[Any] = list(self._of.values())
        moments = pa.array([entry[0] for entry in entries], pa.int64()).cast(SCHEMA.field("processed_at").type)
        vectors = pa.array([entry[1] for entry in entries], pa.bool_())
        out = io.BytesIO()
        pq.write_table(pa.table([pa.array(list(self._of), pa.string()), moments, vectors], schema=SCHEMA), out)
        self.file.write_bytes(out.getvalue())
        self._unsaved = 0
