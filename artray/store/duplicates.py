"""Near-duplicates and copies among a store's works: found over all records at once, and kept beside them.

STORE/duplicates/groups.parquet   one row per member of a group, and in which version of the records they were found

What is kept says so where the records have changed since. It can be lost and found again at any time.
"""

import io
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from artray.errors import ConfigError
from artray.location import Location
from artray.store.layout import Store
from artray.store.records import Records

if TYPE_CHECKING:
    from artray.retrieve.duplicates import Copies, Groups, Works

Tell: TypeAlias = Callable[[str, int, int], None]
"""Is told what is being done, and how many of how many are done."""

SCHEMA: Final = pa.schema(
    [
        ("group_id", pa.int64()),  # from 1, the largest groups first
        ("image_id", pa.string()),
        ("representative", pa.string()),  # the image_id of the work that stands for its group
        ("of", pa.string()),  # the image_id that it is a copy of: the representative, or a copy of that
        ("why", pa.string()),  # see artray.retrieve.reasons
        ("score", pa.float64()),  # correlation of their details, up to 1
        ("similarity", pa.float64()),  # cosine of their embeddings; null where there are none
    ]
)
"""One row per member of a group; of the representative, which comes first, ``of`` to ``similarity`` are null."""

FORMAT: Final = 1


class Saved(NamedTuple):
    """The groups that were found last."""

    table: pa.Table  # of SCHEMA, by groups
    version: int  # of the records
    score_min: float  # what copies scored at least
    images: int  # that were compared
    note: str  # what else there is to know, or ""

    def stale(self, records: Records) -> bool:
        """Whether the records are others by now."""
        return self.version != records.version


def find(
    store: Store, score_min: float | None = None, tell: Tell = lambda *_: None, threads: int | None = None
) -> Saved:
    """Look for duplicates among all works that are there, and keep what was found.

    Args:
        store: whose.
        score_min: what copies score at least, above 0 and up to 1; None for artray's own choice.
        tell: is told how far it is.
        threads: that work on it; None for as many as there are processors.

    Raises:
        ConfigError: there are no records, or no score is ``score_min``.
        TransientError: the storage failed.
    """
    from artray.retrieve import duplicates
    from artray.store import looks

    least = least_of(score_min)
    records = Records.open(store)
    with tempfile.TemporaryDirectory(prefix="artray-duplicates-") as folder:
        image_ids, works, note = looks.read(records, Path(folder), tell)
        copies = duplicates.find(works, least, threads or os.cpu_count() or 1, tell)
        groups = duplicates.groups(len(image_ids), copies, works.pixels)
        found = Saved(_table(image_ids, works, copies, groups), records.version, least, len(image_ids), note)
        del works
    write(store, found)
    return found


def least_of(score_min: float | None) -> float:
    """What copies are to score at least.

    Raises:
        ConfigError: no score is that.
    """
    from artray.retrieve.duplicates import SCORE_MIN

    if score_min is not None and not 0 < score_min <= 1:
        raise ConfigError(f"--min-score: expected more than 0 and at most 1, got {score_min:g}")
    return SCORE_MIN if score_min is None else score_min


def _table(image_ids: list[str], works: "Works", copies: "Copies", groups: "Groups") -> pa.Table:
    """The members of groups as rows of SCHEMA."""
    from artray.retrieve.reasons import why

    sizes = np.bincount(groups.group)
    first = np.flatnonzero(groups.pair < 0)  # of each group
    rank = np.empty(len(sizes), np.int64)
    rank[np.lexsort((np.arange(len(sizes)), -sizes))] = np.arange(1, len(sizes) + 1)
    order = np.argsort(rank[groups.group], kind="stable")
    member, group, pair = groups.member[order], groups.group[order], groups.pair[order]
    there = pair >= 0
    linked = copies.at(pair[there])
    of = np.where(linked.first == member[there], linked.second, linked.first)
    names = np.array(image_ids, object)

    def spread(values: Any, kind: pa.DataType) -> pa.Array:
        """Values of the members that are no representatives, null for those that are."""
        every = np.full(len(member), None, object)
        every[there] = values
        return pa.array(every.tolist(), kind)

    columns = [
        pa.array(rank[group], pa.int64()),
        pa.array(names[member].tolist(), pa.string()),
        pa.array(names[groups.member[first][group]].tolist(), pa.string()),
        spread(names[of], pa.string()),
        spread(why(works, linked), pa.string()),
        spread(linked.score.astype(np.float64).round(4).tolist(), pa.float64()),
        spread(_similarities(works, member[there], of), pa.float64()),
    ]
    return pa.Table.from_arrays(columns, schema=SCHEMA)


def _similarities(works: "Works", a: Any, b: Any) -> list[float | None]:
    """The cosines of the embeddings of P pairs; None where one lacks it."""
    found: list[float | None] = []
    for start in range(0, len(a), 4_096):
        rows = slice(start, start + 4_096)
        one, other = (np.asarray(works.embeddings[each[rows]], np.float32) for each in (a, b))
        cosines = np.einsum("pd,pd->p", one, other, dtype=np.float64).clip(-1, 1).round(4).tolist()
        both = (works.embedded[a[rows]] & works.embedded[b[rows]]).tolist()
        found += [cosine if known else None for cosine, known in zip(cosines, both, strict=True)]
    return found


def file(store: Store) -> Location:
    """Where the groups are kept."""
    return store.location / "duplicates" / "groups.parquet"


def write(store: Store, found: Saved) -> None:
    """Replace the groups; a reader sees the old or the new ones."""
    told = found._asdict() | {"format": FORMAT}
    del told["table"]
    out = io.BytesIO()
    pq.write_table(found.table.replace_schema_metadata({"artray": json.dumps(told)}), out, compression="zstd")
    file(store).write_bytes(out.getvalue())


def read(store: Store) -> Saved | None:
    """The groups that were found last; None where nobody looked for any.

    Raises:
        ConfigError: the file is damaged.
        TransientError: the storage failed.
    """
    try:
        table = pq.read_table(io.BytesIO(file(store).read_bytes()))
        told = json.loads((table.schema.metadata or {})[b"artray"])
        if told.pop("format") != FORMAT:
            return None
        return Saved(table.select(SCHEMA.names).cast(SCHEMA), **told)
    except FileNotFoundError:
        return None
    except (pa.ArrowException, KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{file(store)}: expected groups of duplicates, got something else; remove it") from error


def table(store: Store) -> pa.Table:
    """The groups as rows of SCHEMA; none where nobody looked for any."""
    found = read(store)
    return SCHEMA.empty_table() if found is None else found.table


def of(store: Store, image_id: str) -> list[dict[str, Any]]:
    """The other works of an image's group, the representative first: {image_id, of, why, score, similarity}."""
    rows = table(store)
    own = rows.filter(pc.equal(rows["image_id"], image_id))["group_id"]
    if not len(own):
        return []
    group = rows.filter(pc.equal(rows["group_id"], own[0])).drop_columns(["group_id", "representative"])
    return [row for row in group.to_pylist() if row["image_id"] != image_id]


def grouped(rows: pa.Table, limit: int | None = None) -> list[dict[str, Any]]:
    """The groups, the largest first: {group_id, representative, works: [{image_id, of, why, score, similarity}]}."""
    found: dict[int, dict[str, Any]] = {}
    for row in rows.to_pylist():
        group_id, representative = row.pop("group_id"), row.pop("representative")
        if limit is not None and group_id > limit:
            break
        group = found.setdefault(group_id, {"group_id": group_id, "representative": representative, "works": []})
        group["works"].append(row)
    return list(found.values())
