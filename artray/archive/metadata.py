"""What a museum already knows of its images: a CSV, JSONL or Parquet file, joined on image_id or file name."""

import tempfile
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Final

import duckdb
import pyarrow as pa

from artray.errors import ConfigError
from artray.location import Location, first_line

KEYS: Final = ("image_id", "file", "file_name", "filename", "path", "name")
"""Columns that can name the image; the first that is present is taken, ``name`` last, for it may be the work's."""

_JSONL: Final = "read_json(?, format='newline_delimited', maximum_depth=1, sample_size=-1)"
"""A depth of 1 leaves every value as it is written: no guess at dates and numbers, of which none is certain."""

READERS: Final = MappingProxyType(
    {
        ".csv": "read_csv(?, all_varchar=true, header=true)",
        ".parquet": "read_parquet(?)",
        ".jsonl": _JSONL,
        ".ndjson": _JSONL,
    }
)

TABLE: Final = pa.schema([("key", pa.string()), ("metadata", pa.map_(pa.string(), pa.string()))])


def read(location: Location) -> pa.Table:
    """The file's rows as (key, metadata): all other columns that are not empty, as text.

    Of rows with the same key, the first is taken.

    Raises:
        ConfigError: no such file, not one of the formats, or no column that names an image.
    """
    suffix = PurePosixPath(location.uri).suffix.lower()
    if suffix not in READERS:
        raise ConfigError(f"metadata {location}: expected a .csv, .jsonl or .parquet file, got {suffix or 'no suffix'}")
    with tempfile.TemporaryDirectory() as folder:
        path = _local(location, Path(folder))
        try:
            with duckdb.connect(config={"autoinstall_known_extensions": "false"}) as database:
                return _table(database, READERS[suffix], str(path), str(location))
        except duckdb.Error as error:
            told = first_line(error).replace(str(path), str(location)).split(" LINE 1:")[0]
            raise ConfigError(f"metadata {location}: cannot be read: {told}") from error


def _local(location: Location, folder: Path) -> Path:
    """A link to the file, or a copy of the object, under a name that DuckDB takes for no pattern."""
    local = folder / "metadata"
    try:
        if location.is_s3:
            local.write_bytes(location.read_bytes())
        else:
            location.path.open("rb").close()
            local.symlink_to(location.path)
    except OSError as error:
        raise ConfigError(f"metadata {location}: cannot be read ({error.strerror or 'not found'})") from error
    return local


def _table(database: duckdb.DuckDBPyConnection, reader: str, path: str, what: str) -> pa.Table:
    found = database.execute(f"DESCRIBE SELECT * FROM {reader}", [path]).fetchall()  # noqa: S608 (fixed readers)
    columns = {str(name).lower(): str(name) for name, *_ in found}
    texts = {str(name): _text(str(name), str(kind)) for name, kind, *_ in found}
    key = next((columns[name] for name in KEYS if name in columns), None)
    if key is None:
        raise ConfigError(f"metadata {what}: expected a column named {' or '.join(KEYS)}, got {', '.join(columns)}")
    pairs = ", ".join(f"{{'k': {_literal(name)}, 'v': {text}}}" for name, text in texts.items() if name != key)
    entries = "list_filter(pairs, lambda e: e.v IS NOT NULL AND e.v != '')" if pairs else "[]"
    rows = database.sql(  # the user's columns are named in the innermost SELECT only: they may have any name of ours
        f"SELECT key, map_from_entries({entries}) AS metadata FROM ("  # noqa: S608 (names are quoted)
        f"SELECT {texts[key]} AS key, [{pairs}] AS pairs, row_number() OVER () AS row FROM {reader}"
        ") WHERE key IS NOT NULL QUALIFY row_number() OVER (PARTITION BY key ORDER BY row) = 1 ORDER BY key",
        params=[path],
    ).to_arrow_table()
    return rows.cast(TABLE)


def _name(column: str) -> str:
    return '"' + column.replace('"', '""') + '"'


def _text(column: str, kind: str) -> str:
    """A column's values as text; a JSON string without its quotes."""
    return f"({_name(column)} ->> '$')" if kind == "JSON" else f"CAST({_name(column)} AS VARCHAR)"


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
