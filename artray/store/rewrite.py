"""Change rows that are in the table already: the parts that hold them are written anew, in one commit.

One part is in memory at a time, and only parts that hold such rows are read, whatever the size of the table.
"""

from collections.abc import Callable, Sequence
from pathlib import PurePosixPath
from typing import Final, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset
import pyarrow.parquet as pq

from artray import schema
from artray.errors import InvariantError
from artray.store import views
from artray.store.records import Part, Records, write_part

Change: TypeAlias = Callable[[pa.Table, pa.Array], pa.Table]
"""From a part's rows, and where each one's image_id is among those looked for (null: nowhere), to its new rows."""

PART_BYTES: Final = 64 * 2**20
"""Small parts become one of about this size, which fits into memory some times over."""


def replace(records: Records, parts: Sequence[Part], run_id: str) -> None:
    """Commit parts whose images may have a row in another part, which then goes.

    Raises:
        StoreBusyError: somebody else committed since ``records`` was opened.
        TransientError: the storage failed.
        InvariantError: an image is twice in the parts.
    """
    image_ids = _read(records, [part.path for part in parts], ["image_id"])["image_id"]
    _rewrite(records, image_ids, lambda table, where: table.filter(pc.is_null(where)), run_id, parts)


def upsert(records: Records, rows: pa.Table, run_id: str) -> None:
    """Insert rows of schema.RECORD, or replace those with the same image_id, in one commit."""
    if rows.num_rows:
        replace(records, [write_part(records.store.records, rows)], run_id)


def update(records: Records, rows: pa.Table, run_id: str, go_on: Callable[[], None] = lambda: None) -> None:
    """Set the given columns of the rows whose image_id is given, in one commit.

    Args:
        records: the table.
        rows: image_id and some other columns of schema.RECORD.
        run_id: who commits.
        go_on: called before every part that is written anew; nothing is committed where it raises.
    """

    def changed(table: pa.Table, where: pa.Array) -> pa.Table:
        go_on()
        return with_columns(table, where, rows.select(rows.column_names[1:]))

    _rewrite(records, rows["image_id"], changed, run_id)


def with_columns(table: pa.Table, where: pa.Array, columns: pa.Table) -> pa.Table:
    """The table with other values in some columns.

    Args:
        table: N rows.
        where: int[N]: the row of ``columns`` that a row's values come from; null: it keeps its own.
        columns: some of the table's columns, of types that can be cast to its own.
    """
    # the old column with the new one behind it, and from which of the two each row's value comes
    old = pa.array(range(table.num_rows), pa.int64())
    at = pc.coalesce(pc.add(where.cast(pa.int64()), table.num_rows), old)
    for name in columns.column_names:
        index, field = table.schema.get_field_index(name), table.schema.field(name)
        both = pa.chunked_array([*table[name].chunks, *columns[name].cast(field.type).chunks], field.type)
        table = table.set_column(index, field, both.take(at))
    return table


def every(records: Records, change: Callable[[pa.Table], pa.Table | None], run_id: str) -> None:
    """Put every part through ``change``, in one commit; None leaves a part as it is.

    Args:
        records: the table.
        change: from a part's rows, of schema.RECORD, to as many others; nothing is committed where it raises.
        run_id: who commits.
    """
    new, old = list[Part](), list[str]()
    for fragment in views.dataset(records).get_fragments():
        with views.reading(records):
            table = fragment.to_table(schema=schema.RECORD)
        changed = change(table)
        if changed is not None:
            new.append(write_part(records.store.records, changed, "kept"))
            old.append(PurePosixPath(fragment.path).name)
    records.add(new, run_id, instead_of=old)


def _rewrite(
    records: Records, image_ids: pa.ChunkedArray, change: Change, run_id: str, fresh: Sequence[Part] = ()
) -> None:
    """Commit ``fresh`` parts, and in place of every part that holds one of the images what ``change`` makes of it."""
    if pc.count_distinct(image_ids).as_py() != len(image_ids):
        raise InvariantError(f"{records.store.uri}: expected each image once in what is to be committed, got one twice")
    folder, new, old = records.store.records, list(fresh), []
    for fragment in _holding(records, image_ids):
        with views.reading(records):
            table = fragment.to_table(schema=schema.RECORD)
        left = change(table, pc.index_in(table["image_id"].combine_chunks(), value_set=image_ids))
        if left.num_rows:
            new.append(write_part(folder, left, "kept"))
        old.append(PurePosixPath(fragment.path).name)
    records.add(new, run_id, instead_of=old)


def _holding(records: Records, image_ids: pa.ChunkedArray) -> list[pyarrow.dataset.Fragment]:
    """The parts that hold a row of one of these images; of the others no more is read than their names."""
    held = views.dataset(records)
    wanted = pyarrow.dataset.field("image_id").isin(image_ids.combine_chunks())
    with views.reading(records):
        paths = set(pc.unique(held.to_table(columns=["__filename"], filter=wanted)["__filename"]).to_pylist())
    return [fragment for fragment in held.get_fragments() if fragment.path in paths]


def compact(records: Records, run_id: str, part_bytes: int = PART_BYTES) -> int:
    """Write small parts together into large ones, a commit each; rows stay the same.

    Not by Delta's own OPTIMIZE, which carries no fence: a commit that was prepared before it would put rows that it
    moved into the table a second time.

    Returns:
        How many parts there are less.
    """
    names, sizes, _ = records.parts()
    group: list[str] = []
    gone = waiting_bytes = 0
    for name, size in zip(names, sizes, strict=True):
        if size < part_bytes // 2:
            group.append(name)
            waiting_bytes += size
        if waiting_bytes >= part_bytes:
            gone += _together(records, group, run_id)
            group, waiting_bytes = [], 0
    return gone + _together(records, group, run_id)


def _together(records: Records, names: Sequence[str], run_id: str) -> int:
    if len(names) < 2:
        return 0
    together = write_part(records.store.records, _read(records, names, schema.RECORD.names), "large")
    records.add([together], run_id, instead_of=names)
    return len(names) - 1


def _read(records: Records, names: Sequence[str], columns: Sequence[str]) -> pa.Table:
    """Columns of some parts, committed or not, one part after the other."""
    folder = records.store.records
    with views.reading(records):
        tables = [
            pq.read_table(
                (folder / name).root, filesystem=folder.filesystem, schema=schema.RECORD, columns=list(columns)
            )
            for name in names
        ]
    return pa.concat_tables(tables)
