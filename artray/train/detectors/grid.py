"""Grids of detectors: what is measured of their pictures, and how other rows' boxes are fused.

Where a table compares ways of fusing, its members are trained once: an ensemble of one row applies rules to it alone.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from pydantic import Field

from artray.config import FuseConfig, parse
from artray.detect.ensemble import CLASSES, Ensemble, Member
from artray.detect.found import Found, joined, parted
from artray.errors import ConfigError
from artray.location import Location
from artray.models import cards
from artray.pipeline.progress import Reporter
from artray.taxonomy import CATEGORY, coarse
from artray.train import grid
from artray.train.detectors import given, judging, learners, run
from artray.train.detectors.folder import DetectorFolder
from artray.train.detectors.labels import Labels
from artray.train.detectors.profile import DetectorProfile
from artray.train.grid import merged
from artray.train.run import below
from artray.train.works import Ints


class Fusion(grid.Combined):
    """Other rows' boxes become one answer, as in the pipeline.

    Args:
        of: the rows' names.
        fuse: as a profile's section ``detect.fuse``; its members are called like their rows.
    """

    fuse: FuseConfig = FuseConfig()


class Row(grid.Row):
    """One line of the table; see :class:`artray.train.grid.Row`.

    Args:
        trained: false judges the detector of ``set.detector.card`` as it is, whatever its architecture.
    """

    trained: bool = True
    ensemble: Fusion | None = None


class Column(grid.Column):
    """One figure of every line: a mean over classes that have boxes.

    Args:
        title: as the report prints it.
        part: what it is measured on.
        metric: AP at an IoU of 0.5, of 0.75, or the mean from 0.5 to 0.95.
        category: classes of this category alone.
        class_name: this class alone.
        coarse: classes count as their categories (Table 6).
        source: only pictures of this set; null for all.
    """

    part: Literal["val", "test"] = "test"
    metric: Literal["ap50", "ap75", "ap"] = "ap50"
    category: str | None = None
    class_name: str | None = None
    coarse: bool = False
    source: str | None = None


class Small(grid.Small):
    """What is changed for a machine without a GPU; see :class:`artray.train.grid.Small`."""

    rows: tuple[Row, ...] | None = None


class DetectorGrid(grid.Grid):
    """A table of trainings of detectors; see :class:`artray.train.grid.Grid`."""

    rows: tuple[Row, ...] = Field(min_length=1)
    columns: tuple[Column, ...] = Field(min_length=1)
    small: Small = Small()

    @classmethod
    def rooted(cls, values: Mapping[str, Any], root: str) -> dict[str, Any]:
        """A profile's values with the paths of its sets and cut-outs below a folder."""
        made = super().rooted(values, root)
        paste = made.get("augment", {}).get("paste")
        if not paste:
            return made
        placed = {"cutouts": below(root, paste["cutouts"])} if "cutouts" in paste else {}
        if str(paste.get("labels", "")).endswith(".csv"):
            placed["labels"] = below(root, paste["labels"])
        return merged(made, {"augment": {"paste": placed}})

    def profile(self, row: grid.Row, repeat: int) -> DetectorProfile:
        """The training of a row's repeat.

        Raises:
            ConfigError: a key is wrong; names the row.
        """
        return parse(DetectorProfile, self.values(row, repeat), where=f"experiment {self.name}: {row.name}")

    def check(self) -> None:
        """Raises ConfigError where a row's profile is wrong, or a column is of what no row can have."""
        titles: set[str] = set()
        for row in self.rows:
            if row.ensemble is None:
                profile = self.profile(row, 0)
                titles |= {source.title for source in profile.data.sources}
                if row.trained:
                    learners.check(profile, cards.load(profile.detector.card))
            else:
                members = [Member(name, CLASSES) for name in row.ensemble.of]
                Ensemble(row.ensemble.fuse, members)
        for column in self.columns:
            if column.source is not None and column.source not in titles:
                raise ConfigError(
                    f"columns: {column.title}: source: expected one of {', '.join(sorted(titles))}, got {column.source}"
                )
            if column.category not in (None, *CATEGORY.values()):
                names = ", ".join(dict.fromkeys(CATEGORY.values()))
                raise ConfigError(f"columns: {column.title}: category: expected one of {names}, got {column.category}")
            if column.class_name is not None and (column.class_name not in CATEGORY or column.coarse):
                raise ConfigError(
                    f"columns: {column.title}: class_name: expected a class of the taxonomy, not coarse, got "
                    f"{column.class_name!r}"
                )

    def trained(self, row: grid.Row, repeat: int, folder: Location, reporter: Reporter) -> list[float]:
        """A row's own detector, or the one that it names as it is."""
        assert isinstance(row, Row)
        profile, done = self.profile(row, repeat), DetectorFolder(folder)
        judged = run.train if row.trained else given.judge
        judged(profile, folder, reporter)
        if not row.shown:
            return []
        known, rows = done.labels(), done.rows()
        return [
            figure(column, known, rows[column.part], done.predictions(column.part, known.class_names))
            for column in self.columns
        ]

    def combined(self, row: grid.Row, folders: Mapping[str, Location]) -> list[float]:
        """Other rows' boxes, fused."""
        assert isinstance(row, Row)
        assert row.ensemble is not None
        members = {name: DetectorFolder(folder) for name, folder in folders.items()}
        first = _of_one_set(self.name, row.name, members)
        names = {name: member.class_names for name, member in members.items()}
        every = tuple(name for name in CLASSES if any(name in own for own in names.values()))
        known, rows = first.labels(every), first.rows()
        ensemble = Ensemble(row.ensemble.fuse, [Member(name, own) for name, own in names.items()])
        fused: dict[str, list[Found]] = {}
        for part in {column.part for column in self.columns}:
            answers = [member.predictions(part, names[name]) for name, member in members.items()]
            sizes_wh = [(int(width), int(height)) for width, height in known.sizes_wh[rows[part]]]
            fused[part] = _called([one.found for one in ensemble(answers, sizes_wh)], every)
        return [figure(column, known, rows[column.part], fused[column.part]) for column in self.columns]


def figure(column: Column, known: Labels, rows: Ints, found: Sequence[Found]) -> float:
    """A column's mean over the classes that have boxes; NaN where none has.

    Args:
        column: which figure.
        known: of all pictures.
        rows: int64[M]: those of the column's part.
        found: M answers, whose class ids index the labels' classes.
    """
    chosen = [at for at, row in enumerate(rows.tolist()) if column.source in (None, known.sources[row])]
    if not chosen:
        return float("nan")
    judge = judging.coarsely if column.coarse else judging.finely
    told = judge(known, rows[chosen], [found[at] for at in chosen])
    names = dict.fromkeys(CATEGORY.values()) if column.coarse else known.class_names
    wanted = [
        name
        for name in names
        if column.category in (None, name if column.coarse else coarse(name)) and column.class_name in (None, name)
    ]
    values = [value for name in wanted if (value := told.get(f"{column.metric} {name}", -1.0)) >= 0]
    return float(np.mean(values)) if values else float("nan")


def _called(found: Sequence[Found], names: Sequence[str]) -> list[Found]:
    """The same boxes, whose class ids indexed CLASSES, of some of its names."""
    places, table = joined(found)
    ids = np.array([names.index(name) if name in names else -1 for name in CLASSES], np.int64)[table.class_ids]
    return parted(places[ids >= 0], table._replace(class_ids=ids).at(ids >= 0), len(found))


def _of_one_set(experiment: str, row: str, members: Mapping[str, DetectorFolder]) -> DetectorFolder:
    """The folder whose pictures are those of all."""
    (name, first), *others = members.items()
    for other, folder in others:
        if folder.made["data_sha256"] != first.made["data_sha256"]:
            raise ConfigError(
                f"experiment {experiment}: {row}: ensemble: expected rows with the same pictures, boxes and parts, got "
                f"others in {other} than in {name}"
            )
    return first
