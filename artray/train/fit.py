"""One worker of a training, from its folder to the card that comes out of it. Knows nothing of Ray."""

import contextlib
import hashlib
import io
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import yaml
from safetensors.torch import save
from torch import nn

from artray import __version__
from artray.config import MIB
from artray.errors import ConfigError
from artray.metrics.calibration import Calibration
from artray.models import registry, trunks, weights
from artray.models.cards import Card, Input
from artray.retrieve.cooccurrence import Cooccurrences
from artray.retrieve.settings import Settings
from artray.train import epochs, judging, networks, robust, stored, told
from artray.train.batch_norm import synchronised
from artray.train.cache import Reader, opened
from artray.train.checkpoints import BEST
from artray.train.detectors.profile import DetectorProfile
from artray.train.epochs import Ints, Labels
from artray.train.exchange import Exchange
from artray.train.judging import Judged
from artray.train.loop import DTYPES, Floats, Loop, Result
from artray.train.methods.profile import MethodProfile
from artray.train.networks import COLOUR, Network
from artray.train.pictures import Embeddings, Pictures
from artray.train.profile import TrainProfile
from artray.train.rundir import RunFolder
from artray.train.settings import WorkersConfig
from artray.train.trainer import Trainer, as_logits
from artray.train.transforms import COUNTS
from artray.train.works import class_ids, rows_of

MAX_FILE_BYTES: Final = 512 * MIB

BATCH: Final = 32
MEASURED: Final = 20
"""Batches that batch norms are measured with, after weights were interpolated."""

APART: Final = ("source", "colour")
"""Metrics are told apart by these columns of the works, too."""

Told = Callable[[Result], None]
P = TypeVar("P", TrainProfile, DetectorProfile, MethodProfile)


def fit(
    folder: RunFolder, exchange: Exchange, tell: Told = lambda _: None, workers: WorkersConfig | None = None
) -> None:
    """Train from where the folder's last checkpoint is to the end, and judge the best epoch.

    Args:
        folder: begun; every worker reaches it.
        exchange: the other workers.
        tell: is told every epoch.
        workers: those of this run, which may be others than those that began.

    Raises:
        ConfigError: a picture or a card cannot be used, a loss is not finite, or a checkpoint is of something else.
        TransientError: a storage failed; run again to go on.
    """
    profile, works = worker_profile(folder.profile, workers), folder.works
    torch.backends.cudnn.benchmark = True  # nearly all batches have one shape
    spec = network_input(profile, folder.card)
    inputs, labels = _inputs(profile, works, spec), class_ids(works, profile)
    network = build(profile, folder.card, exchange)
    trainer = Trainer(profile, network, inputs, labels, rows_of(works, "train"), rows_of(works, "val"), exchange)
    if profile.network.trained != "none":
        run(folder, trainer, tell)
    if profile.network.interpolate < 1:
        _interpolate(trainer, _start(folder.card))
    if profile.network.interpolate < 1 or profile.network.trained == "none":
        _fit_heads(trainer)
    _finish(folder, trainer, spec, labels)


def worker_profile(profile: P, workers: WorkersConfig | None) -> P:
    """A training's profile with the workers of this run, None for its own; this process gets as many threads.

    Args:
        profile: the training's.
        workers: may be others than those that began it.
    """
    made = profile if workers is None else profile.model_copy(update={"workers": workers})
    torch.set_num_threads(made.workers.arithmetic)
    cv2.setNumThreads(made.workers.arithmetic)
    return made


def run(folder: RunFolder, trainer: Loop, tell: Told) -> None:
    """All epochs that are not over yet; the judged network is that of the best one then."""
    checkpoints, first = folder.checkpoints, trainer.exchange.rank == 0
    if (state := checkpoints.load()) is not None:
        trainer.load(state)
    with contextlib.closing(trainer):
        while not trainer.done:
            result = trainer.run_epoch(lambda: checkpoints.save(trainer.state()) if first else None)
            if first:
                if trainer.best is result:
                    checkpoints.save({"network": trainer.judged.state_dict(), "epoch": result.epoch}, BEST)
                checkpoints.save(trainer.state())
                told.tell(folder.location, trainer.history, trainer.done)
            tell(result)
    trainer.exchange.gather(None)  # until the first one has written the best weights
    best = checkpoints.load(BEST)
    if best is None or trainer.best is None or best["epoch"] != trainer.best.epoch:
        found = "none" if best is None else f"those of epoch {best['epoch']}"
        raise ConfigError(f"{folder.location}: expected the best epoch's weights in checkpoints/{BEST}, found {found}")
    if first:
        told.tell(folder.location, trainer.history, last=True)
    trainer.judged.load_state_dict(best["network"])


def network_input(profile: TrainProfile, card: Card) -> Input:
    """The network's input: the card's, but for what the profile sets."""
    if card.input is None:
        raise ConfigError(f"network.card: expected a classifier's card, got {card.name} without an input")
    given = {"size_px": profile.network.size_px, "resize": profile.network.resize}
    return card.input.model_copy(update={name: value for name, value in given.items() if value is not None})


def build(profile: TrainProfile, card: Card, exchange: Exchange) -> Network:
    """The network that all workers start from: the card's trunk, heads by the profile's seed.

    Raises:
        ConfigError: the card's architecture, weights or device cannot be used.
    """
    torch.manual_seed(profile.training.seed)
    trunk: nn.Module | None = None
    if profile.data.embeddings is not None:
        pass  # it made these before
    elif profile.network.random:
        trunk = trunks.make(card.architecture)
    else:
        trunk = _start(card)
    heads: dict[str, Sequence[int]] = {
        task: (*head.hidden, profile.width(task)) for task, head in profile.heads.items()
    }
    dim = trunks.dim(card.architecture)
    if trunk is not None and profile.network.cooccurrence is not None:
        trunk = descriptor = Cooccurrences(card.architecture, trunk, profile.network.cooccurrence)
        dim = descriptor.dim
    network = Network(trunk, dim, heads, network_input(profile, card) if profile.colour.weight else None)
    networks.restrict(network, card.architecture, profile.network.trained)
    device = registry.check_device(profile.workers.device)
    network = network.to(device=device, dtype=DTYPES[profile.training.precision])
    network = network.to(memory_format=torch.channels_last)
    if exchange.workers > 1:
        synchronised(network, exchange.total, torch.device(device).type)
    return network


def _start(card: Card) -> nn.Module:
    """A card's trunk."""
    path = weights.fetch(card.weights["trunk"], owner=f"card {card.name}")
    return trunks.load(card.architecture, weights.read_tensors(path))


def _interpolate(trainer: Trainer, start: nn.Module) -> None:
    """Move the judged network's trunk back towards its start; all workers come to the same."""
    network, profile = trainer.judged, trainer.profile
    assert isinstance(network, Network)
    assert network.trunk is not None
    robust.interpolate(network.trunk, start, profile.network.interpolate)
    few = np.random.default_rng(profile.training.seed).permutation(trainer.train)[: MEASURED * BATCH]
    few = few[: len(few) // BATCH * BATCH or len(few)]
    batches = (trainer.on_device(images) for images in trainer.inputs.validation(few, BATCH))
    robust.measure(network.trunk, batches)


def _fit_heads(trainer: Trainer) -> None:
    """Fit the judged network's heads to its trunk's features; all workers come to the same."""
    network, profile, labels = trainer.judged, trainer.profile, trainer.labels
    assert isinstance(network, Network)
    features = torch.from_numpy(trainer.features(np.concatenate([trainer.train, trainer.val])))
    learned, validated = features[: len(trainer.train)], features[len(trainer.train) :]
    for name, layers in zip(profile.heads, network.heads, strict=True):
        head = robust.fit_best(
            _known(learned, labels[name][trainer.train]),
            _known(validated, labels[name][trainer.val]),
            trainer.class_weights[name].cpu(),
            profile.width(name),
        )
        linear = next(layer for layer in layers.children() if isinstance(layer, nn.Linear))
        with torch.no_grad():
            linear.weight.copy_(head.weight)
            linear.bias.copy_(head.bias)


def _known(features: torch.Tensor, class_ids: Ints) -> tuple[torch.Tensor, torch.Tensor]:
    """The rows that have a label, and which."""
    ids = torch.from_numpy(class_ids)
    return features[ids >= 0], ids[ids >= 0]


def reader(profile: "TrainProfile | DetectorProfile | MethodProfile", works: pa.Table) -> Reader:
    """Where a training's pictures, whose uri and version are in ``works``, are read from."""
    uris, versions = (works[name].to_pylist() for name in ("uri", "version"))
    return Reader(opened(profile.data.cache, profile.data.short_side_px), uris, versions, MAX_FILE_BYTES)


def _inputs(profile: TrainProfile, works: pa.Table, spec: Input) -> Pictures | Embeddings:
    """Where batches come from: pictures, or a store's embeddings."""
    if profile.data.embeddings is not None:
        values = stored.matrix(profile.data.embeddings, works["uri"].to_pylist())
        return Embeddings(values, DTYPES[profile.training.precision])
    return Pictures(profile, spec, reader(profile, works))


def _finish(folder: RunFolder, trainer: Trainer, spec: Input, labels: Labels) -> None:
    """Judge the best epoch; the first worker writes the result and the card."""
    profile, works = folder.profile, folder.works
    rows = np.concatenate([rows_of(works, "val"), rows_of(works, "test")])
    shown, logits = trainer.logits(trainer.val), _viewed(trainer, rows)
    if trainer.exchange.rank:
        return
    column = {name: works[name].take(rows).to_pylist() for name in ("work_id", "part", "group", *APART)}
    apart = {name: column[name] for name in APART}
    judged = {
        task: Judged(column["work_id"], column["part"], column["group"], labels[task][rows], logits[task], apart)
        for task in profile.heads
    }
    made = {
        task: judging.calibration(as_logits(shown[task]), labels[task][trainer.val], head.calibration)
        for task, head in profile.heads.items()
    }
    reports = {task: judging.report(entry, profile, task, made[task]) for task, entry in judged.items()}
    for task, classes in epochs.counts(profile, works).items():
        reports[task]["counts"] = {name: count._asdict() for name, count in classes.items()}
    table = pa.concat_tables(judging.predictions(entry, profile, task, made[task]) for task, entry in judged.items())
    (folder.location / "report.md").write_bytes(judging.markdown(profile.name, reports).encode())
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    (folder.location / "predictions.parquet").write_bytes(buffer.getvalue())
    network = trainer.judged
    assert isinstance(network, Network)  # an average's module is one, too
    best = trainer.best
    colour = _colour(best, len(trainer.val))
    card = write_card(folder, network, spec, made, {task: _brief(report) for task, report in reports.items()} | colour)
    (folder.location / "result.json").write_json(
        {
            "card": card,
            "best_epoch": best.epoch if best else None,
            "epochs": len(trainer.history),
            "chosen_by": profile.chosen_by,
            "views": profile.test.views,
            "heads": reports,
            **colour,
        }
    )


def _viewed(trainer: Trainer, rows: Ints) -> dict[str, Floats]:
    """Per head float64[M, V, C] of all views; every worker judges a part, all get the whole."""
    cfg, exchange = trainer.profile.test, trainer.exchange
    views, size = COUNTS[cfg.views], trainer.profile.training.batch_size // exchange.workers
    module, found = trainer.judged.eval(), dict[str, list[Floats]]()
    with torch.inference_mode():
        for batch in trainer.inputs.judged(rows[exchange.rank :: exchange.workers], max(1, size // views)):
            for name, values in module(trainer.on_device(batch)).items():
                found.setdefault(name, []).append(values.double().cpu().numpy())
    whole: dict[str, Floats] = {}
    for name in trainer.profile.heads:
        outputs = trainer.profile.width(name)
        viewed = judging.viewed(np.concatenate(found.get(name) or [np.zeros((0, outputs))]), views)
        whole[name] = exchange.interleaved(viewed, len(rows))
    return whole


def write_card(
    folder: RunFolder, network: Network, spec: Input, made: dict[Any, Calibration], measured: dict[Any, Any]
) -> str:
    """Write the card and its files of weights into RUN/card; returns where the card is."""
    profile, start = folder.profile, folder.card
    if isinstance(network.trunk, Cooccurrences):
        tensors, described = networks.export_descriptor(network.trunk), _retrieves(profile, start)
    else:
        tensors = dict(zip(("trunk", "heads"), networks.export(network, made), strict=True))
        described = _classifies(profile, start)
    untouched = network.trunk is None or profile.network.trained == "none"
    kept = start.weights["trunk"].model_dump(mode="json") if untouched else None
    files: dict[str, Any] = {"trunk": kept} if kept else {}  # heads alone were trained: the trunk is the start's
    for role, values in tensors.items():
        if role in files:
            continue
        data = save({name: tensor.clone() for name, tensor in values.items()})
        name = f"{profile.name}-{role}.safetensors"
        (folder.location / "card" / name).write_bytes(data)
        files[role] = {"uri": name, "sha256": hashlib.sha256(data).hexdigest()}
    card = {
        "name": profile.name,
        **described,
        "input": spec.model_dump(mode="json"),
        "weights": files,
        "embedding_dim": network.dim,
        **origin(folder, "labels", random=profile.network.random),
        "training_data": training_data(folder),
        "metrics": measured,
        "training": trained_with(folder, profile),
        "notes": f"Judged on views: {profile.test.views}. Trained by artray {__version__}.",
    }
    return write_yaml(folder, card)


def _classifies(profile: TrainProfile, start: Card) -> dict[str, Any]:
    """What a classifier's card says that others do not."""
    return {
        "task": "classify",
        "architecture": start.architecture,
        "yields": [*profile.heads, *profile.yields],
        "heads": {task: list(profile.outputs(task)) for task in profile.heads},
    }


def _retrieves(profile: TrainProfile, start: Card) -> dict[str, Any]:
    """Likewise a card of co-occurrences: its descriptor in full, ranked by Frobenius' distance."""
    cfg = profile.network.cooccurrence
    assert cfg is not None
    settings = Settings(trunk=start.architecture, **cfg.model_dump())
    return {
        "task": "retrieve",
        "architecture": "cooccurrence",
        "yields": ["embedding"],
        "settings": settings.model_dump(mode="json"),
        "metric": "euclidean",
    }


def _colour(best: Result | None, works: int) -> dict[str, Any]:
    """How far off mean colours are on validation, where they were learned."""
    if best is None or (off := best.metrics.get(f"{COLOUR} mean_absolute_error")) is None:
        return {}
    return {COLOUR: {"judged_on": "val", "works": works, "mean_absolute_error": round(off, 4)}}


def origin(folder: RunFolder, of: str, *, random: bool) -> dict[str, str]:
    """What a card says of where its weights are from; ``of`` is what was learned from beside pictures."""
    start = folder.card
    return {
        "licence": f"that of your {of} and pictures, and of the weights it starts from: {start.licence}",
        "source": f"trained by artray, from {'random weights' if random else f'card {start.name}'}",
    }


def trained_with(folder: RunFolder, profile: TrainProfile | DetectorProfile | MethodProfile) -> dict[str, Any]:
    """What a card says of its training."""
    return {
        "profile": profile.model_dump(mode="json", exclude_defaults=True),
        "data_sha256": folder.made["data_sha256"],
        "revision": revision(),
    }


def write_yaml(folder: RunFolder, card: Mapping[str, Any]) -> str:
    """Write RUN/card/NAME.yaml; returns where it is."""
    target = folder.location / "card" / f"{card['name']}.yaml"
    target.write_bytes(yaml.safe_dump(dict(card), sort_keys=False, allow_unicode=True, width=110).encode())
    return str(target)


def revision() -> str:
    """The git revision of artray, where it runs from its repository; else unknown."""
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        for command in (["ls-files", "--error-unmatch", Path(__file__).name], ["describe", "--always", "--dirty"]):
            done = subprocess.run([*git, *command], capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return done.stdout.strip() or "unknown"


def training_data(folder: RunFolder) -> str:
    """What it was trained on, in a line."""
    works = folder.works
    counts = {part: len(rows_of(works, part)) for part in ("train", "val", "test")}
    sources = ", ".join(sorted(set(works["source"].to_pylist())))
    told_counts = ", ".join(f"{part} {count:,}" for part, count in counts.items())
    return f"{sources}: {told_counts} works"


def _brief(report: dict[str, Any]) -> dict[str, Any]:
    """A head's metrics of the test, or of validation where there is none: value and 95 % interval."""
    part = "test" if report["test"]["works"] else "val"
    metrics = {
        name: [round(value, 4) for value in found.values()] for name, found in report[part].get("metrics", {}).items()
    }
    return {"judged_on": part, "works": report[part]["works"]} | metrics
