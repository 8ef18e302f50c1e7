"""Change rows that are in the table already: the parts that hold them are written anew, in one commit.

One part is in memory at a time, and only parts that hold such rows are read, whatever the size of the table.
"""

from collections.abc import Callable, Sequence
from pathlib import PurePosixPath
from typing import TypeAlias

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset
import pyarrow.parquet as pq

from artray import schema
from artray.location import transient
from artray.store import views
from artray.store.records import Part, Records, write_part

Change: TypeAlias = Callable[[pa.Table, pa.Array], pa.Table]
"""From a part's rows, and where each one's image_id is among those looked for (null: nowhere), to its new rows."""


def replace(records: Records, parts: Sequence[Part], run_id: str) -> None:
    """Commit parts whose images may have a row, which is then replaced; the parts' own files go away.

    Raises:
        StoreBusyError: somebody else committed since ``records`` was opened.
        TransientError: the storage failed.
    """
    folder = records.store.records
    paths = [(folder / part.path).root for part in parts]
    with transient(folder.uri):
        tables = [pq.read_table(path, filesystem=folder.filesystem, schema=schema.RECORD) for path in paths]
    upsert(records, pa.concat_tables(tables), run_id)
    for part in parts:
        (folder / part.path).remove()


def upsert(records: Records, rows: pa.Table, run_id: str) -> None:
    """Insert rows of schema.RECORD, or replace those with the same image_id, in one commit."""
    fresh = [write_part(records.store.records, rows)] if rows.num_rows else []
    _rewrite(records, rows["image_id"], lambda table, where: table.filter(pc.is_null(where)), run_id, fresh)


def update(records: Records, rows: pa.Table, run_id: str) -> None:
    """Set the given columns of the rows whose image_id is given, in one commit.

    Args:
        records: the table.
        rows: image_id and some other columns of schema.RECORD.
        run_id: who commits.
    """

    def changed(table: pa.Table, where: pa.Array) -> pa.Table:
        # the old column with the new one behind it, and from which of the two each row's value comes
        old = pa.array(range(table.num_rows), pa.int64())
        at = pc.coalesce(pc.add(where.cast(pa.int64()), table.num_rows), old)
        for name in rows.column_names[1:]:
            index, field = table.schema.get_field_index(name), table.schema.field(name)
            both = pa.chunked_array([*table[name].chunks, *rows[name].cast(field.type).chunks], field.type)
            table = table.set_column(index, field, both.take(at))
        return table

    _rewrite(records, rows["image_id"], changed, run_id)


def _rewrite(
    records: Records, image_ids: pa.ChunkedArray, change: Change, run_id: str, fresh: Sequence[Part] = ()
) -> None:
    """Commit ``fresh`` parts, and in place of every part that holds one of the images what ``change`` makes of it."""
    folder, new, old = records.store.records, list(fresh), []
    with transient(folder.uri):
        for fragment in _holding(records, image_ids):
            table = fragment.to_table(schema=schema.RECORD)
            left = change(table, pc.index_in(table["image_id"].combine_chunks(), value_set=image_ids))
            if left.num_rows:
                new.append(write_part(folder, left))
            old.append(PurePosixPath(fragment.path).name)
    records.add(new, run_id, instead_of=old)


def _holding(records: Records, image_ids: pa.ChunkedArray) -> list[pyarrow.dataset.Fragment]:
    """The parts that hold a row of one of these images; of the others no more is read than their names."""
    held = views.dataset(records)
    wanted = pyarrow.dataset.field("image_id").isin(image_ids.combine_chunks())
    paths = set(pc.unique(held.to_table(columns=["__filename"], filter=wanted)["__filename"]).to_pylist())
    return [fragment for fragment in held.get_fragments() if fragment.path in paths]
