"""Sets of labelled works into one table: every row that cannot be used is told, by file and line, and left out."""

import csv
import hashlib
import io
import re
import string
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any, Final, NamedTuple, Protocol

import pyarrow as pa

from artray.archive import listing
from artray.config import ArchiveConfig
from artray.errors import ConfigError
from artray.location import Location
from artray.train import stored
from artray.train.datasets import layouts, publishers
from artray.train.datasets.items import Item
from artray.train.datasets.layouts import Labels, Layout
from artray.train.profile import Source, Task
from artray.train.works import PARTS, WORKS

TASKS: Final = ("type", "genre")
FIELD_BYTES: Final = 2**20


class Data(Protocol):
    """Where pictures are."""

    @property
    def embeddings(self) -> str | None:
        """A store whose images are labelled; None where pictures lie beside their labels."""


class Wanted(Protocol):
    """What a training wants to know of works; its profile says so."""

    @property
    def data(self) -> Data:
        """Where pictures are."""

    @property
    def heads(self) -> Collection[Task]:
        """Tasks of which a work must have a label; with none, every picture is taken, labelled or not."""

    def known(self, task: str) -> tuple[str, ...]:
        """The labels of a task."""


class Found(NamedTuple):
    """A set's works, and what is wrong with it."""

    works: pa.Table  # of schema WORKS
    problems: list[str]  # a line each


def read(source: Source, profile: Wanted) -> Found:
    """A set's works that have a label of one of the profile's heads; all of them where it has none.

    Raises:
        ConfigError: no such set, no such layout, or a table without the columns that name pictures and labels.
        TransientError: the storage failed.
    """
    layout = layouts.load(source.kind)
    _check_labels(source, profile)
    place = Location.of(source.path)
    table = place.uri.lower().endswith((".csv", ".tsv", ".txt"))
    folder = Location(place.uri.rpartition("/")[0]) if table else place
    problems: list[str] = []
    store = profile.data.embeddings or (source.path if layout.reader == "corrections" else None)
    if store is None:
        entries = {entry.image_id: entry for entry in listing.entries(folder, ArchiveConfig(), problems.append)}
    else:
        entries = stored.entries(store)
    where = f"below {folder}" if store is None else f"in {store}"
    rows: dict[str, dict[str, Any]] = {}
    for item in _items(place, layout, folder, entries, labelled=bool(profile.heads)):
        row = _row(item, source, layout, profile, problems)
        if row is None:
            continue
        entry = entries.get(str(PurePosixPath(item.file)))
        if entry is None:
            problems.append(f"{item.where}: {item.file}: no such picture {where}")
        elif entry.uri in rows:
            problems.append(f"{item.where}: {item.file}: is named a second time; the first row counts")
        else:
            rows[entry.uri] = row | {"uri": entry.uri, "version": entry.version}
    kept = _limited(list(rows.values()), source.limit)
    return Found(pa.Table.from_pylist(kept, schema=WORKS), problems)


def _check_labels(source: Source, profile: Wanted) -> None:
    """Raises ConfigError where a label is said to be something that no head knows."""
    known = {*profile.known("type"), *profile.known("genre")}
    for given, label in source.labels.items():
        if label is not None and label not in known:
            raise ConfigError(
                f"data.sources: {source.title}: labels: {given}: expected null or one of {', '.join(sorted(known))}, "
                f"got {label!r}"
            )


def _items(
    place: Location, layout: Layout, folder: Location, entries: Mapping[str, Any], *, labelled: bool
) -> Iterator[Item]:
    if layout.reader == "folders":
        return (Item(name, name, {"folder": PurePosixPath(name).parent.name.lower()}, None) for name in entries)
    if layout.reader == "table":
        tables = layout.tables or {place.uri.rpartition("/")[2]: None}
        return (item for name, part in tables.items() for item in _table(folder / name, layout, part, labelled))
    return publishers.READERS[layout.reader](folder, layout)


def _table(file: Location, layout: Layout, part: str | None, labelled: bool) -> Iterator[Item]:
    """A delimited text's rows."""
    try:
        text = file.read_bytes().decode(layout.encoding)
    except FileNotFoundError as error:
        raise ConfigError(f"{file}: expected a table of labels, found none") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file}: expected text in {layout.encoding}, got other bytes at {error.start}") from error
    csv.field_size_limit(FIELD_BYTES)
    name = file.uri.rpartition("/")[2]
    reader = csv.DictReader(io.StringIO(text), layout.columns or None, delimiter=layout.delimiter, restval="")
    try:
        _check_columns(reader, layout, str(file), labelled)
        for values in reader:
            plain = {str(key): str(value or "").strip() for key, value in values.items() if key is not None}
            picture = layout.file.format_map(plain)
            picture = re.sub(*layout.rename, picture) if layout.rename else picture
            yield Item(f"{name} line {reader.line_num}", picture, plain, part)
    except csv.Error as error:
        raise ConfigError(f"{file} line {reader.line_num}: not a table: {error}") from error


def _check_columns(reader: "csv.DictReader[str]", layout: Layout, what: str, labelled: bool) -> None:
    """Raises ConfigError where the columns that name pictures, and labels if they are wanted, are not there."""
    given = {*(reader.fieldnames or ())}
    wanted = {name for _, name, _, _ in string.Formatter().parse(layout.file) if name}
    labels = {*layout.type.columns, *layout.genre.columns}
    if missing := sorted(wanted - given):
        raise ConfigError(f"{what}: expected a column {missing[0]!r}, got {', '.join(sorted(given)) or 'none'}")
    if labelled and labels and not labels & given:
        raise ConfigError(f"{what}: expected a column {' or '.join(sorted(labels))}, got {', '.join(sorted(given))}")


def _row(item: Item, source: Source, layout: Layout, profile: Wanted, problems: list[str]) -> dict[str, Any] | None:
    """A work, or None where it has no label that is asked for; what is wrong with it is told."""
    values = item.values
    if any(values.get(name, "").lower() != wanted.lower() for name, wanted in layout.where.items()):
        return None
    if not item.file:
        return None  # listed, but its picture is not here
    labels: dict[str, str | None] = dict.fromkeys(TASKS)
    for task in profile.heads:
        label, problem = _label(task, values, layout, source, profile)
        labels[task] = label
        if problem:
            problems.append(f"{item.where}: {problem}")
    if profile.heads and all(labels[task] is None for task in profile.heads):
        return None
    part = source.part or item.part or (_first(values, layout.part) or "").lower() or None
    if part not in (None, *PARTS):
        problems.append(f"{item.where}: split: expected {', '.join(PARTS)} or nothing, got {part!r}")
        return None
    work_id, duplicates = f"{source.title}/{PurePosixPath(item.file)}", _first(values, layout.duplicates)
    return {
        "work_id": work_id,
        "source": source.title,
        "part": part,
        "group": _first(values, layout.group) or work_id,
        "duplicates": None if duplicates is None else f"{source.title}/{duplicates}",
        "colour": values.get("colour") or None,
    } | labels


def _label(
    task: str, values: Mapping[str, str], layout: Layout, source: Source, profile: Wanted
) -> tuple[str | None, str | None]:
    """A work's label and what is wrong with it."""
    cfg: Labels = getattr(layout, task)
    if cfg.always is not None:
        return cfg.always, None
    any_task = layout.type == layout.genre  # nothing is said of either: a folder's name may be a label of both
    folder = values.get("folder") if any_task or cfg.map is not None else None
    given = (_first(values, cfg.columns) or folder or "").lower()
    known = {name.lower(): name for name in profile.known(task)}
    own = {name.lower(): label for name, label in source.labels.items()}
    if given in own or (given and cfg.map is not None):
        return own[given] if given in own else (cfg.map or {}).get(given), None
    if not given or given in known:
        return known.get(given), None
    if "folder" in values:  # of a label of the other task, or of none
        return None, None
    expected = ", ".join(known)
    return None, f"{task}: expected {expected} or nothing, got {given!r}; the source's labels can say what it is here"


def _first(values: Mapping[str, str], columns: tuple[str, ...]) -> str | None:
    return next((values[name] for name in columns if values.get(name)), None)


def counts(works: pa.Table, task: str) -> dict[str, int]:
    """Works per class of a head, the most common one first."""
    return dict(Counter(label for label in works[task].to_pylist() if label is not None).most_common())


def _limited(rows: list[dict[str, Any]], limit: int | None) -> list[dict[str, Any]]:
    """At most so many, chosen by the hash of their names, in order."""
    if limit is None or len(rows) <= limit:
        return rows
    chosen = {row["work_id"] for row in sorted(rows, key=_lot)[:limit]}
    return [row for row in rows if row["work_id"] in chosen]


def _lot(row: Mapping[str, Any]) -> float:
    """Where a work lies among those that a limit chooses from, whatever part it is put into."""
    return place(f"limit {row['work_id']}")


def place(name: str) -> float:
    """Where a name lies in [0, 1), the same on every machine and far from that of its neighbours."""
    return int.from_bytes(hashlib.sha256(name.encode("utf-8", "backslashreplace")).digest()[:6], "big") / 2**48
