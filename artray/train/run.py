"""Train a classifier: labelled works in, a model card with its weights out; interrupted, it goes on where it was."""

import uuid
from collections.abc import Callable, Sequence
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from artray import config
from artray.detect.datasets.sources import BoxSource
from artray.errors import ConfigError
from artray.location import Location
from artray.models import cards, registry, trunks
from artray.pipeline import cluster
from artray.pipeline.progress import Reporter, Tally, duration
from artray.store.layout import Store
from artray.store.lease import Lease
from artray.train import epochs, splits, stored
from artray.train.cache import opened
from artray.train.datasets import layouts, reading
from artray.train.loop import Result, best_of
from artray.train.profile import Source, TrainProfile
from artray.train.rundir import RunFolder
from artray.train.works import PARTS, WORKS, class_ids, rows_of

if TYPE_CHECKING:
    from artray.train.detectors.profile import DetectorProfile
    from artray.train.methods.profile import MethodProfile

SHOWN: Final = 5
"""So many lines of what cannot be used are shown; all of them are in RUN/left_out.txt."""


S = TypeVar("S", Source, BoxSource)
P = TypeVar("P", TrainProfile, "DetectorProfile", "MethodProfile")


class Found(NamedTuple):
    """What a profile's sets hold."""

    works: pa.Table  # of schema artray.train.works.WORKS, each once
    left_out: list[str]  # a line for everything that cannot be used
    sets: list[dict[str, Any]]  # per set: title, note, counts per class, what the report counted


def shipped() -> dict[str, Path]:
    """The profiles that artray's own models were trained with, by the model's name."""
    folder = Path(str(resources.files("artray.train") / "recipes"))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def is_of_detector(profile: str | Path) -> bool:
    """Whether a profile trains a detector: it has a section of that name.

    Raises:
        ConfigError: it cannot be read.
    """
    return "detector" in _sections(profile)


def is_of_method(profile: str | Path) -> bool:
    """Whether a profile trains a retrieval method: it has a section ``method``.

    Raises:
        ConfigError: it cannot be read.
    """
    return "method" in _sections(profile)


def _sections(profile: str | Path) -> dict[str, Any]:
    known = shipped()
    return config.read_yaml(known.get(str(profile)) or Path(profile), what="profile", known=known)


def load(profile: str | Path, overrides: Sequence[str] = (), data: str | None = None) -> TrainProfile:
    """A training's profile from a YAML file, or one of :func:`shipped`.

    Args:
        profile: its file or name.
        overrides: ``section.key=value``.
        data: the folder that its sets' paths are below; None for the file's own, of a shipped one the current folder.

    Raises:
        ConfigError: it cannot be read, or a key is wrong.
    """
    found = config.load_as(TrainProfile, profile, overrides, shipped())
    anchor = anchor_of(profile)
    return located(found, anchor, data or anchor)


def located(profile: P, anchor: str, root: str) -> P:
    """A profile whose sets are below ``root``, and what else its section ``data`` names below ``anchor``."""
    data = profile.data
    paths = {name: getattr(data, name, None) for name in ("cache", "embeddings")}
    places = {name: below(anchor, path) for name, path in paths.items() if path}
    sets = placed(data.sources, root)
    return profile.model_copy(update={"data": data.model_copy(update={"sources": sets, **places})})


def anchor_of(profile: str | Path) -> str:
    """The folder that a profile's own paths are below: its file's, of a shipped one the current folder."""
    return "." if str(profile) in shipped() else str(Path(profile).absolute().parent)


def placed(sources: Sequence[S], root: str) -> tuple[S, ...]:
    """Sets with their paths below a folder or S3 prefix."""
    return tuple(each.model_copy(update={"path": below(root, each.path)}) for each in sources)


def below(root: str, path: str) -> str:
    """A path below a folder or S3 prefix, made absolute, as workers run elsewhere; one that is absolute stays."""
    own = path if "://" in path else str(Path(path).expanduser())
    if "://" in own or Path(own).is_absolute():
        return own
    return f"{root.rstrip('/')}/{own}" if "://" in root else str(Path(root).absolute() / own)


def train(profile: TrainProfile, out: Location, reporter: Reporter) -> dict[str, Any]:
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
    card = cards.load(profile.network.card)
    cards.check_classifiers([card])
    _check_start(profile, card)
    folder = RunFolder(out)
    begun = "fitting heads to the trunk's features" if profile.network.trained == "none" else None
    return conduct(folder, profile, reporter, lambda: _begin(folder, profile, card, reporter), begun)


def conduct(
    folder: RunFolder,
    profile: "TrainProfile | DetectorProfile | MethodProfile",
    reporter: Reporter,
    begin: Callable[[], None],
    phase: str | None = None,
    kind: str | None = None,
    fit: Callable[[], None] | None = None,
) -> dict[str, Any]:
    """Train whatever the profile is of: begin the folder where nobody has yet, and train until there is a result.

    Args:
        folder: the training's.
        profile: what to train, with what.
        reporter: is told how far it is.
        begin: writes down what the folder is made of.
        phase: what is done then, where these are no epochs.
        kind: what the folder is to hold, if not what the profile trains; see :attr:`RunFolder.kind`.
        fit: leads to a result in this process, in place of workers that train.

    Raises:
        ConfigError: the profile, the data or the folder cannot be used.
        TransientError: something outside failed; run again to go on.
    """
    if missing := [name for name in ("tensorboardX", "matplotlib") if find_spec(name) is None]:
        raise ConfigError(f"train: expected the package {missing[0]}; install it: pip install 'artray[train]'")
    if "://" in (profile.data.cache or ""):
        raise ConfigError(f"data.cache: expected a folder that all workers reach, got {profile.data.cache}")
    _check_same(folder, profile, kind)
    from artray.pipeline import graph
    from artray.train import launch

    out = folder.location
    if folder.result is None:
        out.make()
        with Lease(Store(out), uuid.uuid4().hex, reporter.note), cluster.connected() as shared:
            if not shared and fit is None:
                launch.check_room(profile.workers, graph.resources())
            _check_same(folder, profile, kind)
            if not folder.exists():
                begin()
            if fit is not None:
                fit()
            else:
                done = len(folder.history())
                reporter.phase(phase or f"training, from epoch {done + 1} of {profile.training.epochs} on")
                launch.fitted(folder, profile.workers, _Epochs(profile, reporter, folder.history()))
    result = folder.result
    if result is None:
        raise ConfigError(f"{out}: expected a result.json at the end of the training, found none")
    return {"folder": out.uri} | result


def _check_same(folder: RunFolder, profile: "TrainProfile | DetectorProfile | MethodProfile", kind: str | None) -> None:
    """Raises ConfigError where the folder holds a training with another profile; its workers may be others."""
    if not folder.exists():
        return
    if folder.kind == (kind or ("classifier" if isinstance(profile, TrainProfile) else "detector")):
        made = config.parse(type(profile), folder.made["profile"], where=str(folder.location))
        if made.model_dump(exclude={"workers"}) == profile.model_dump(exclude={"workers"}):
            return
    raise ConfigError(f"{folder.location}: holds a training with another profile; name another folder with --out")


def _check_start(profile: TrainProfile, card: cards.Card) -> None:
    """Make sure that a training can start from a card.

    Raises:
        ConfigError: its architecture is not known or has no stages to be trained apart, or it has no trunk.
    """
    registry.check_architecture(card)
    if profile.network.trained.startswith("conv") and not trunks.has_stages(card.architecture):
        raise ConfigError(
            f"network.trained: expected head or all with the architecture {card.architecture}, which has no five "
            f"stages, got {profile.network.trained}"
        )
    if "trunk" not in card.weights and not profile.network.random:
        raise ConfigError(
            f"network.card: expected one with weights of its trunk, got {card.name}; or set network.random"
        )


def _begin(folder: RunFolder, profile: TrainProfile, card: cards.Card, reporter: Reporter) -> None:
    """Read the labels, prepare the pictures, split the works, and write it all down."""
    reporter.phase("reading labels")
    if profile.data.embeddings is not None:
        stored.check(profile.data.embeddings, card)
    found = read(profile)
    seen = None if profile.data.embeddings is not None else prepared(found.works, profile, reporter)
    works, left_out = usable(found, seen, profile)
    for line in summary(left_out):
        reporter.note(line)
    check(works, profile)
    for task, classes in epochs.counts(profile, works).items():
        told = (
            f"{name}: {count.train:,} to learn from ({count.epoch:,} in an epoch), {count.val:,} to validate, "
            f"{count.test:,} to test"
            for name, count in classes.items()
        )
        reporter.note(f"{task}: {'; '.join(told)}")
    folder.begin(profile, card, works, left_out)


def prepared(
    works: pa.Table, profile: "TrainProfile | DetectorProfile | MethodProfile", reporter: Reporter
) -> pa.Table:
    """What became of every picture; see artray.train.prepare.

    Args:
        works: work_id, uri and version of each.
        profile: where pictures are kept, and how many workers prepare them.
        reporter: is told how far it is.
    """
    from artray.train import launch

    tally = Tally(works.num_rows)
    reporter.start(tally, "preparing")

    def each(done: int) -> None:
        tally.add(done, {})
        reporter.update(tally)

    return launch.prepared(works, opened(profile.data.cache, profile.data.short_side_px), profile.workers.workers, each)


def read(profile: "TrainProfile | MethodProfile") -> Found:
    """The works of all sets, each once: of a picture in several of them, the first set's row counts.

    Raises:
        ConfigError: a set cannot be read, or none has a work with a label that is asked for.
        TransientError: a storage failed.
    """
    tables, left_out, sets = list[pa.Table](), list[str](), list[dict[str, Any]]()
    seen: set[str] = set()
    for source in profile.data.sources:
        found = reading.read(source, profile)
        new = [uri not in seen for uri in found.works["uri"].to_pylist()]
        seen |= set(found.works["uri"].to_pylist())
        tables.append(found.works.filter(pa.array(new, pa.bool_())))
        left_out += [f"{source.title}: {problem}" for problem in found.problems]
        layout = layouts.load(source.kind)
        counted = {task: reading.counts(tables[-1], task) for task in reading.TASKS}
        told = {"set": source.title, "title": layout.title, "note": layout.note}
        sets.append(told | {"counts": counted, "report": layout.report})
    works = pa.concat_tables(tables)
    if not works.num_rows:
        first = f"; the first thing wrong: {left_out[0]}" if left_out else ""
        wanted = f"works with labels of {', '.join(profile.heads)}" if profile.heads else "pictures"
        raise ConfigError(f"data.sources: expected {wanted}, found none{first}")
    return Found(works, left_out, sets)


def usable(
    found: Found, prepared: pa.Table | None, profile: "TrainProfile | MethodProfile"
) -> tuple[pa.Table, list[str]]:
    """The works whose pictures can be read, with a part each, and what is left out of the sets, a line each."""
    names = found.works["work_id"].to_pylist()
    told = {} if prepared is None else {row["work_id"]: row for row in prepared.to_pylist()}
    nothing = {"error": "", "near_hash": 0, "colour": None}
    rows = [told.get(name, {"work_id": name} | nothing) for name in names]
    good = np.array([not row["error"] for row in rows], bool)
    broken = [f"{row['work_id']}: {row['error']}: {row['error_detail']}" for row in rows if row["error"]]
    hashes = np.array([row["near_hash"] for row in rows], np.uint64)[good]
    seen = pa.array([row["colour"] for row in rows], pa.string())
    columns = {name: found.works[name] for name in found.works.column_names}
    columns |= {
        "colour": pc.coalesce(found.works["colour"], seen),
        "near_hash": pa.array([row["near_hash"] for row in rows], pa.uint64()),
    }
    seen_works = pa.table(columns).cast(WORKS)
    data = profile.data
    split = splits.split(seen_works.filter(pa.array(good)), hashes, data.val, data.test, data.near_bits)
    moved = [f"{work_id}: put on the side of a reproduction of the same work" for work_id in split.moved]
    return split.works, [*found.left_out, *broken, *moved]


def check(works: pa.Table, profile: TrainProfile) -> None:
    """Make sure that there is something of every class to learn from, and something to choose by.

    Raises:
        ConfigError: there is not; says what is there.
    """
    for task in profile.heads:
        counts = splits.counts(works, task)
        told = "; ".join(
            f"{name}: {entry['train']} to learn from, {entry['val']} to validate" for name, entry in counts.items()
        )
        if only := profile.heads[task].only:  # the others are one class
            rest = [entry for name, entry in counts.items() if name != only]
            counts = {only: counts.get(only, {}), f"not {only}": {part: sum(e[part] for e in rest) for part in PARTS}}
        for name in profile.outputs(task):
            if not counts.get(name, {}).get("train"):
                raise ConfigError(
                    f"heads.{task}: expected works of every class to learn from, got none of {name!r} "
                    f"({told or 'none'}); add a set that has some, or leave the class out of heads.{task}.classes"
                )
        wanted = profile.choose_by.removeprefix("f1 ") if task == profile.balanced_by else ""
        seen = [name for name, entry in counts.items() if entry.get("val")]
        if len(seen) < 2 or wanted not in (*seen, "micro_f1", "macro_f1", "accuracy", "mcc", ""):
            raise ConfigError(
                f"data.val: expected works of several classes to validate {task} with, {wanted or 'any'} among them, "
                f"got {', '.join(seen) or 'none'} ({told}); raise data.val, or give the works of your sets a split"
            )
    size = min(
        profile.training.batch_size,
        len(epochs.plan(profile, class_ids(works, profile), rows_of(works, "train"), 0).indices),
    )
    if size < 2 * profile.workers.workers:
        raise ConfigError(
            f"workers.workers: expected two works in an epoch for each worker at least, got {size} in all"
        )


def summary(lines: Sequence[str]) -> list[str]:
    """The first lines of what is left out, and how many there are."""
    if len(lines) <= SHOWN:
        return list(lines)
    return [*lines[:SHOWN], f"and {len(lines) - SHOWN:,} more like these: see left_out.txt in the training's folder"]


class _Epochs:
    """Tells an epoch in one line."""

    def __init__(
        self, profile: "TrainProfile | DetectorProfile | MethodProfile", reporter: Reporter, history: list[Result]
    ) -> None:
        self.profile, self.reporter, self.history = profile, reporter, history

    def __call__(self, result: Result) -> None:
        self.history.append(result)
        best = best_of(self.history) or result
        left = (self.profile.training.epochs - result.epoch) * result.seconds
        self.reporter.phase(
            f"epoch {result.epoch} of {self.profile.training.epochs}: loss {result.loss:.4f}, "
            f"validation {result.val_loss:.4f}, {self.profile.chosen_by} "
            f"{result.chosen:.3f} (best {best.chosen:.3f} in {best.epoch}), "
            f"{result.images_per_s:.1f} images/s, {duration(left)} left"
        )
