"""Experiments: a grid of trainings with repeats, whose table stands beside the published one.

RUN/ROW/REPEAT/    a training's folder each; what is done there is not done again
RUN/table.md       the table, with the published figures in columns of their own
RUN/table.csv      the same for programs
RUN/repeats.csv    every repeat
"""

import io
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
from pydantic import Field, model_validator

from artray import config
from artray.config import Section, parse
from artray.errors import ConfigError
from artray.location import Location
from artray.metrics import classification
from artray.pipeline import cluster
from artray.pipeline.progress import Reporter
from artray.train import run, tables, voting
from artray.train.profile import Task, TrainProfile
from artray.train.rundir import RunFolder
from artray.train.tables import Line
from artray.train.works import UNKNOWN, rows_of

Floats = npt.NDArray[np.float64]


class Ensemble(Section):
    """A row that combines other rows' models, repeat by repeat.

    Args:
        rule: ``majority`` of models of the same classes, or ``most_confident`` of one-versus-the-rest models.
        of: the rows' names.
    """

    rule: Literal["majority", "most_confident"]
    of: tuple[str, ...] = Field(min_length=2)


class Row(Section):
    """One line of the table.

    Args:
        name: as the report prints it.
        place: the line and the column of its only figure, where the report's table has several rows in a line.
        set: what differs from the base, section by section.
        ensemble: of other rows, in place of a training.
        published: the report's figures, column by column, as printed; null where it has none.
        shown: whether it is a line of the table, or trained for an ensemble only.
    """

    name: str = Field(min_length=1)
    shown: bool = True
    place: tuple[str, str] | None = None
    set: dict[str, Any] = Field(default_factory=dict)
    ensemble: Ensemble | None = None
    published: tuple[str | None, ...] = ()


class Column(Section):
    """One figure of every line.

    Args:
        title: as the report prints it.
        part: what it is measured on.
        head: of which head.
        metric: which metric of artray.metrics.classification.named; {only} stands for the row's one class.
        source: only works of this set, such as one that is held out whole; null for all.
    """

    title: str
    part: Literal["val", "test"]
    head: Task
    metric: str
    source: str | None = None


class Small(Section):
    """What is changed for a machine without a GPU, and for the data that are at hand.

    Args:
        base: changes of the base.
        repeats: trainings per row.
        rows: other lines, where those of the report need data or weights of their own; null for the same.
        note: what a reader of the small table should know.
    """

    base: dict[str, Any] = Field(default_factory=dict)
    repeats: int = Field(1, ge=1)
    rows: tuple[Row, ...] | None = None
    note: str = ""


class Experiment(Section):
    """A table of the report.

    Args:
        name: of the folder.
        title: of the table.
        note: what a reader should know.
        repeats: trainings per row, with seeds 0, 1, ...
        base: a training's profile, of which every row changes something.
        rows: the lines.
        columns: the figures.
        transposed: the report's table has the figures as its lines, and the rows as its columns.
        small: the variant for a machine without a GPU.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")
    title: str
    note: str = ""
    repeats: int = Field(1, ge=1)
    base: dict[str, Any]
    rows: tuple[Row, ...] = Field(min_length=1)
    columns: tuple[Column, ...] = Field(min_length=1)
    transposed: bool = False
    small: Small = Small()

    @model_validator(mode="after")
    def _consistent(self) -> "Experiment":
        names = [row.name for row in self.rows]
        if len(self.columns) > 1 and any(row.place for row in self.rows):
            raise ValueError("rows: place: expected one column in all, got several")
        folders = [slug(name) for name in names]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"rows: {twice}: expected once, got twice")
        if twice := next((name for name in folders if folders.count(name) > 1), None):
            raise ValueError(
                f"rows: expected names that differ in letters and digits of ASCII, got two that make {twice!r}"
            )
        for row in self.rows:
            if unknown := [name for name in (row.ensemble.of if row.ensemble else ()) if name not in names]:
                raise ValueError(f"rows: {row.name}: ensemble: expected names of rows, got {unknown[0]!r}")
            if row.published and len(row.published) != len(self.columns):
                raise ValueError(f"rows: {row.name}: published: expected {len(self.columns)} values")
        return self

    def profile(self, row: Row, repeat: int) -> TrainProfile:
        """The training of a row's repeat.

        Raises:
            ConfigError: a key is wrong; names the row.
        """
        values = merged(merged(self.base, row.set), {"training": {"seed": repeat}})
        return parse(TrainProfile, {"name": slug(row.name)} | values, where=f"experiment {self.name}: {row.name}")


def shipped() -> dict[str, Path]:
    """The experiments that come with artray, by name."""
    folder = Path(str(resources.files("artray.train") / "experiments"))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def load(name: str, overrides: Sequence[str] = (), *, small: bool = False, data: str | None = None) -> Experiment:
    """An experiment by its name, or from a YAML file.

    Args:
        name: one of :func:`shipped`, or a path.
        overrides: ``base.section.key=value``.
        small: the variant for a machine without a GPU.
        data: the folder that its sets' paths are below; None for the current one.

    Raises:
        ConfigError: no such experiment, or a key is wrong.
    """
    loaded = config.load_as(Experiment, name, (), shipped())
    if small:
        less = loaded.small
        changed = {"base": merged(loaded.base, less.base), "repeats": less.repeats, "rows": less.rows or loaded.rows}
        changed |= {"note": " ".join(filter(None, [loaded.note, less.note])), "name": f"{loaded.name}-small"}
        loaded = Experiment.model_validate(loaded.model_dump() | changed)
    values = loaded.model_dump()
    for override in overrides:  # after the small variant, for the user has the last word
        config.override_value(values, override)
    loaded = parse(Experiment, values, where=name)
    root = data or "."
    made = loaded.model_copy(
        update={
            "base": rooted(loaded.base, root),
            "rows": tuple(row.model_copy(update={"set": rooted(row.set, root)}) for row in loaded.rows),
        }
    )
    for row in made.rows:
        if row.ensemble is None:
            _check_columns(made, row, made.profile(row, 0))
    return made


def _check_columns(experiment: Experiment, row: Row, profile: TrainProfile) -> None:
    """Raises ConfigError where a column is none of a row's training."""
    for column in experiment.columns if row.shown else ():
        if column.head not in profile.heads:
            raise ConfigError(
                f"columns: {column.title}: head: expected one of {', '.join(profile.heads)}, got {column.head}"
            )
        _metric(column, [], [], profile.outputs(column.head), profile.heads[column.head].only)


def conduct(experiment: Experiment, out: Location, reporter: Reporter) -> list[Line]:
    """Train every row's repeats that are not done yet, and write the table after each row.

    Raises:
        ConfigError: a profile, a set or the folder cannot be used.
        TransientError: something outside failed; run again to go on.
    """
    lines: list[Line] = []
    ordered = sorted(experiment.rows, key=lambda row: row.ensemble is not None)
    with cluster.connected():
        for row in ordered:
            values: list[list[float]] = [[] for _ in experiment.columns]
            for repeat in range(experiment.repeats):
                reporter.phase(f"{experiment.name}: {row.name}, repeat {repeat + 1} of {experiment.repeats}")
                figures = _figures(experiment, row, repeat, out, reporter)
                if not row.shown:
                    continue
                for column, figure in zip(values, figures, strict=True):
                    column.append(figure)
            lines += [Line(row, values)] if row.shown else []
            printed = sorted(lines, key=lambda line: experiment.rows.index(line.row))
            tables.write(experiment, printed, out)
    return sorted(lines, key=lambda line: experiment.rows.index(line.row))


def _figures(experiment: Experiment, row: Row, repeat: int, out: Location, reporter: Reporter) -> list[float]:
    """A row's figures of one repeat, column by column."""
    if row.ensemble is None:
        folder = RunFolder(out / slug(row.name) / str(repeat))
        run.train(experiment.profile(row, repeat), folder.location, reporter)
        columns = experiment.columns if row.shown else ()
        return [_figure(folder, column, _said(folder, column)) for column in columns]
    folders = [RunFolder(out / slug(name) / str(repeat)) for name in row.ensemble.of]
    return [_combined(folders, row.ensemble.rule, column) for column in experiment.columns]


class Said(NamedTuple):
    """What a model says of a work: the majority of its views, and their mean scores."""

    predicted: int
    scores: list[float]


def _said(folder: RunFolder, column: Column) -> dict[str, Said]:
    """What a training's model says, per work of a column's part."""
    names = folder.profile.outputs(column.head)
    stored = pq.read_table(io.BytesIO((folder.location / "predictions.parquet").read_bytes())).to_pylist()
    return {
        row["work_id"]: Said(names.index(row["predicted"]), row["scores"])
        for row in stored
        if row["part"] == column.part and row["head"] == column.head
    }


def _figure(folder: RunFolder, column: Column, said: Mapping[str, Said]) -> float:
    """A column's metric of a training's own model."""
    profile = folder.profile
    names = profile.outputs(column.head)
    truth = _truth(folder, column, names)
    known = [work for work in said if truth.get(work, UNKNOWN) >= 0]
    predicted = [said[work].predicted for work in known]
    return _metric(column, [truth[work] for work in known], predicted, names, profile.heads[column.head].only)


def _combined(folders: Sequence[RunFolder], rule: str, column: Column) -> float:
    """A column's metric of several models together."""
    first = folders[0].profile
    said = [_said(folder, column) for folder in folders]
    works = [work for work in said[0] if all(work in other for other in said)]
    if rule == "majority":
        names = first.outputs(column.head)
        stacked = np.array([[own[work].scores for own in said] for work in works]).reshape(len(works), len(folders), -1)
        votes = np.array([[own[work].predicted for own in said] for work in works], np.int64)
        predicted = voting.majority(stacked, votes.reshape(len(works), len(folders)))
    else:
        names = tuple(str(folder.profile.heads[column.head].only) for folder in folders)
        positive = np.array([[own[work].scores[1] for own in said] for work in works]).reshape(len(works), len(folders))
        predicted = voting.most_confident(positive)
    truth = _truth(folders[0], column, names)
    known = [number for number, work in enumerate(works) if truth.get(work, UNKNOWN) >= 0]
    told = [truth[works[number]] for number in known]
    return _metric(column, told, [int(predicted[number]) for number in known], names, None)


def _truth(folder: RunFolder, column: Column, names: Sequence[str]) -> dict[str, int]:
    """Per work of a column's part its class among ``names``; with "not X" first, everything else is that."""
    works, found = folder.works, dict[str, int]()
    rest = names[0].startswith("not ")
    for row in rows_of(works, column.part).tolist():
        label, source = works[column.head][row].as_py(), works["source"][row].as_py()
        if label is None or (column.source is not None and source != column.source):
            continue
        found[works["work_id"][row].as_py()] = names.index(label) if label in names else 0 if rest else UNKNOWN
    return found


def _metric(
    column: Column, truth: Sequence[int], predicted: Sequence[int], names: Sequence[str], only: str | None
) -> float:
    matrix = classification.confusion(list(truth), list(predicted), len(names))
    told = classification.named(classification.metrics(matrix), names)
    wanted = column.metric.replace("{only}", only or "")
    if wanted not in told:
        raise ConfigError(f"columns: {column.title}: metric: expected one of {', '.join(told)}, got {wanted!r}")
    return told[wanted]


def merged(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Nested mappings with changes put in; lists and values are replaced.

    >>> merged({"a": {"b": 1, "c": [2]}}, {"a": {"c": [3]}})
    {'a': {'b': 1, 'c': [3]}}
    """
    made = dict(values)
    for key, value in changes.items():
        old = made.get(key)
        made[key] = merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return made


def rooted(values: Mapping[str, Any], root: str) -> dict[str, Any]:
    """The same with the paths of sets below a folder."""
    sources = values.get("data", {}).get("sources")
    if not sources:
        return dict(values)
    placed = [entry | {"path": run.below(root, entry.get("path", ""))} for entry in sources]
    return merged(values, {"data": {"sources": placed}})


def slug(name: str) -> str:
    """A row's name as a folder's.

    >>> slug("Getty, 1/3 of paintings")
    'getty-1-3-of-paintings'
    """
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:60] or "row"
