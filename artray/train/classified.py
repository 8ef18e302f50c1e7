"""Grids of classifiers: what is measured of a training's works, and how other rows' models vote together."""

import io
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
import pyarrow.parquet as pq
from pydantic import Field

from artray.config import parse
from artray.errors import ConfigError
from artray.location import Location
from artray.metrics import classification
from artray.pipeline.progress import Reporter
from artray.train import grid, run, voting
from artray.train.profile import Task, TrainProfile
from artray.train.rundir import RunFolder
from artray.train.works import UNKNOWN, rows_of


class Ensemble(grid.Combined):
    """Other rows' classifiers vote.

    Args:
        rule: ``majority`` of models of the same classes, or ``most_confident`` of one-versus-the-rest models.
        of: the rows' names.
    """

    rule: Literal["majority", "most_confident"]
    of: tuple[str, ...] = Field(min_length=2)


class Row(grid.Row):
    """One line of the table; see :class:`artray.train.grid.Row`."""

    ensemble: Ensemble | None = None


class Column(grid.Column):
    """One figure of every line.

    Args:
        title: as the report prints it.
        part: what it is measured on.
        head: of which head.
        metric: which metric of artray.metrics.classification.named; {only} stands for the row's one class.
        source: only works of this set, such as one that is held out whole; null for all.
    """

    part: Literal["val", "test"]
    head: Task
    metric: str
    source: str | None = None


class Small(grid.Small):
    """What is changed for a machine without a GPU; see :class:`artray.train.grid.Small`."""

    rows: tuple[Row, ...] | None = None


class ClassifierGrid(grid.Grid):
    """A table of trainings of classifiers; see :class:`artray.train.grid.Grid`."""

    rows: tuple[Row, ...] = Field(min_length=1)
    columns: tuple[Column, ...] = Field(min_length=1)
    small: Small = Small()

    def profile(self, row: grid.Row, repeat: int) -> TrainProfile:
        """The training of a row's repeat.

        Raises:
            ConfigError: a key is wrong; names the row.
        """
        return parse(TrainProfile, self.values(row, repeat), where=f"experiment {self.name}: {row.name}")

    def check(self) -> None:
        """Raises ConfigError where a row's profile is wrong, or a column is none of its training."""
        for row in self.rows:
            if row.ensemble is not None:
                continue
            profile = self.profile(row, 0)
            for column in self.columns if row.shown else ():
                if column.head not in profile.heads:
                    raise ConfigError(
                        f"columns: {column.title}: head: expected one of {', '.join(profile.heads)}, got {column.head}"
                    )
                _metric(column, [], [], profile.outputs(column.head), profile.heads[column.head].only)

    def trained(self, row: grid.Row, repeat: int, folder: Location, reporter: Reporter) -> list[float]:
        """A row's own model, by the majority of its views."""
        run.train(self.profile(row, repeat), folder, reporter)
        done = RunFolder(folder)
        return [_figure(done, column, _said(done, column)) for column in self.columns] if row.shown else []

    def combined(self, row: grid.Row, folders: Mapping[str, Location]) -> list[float]:
        """Other rows' models together."""
        assert isinstance(row, Row)
        assert row.ensemble is not None
        members = [RunFolder(folder) for folder in folders.values()]
        return [_combined(members, row.ensemble.rule, column) for column in self.columns]


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
