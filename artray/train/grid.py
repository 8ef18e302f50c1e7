"""Grids: trainings with repeats, whose table stands beside the published one; what is trained is a subclass's.

RUN/ROW/REPEAT/    a training's folder each; what is done there is not done again
RUN/table.md       the table, with the published figures in columns of their own
RUN/table.csv      the same for programs
RUN/repeats.csv    every repeat
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field, model_validator

from artray.config import Section
from artray.location import Location
from artray.pipeline import cluster
from artray.pipeline.progress import Reporter
from artray.train import run, tables
from artray.train.tables import Line


class Combined(Section):
    """A row that combines other rows' models, repeat by repeat.

    Args:
        of: the rows' names.
    """

    of: tuple[str, ...] = Field(min_length=1)


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
    ensemble: Combined | None = None
    published: tuple[str | None, ...] = ()


class Column(Section):
    """One figure of every line.

    Args:
        title: as the report prints it.
    """

    title: str


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


class Grid(Section, ABC):
    """A table of the report, or one like it.

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
    def _consistent(self) -> "Grid":
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
        single = {row.name for row in self.rows if row.ensemble is None}
        for row in self.rows:
            members = row.ensemble.of if row.ensemble else ()
            if unknown := [name for name in members if name not in single]:
                raise ValueError(
                    f"rows: {row.name}: ensemble: expected names of rows that are no ensembles, got {unknown[0]!r}"
                )
            if twice := next((name for name in members if members.count(name) > 1), None):
                raise ValueError(f"rows: {row.name}: ensemble: expected every row once, got {twice!r} twice")
            if row.ensemble and row.set:
                raise ValueError(f"rows: {row.name}: expected either set or ensemble, got both")
            if row.published and len(row.published) != len(self.columns):
                raise ValueError(f"rows: {row.name}: published: expected {len(self.columns)} values")
        return self

    @abstractmethod
    def check(self) -> None:
        """Make sure that every row can be trained, and has every column.

        Raises:
            ConfigError: names the key of the first that has not.
        """

    @abstractmethod
    def trained(self, row: Row, repeat: int, folder: Location, reporter: Reporter) -> list[float]:
        """Train a row's repeat, if it is not done yet; its figures, column by column."""

    @abstractmethod
    def combined(self, row: Row, folders: Mapping[str, Location]) -> list[float]:
        """The figures of an ensemble of one repeat of other rows, whose trainings are in these folders, by name."""

    @classmethod
    def rooted(cls, values: Mapping[str, Any], root: str) -> dict[str, Any]:
        """A profile's values, which may still be wrong, with the paths of its sets below a folder."""
        data = values.get("data")
        if not isinstance(data, Mapping):
            return dict(values)
        placed: dict[str, Any] = {"cache": run.below(".", data["cache"])} if isinstance(data.get("cache"), str) else {}
        if isinstance(sources := data.get("sources"), Sequence):
            placed["sources"] = [
                entry | {"path": run.below(root, str(entry.get("path", "")))} if isinstance(entry, dict) else entry
                for entry in sources
            ]
        return merged(values, {"data": placed})

    def values(self, row: Row, repeat: int) -> dict[str, Any]:
        """The values of the profile of a row's repeat."""
        return {"name": slug(row.name)} | merged(merged(self.base, row.set), {"training": {"seed": repeat}})


def conduct(grid: Grid, out: Location, reporter: Reporter) -> list[Line]:
    """Train every row's repeats that are not done yet, and write the table after each row.

    Raises:
        ConfigError: a profile, a set or the folder cannot be used.
        TransientError: something outside failed; run again to go on.
    """
    lines: list[Line] = []
    ordered = sorted(grid.rows, key=lambda row: row.ensemble is not None)
    with cluster.connected():
        for row in ordered:
            values: list[list[float]] = [[] for _ in grid.columns]
            for repeat in range(grid.repeats):
                reporter.phase(f"{grid.name}: {row.name}, repeat {repeat + 1} of {grid.repeats}")
                figures = _figures(grid, row, repeat, out, reporter)
                for column, figure in zip(values, figures, strict=True) if row.shown else ():
                    column.append(figure)
            lines += [Line(row, values)] if row.shown else []
            lines.sort(key=lambda line: grid.rows.index(line.row))
            tables.write(grid, lines, out)
    return lines


def _figures(grid: Grid, row: Row, repeat: int, out: Location, reporter: Reporter) -> list[float]:
    """A row's figures of one repeat, column by column."""
    if row.ensemble is None:
        return grid.trained(row, repeat, out / slug(row.name) / str(repeat), reporter)
    return grid.combined(row, {name: out / slug(name) / str(repeat) for name in row.ensemble.of})


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


def slug(name: str) -> str:
    """A row's name as a folder's.

    >>> slug("Getty, 1/3 of paintings")
    'getty-1-3-of-paintings'
    """
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:60] or "row"
