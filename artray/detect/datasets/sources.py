"""One set of labelled boxes: what a user says of it."""

import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Final, Literal

from pydantic import Field, field_validator, model_validator

from artray.config import Section
from artray.detect import labels
from artray.detect.labels import LabelMap
from artray.errors import ConfigError
from artray.taxonomy import CATEGORY, coarse

FILES: Final = (".json", ".csv", ".yaml", ".yml")
"""What a path ends with that is a file of labels, not a folder."""


class BoxSource(Section):
    """One set of labelled boxes.

    Args:
        kind: how it is read; see artray.detect.datasets.
        path: its folder or file.
        name: what it is called in tables; null for its kind.
        images: the folder of its pictures, absolute or below that of the labels; null for the kind's own.
        labels: what its labels are called here: a source of artray.detect.labels, a CSV file of that form, or
            {label: class or null}; null where they are artray's classes themselves.
        labelled: the classes of which it boxes every object that is there; null for all that its labels become.
        unknown: what becomes of a label that ``labels`` does not have: an ``error``, or ``drop`` its boxes.
        part: ``train``, ``val`` or ``test`` puts all of its pictures there; null keeps its own parts.
        lists: of kind voc, files that list a part's pictures, where they are not ImageSets/Main/PART.txt.
        first_px: of kind voc, 1 where pixels are counted from 1 and a box's last one is in it, as in Pascal VOC; 0
            where corners are measured from 0, as many tools write them.
        score_min: of kind store, what an object must score to be one, in [0, 1]; null takes all.
        ignore_min: of kind store, in [0, score_min]: objects that score less than score_min, but so much, are neither
            learned nor denied; null knows no such.
        frame: whether boxes refer to the ``upright`` picture or to how it is ``stored``; null for the kind's own way.
        told: what a value says: its name (``file`` is the picture's path) to a regular expression, whose named groups
            become values, such as {file: "/(?P<artist>[^_]+)_"}.
        only: which of its pictures are taken: a value's name to a regular expression that all of the value matches,
            such as {domain: art}. The others are as if they were not in the set.
        group: values of which the first that is not empty says what intervals resample together.
        duplicates: values, likewise, of reproductions of one work.
    """

    kind: str = "csv"
    path: str = Field(min_length=1)
    name: str | None = Field(None, min_length=1)
    images: str | None = Field(None, min_length=1)
    labels: str | dict[str, str | None] | None = None
    labelled: tuple[str, ...] | None = None
    unknown: Literal["error", "drop"] = "error"
    part: Literal["train", "val", "test"] | None = None
    lists: dict[Literal["train", "val", "test"], str] = Field(default_factory=dict)
    first_px: Literal[0, 1] = 1
    score_min: float | None = Field(None, ge=0, le=1)
    ignore_min: float | None = Field(None, ge=0, le=1)
    frame: Literal["upright", "stored"] | None = None
    told: dict[str, str] = Field(default_factory=dict)
    only: dict[str, str] = Field(default_factory=dict)
    group: tuple[str, ...] = ("group", "artist")
    duplicates: tuple[str, ...] = ("duplicates", "duplicate_group")

    @field_validator("told", "only")
    @classmethod
    def _expressions(cls, given: dict[str, str]) -> dict[str, str]:
        for name, pattern in given.items():
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"{name}: expected a regular expression, got {pattern!r} ({error})") from error
        return given

    @field_validator("told")
    @classmethod
    def _groups(cls, told: dict[str, str]) -> dict[str, str]:
        for name, pattern in told.items():
            if not re.compile(pattern).groupindex:
                raise ValueError(f"{name}: expected a group with a name, such as (?P<artist>...), got {pattern!r}")
        return told

    @model_validator(mode="after")
    def _of_the_kind(self) -> "BoxSource":
        if self.lists and self.kind != "voc":
            raise ValueError(f"lists: expected only with the kind voc, got {self.kind}")
        for name in ("score_min", "ignore_min"):
            if getattr(self, name) is not None and self.kind != "store":
                raise ValueError(f"{name}: expected only with the kind store, got {self.kind}")
        if self.ignore_min is not None and self.ignore_min > (self.score_min or 0.0):
            raise ValueError(f"ignore_min: expected at most score_min, {self.score_min}, got {self.ignore_min}")
        return self

    @property
    def title(self) -> str:
        """What it is called."""
        return self.name or self.kind

    @property
    def is_file(self) -> bool:
        """Whether the path is a file of labels."""
        return PurePosixPath(self.path.lower()).suffix in FILES

    def label_map(self) -> LabelMap:
        """What its labels are called here.

        Raises:
            ConfigError: no such table, or a class that the taxonomy does not have; lists near names.
        """
        if isinstance(self.labels, str):
            return labels.load(self.labels)
        given: Mapping[str, str | None] = {name: name for name in CATEGORY} if self.labels is None else self.labels
        for label, class_name in given.items():
            _check(class_name, f"{self.title}: labels: {label}")
        return LabelMap(self.title, given, {})

    def without(self, category: str) -> "BoxSource":
        """The same, but that labels of a category's classes are no class of ours, and none of them is denied.

        Raises:
            ConfigError: as of :meth:`label_map` and :meth:`classes`.
        """
        known = self.label_map()
        kept = {label: None if name and coarse(name) == category else name for label, name in known.classes.items()}
        labelled = self.labelled and tuple(name for name in self.classes(known) if coarse(name) != category)
        return self.model_copy(update={"labels": kept, "labelled": labelled})

    def classes(self, found: LabelMap) -> tuple[str, ...]:
        """The classes that it labels exhaustively, in the taxonomy's order.

        Raises:
            ConfigError: ``labelled`` names a class that the taxonomy does not have.
        """
        for class_name in self.labelled or ():
            _check(class_name, f"{self.title}: labelled")
        named = set(found.classes.values() if self.labelled is None else self.labelled)
        return tuple(name for name in CATEGORY if name in named)

    def values(self, file: str, given: Mapping[str, str]) -> dict[str, str]:
        """A picture's values, and what they say by :attr:`told`."""
        values = dict(given) | {"file": file}
        for name, pattern in self.told.items():
            if found := re.search(pattern, values.get(name, "")):
                values |= {key: value for key, value in found.groupdict().items() if value}
        return values

    def takes(self, values: Mapping[str, str]) -> bool:
        """Whether a picture with these values is one of :attr:`only`.

        >>> BoxSource(path="/set", only={"class": "horse|cow"}).takes({"class": "seahorse"})
        False
        """
        return all(re.fullmatch(pattern, values.get(name, "")) for name, pattern in self.only.items())


def _check(class_name: str | None, where: str) -> None:
    try:
        if class_name is not None:
            coarse(class_name)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error
