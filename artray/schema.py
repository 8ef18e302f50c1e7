"""Every column's name and Arrow type, once.

A batch is a plain ``dict`` of equally long lists, one entry per image: stages add keys to it. Only what leaves the
process becomes Arrow, through :func:`table`, which types every column even when all of its values are empty.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final, TypeAlias

import pyarrow as pa

from artray.errors import InvariantError

Batch: TypeAlias = dict[str, list[Any]]
"""Columns of equal length. ``pixels`` holds uint8[H, W, 3] RGB arrays, or None where ``error`` is not ""."""

FORMAT_VERSION: Final = 3
"""Version of the store's layout, in ``store.json``."""

OBJECT: Final = pa.struct(
    [
        ("class_name", pa.string()),
        ("category", pa.string()),
        ("score", pa.float32()),
        ("x1_px", pa.float32()),
        ("y1_px", pa.float32()),
        ("x2_px", pa.float32()),
        ("y2_px", pa.float32()),
        ("source", pa.string()),
    ]
)
"""One detected object; coordinates are pixels of the original, upright image."""

SCORES: Final = pa.map_(pa.string(), pa.float32())
"""Class name to score in [0, 1]."""

ARCHIVE: Final = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),  # key relative to the archive, with / between folders
        pa.field("uri", pa.string(), nullable=False),
        pa.field("size_bytes", pa.int64()),
        pa.field("version", pa.string()),  # ETag, or modification time and size
        pa.field("metadata", pa.map_(pa.string(), pa.string())),  # what the user's metadata file says of it
    ]
)

DECODED: Final = pa.schema(
    [
        ("width_px", pa.int32()),  # of the original, upright
        ("height_px", pa.int32()),
        ("content_sha256", pa.string()),
        ("error", pa.string()),  # "" or one of errors.ERROR_KINDS
        ("error_detail", pa.string()),
    ]
)

LOOK: Final = pa.schema(
    [
        ("perceptual_hash", pa.int64()),  # 64 bits that copies share but for a few; 0 without structure
        ("thumbnail", pa.binary()),  # uint8[32, 32], grey
        ("chroma", pa.float32()),  # mean CIELAB chroma: below 6 mostly greyscale reproductions
    ]
)
"""How a picture looks, whatever it shows; see artray.retrieve.hashing."""

CLASSIFIED: Final = pa.schema(
    [
        ("type", pa.string()),
        ("type_score", pa.float32()),
        ("type_scores", SCORES),
        ("type_disagreement", pa.float32()),  # part of other views with another type; null where none was looked at
        ("genre", pa.string()),
        ("genre_score", pa.float32()),
        ("genre_scores", SCORES),
        ("genre_disagreement", pa.float32()),  # likewise
        ("mean_rgb", pa.list_(pa.float32())),  # three values in [0, 255]
        ("embedding", pa.list_(pa.float32())),  # unit norm
    ]
)

DETECTED: Final = pa.schema([("objects", pa.list_(OBJECT))])

RUN: Final = pa.schema(
    [
        ("models", pa.string()),  # fingerprint of the cards and settings that made the row
        ("run_id", pa.string()),
        ("processed_at", pa.timestamp("us", tz="UTC")),
        ("vanished_at", pa.timestamp("us", tz="UTC")),  # when a listing first missed it; null while it is there
    ]
)


def join(*schemas: pa.Schema) -> pa.Schema:
    """The columns of several schemas, in order."""
    return pa.schema([field for schema in schemas for field in schema])


RECORD: Final = join(ARCHIVE, DECODED, LOOK, CLASSIFIED, DETECTED, RUN)
"""One row of the store per image."""


def rows(batch: Batch) -> int:
    """How many images a batch holds.

    Raises:
        InvariantError: its columns differ in length.
    """
    lengths = {len(column) for column in batch.values()}
    if len(lengths) > 1:
        raise InvariantError(f"batch: columns differ in length: { {name: len(c) for name, c in batch.items()} }")
    return lengths.pop() if lengths else 0


def table(batch: Batch, schema: pa.Schema) -> pa.Table:
    """The batch's columns as Arrow, each of its declared type; a column that the batch lacks is null.

    Raises:
        InvariantError: a value does not fit its declared type, one that must be there is null, or columns differ in
            length.
    """
    length = rows(batch)
    missing = [None] * length
    return pa.Table.from_arrays([_array(batch.get(field.name, missing), field) for field in schema], schema=schema)


def _array(values: list[Any], field: pa.Field) -> pa.Array:
    try:
        array = pa.array(values, type=field.type)
    except (pa.ArrowException, OverflowError, TypeError, ValueError) as error:
        told = " ".join(str(error).split())[:200]
        raise InvariantError(f"{field.name}: a value does not fit the declared type {field.type}: {told}") from error
    if array.null_count and not field.nullable:
        raise InvariantError(f"{field.name}: expected a value in every row, got null in {array.null_count}")
    return array


def batch(table: pa.Table) -> Batch:
    """The table's columns as lists of Python values."""
    return {name: table.column(name).to_pylist() for name in table.column_names}


def slices(sizes_bytes: Sequence[int], max_rows: int, max_bytes: int) -> Iterator[slice]:
    """Cut a batch into slices of at most ``max_rows`` rows and ``max_bytes`` bytes, but never fewer than one row.

    >>> list(slices([5, 5, 5, 100, 1], max_rows=2, max_bytes=20))
    [slice(0, 2, None), slice(2, 3, None), slice(3, 4, None), slice(4, 5, None)]
    """
    start, total = 0, 0
    for index, size in enumerate(sizes_bytes):
        if index > start and (index - start >= max_rows or total + size > max_bytes):
            yield slice(start, index)
            start, total = index, 0
        total += size
    if start < len(sizes_bytes):
        yield slice(start, len(sizes_bytes))
