"""A small training of a variational autoencoder: stripes without labels, two components, one process or several."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image

from artray.retrieve.vae import picture_input
from artray.train import exchange
from artray.train.methods import fit
from artray.train.methods.pictures import Pictures
from artray.train.methods.profile import MethodProfile
from artray.train.methods.trainer import VaeTrainer
from tests import training

COUNT = training.COUNT
DIM = 8 * 8 * 8


def profile(**changes: Any) -> MethodProfile:
    """Two epochs of five batches."""
    values: dict[str, Any] = {
        "name": "stripes",
        "data": {"sources": [{"path": "none"}]},
        "method": {"name": "vae", "size_px": 32, "filters": [4, 8]},
        "augment": [{"name": "horizontal_flip"}],
        "optimiser": {"lr": 0.01},
        "training": {"epochs": 2, "batch_size": 8, "precision": "float64"},
    }
    for section, given in changes.items():
        values[section] = values.get(section, {}) | given if isinstance(given, dict) else given
    return MethodProfile.model_validate(values)


def trainer(cfg: MethodProfile, among: exchange.Exchange | None = None) -> VaeTrainer:
    """A worker with the network that all of them start from."""
    among = among or exchange.alone()
    torch.set_num_threads(1)  # more would wait for each other on pictures as small as these
    vae, rows = fit.build(cfg, among), np.arange(COUNT)
    pictures = Pictures(cfg, picture_input(cfg.method.size_px), training.picture)
    return VaeTrainer(cfg, vae, pictures, rows[rows % 3 > 0], rows[rows % 3 == 0], among)


def trained(cfg: MethodProfile, among: exchange.Exchange | None = None) -> VaeTrainer:
    """All epochs of a training."""
    made = trainer(cfg, among)
    while not made.done:
        made.run_epoch()
    return made


def shared(cfg: MethodProfile, workers: int, folder: Path) -> list[dict[str, Any]]:
    """The final states of so many processes that share every batch."""
    return training.shared(cfg, workers, folder, trained)


def written(folder: Path, **changes: Any) -> Path:
    """The pictures in a plain folder, and a profile's YAML file that learns from them."""
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    for row in range(COUNT):
        Image.fromarray(training.picture(row)).save(folder / "pictures" / f"{row:02}.png")
    values = profile(**changes).model_dump(mode="json", exclude_unset=True)
    values["data"] |= {
        "sources": [{"kind": "folder", "path": "pictures"}],
        "val": 0.25,
        "test": 0.25,
        "short_side_px": 40,
        "cache": "cache",
        "near_bits": None,  # stripes are alike
    }
    path = folder / "stripes.yaml"
    path.write_text(yaml.safe_dump(values))
    return path
