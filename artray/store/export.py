"""The records as one file, for other programs: Parquet, CSV or JSON lines.

CSV is for spreadsheets, which run what looks like a formula: a text that begins with ``= + - @``, a tab or a line
break gets an apostrophe before it, and control characters and those that turn the direction of writing are left out
(in Parquet and JSON lines all text is as it is stored). Lists and maps are JSON in a CSV cell.

Rows are in the order of the table's parts; a batch of them is in memory at a time. The file appears when it is whole.
"""

import contextlib
import csv
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any, Final, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from artray import schema
from artray.errors import ConfigError
from artray.store import views
from artray.store.find import near
from artray.store.layout import Store
from artray.store.records import Records

BATCH_ROWS: Final = 4_096
NUMBERS: Final = ("embedding", "thumbnail")
"""Columns that only programs read."""

FORMULA: Final = "=+-@\t\r\n＝＋－＠"  # the last four are the full-width forms, which spreadsheets take alike
UNSEEN: Final = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff]"
)

Writer: TypeAlias = Callable[[IO[bytes], pa.Schema, Iterable[pa.Table]], None]


def export(store: Store, out: str | os.PathLike[str], format: str = "parquet", *, embedding: bool = False) -> int:
    """Write every record of an image that has not vanished; returns how many.

    Args:
        store: whose records.
        out: the file; one that exists is replaced.
        format: "parquet", "csv" or "jsonl".
        embedding: whether to write the embeddings and thumbnails, too; not in CSV.

    Raises:
        ConfigError: another format, or a file that cannot be written.
    """
    if format not in WRITERS:
        raise ConfigError(f"--format {format}: expected one of {', '.join(WRITERS)}{near(format, WRITERS)}")
    if embedding and format == "csv":
        raise ConfigError("--format csv: embeddings are written as parquet or jsonl only")
    path = Path(out)
    if store.local_path is not None and store.local_path.resolve() in path.resolve().parents:
        raise ConfigError(f"{path}: lies in the store itself; name a file outside of it")
    columns = pa.schema([field for field in schema.RECORD if embedding or field.name not in NUMBERS])
    counted = _Counted(tables(Records.open(store), columns))
    with replacing(path) as file:
        WRITERS[format](file, columns, counted)
    return counted.rows


def tables(records: Records, columns: pa.Schema) -> Iterator[pa.Table]:
    """The records of images that have not vanished, some at a time."""
    names = [*columns.names, *({"vanished_at"} - set(columns.names))]
    for table in views.batches(records, names, BATCH_ROWS):
        there = table.filter(pc.is_null(table["vanished_at"])).select(columns.names)
        if len(there):
            yield there.cast(columns)


class _Counted:
    """Tables that are counted as they pass."""

    def __init__(self, source: Iterable[pa.Table]) -> None:
        self.rows, self._source = 0, source

    def __iter__(self) -> Iterator[pa.Table]:
        for table in self._source:
            self.rows += len(table)
            yield table


def write_parquet(file: IO[bytes], columns: pa.Schema, source: Iterable[pa.Table]) -> None:
    """Parquet with the columns' own types."""
    with pq.ParquetWriter(file, columns, compression="zstd") as writer:
        for table in source:
            writer.write_table(table)


def write_jsonl(file: IO[bytes], columns: pa.Schema, source: Iterable[pa.Table]) -> None:  # noqa: ARG001
    """One JSON object a line, in UTF-8."""
    for table in source:
        for row in views.rows(table):
            text = json.dumps({name: views.plain(value) for name, value in row.items()}, ensure_ascii=False)
            file.write(text.encode("utf-8", "replace") + b"\n")


def write_csv(file: IO[bytes], columns: pa.Schema, source: Iterable[pa.Table]) -> None:
    """Comma-separated values in UTF-8, the names in the first line; an empty cell is null."""
    # All texts between quotes: where spreadsheets split at semicolons, one must not end a cell.
    writer = csv.writer(Encoded(file), lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    writer.writerow(columns.names)
    for table in source:
        writer.writerows([cell(value) for value in row.values()] for row in views.rows(table))


class Encoded:
    """What csv.writer writes to."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def write(self, text: str) -> int:
        """Write text in UTF-8."""
        return self._file.write(text.encode("utf-8", "replace"))


def cell(value: Any) -> Any:
    r"""A value as a CSV cell that no spreadsheet runs.

    >>> cell("=1+1"), cell(-1.5), cell({"artist": "=1"}), cell("a\x00b")
    ("'=1+1", -1.5, '{"artist": "=1"}', 'ab')
    """
    value = views.plain(value)
    if isinstance(value, dict | list):
        value = json.dumps(value, ensure_ascii=False)
    if not isinstance(value, str):
        return value
    text = UNSEEN.sub("", value)
    return f"'{text}" if text[:1] and text[0] in FORMULA else text


WRITERS: Final[dict[str, Writer]] = {"parquet": write_parquet, "csv": write_csv, "jsonl": write_jsonl}


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A file to write that takes the place of ``path`` when everything went well, and leaves nothing when not.

    Raises:
        ConfigError: it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    if path.is_dir():
        raise ConfigError(f"{path}: expected a file, got a folder")
    try:
        with temporary.open("wb") as file:
            yield file
        temporary.replace(path)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written ({error.strerror or error}); name another file") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
