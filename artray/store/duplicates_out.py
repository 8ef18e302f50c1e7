"""Groups of duplicates as they are given: as JSON has them, as a table for spreadsheets, as a picture to look at."""

import csv
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from artray.errors import ConfigError, TransientError
from artray.store import duplicates, find, pictures, sheet, views
from artray.store.export import Encoded, cell, replacing
from artray.store.layout import Store, open_store
from artray.store.records import Records

if TYPE_CHECKING:
    from artray.pipeline.progress import Reporter

COLUMNS: Final = ("group_id", "representative", "image_id", "of", "why", "score", "similarity")
SHEET_GROUPS: Final = 20
"""So many groups, a row each, are on a picture at most."""


def answer(
    store: str | os.PathLike[str],
    *,
    min_score: float | None = None,
    limit: int | None = None,
    out: str | os.PathLike[str] | None = None,
    again: bool = False,
    reporter: "Reporter | None" = None,
) -> dict[str, Any]:
    """Groups of works that show the same: those that are kept, or found now where these are missing or of old records.

    Args:
        store: which store.
        min_score: what copies score at least, up to 1; None for 0.9.
        limit: the largest so many groups only.
        out: also write them here: a table (.csv), or a picture of the first ones.
        again: look for them in any case.
        reporter: is told how far it is.

    Returns:
        {groups, members, images, min_score, version, note, duplicates: [{group_id, representative, works:
        [{image_id, of, why, score, similarity}]}]}, as ``artray duplicates --json`` prints it.

    Raises:
        ConfigError: no such store, no score, or a file that cannot be written.
        TransientError: the storage failed.
    """
    from artray.pipeline.progress import Silent, phases

    if out is not None:
        check_name(Path(out))
    if limit is not None and limit < 1:
        raise ConfigError(f"--limit: expected at least 1, got {limit}")
    opened, least = open_store(store), duplicates.least_of(min_score)
    found = None if again else duplicates.read(opened)
    if found is None or found.stale(Records.open(opened)) or found.score_min != least:
        with reporter or Silent() as told:
            found = duplicates.find(opened, least, phases(told))
    groups = duplicates.grouped(found.table, limit)
    if out is not None:
        save(opened, groups, Path(out))
    counts = {"groups": len(found.table["group_id"].unique()), "members": found.table.num_rows, "images": found.images}
    asked = {"min_score": least, "version": found.version, "note": found.note}
    return counts | asked | {"duplicates": [views.plain(group) for group in groups]}


def check_name(out: Path) -> None:
    """Raises ConfigError where neither a table nor a picture can be written under this name."""
    if out.suffix.lower() != ".csv" and out.suffix.lower() not in pictures.SUFFIXES:
        raise ConfigError(f"{out}: expected a name that ends with .csv, {', '.join(pictures.SUFFIXES)}")


def save(store: Store, groups: Sequence[dict[str, Any]], out: Path) -> None:
    """Write groups (see duplicates.grouped): all of them as a table, the first of them as a picture.

    Raises:
        ConfigError: another kind of file, or one that cannot be written.
        TransientError: the storage failed.
    """
    check_name(out)
    if out.suffix.lower() == ".csv":
        save_table(groups, out)
    else:
        sheet.save(_cells(store, groups[:SHEET_GROUPS]), out)


def save_table(groups: Sequence[dict[str, Any]], out: Path) -> None:
    """Comma-separated values in UTF-8, a row per member, the representative of each group first."""
    with replacing(out) as file:
        writer = csv.writer(Encoded(file), lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
        writer.writerow(COLUMNS)
        for group in groups:
            rows = ({**work, **{name: group[name] for name in COLUMNS[:2]}} for work in group["works"])
            writer.writerows([cell(row[name]) for name in COLUMNS] for row in rows)


def _cells(store: Store, groups: Sequence[dict[str, Any]]) -> list[sheet.Cell]:
    """A row of the sheet per group: its representative and the first others; no picture where it cannot be read."""
    shown = [(group, work) for group in groups for work in group["works"][: sheet.COLUMNS]]
    records = find.pictured(Records.open(store), [work["image_id"] for _, work in shown])
    reader = pictures.Pictures(store)
    cells = []
    for group, work in shown:
        try:
            pixels = reader.of_record(records[work["image_id"]], 2 * sheet.CELL_PX).pixels
        except (ConfigError, TransientError, KeyError):
            pixels = None
        told = f"{group['group_id']}" if work["of"] is None else f"{work['why']} {work['score']:.2f}"
        cells.append(sheet.Cell(pixels, (work["image_id"], told)))
        if work is group["works"][: sheet.COLUMNS][-1]:
            cells += [sheet.Cell(None, ("", ""))] * (-len(cells) % sheet.COLUMNS)
    return cells
