"""Experiments: the report's tables as grids of trainings, those that come with artray and anybody's own."""

from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from artray import config
from artray.config import parse
from artray.train.classified import ClassifierGrid
from artray.train.detectors.grid import DetectorGrid
from artray.train.grid import Grid, merged


def shipped() -> dict[str, Path]:
    """The experiments that come with artray, by name."""
    folder = Path(str(resources.files("artray.train") / "experiments"))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def load(name: str, overrides: Sequence[str] = (), *, small: bool = False, data: str | None = None) -> Grid:
    """An experiment by its name, or from a YAML file; of detectors if its base has a section of that name.

    Args:
        name: one of :func:`shipped`, or a path.
        overrides: ``base.section.key=value``.
        small: the variant for a machine without a GPU.
        data: the folder that its sets' paths are below; None for the current one.

    Raises:
        ConfigError: no such experiment, or a key is wrong.
    """
    known = shipped()
    written = config.read_yaml(known.get(name) or Path(name), what="profile", known=known)
    base = written.get("base")
    kind: type[Grid] = DetectorGrid if isinstance(base, dict) and "detector" in base else ClassifierGrid
    loaded = parse(kind, written, where=name)
    if small:
        less = loaded.small
        changed = {"base": merged(loaded.base, less.base), "repeats": less.repeats, "rows": less.rows or loaded.rows}
        changed |= {"note": " ".join(filter(None, [loaded.note, less.note])), "name": f"{loaded.name}-small"}
        loaded = kind.model_validate(loaded.model_dump() | changed)
    values = loaded.model_dump()
    for override in overrides:  # after the small variant, for the user has the last word
        config.override_value(values, override)
    loaded = parse(kind, values, where=name)
    root = data or "."
    made = loaded.model_copy(
        update={
            "base": kind.rooted(loaded.base, root),
            "rows": tuple(row.model_copy(update={"set": kind.rooted(row.set, root)}) for row in loaded.rows),
        }
    )
    made.check()
    return made
