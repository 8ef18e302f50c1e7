"""What a run has to do: the manifest less what is recorded at the same version and with the same models.

Everything streams: the listing into the run's ``manifest.parquet``, the difference out of DuckDB (which spills to disk)
into the run's ``work.arrow``, an Arrow file of which a worker reads just the rows it is given.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from itertools import islice
from tempfile import TemporaryDirectory
from typing import Any, Final

import duckdb
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq

from artray import schema
from artray.archive import metadata
from artray.archive.listing import Entry
from artray.location import Location, transient
from artray.store import views
from artray.store.records import Records

MANIFEST: Final = pa.schema(
    [
        ("image_id", pa.string()),
        ("uri", pa.string()),
        ("size_bytes", pa.int64()),
        ("version", pa.string()),
        ("error", pa.string()),
        ("error_detail", pa.string()),
    ]
)
WORK: Final = schema.join(schema.ARCHIVE, pa.schema([*list(MANIFEST)[4:], ("recorded", pa.bool_())]))
"""A row of the work list; ``recorded`` says that it replaces a row."""

PENDING: Final = (
    "listed l LEFT JOIN records r ON r.image_id = l.image_id WHERE r.image_id IS NULL "
    "OR r.version IS DISTINCT FROM l.version OR r.models IS DISTINCT FROM $models OR ($retry AND r.error != '')"
)
"""The images to do: new, changed, made with other models, or to be tried again."""

CHUNK: Final = 10_000
MEMORY: Final = "1GB"


@dataclass(frozen=True)
class Manifest:
    """All images of the archive as a run found them."""

    location: Location
    images: int
    size_bytes: int
    complete: bool  # False where a folder could not be listed: then nothing is held to have vanished


@dataclass(frozen=True)
class Work:
    """What there is to do: ``images`` rows in ``location``, of which the last ``recorded`` replace one."""

    location: Location
    images: int
    recorded: int
    pending: int  # how many there are without a limit


def write_manifest(
    found: Iterable[Entry], target: Location, problems: list[str], progress: Callable[[int], None]
) -> Manifest:
    """Write a listing down as it streams by."""
    images = size_bytes = 0
    entries = iter(found)
    with target.output() as stream, pq.ParquetWriter(stream, MANIFEST) as writer:
        while chunk := list(islice(entries, CHUNK)):
            writer.write_table(pa.Table.from_pylist([entry._asdict() for entry in chunk], schema=MANIFEST))
            images += len(chunk)
            size_bytes += sum(entry.size_bytes for entry in chunk)
            progress(images)
    return Manifest(target, images, size_bytes, complete=not problems)


class Planner:
    """Compares a manifest with the records; a context manager around a DuckDB that spills to a temporary folder."""

    def __init__(self, manifest: Manifest, records: Records, known: pa.Table | None) -> None:
        self.manifest, self.records, self.known = manifest, records, known

    def __enter__(self) -> "Planner":
        self._folder = TemporaryDirectory()
        self._db = duckdb.connect(config={"memory_limit": MEMORY, "temp_directory": self._folder.name, "threads": 2})
        self._db.register("manifest", _dataset(self.manifest.location))
        columns = ["image_id", "version", "models", "error", "vanished_at", "metadata", "__filename"]
        self._db.register("stored", views.dataset(self.records).scanner(columns=columns).to_reader())
        self._db.execute("CREATE TEMP TABLE records AS SELECT * RENAME (__filename AS part) FROM stored")
        self._db.register("known", metadata.TABLE.empty_table() if self.known is None else self.known)
        self._db.execute(
            "CREATE TEMP VIEW listed AS SELECT m.*, coalesce(a.metadata, b.metadata) AS metadata FROM manifest m "
            "LEFT JOIN known a ON a.key = m.image_id "
            "LEFT JOIN known b ON b.key = parse_filename(m.image_id, false, 'forward_slash')"
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()
        self._folder.cleanup()

    def write_work(self, target: Location, models: str, *, retry_errors: bool, limit: int | None) -> Work:
        """Write the work list: new images first, then those that replace a row, part by part, each by image_id."""
        metadata = "r.metadata" if self.known is None else "l.metadata"  # without a file, what is known stays known
        reader = self._db.sql(
            f"SELECT l.image_id, l.uri, l.size_bytes, l.version, {metadata}, l.error, l.error_detail, "  # noqa: S608
            f"r.image_id IS NOT NULL AS recorded FROM {PENDING} ORDER BY recorded, r.part, l.image_id LIMIT $limit",
            params={"models": models, "retry": retry_errors, "limit": 2**62 if limit is None else limit},
        ).to_arrow_reader(CHUNK)
        images = recorded = 0
        with target.output() as stream, pa.ipc.new_file(stream, WORK) as writer:
            for chunk in _chunks(reader):
                writer.write_table(chunk, max_chunksize=CHUNK)
                images += chunk.num_rows
                recorded += sum(chunk.column("recorded").to_pylist())
        return Work(target, images, recorded, images if limit is None else self._pending(models, retry_errors))

    def vanished(self) -> pa.Table:
        """(image_id, vanished_at) of the rows whose image the listing misses for the first time."""
        if not self.manifest.complete:
            return self._marks("SELECT image_id FROM records WHERE false", _now())
        missing = (
            "SELECT r.image_id FROM records r ANTI JOIN manifest m ON m.image_id = r.image_id "
            "WHERE r.vanished_at IS NULL"
        )
        return self._marks(missing, _now())

    def returned(self) -> pa.Table:
        """(image_id, null) of the rows whose image is there again, unchanged."""
        back = (
            "SELECT r.image_id FROM records r JOIN manifest m ON m.image_id = r.image_id "
            "WHERE r.vanished_at IS NOT NULL AND r.version = m.version"
        )
        return self._marks(back, None)

    def unrecorded(self) -> list[str]:
        """Images that have no row."""
        return self._ids("SELECT m.image_id FROM manifest m ANTI JOIN records r ON r.image_id = m.image_id")

    def outdated(self) -> list[str]:
        """Images whose row is of another version."""
        return self._ids(
            "SELECT m.image_id FROM manifest m JOIN records r ON r.image_id = m.image_id "
            "WHERE r.version IS DISTINCT FROM m.version"
        )

    def described(self) -> int:
        """Of how many images the metadata file says something."""
        return int(self._db.execute("SELECT count(*) FROM listed WHERE metadata IS NOT NULL").fetchall()[0][0])

    def relabelled(self) -> pa.Table:
        """(image_id, metadata) of the rows of which the metadata file says something new; none without such a file."""
        if self.known is None:
            return self._rows("SELECT image_id, metadata FROM records WHERE false")
        return self._rows(
            "SELECT l.image_id, l.metadata FROM listed l JOIN records r ON r.image_id = l.image_id "
            "WHERE CAST(l.metadata AS VARCHAR) IS DISTINCT FROM CAST(r.metadata AS VARCHAR)"
        )

    def _pending(self, models: str, retry_errors: bool) -> int:
        count = f"SELECT count(*) FROM {PENDING}"  # noqa: S608 (a constant)
        return int(self._db.execute(count, {"models": models, "retry": retry_errors}).fetchall()[0][0])

    def _ids(self, query: str) -> list[str]:
        return self._rows(f"{query} ORDER BY 1").column("image_id").to_pylist()  # type: ignore[no-any-return]

    def _rows(self, query: str) -> pa.Table:
        return self._db.sql(query).to_arrow_table()

    def _marks(self, query: str, moment: datetime | None) -> pa.Table:
        ids = self._rows(query)
        moments = pa.array([moment] * ids.num_rows, type=pa.timestamp("us", tz="UTC"))
        return ids.append_column("vanished_at", moments)


def parts(work: Work, part_rows: int) -> Iterator[tuple[int, int]]:
    """The work list cut into (start, stop), none of which mixes new images with replaced ones.

    >>> list(parts(Work(Location("w"), 10, 4, 10), part_rows=4))
    [(0, 4), (4, 6), (6, 10)]
    """
    for begin, end in ((0, work.images - work.recorded), (work.images - work.recorded, work.images)):
        for start in range(begin, end, part_rows):
            yield start, min(start + part_rows, end)


class WorkFile:
    """Random access to a work list: rows start to stop, whatever its size."""

    def __init__(self, location: Location) -> None:
        with transient(location.uri):
            self._file = pa.ipc.open_file(location.filesystem.open_input_file(location.root))

    def rows(self, start: int, stop: int) -> pa.Table:
        """Rows ``start`` to ``stop``, of schema WORK.

        Source: every batch but the last holds CHUNK rows, as :meth:`Planner.write_work` writes them.
        """
        first, last = start // CHUNK, (stop - 1) // CHUNK
        batches = [self._file.get_batch(index) for index in range(first, last + 1)]
        return pa.Table.from_batches(batches, WORK).slice(start - first * CHUNK, stop - start)


def _chunks(reader: pa.RecordBatchReader) -> Iterator[pa.Table]:
    """The reader's rows in tables of exactly CHUNK rows, but for the last."""
    waiting = WORK.empty_table()
    for batch in reader:
        waiting = pa.concat_tables([waiting, pa.Table.from_batches([batch]).cast(WORK)])
        while waiting.num_rows >= CHUNK:
            yield waiting.slice(0, CHUNK).combine_chunks()
            waiting = waiting.slice(CHUNK)
    if waiting.num_rows:
        yield waiting.combine_chunks()


def _dataset(location: Location) -> Any:
    return pyarrow.dataset.dataset(location.root, filesystem=location.filesystem, format="parquet")


def _now() -> datetime:
    return datetime.now(timezone.utc)
