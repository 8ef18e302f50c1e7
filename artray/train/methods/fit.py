"""One worker's training of a retrieval method: from the last checkpoint to the card."""

import hashlib
import io
from collections.abc import Mapping
from typing import Any, Final

import torch
from safetensors.torch import save
from torch import Tensor

from artray import __version__
from artray.models import registry
from artray.models.cards import Input
from artray.retrieve import vae_shown
from artray.retrieve.vae import Vae, VaeSettings, picture_input
from artray.retrieve.vae_shown import Autoencoder
from artray.store import sheet
from artray.train.batch_norm import synchronised
from artray.train.exchange import Exchange
from artray.train.fit import Told, reader, run, trained_with, training_data, worker_profile, write_yaml
from artray.train.loop import DTYPES
from artray.train.methods.folder import MethodFolder
from artray.train.methods.learner import LEARNERS, Learner
from artray.train.methods.pictures import Lot, Pictures
from artray.train.methods.profile import MethodProfile, VaeConfig
from artray.train.methods.trainer import VaeTrainer
from artray.train.settings import WorkersConfig

COMPARED: Final = 50
"""Pictures among which the dimension is found that says most of them."""


def fit(
    folder: MethodFolder, exchange: Exchange, tell: Told = lambda _: None, workers: WorkersConfig | None = None
) -> None:
    """Train from where the folder's last checkpoint is to the end, and judge the best epoch; or learn at once.

    Args:
        folder: begun; every worker reaches it.
        exchange: the other workers.
        tell: is told every epoch.
        workers: those of this run, which may be others than those that began.

    Raises:
        ConfigError: a picture cannot be used, a loss is not finite, or a checkpoint is of something else.
        TransientError: a storage failed; run again to go on.
    """
    profile = worker_profile(folder.method_profile, workers)
    learner = LEARNERS.get(profile.method.name)
    if learner is None:
        in_epochs(folder, profile, exchange, tell)
    elif exchange.rank == 0:  # there is nothing to share
        at_once(folder, profile, learner)


def at_once(folder: MethodFolder, profile: MethodProfile, learner: Learner) -> None:
    """Learn a method that has no epochs, and write its card.

    Raises:
        ConfigError: the method cannot be learned from these pictures.
        TransientError: a storage failed.
    """
    pictures = Lot(folder.rows()["train"], profile.training.seed, reader(profile, folder.works))
    tensors = learner.learn(pictures, profile.method, registry.check_device(profile.workers.device))
    described = learner.described(profile.method, tensors)
    card = write_card(folder, profile, described, learner.role, tensors, {})
    (folder.location / "result.json").write_json(
        {"card": card, "method": profile.method.name, "best_epoch": None, "epochs": 0, "losses": {}}
    )


def in_epochs(folder: MethodFolder, profile: MethodProfile, exchange: Exchange, tell: Told) -> None:
    """Train a variational autoencoder, and write its card.

    Raises:
        ConfigError: see :func:`fit`.
        TransientError: likewise.
    """
    method, rows = vae_of(profile), folder.rows()
    spec = picture_input(method.size_px, method.resize)
    pictures = Pictures(profile, spec, reader(profile, folder.works))
    trainer = VaeTrainer(profile, build(profile, exchange), pictures, rows["train"], rows["val"], exchange)
    run(folder, trainer, tell)
    losses = {part: trainer.terms(rows[part])._asdict() for part in ("val", "test") if len(rows[part])}
    active = trainer.active(rows["val"])
    if exchange.rank:
        return
    tensors = {name: tensor.float().cpu() for name, tensor in trainer.judged.state_dict().items()}
    draw(folder, trainer, tensors, spec)
    settings = VaeSettings.reported(method.model_dump())
    described = {
        "architecture": "vae",
        "input": spec.model_dump(mode="json"),
        "settings": settings.model_dump(mode="json"),
        "embedding_dim": trainer.vae.dim,
        "metric": "euclidean",
    }
    metrics = {part: {name: round(value, 6) for name, value in each.items()} for part, each in losses.items()}
    best = trainer.best
    (folder.location / "result.json").write_json(
        {
            "card": write_card(folder, profile, described, "model", tensors, metrics | {"active_dimensions": active}),
            "method": method.name,
            "best_epoch": best.epoch if best else None,
            "epochs": len(trainer.history),
            "chosen_by": trainer.chosen_by,
            "losses": losses,
            "active_dimensions": active,
        }
    )


def build(profile: MethodProfile, exchange: Exchange) -> Vae:
    """The network that all workers start from, with random weights by the profile's seed, on its device.

    Raises:
        ConfigError: the device is not there.
    """
    torch.manual_seed(profile.training.seed)
    method = vae_of(profile)
    vae = Vae(method, method.size_px)
    device = registry.check_device(profile.workers.device)
    vae = vae.to(device=device, dtype=DTYPES[profile.training.precision])
    vae = vae.to(memory_format=torch.channels_last)
    if exchange.workers > 1:
        synchronised(vae, exchange.total, torch.device(device).type)
    return vae


def vae_of(profile: MethodProfile) -> VaeConfig:
    """The section ``method`` of a variational autoencoder."""
    assert isinstance(profile.method, VaeConfig)  # what else there is learns at once
    return profile.method


def draw(folder: MethodFolder, trainer: VaeTrainer, tensors: Mapping[str, Tensor], spec: Input) -> None:
    """Write reconstructions.png and walk.png, of pictures of validation by lot."""
    vae = Vae(trainer.vae.cfg, trainer.vae.size_px)
    vae.load_state_dict(dict(tensors))
    model = Autoencoder(vae.eval(), spec)
    images = Lot(trainer.val, trainer.training.seed, trainer.pictures.read)
    axis = vae_shown.widest_axis(model, images[:COMPARED])
    walks = [cell for each in (None, axis) for cell in vae_shown.walk(model, images[0], axis=each)]
    shown = vae_shown.reconstructions({trainer.profile.name: model}, images[: sheet.COLUMNS])
    for name, cells in (("reconstructions.png", shown), ("walk.png", walks)):
        buffer = io.BytesIO()
        sheet.draw(cells).save(buffer, format="PNG")
        (folder.location / name).write_bytes(buffer.getvalue())


def write_card(
    folder: MethodFolder,
    profile: MethodProfile,
    described: Mapping[str, Any],
    role: str,
    tensors: Mapping[str, Tensor],
    metrics: Mapping[str, Any],
) -> str:
    """Write the card and its file of weights into RUN/card; returns where the card is.

    Args:
        folder: the training's.
        profile: likewise.
        described: what the card says of the method: architecture, settings, embedding_dim, metric, and perhaps more.
        role: of the file of weights.
        tensors: what was learned.
        metrics: what was measured.
    """
    data = save({name: tensor.contiguous().clone() for name, tensor in tensors.items()})
    file = f"{profile.name}.safetensors"
    (folder.location / "card" / file).write_bytes(data)
    card = {
        "name": profile.name,
        "task": "retrieve",
        "yields": ["embedding"],
        "licence": "that of your pictures",
        "source": "trained by artray, from random weights",
        **described,
        "weights": {role: {"uri": file, "sha256": hashlib.sha256(data).hexdigest()}},
        "training_data": training_data(folder),
        "metrics": dict(metrics),
        "training": trained_with(folder, profile),
        "notes": f"Trained by artray {__version__}.",
    }
    return write_yaml(folder, card)
