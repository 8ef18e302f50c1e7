"""The records as tables for DuckDB.

``stored``   every record
``works``    one row per image that has not vanished
``objects``  one row per detected box of these: image_id, then the box's fields
``duplicates``  one row per member of a group of copies, in users' statements (see artray.store.sandbox)
``entropy(scores)``  how undecided type_scores or genre_scores are
``placed``   every record, with where it lies; for artray's own statements only

A local store's Parquet parts are read by DuckDB itself, which skips columns and row groups best; on S3, where DuckDB
would need an extension, they are read through a pyarrow dataset over the store's own file system.
"""

import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final, TypeAlias
from urllib.parse import unquote

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from artray import schema
from artray.errors import TransientError
from artray.location import first_line, transient
from artray.store.records import Records

Connection: TypeAlias = Any
"""A duckdb.DuckDBPyConnection."""

VIEWS: Final = (
    # how undecided scores are, from 0 (one class has all) to 1 (all have the same); null without scores
    "CREATE MACRO entropy(scores) AS list_sum(list_transform(map_values(scores), "
    "lambda p: CASE WHEN p > 0 THEN -p * ln(p) ELSE 0 END)) / ln(cardinality(scores))",
    "CREATE VIEW works AS SELECT * FROM stored WHERE vanished_at IS NULL",
    "CREATE VIEW objects AS SELECT image_id, unnest(objects, recursive := true) FROM works",
)
GLOB: Final = frozenset("*?[]{}")
DAMAGED: Final = re.compile("reading the stream registered as|get_next failed|No magic bytes|too small to be a Parquet")
"""How DuckDB says that what it reads, be it a file or an Arrow stream, is at fault, and not the statement."""

ASK_AGAIN: Final = "ask again; if that does not help: artray verify"


@contextmanager
def opened(records: Records) -> Iterator[Connection]:
    """A connection that has the views of these records at their version; for artray's own statements only.

    Raises:
        TransientError: the storage failed, here or in a statement.
    """
    connection = duckdb.connect(config={"autoinstall_known_extensions": False})
    try:
        with reading(records):
            connection.execute("SET TimeZone = 'UTC'")
            files = parts(records)
            define(connection, files, records)
            _place(connection, files)
            yield connection
    finally:
        connection.close()


@contextmanager
def reading(records: Records) -> Iterator[None]:
    """What a storage raises while records are read, through whichever library, as a TransientError."""
    uri = records.store.uri
    try:
        with transient(uri):
            yield
    except FileNotFoundError as error:
        raise TransientError(f"{uri}: a part of the records is gone: {first_line(error)}; {ASK_AGAIN} {uri}") from error
    except duckdb.Error as error:
        if isinstance(error, duckdb.IOException) or DAMAGED.search(str(error)):
            message = f"{uri}: the records cannot be read: {first_line(error)}; {ASK_AGAIN} {uri}"
            raise TransientError(message) from error
        raise


def _place(connection: Connection, files: Sequence[str]) -> None:
    """Create ``placed``: ``stored`` with each row's file and number in it, by which it is read alone; null on S3."""
    names = ", ".join("'" + file.replace("'", "''") + "'" for file in files)
    nowhere = "(SELECT *, NULL AS file_index, NULL AS file_row_number FROM stored)"
    source = f"read_parquet([{names}])" if files else nowhere
    connection.execute(f"CREATE VIEW placed AS SELECT *, file_index, file_row_number FROM {source}")  # noqa: S608


def parts(records: Records) -> list[str]:
    """The Parquet files that DuckDB can read itself: those of a local store.

    Empty where it cannot: on S3, in a table without parts, and under a path that DuckDB would take for a pattern.
    """
    paths = _paths(records) if records.store.is_local else []
    return [] if any(GLOB & set(path) for path in paths) else paths


def define(connection: Connection, files: Sequence[str], records: Records | None) -> None:
    """Create the views over ``files``, or over ``records`` where there are none."""
    connection.execute("SET parquet_metadata_cache = true")  # a part is never written to again
    if files:
        connection.read_parquet(list(files)).create_view("stored")
    elif records is not None:
        connection.register("stored", dataset(records))
    for statement in VIEWS:
        connection.execute(statement)


def at(records: Records, places: Sequence[tuple[int, int]], columns: str) -> str:
    """The statement that reads the rows at some places, at least one, of the files that they lie in and of no others.

    Args:
        records: a local store's.
        places: (file_index, file_row_number) as the view ``placed`` numbers them.
        columns: what of them.
    """
    files, used = parts(records), sorted({file for file, _ in places})
    names = ", ".join("'" + files[file].replace("'", "''") + "'" for file in used)
    where = " OR ".join(f"(file_index = {used.index(file)} AND file_row_number = {row})" for file, row in places)
    return f"SELECT {columns} FROM (SELECT *, file_index, file_row_number FROM read_parquet([{names}])) WHERE {where}"  # noqa: S608 (numbers)


def part_starts(records: Records) -> npt.NDArray[np.int64]:
    """The first row of each of :func:`parts` among all, and how many there are in all: int64[P + 1]."""
    starts: npt.NDArray[np.int64] = np.cumsum([0, *records.parts().rows]).astype(np.int64)
    return starts


def attach(connection: Connection, records: Records, name: str) -> None:
    """Another table of records as a view of this name."""
    files = parts(records)
    if files:
        connection.read_parquet(list(files)).create_view(name)
    else:
        connection.register(name, dataset(records))


def dataset(records: Records) -> Any:
    """The records as a pyarrow.dataset.Dataset, through the store's own file system.

    Not DeltaTable.to_pyarrow_dataset(): of a part whose log entry has statistics of some columns only, that takes
    the others' bounds to be null, and filters on these find nothing.
    """
    import pyarrow.dataset

    parquet, filesystem = pyarrow.dataset.ParquetFileFormat(), records.store.filesystem
    fragments = [parquet.make_fragment(path, filesystem) for path in _paths(records)]
    return pyarrow.dataset.FileSystemDataset(fragments, schema.RECORD, parquet, filesystem)


def batches(records: Records, columns: Sequence[str], rows: int, wanted: set[str] | None = None) -> Iterator[pa.Table]:
    """Columns of the records, at most so many rows at a time, one part after the other.

    Args:
        records: whose.
        columns: their names.
        rows: how many at a time, at most.
        wanted: only these images; of a part that has none of them, only the names are read.
    """
    source = _batches(records, columns, rows, wanted)
    while True:
        with reading(records):  # and not what whoever uses the rows raises
            table = next(source, None)
        if table is None:
            return
        yield table


def _batches(records: Records, columns: Sequence[str], rows: int, wanted: set[str] | None) -> Iterator[pa.Table]:
    values = None if wanted is None else pa.array(sorted(wanted), pa.string())
    for fragment in dataset(records).get_fragments() if wanted is None or wanted else ():
        if values is not None:
            names = fragment.to_table(schema=schema.RECORD, columns=["image_id"])["image_id"]
            if not pc.any(pc.is_in(names, value_set=values)).as_py():
                continue
        for batch in fragment.to_batches(schema=schema.RECORD, columns=columns, batch_size=rows, batch_readahead=2):
            table = pa.Table.from_batches([batch])
            if values is not None:
                table = table.filter(pc.is_in(table["image_id"], value_set=values))
            if len(table):
                yield table


def _paths(records: Records) -> list[str]:
    """The parts' paths inside the store's file system."""
    return [f"{records.store.records.root}/{unquote(name)}" for name in records.parts().names]


def fetched(connection: Connection, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    """The rows of a statement with bound parameters."""
    return connection.execute(statement, bound(parameters)).fetchall()  # type: ignore[no-any-return]


def bound(parameters: Sequence[Any]) -> list[Any]:
    r"""Parameters as DuckDB takes them: bytes of a command line that are no UTF-8 are written out.

    >>> bound(["D\udcfcrer", 3])
    ['D\\udcfcrer', 3]
    """
    return [
        value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value for value in parameters
    ]


def rows(table: pa.Table) -> list[dict[str, Any]]:
    """A table's rows as plain dicts; a map is a dict, too."""
    return table.to_pylist(maps_as_pydicts="lossy")  # type: ignore[no-any-return]


def plain(value: Any) -> Any:
    """A value as JSON knows it: times in ISO 8601, bytes in hexadecimal, null for what is not a finite number.

    >>> plain({"a": float("nan"), "b": datetime(2024, 1, 2), "c": [b"x"]})
    {'a': None, 'b': '2024-01-02T00:00:00', 'c': ['78']}
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    return _scalar(value)


def _scalar(value: Any) -> Any:
    """A value of one of the rarer types as JSON knows it."""
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, timedelta):
        return value.total_seconds()
    return value.hex() if isinstance(value, bytes) else str(value)
