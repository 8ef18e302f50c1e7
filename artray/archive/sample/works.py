"""The pictures that come with artray, and what is known of them: ``works.csv`` and ``images/``."""

import csv
from importlib import resources
from pathlib import Path
from typing import Final, NamedTuple

FOLDER: Final = Path(str(resources.files("artray.archive.sample")))
"""Where ``works.csv`` and ``images/`` lie."""


class Work(NamedTuple):
    """One shipped picture; every field is text, "" where it is not known."""

    file: str  # its name in images/
    title: str
    artist: str
    year: str
    type: str  # painting, drawing or print
    genre: str  # one of taxonomy.GENRES, or ""
    licence: str
    source: str  # the Debian source package that it was taken from
    note: str

    @property
    def path(self) -> Path:
        """The picture itself."""
        return FOLDER / "images" / self.file

    @property
    def stem(self) -> str:
        """The file's name without its suffix."""
        return Path(self.file).stem


def shipped() -> tuple[Work, ...]:
    """Every shipped picture, in an order in which the first few already show every kind."""
    with (FOLDER / "works.csv").open(encoding="utf-8", newline="") as file:
        return tuple(Work(**row) for row in csv.DictReader(file))
