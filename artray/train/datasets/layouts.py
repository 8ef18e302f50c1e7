"""How a publisher lays out a set of labelled works: a YAML file each, read into a frozen model."""

from importlib import resources
from pathlib import Path
from typing import Literal

from pydantic import Field

from artray.config import Section, parse, read_yaml
from artray.errors import ConfigError


class Labels(Section):
    """Where a label stands, and what it is called here.

    Args:
        columns: whose value is the label; the first that is not empty.
        map: the publisher's label, in lower case, to artray's; null and what is missing have no label.
        always: every work's label.
    """

    columns: tuple[str, ...] = ()
    map: dict[str, str | None] | None = None
    always: str | None = None


class Layout(Section):
    """One publisher's layout.

    Args:
        title: what the set is called, and who publishes it.
        url: where it is described.
        reader: ``table`` (delimited text with a header), ``folders`` (a folder per label), or a reader of its own.
        tables: of a table, names below the set's path, with the part that each is; one file may be the path itself.
        delimiter: between columns.
        encoding: of the table.
        columns: of a table without a header.
        file: the picture's path below the set's path, with {COLUMN} for a column's value.
        rename: a regular expression and what it is replaced by, in that path.
        type: labels of types.
        genre: labels of genres.
        group: columns of which the first that is not empty says what intervals resample together.
        duplicates: columns, likewise, of reproductions of one work.
        part: columns, likewise, of train, val and test.
        where: a work is taken if every one of these columns has this value, in any case.
        report: works per class in the report's Tables 1 and 2.
        note: what a user should know.
    """

    title: str
    url: str = ""
    reader: Literal["table", "folders", "corrections", "iconclass", "rijksmuseum"] = "table"
    tables: dict[str, Literal["train", "val", "test"] | None] = Field(default_factory=dict)
    delimiter: str = Field(",", min_length=1, max_length=1)
    encoding: str = "utf-8-sig"
    columns: tuple[str, ...] = ()
    file: str = "{file}"
    rename: tuple[str, str] | None = None
    type: Labels = Labels()
    genre: Labels = Labels()
    group: tuple[str, ...] = ()
    duplicates: tuple[str, ...] = ()
    part: tuple[str, ...] = ()
    where: dict[str, str] = Field(default_factory=dict)
    report: dict[str, int] = Field(default_factory=dict)
    note: str = ""


def known() -> dict[str, Path]:
    """The layouts that come with artray, by name."""
    folder = Path(str(resources.files("artray.train.datasets") / "layouts"))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def load(kind: str) -> Layout:
    """A layout by its name, or from a YAML file.

    Raises:
        ConfigError: no such layout, or one that is wrong.
    """
    path = known().get(kind) or Path(kind)
    if path.suffix not in (".yaml", ".yml"):
        raise ConfigError(f"data.sources: kind: expected one of {', '.join(known())} or a YAML file, got {kind!r}")
    return parse(Layout, read_yaml(path, what="layout"), where=f"layout {kind}")
