"""Train a detector: labelled boxes in, a model card with its weights out; interrupted, it goes on where it was."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from artray import config
from artray.detect.datasets import reading, splitting, tables
from artray.detect.datasets.tables import Labelled
from artray.errors import ConfigError
from artray.location import Location
from artray.models import cards
from artray.pipeline.progress import Reporter
from artray.train import run
from artray.train.detectors import learners, plan
from artray.train.detectors.cutouts import CutOuts
from artray.train.detectors.folder import DetectorFolder, parts_of
from artray.train.detectors.labels import Labels, arrays, class_names
from artray.train.detectors.plan import Floats
from artray.train.detectors.profile import DetectorProfile
from artray.train.works import Ints


def load(profile: str | Path, overrides: Sequence[str] = (), data: str | None = None) -> DetectorProfile:
    """A detector's training's profile from a YAML file, or one of artray's.

    Args:
        profile: its file or name.
        overrides: ``section.key=value``.
        data: the folder that its sets' paths are below; None for the file's own, of a shipped one the current folder.

    Raises:
        ConfigError: it cannot be read, or a key is wrong.
    """
    found = config.load_as(DetectorProfile, profile, overrides, run.shipped())
    anchor = run.anchor_of(profile)
    root = data or anchor
    placed = run.located(found, anchor, root)
    paste = placed.augment.paste
    if paste is None:
        return placed
    labels = {"labels": run.below(root, paste.labels)} if paste.labels.endswith(".csv") else {}
    there = paste.model_copy(update={"cutouts": run.below(root, paste.cutouts)} | labels)
    return placed.model_copy(update={"augment": placed.augment.model_copy(update={"paste": there})})


def read(profile: DetectorProfile) -> Labelled:
    """The pictures and boxes of all sets, each picture once.

    Raises:
        ConfigError: a set cannot be read, or none has a box of the profile's classes.
    """
    found = tables.merged([reading.read(source) for source in profile.data.learned()])
    wanted = set(profile.classes or ())
    there = {name for name in found.boxes["class_name"].to_pylist() if name}
    if not there or (wanted and not wanted & there):
        first = f"; the first thing wrong: {found.left_out[0]}" if found.left_out else ""
        names = ", ".join(profile.classes or ()) or "artray's classes"
        raise ConfigError(f"data.sources: expected boxes of {names}, found none{first}")
    return found


def told(found: Labelled) -> dict[str, Any]:
    """What the sets hold, to be shown: per set and class the boxes that were published and those that can be used."""
    sets = [
        {"set": title, "title": f"{listed:,} images listed", "note": "", "report": {}}
        | {"counts": {"objects": {name: count.kept for name, count in tables.counts(found, title).items()}}}
        for title, listed in found.listed
    ]
    return {"works": found.images.num_rows, "sets": sets, "left_out": list(found.left_out)}


def train(profile: DetectorProfile, out: Location, reporter: Reporter) -> dict[str, Any]:
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
    card = cards.load(profile.detector.card)
    learners.check(profile, card)
    folder = DetectorFolder(out)
    return run.conduct(folder, profile, reporter, lambda: begin(folder, profile, card, reporter))


def begin(
    folder: DetectorFolder, profile: DetectorProfile, card: cards.Card, reporter: Reporter, kind: str = "detector"
) -> None:
    """Read the boxes, prepare the pictures, split them, and write it all down; see :attr:`RunFolder.kind`."""
    reporter.phase("reading boxes")
    found = read(profile)
    pasted = cut_outs(profile, found)
    for line in tables.told(found):
        reporter.note(line)
    data = profile.data
    works = found.images.select(["uri", "version"]).add_column(0, "work_id", found.images["image_id"])
    found, looks = splitting.look(found, run.prepared(works, profile, reporter), data.mirrored)
    split = splitting.split(
        found, looks if data.near_bits is not None else None, data.val, data.test, data.near_bits or 0
    )
    left_out = [*split.found.left_out, *split.found.mended, *pasted]
    for line in run.summary(left_out):
        reporter.note(line)
    used = {source.title: _used(source.label_map().classes.values()) for source in data.learned()}
    images, boxes = split.found.images, split.found.boxes
    labels, rows = arrays(images, boxes, class_names(boxes, profile.classes), used), parts_of(images)
    factors = plan.factors(labels, rows["train"], profile.balance)
    if kind == "detector":
        check(profile, labels, rows, factors)
    folder.begin_boxes(profile, card, images, boxes, used, left_out, kind)
    for name, count in plan.counts(labels, rows, factors).items():
        reporter.note(
            f"{name}: {count['train']:,} boxes to learn from (in an epoch {count['epoch']:,}), {count['val']:,} to "
            f"validate, {count['test']:,} to test"
        )


def check(profile: DetectorProfile, labels: Labels, rows: Mapping[str, Ints], factors: Floats) -> None:
    """Make sure that there is something to learn from in every epoch, and something to choose the epoch by.

    Raises:
        ConfigError: there is not; says what there is.
    """
    if not len(labels.ids(rows["train"])[1]):
        raise ConfigError(f"data.sources: expected boxes to learn from, got none in {len(rows['train']):,} pictures")
    wanted = profile.chosen_class
    if wanted and wanted not in labels.class_names:
        raise ConfigError(f"training.choose_by: expected one of {', '.join(labels.class_names)}, got {wanted!r}")
    places, class_ids = labels.ids(rows["val"])
    judged = class_ids[labels.judged[rows["val"]][places, class_ids]]
    if not len(judged) or (wanted and labels.class_names.index(wanted) not in judged):
        raise ConfigError(
            f"data.val: expected boxes of {wanted or 'any class'} to choose the epoch by, got none in "
            f"{len(rows['val']):,} pictures; raise data.val, or give pictures a part"
        )
    least = plan.least(factors)
    if least < 2 * profile.workers.workers:
        raise ConfigError(
            f"workers.workers: expected two pictures in an epoch for each worker at least, got {least} in all; "
            "raise balance.empty and balance.weights"
        )


def cut_outs(profile: DetectorProfile, found: Labelled) -> list[str]:
    """A line for every cut-out that cannot be used.

    Raises:
        ConfigError: none can.
    """
    paste = profile.augment.paste
    return [] if paste is None else CutOuts(paste, class_names(found.boxes, profile.classes)).left_out


def _used(names: Any) -> list[str]:
    return sorted({name for name in names if name})
