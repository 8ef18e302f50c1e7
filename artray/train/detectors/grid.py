"""Grids of detectors: what is measured of their pictures, and how other rows' boxes are fused.

Where a table compares ways of fusing, its members are trained once: an ensemble of one row applies rules to it alone.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal, NoReturn

import numpy as np
from pydantic import Field

from artray.config import FuseConfig, parse
from artray.detect.ensemble import CLASSES, Ensemble, Member
from artray.detect.found import Found, joined, parted
from artray.errors import ConfigError
from artray.location import Location
from artray.models import cards, registry
from artray.pipeline.progress import Reporter
from artray.taxonomy import CATEGORY, coarse
from artray.train import grid
from artray.train.detectors import given, judging, labels, learners, run
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

    def check(self, titles: Collection[str]) -> None:
        """Raises ConfigError where it is of what no row of sets with these titles can have."""
        if self.source is not None and self.source not in titles:
            self._wrong("source", ", ".join(sorted(titles)), self.source)
        if self.category not in (None, *CATEGORY.values()):
            self._wrong("category", ", ".join(dict.fromkeys(CATEGORY.values())), str(self.category))
        if self.class_name is not None:
            of_category = [name for name in CATEGORY if self.category in (None, coarse(name))]
            if self.coarse or self.class_name not in of_category:
                self._wrong("class_name", f"{', '.join(of_category)}; not coarse", self.class_name)

    def _wrong(self, key: str, known: str, got: str) -> NoReturn:
        raise ConfigError(f"columns: {self.title}: {key}: expected one of {known}, got {got!r}")


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
        augment = made.get("augment")
        paste = augment.get("paste") if isinstance(augment, Mapping) else None
        if not isinstance(paste, Mapping):
            return made
        placed = {"cutouts": below(root, str(paste["cutouts"]))} if "cutouts" in paste else {}
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
        """Raises ConfigError where a row cannot be trained, judged or fused, or a column is of what no row can have."""
        titles: set[str] = set()
        for row in self.rows:
            try:
                titles |= self._checked(row)
            except ConfigError as error:
                where = f"experiment {self.name}: {row.name}: "
                raise ConfigError(where + str(error).removeprefix(where)) from error
        for column in self.columns:
            column.check(titles)

    def _checked(self, row: Row) -> set[str]:
        """The titles of a row's sets."""
        if row.ensemble is not None:
            if not row.trained:
                raise ConfigError("expected either trained: false or ensemble, got both")
            try:
                Ensemble(row.ensemble.fuse, [Member(name, CLASSES) for name in row.ensemble.of])
            except ConfigError as error:
                text = str(error).removeprefix("detect.fuse.").replace("cards of detect.cards", "rows of ensemble.of")
                raise ConfigError(f"ensemble.fuse.{text}") from error
            return set()
        profile = self.profile(row, 0)
        card = cards.load(profile.detector.card)
        if row.trained:
            learners.check(profile, card)
        elif card.task == "detect":
            registry.check_architecture(card)
        else:
            raise ConfigError(f"detector.card: expected a detector's, got {card.name}")
        return {source.title for source in profile.data.sources}

    def trained(self, row: grid.Row, repeat: int, folder: Location, reporter: Reporter) -> list[float]:
        """A row's own detector, or the one that it names as it is."""
        assert isinstance(row, Row)
        profile, done = self.profile(row, repeat), DetectorFolder(folder)
        judged = run.train if row.trained else given.judge
        judged(profile, folder, reporter)
        if not row.shown:
            return []
        known, rows = done.labels(judged_classes([done])), done.rows()
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
        known, rows = first.labels(judged_classes([*members.values()])), first.rows()
        names = {name: member.class_names for name, member in members.items()}
        ensemble = Ensemble(row.ensemble.fuse, [Member(name, own) for name, own in names.items()])
        fused: dict[str, list[Found]] = {}
        for part in {column.part for column in self.columns}:
            answers = [member.predictions(part, names[name]) for name, member in members.items()]
            sizes_wh = [(int(width), int(height)) for width, height in known.sizes_wh[rows[part]]]
            fused[part] = _called([one.found for one in ensemble(answers, sizes_wh)], known.class_names)
        return [figure(column, known, rows[column.part], fused[column.part]) for column in self.columns]


def judged_classes(members: Sequence[DetectorFolder]) -> tuple[str, ...]:
    """What finished folders, alone or fused, are judged on; see artray.train.detectors.labels.judged_classes."""
    wanted = [member.detector_profile.classes for member in members]
    found = [name for member in members for name in member.class_names]
    return labels.judged_classes(members[0].boxes, wanted, found)


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
