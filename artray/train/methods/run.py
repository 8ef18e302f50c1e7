"""Train a retrieval method: pictures in, a model card with its weights out; interrupted, it goes on where it was."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from artray import config
from artray.errors import ConfigError
from artray.location import Location
from artray.pipeline.progress import Reporter
from artray.train import run
from artray.train.methods.folder import KIND, MethodFolder
from artray.train.methods.learner import LEARNERS
from artray.train.methods.profile import MethodProfile, WhiteningConfig
from artray.train.run import Found
from artray.train.works import PARTS, rows_of


def load(profile: str | Path, overrides: Sequence[str] = (), data: str | None = None) -> MethodProfile:
    """A retrieval method's training's profile from a YAML file, or one of artray's.

    Args:
        profile: its file or name.
        overrides: ``section.key=value``.
        data: the folder that its sets' paths are below; None for the file's own, of a shipped one the current folder.

    Raises:
        ConfigError: it cannot be read, or a key is wrong.
    """
    found = config.load_as(MethodProfile, profile, overrides, run.shipped())
    anchor = run.anchor_of(profile)
    return _anchored(run.located(found, anchor, data or anchor), anchor)


def _anchored(profile: MethodProfile, anchor: str) -> MethodProfile:
    """A profile that names a card's file below ``anchor`` by a path that holds in every folder."""
    method = profile.method
    if not isinstance(method, WhiteningConfig) or not method.card.endswith((".yaml", ".yml")):
        return profile
    return profile.model_copy(update={"method": method.model_copy(update={"card": run.below(anchor, method.card)})})


def told(found: Found) -> dict[str, Any]:
    """What the sets hold, to be shown: per set how many pictures, and what cannot be used."""
    sources = found.works["source"].to_pylist()
    counts = {entry["set"]: {"pictures": {"in all": sources.count(entry["set"])}} for entry in found.sets}
    sets = [entry | {"counts": counts[entry["set"]], "report": {}} for entry in found.sets]
    return {"works": found.works.num_rows, "sets": sets, "left_out": found.left_out}


def train(profile: MethodProfile, out: Location, reporter: Reporter) -> dict[str, Any]:
    """Train in a folder, from the start or from where an earlier run was interrupted.

    Args:
        profile: what to train, with what.
        out: the training's folder, on storage that all workers reach.
        reporter: is told how far it is.

    Returns:
        What is in RUN/result.json, and ``folder``.

    Raises:
        ConfigError: the profile, the data or the folder cannot be used.
        TransientError: something outside failed; run again to go on.
    """
    folder = MethodFolder(out)
    learner = LEARNERS.get(profile.method.name)
    if learner is not None:
        learner.check(profile.method)
    phase = f"learning {profile.method.name}" if learner is not None else None
    return run.conduct(folder, profile, reporter, lambda: _begin(folder, profile, reporter), phase, KIND)


def _begin(folder: MethodFolder, profile: MethodProfile, reporter: Reporter) -> None:
    """List the pictures, prepare them, split them, and write it all down."""
    reporter.phase("listing pictures")
    found = run.read(profile)
    works, left_out = run.usable(found, run.prepared(found.works, profile, reporter), profile)
    for line in run.summary(left_out):
        reporter.note(line)
    check(works, profile)
    counts = ", ".join(f"{len(rows_of(works, part)):,} to {doing}" for part, doing in zip(PARTS, DOING, strict=True))
    reporter.note(f"pictures: {counts}")
    folder.begin_pictures(profile, works, left_out)


DOING = ("learn from", "validate", "test")
"""What each part of the pictures is for."""


def check(works: pa.Table, profile: MethodProfile) -> None:
    """Make sure that there is something to learn from, and something to choose the epoch by.

    Raises:
        ConfigError: there is not; says what is there.
    """
    train, val = (len(rows_of(works, part)) for part in ("train", "val"))
    if train < 2 * profile.workers.workers:
        raise ConfigError(
            f"data.sources: expected two pictures to learn from for each of {profile.workers.workers} workers at "
            f"least, got {train} in all"
        )
    if not val and profile.method.name not in LEARNERS:
        raise ConfigError(
            f"data.val: expected pictures to choose the epoch by, got none of {train:,}; raise data.val, or give the "
            "works of your sets a split"
        )
