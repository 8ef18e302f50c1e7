"""A store's types and genres against labels: metrics with intervals, and the most confident mistakes to look at."""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Final, NamedTuple

import numpy as np

from artray.archive import metadata
from artray.errors import ArtrayError, ConfigError
from artray.location import Location
from artray.metrics import classification
from artray.store import find, sheet, views
from artray.store.layout import Store
from artray.store.pictures import Pictures
from artray.store.records import Records

HEADS: Final = ("type", "genre")
GROUPS: Final = ("group", "artist")
"""Columns of the labels, or else of the records' metadata, that say what intervals resample together."""

MISTAKES: Final = 20
THUMBNAIL_PX: Final = 240
COLUMNS: Final = (
    "image_id, uri, version, width_px, height_px, metadata, "
    "type, type_score, type_scores, genre, genre_score, genre_scores"
)


class Labelled(NamedTuple):
    """A record, and what is known of it."""

    record: dict[str, Any]
    labels: dict[str, str]


def evaluate(store: Store, labels: str, *, resamples: int = classification.RESAMPLES) -> dict[str, Any]:
    """Compare a store's labels with those of a table.

    Args:
        store: whose records.
        labels: a CSV, JSONL or Parquet file that names images (as a metadata file does) and has the columns type and
            genre, or one of them; a column group or artist says what intervals resample together.
        resamples: of the bootstrap.

    Returns:
        ``n`` works with a label, ``metrics`` per head (value, low and high each), ``classes`` per class, ``confusion``
        per head with its classes, ``mistakes`` the most confident first, and ``unknown`` labels that the store's model
        does not have.

    Raises:
        ConfigError: the labels cannot be read, or none is of an image of the store.
    """
    rows = _labelled(store, Location.of(labels))
    told: dict[str, Any] = {"n": 0, "metrics": {}, "classes": {}, "confusion": {}, "unknown": {}, "mistakes": []}
    counted: set[str] = set()
    for head in HEADS:
        known = [row for row in rows if row.labels.get(head) and row.record[head]]
        names = _classes(known, head)
        told["unknown"] |= _unknown(known, head, names)
        lower = {name.lower(): name for name in names}
        known = [
            row._replace(labels=row.labels | {head: lower[row.labels[head]]})
            for row in known
            if row.labels[head] in lower
        ]
        if known:
            counted |= {row.record["image_id"] for row in known}
            _judge(told, head, known, names, resamples)
    if not counted:
        raise ConfigError(
            f"--labels {labels}: expected a column type or genre with labels of images of {store.uri}, found none"
        )
    told["n"] = len(counted)
    told["mistakes"] = sorted(told["mistakes"], key=lambda entry: (-entry["score"], entry["image_id"]))
    return told


def save_sheet(store: Store, mistakes: Sequence[dict[str, Any]], out: Path) -> int:
    """Write the first mistakes as a sheet of pictures; returns how many are on it.

    Raises:
        ConfigError: the file cannot be written.
    """
    pictures, cells = Pictures(store), list[sheet.Cell]()
    for entry in mistakes[:MISTAKES]:
        try:
            pixels = pictures.of_record(entry, THUMBNAIL_PX).pixels
        except ArtrayError:  # the sheet shows the others
            pixels = None
        caption = (entry["image_id"], f"{entry['label']}, taken for {entry['predicted']} {entry['score']:.2f}")
        cells.append(sheet.Cell(pixels, caption))
    sheet.save(cells, out)
    return len(cells)


def _labelled(store: Store, labels: Location) -> list[Labelled]:
    """The records that the table names, by image_id or by file name."""
    given = {row["key"]: row["metadata"] for row in views.rows(metadata.read(labels))}
    with views.opened(Records.open(store)) as connection:
        statement = f"SELECT {COLUMNS} FROM works WHERE error = ''"  # noqa: S608 (artray's own words)
        records = find.works(connection, statement, [])
    rows = []
    for record in records:
        found = given.get(record["image_id"]) or given.get(PurePosixPath(record["image_id"]).name)
        if found:
            rows.append(Labelled(record, {name: str(value).strip().lower() for name, value in found.items()}))
    return rows


def _classes(rows: Sequence[Labelled], head: str) -> list[str]:
    """The classes that the store's model tells apart, in its order."""
    names: dict[str, None] = {}
    for row in rows:
        names |= dict.fromkeys(row.record[f"{head}_scores"] or {row.record[head]: 1.0})
    return list(names)


def _unknown(rows: Sequence[Labelled], head: str, names: Sequence[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for row in rows:
        if row.labels[head] not in {name.lower() for name in names}:
            found[row.labels[head]] = found.get(row.labels[head], 0) + 1
    return found


def _judge(told: dict[str, Any], head: str, rows: Sequence[Labelled], names: list[str], resamples: int) -> None:
    truth = np.array([names.index(row.labels[head]) for row in rows])
    predicted = np.array([names.index(row.record[head]) for row in rows])
    groups = [_group(row) for row in rows]
    intervals = classification.bootstrap(truth, predicted, names, groups, resamples)
    matrix = classification.confusion(truth, predicted, len(names))
    whole = classification.metrics(matrix)
    scores = np.array([[(row.record[f"{head}_scores"] or {}).get(name, 0.0) for name in names] for row in rows])
    told["metrics"][head] = {name: intervals[name]._asdict() for name in classification.OVERALL} | {
        "calibration_error": classification.calibration_error(scores, truth)
    }
    for index, name in enumerate(names):
        told["classes"][name] = {
            "head": head,
            "n": int((truth == index).sum()),
            "f1": intervals[f"f1 {name}"]._asdict(),
            "precision": float(whole.precision[index]),
            "recall": float(whole.recall[index]),
        }
    told["confusion"][head] = {"classes": names, "matrix": matrix.tolist()}
    told["mistakes"] += [
        {key: row.record[key] for key in ("image_id", "uri", "version", "width_px", "height_px")}
        | {"head": head, "label": row.labels[head], "predicted": row.record[head], "score": row.record[f"{head}_score"]}
        for row, right, said in zip(rows, truth, predicted, strict=True)
        if right != said
    ]


def _group(row: Labelled) -> str:
    """What is resampled together with it; the work itself where nothing is known."""
    sources = (row.labels, row.record["metadata"] or {})
    return next(
        (str(values[name]) for values in sources for name in GROUPS if values.get(name)), row.record["image_id"]
    )
