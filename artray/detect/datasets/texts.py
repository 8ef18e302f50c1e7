"""Files of labels: JSON, YAML and tables, with their errors told in one line."""

import csv
import io
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

from artray.errors import ConfigError
from artray.location import Location

FIELD_BYTES: Final = 2**20
SURROGATE: Final = re.compile(r"\\u[dD][89a-fA-F]")


def read(file: Location, what: str) -> str:
    """A file's text in UTF-8, with or without a byte order mark.

    Raises:
        ConfigError: there is none, or it is no text.
        TransientError: the storage failed.
    """
    try:
        return file.read_bytes().decode("utf-8-sig")
    except FileNotFoundError as error:
        raise ConfigError(f"{file}: expected {what}, found none") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file}: expected text in UTF-8, got other bytes at {error.start}") from error


def read_json(file: Location, what: str) -> Any:
    """A JSON document of any form; errors as of :func:`read`, and of what is no JSON."""
    text = read(file, what)
    try:
        document = json.loads(text)
        if SURROGATE.search(text):  # half a character is no text that a table could hold
            document = json.loads(json.dumps(document, ensure_ascii=False).encode("utf-8", "replace"))
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{file}: expected {what} in JSON: {error}") from error
    return document


def table(file: Location, what: str, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """The rows of a CSV table with a header: the line that each ends on, and its values without spaces around them.

    Raises:
        ConfigError: no such file, no table, or one without a column that is needed.
        TransientError: the storage failed.
    """
    csv.field_size_limit(FIELD_BYTES)
    reader = csv.DictReader(io.StringIO(read(file, what)), restval="")
    try:
        given = {*(reader.fieldnames or ())}
        if missing := [name for name in columns if name not in given]:
            raise ConfigError(f"{file}: expected a column {missing[0]!r}, got {', '.join(sorted(given)) or 'none'}")
        for row in reader:
            yield reader.line_num, {str(key): str(value or "").strip() for key, value in row.items() if key is not None}
    except csv.Error as error:
        raise ConfigError(f"{file} line {reader.line_num}: not a table: {error}") from error


def name(file: Location) -> str:
    """A file's name without its folder."""
    return file.uri.rpartition("/")[2]
