"""What the labels of other people's data sets are called here: a table per source, every label of it once.

A table ``NAME.csv`` has the columns ``label`` (as the source writes it), ``class_name`` (a class of
:data:`artray.taxonomy.CATEGORY`, or empty: deliberately no class of ours) and ``note`` (why, where that is not
obvious). What is no named class but in a category is its "others", and so is a label too general for one (a bird, that
may be a cock). Food that somebody made is no produce, and a part of a body is no object, faces excepted.

| source         | labels as in                                                                            |
|----------------|-----------------------------------------------------------------------------------------|
| `coco`         | COCO 2014 and 2017                                                                      |
| `open-images`  | Open Images' 601 boxable classes, by today's names and by those of the releases up to 4 |
| `imagenet`     | ImageNet's 1,000 (ILSVRC 2012), named as torchvision names them                         |
| `pascal-voc`   | Pascal VOC 2007 to 2012                                                                 |
| `iconart`      | IconArt of Gonthier et al., the report's source of persons and ruins                    |
| `iconart-299`  | 299 pictures of Christian art that go by IconArt's name, with labels of their own       |
| `photo-art-50` | Photo-Art-50, its folders' names without the number                                     |
| `byzart`       | ByzArt, icons                                                                           |
| `cutouts`      | cut-outs with alpha, to composite training pictures from                                |
"""

import csv
import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Final

from artray.errors import ConfigError
from artray.taxonomy import CATEGORY, coarse

__all__ = ["COLUMNS", "LabelMap", "coarse", "load", "sources"]

COLUMNS: Final = ("label", "class_name", "note")


@dataclass(frozen=True, eq=False)
class LabelMap(Mapping[str, str | None]):
    """A source's labels, in its own order and spelling, to classes of the taxonomy or None.

    A label is found as it is written, or else in any case if only one label is written so but for case.

    Args:
        source: whose labels they are.
        classes: label to class; None where the source's label is no class of ours.
        notes: label to why, for some.
    """

    source: str
    classes: Mapping[str, str | None]
    notes: Mapping[str, str]

    def __post_init__(self) -> None:
        for name in ("classes", "notes"):
            object.__setattr__(self, name, MappingProxyType(dict(getattr(self, name))))

    def __reduce__(self) -> tuple[type["LabelMap"], tuple[str, dict[str, str | None], dict[str, str]]]:
        return LabelMap, (self.source, dict(self.classes), dict(self.notes))

    def __getitem__(self, label: str) -> str | None:
        """The class of a label, or None.

        Raises:
            ConfigError: not a label of the source; ``get`` raises it too, lest a misspelt label drop its boxes unseen.
        """
        return self.classes[self.written(label)]

    def __contains__(self, label: object) -> bool:
        return isinstance(label, str) and (label in self.classes or len(self._spellings.get(label.casefold(), ())) == 1)

    def __iter__(self) -> Iterator[str]:
        return iter(self.classes)

    def __len__(self) -> int:
        return len(self.classes)

    def written(self, label: str) -> str:
        """The label as the source writes it.

        Raises:
            ConfigError: the source has none of that name, or several that differ by case.
        """
        if label in self.classes:
            return label
        spellings = self._spellings.get(label.casefold(), ())
        if len(spellings) == 1:
            return spellings[0]
        near = spellings or [
            self._spellings[name][0] for name in difflib.get_close_matches(label.casefold(), self._spellings)
        ]
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise ConfigError(f"{self.source}: expected one of its {len(self)} labels, got {label!r}{hint}")

    @cached_property
    def _spellings(self) -> dict[str, list[str]]:
        """Label without regard to case, to all labels that are written so."""
        spellings: dict[str, list[str]] = {}
        for label in self.classes:
            spellings.setdefault(label.casefold(), []).append(label)
        return spellings


def sources() -> tuple[str, ...]:
    """The sources that come with artray, sorted."""
    return tuple(sorted(_known()))


def load(source: str) -> LabelMap:
    """The labels of a source of :func:`sources`, or of a table of one's own: the path of a CSV file.

    Raises:
        ConfigError: no such source, or a table that is wrong; it names file and line.

    >>> coco = load("coco")
    >>> coco["boat"], coco["Sheep"], coco["bicycle"]
    ('ship', 'animals (others)', None)
    """
    path = _known().get(source) or Path(source)
    if path.suffix != ".csv":
        raise ConfigError(f"labels: expected one of {', '.join(sources())} or a CSV file, got {source!r}")
    classes: dict[str, str | None] = {}
    notes: dict[str, str] = {}
    for where, row in _rows(path):
        label, class_name, note = (row[column].strip() for column in COLUMNS)
        if not label or label in classes:
            raise ConfigError(f"{where}: label: expected one that no line above has, got {label!r}")
        if class_name and class_name not in CATEGORY:
            raise ConfigError(
                f"{where}: class_name: expected one of {', '.join(CATEGORY)} or nothing, got {class_name!r}"
            )
        classes[label] = class_name or None
        if note:
            notes[label] = note
    return LabelMap(path.stem, classes, notes)


def _known() -> dict[str, Path]:
    folder = Path(str(resources.files(__name__)))
    return {path.stem: path for path in folder.glob("*.csv")}


def _rows(path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Each row of a table, with the file and the line that it ends on."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            table = csv.reader(file, strict=True)
            for cells in filter(None, table):
                where = f"{path}:{table.line_num}"
                if table.line_num == 1 and tuple(cells) != COLUMNS:
                    raise ConfigError(f"{where}: expected the columns {','.join(COLUMNS)}, got {','.join(cells)}")
                if len(cells) != len(COLUMNS):
                    raise ConfigError(
                        f"{where}: expected {len(COLUMNS)} columns, got {len(cells)}; quote a comma's value"
                    )
                if table.line_num > 1:
                    yield where, dict(zip(COLUMNS, cells, strict=True))
    except csv.Error as error:
        raise ConfigError(f"{path}:{table.line_num}: expected a CSV table: {error}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: expected a CSV table in UTF-8: {error}") from error
