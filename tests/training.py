"""A small training: striped pictures, a small network, one process or several that share its batches."""

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.multiprocessing
import yaml
from PIL import Image
from torch import distributed as dist

from artray.models import trunks
from artray.models.cards import Input
from artray.retrieve.cooccurrence import Cooccurrences
from artray.taxonomy import GENRES, TYPES
from artray.train import exchange, networks
from artray.train.batch_norm import synchronised
from artray.train.loop import Loop
from artray.train.networks import Network
from artray.train.pictures import Pictures
from artray.train.profile import TrainProfile
from artray.train.trainer import Trainer

ARCHITECTURE = "timm/test_efficientnet"
SPEC = Input(size_px=32, mean=(127.0, 127.0, 127.0), std=(128.0, 128.0, 128.0))
COUNT = 60


def profile(**changes: Any) -> TrainProfile:
    """Types and genres of stripes; two epochs of eight batches or so."""
    values: dict[str, Any] = {
        "name": "stripes",
        "data": {"sources": [{"path": "none"}]},
        "heads": {"type": {}, "genre": {"hidden": [8]}},
        "network": {"card": "none", "random": True, "trained": "all"},
        "crop": {"kind": "random_resized", "resize_px": 32, "scale": [0.5, 1.0]},
        "augment": [{"name": "horizontal_flip"}],
        "optimiser": {"lr": 0.01},
        "training": {"epochs": 2, "batch_size": 8, "precision": "float64"},
    }
    for section, given in changes.items():
        values[section] = values.get(section, {}) | given if isinstance(given, dict) else given
    return TrainProfile.model_validate(values)


def labels() -> dict[str, np.ndarray]:
    """Three paintings to a drawing, five genres; every seventh has no genre."""
    rows = np.arange(COUNT)
    return {"type": (rows % 4 == 0).astype(np.int64), "genre": np.where(rows % 7 == 0, -1, rows % 5)}


def picture(row: int) -> np.ndarray:
    """uint8[40, 50, 3]: stripes whose direction is the type and whose width and colour are the genre."""
    random = np.random.default_rng(row)
    y, x = np.mgrid[:40, :50]
    along = y if row % 4 == 0 else x
    stripes = 80.0 * (along // (2 + row % 5) % 2) + 20 * random.random((40, 50))
    return np.stack([stripes, stripes + 20 * (row % 5), 255 - stripes], axis=-1).astype(np.uint8)


def trainer(cfg: TrainProfile, among: exchange.Exchange | None = None) -> Trainer:
    """A worker with the network that all of them start from."""
    among = among or exchange.alone()
    torch.set_num_threads(1)  # more would wait for each other on pictures as small as these
    torch.manual_seed(7)
    heads = {name: (*head.hidden, {"type": 1, "genre": 5}[name]) for name, head in cfg.heads.items()}
    trunk, dim = trunks.make(ARCHITECTURE), trunks.dim(ARCHITECTURE)
    if cfg.network.cooccurrence is not None:
        trunk = Cooccurrences(ARCHITECTURE, trunk, cfg.network.cooccurrence)
        dim = trunk.dim
    network = Network(trunk, dim, heads, SPEC if cfg.colour.weight else None)
    networks.restrict(network, ARCHITECTURE, cfg.network.trained)
    network = network.to(torch.float64 if cfg.training.precision == "float64" else torch.float32)
    network = network.to(cfg.workers.device)
    if cfg.workers.device == "cpu":
        synchronised(network, among.total)
    rows = np.arange(COUNT)
    return Trainer(cfg, network, Pictures(cfg, SPEC, picture), labels(), rows[rows % 3 > 0], rows[rows % 3 == 0], among)


def trained(cfg: TrainProfile, among: exchange.Exchange | None = None) -> Trainer:
    """All epochs of a training."""
    made = trainer(cfg, among)
    while not made.done:
        made.run_epoch()
    return made


def shared(
    cfg: Any, workers: int, folder: Path, train: Callable[[Any, exchange.Exchange], Loop] = trained
) -> list[dict[str, Any]]:
    """The final states of so many processes that share every batch."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(_worker, (workers, port, cfg, folder, train), nprocs=workers)
    return [torch.load(folder / f"{rank}.pt") for rank in range(workers)]


def _worker(
    rank: int, workers: int, port: int, cfg: Any, folder: Path, train: Callable[[Any, exchange.Exchange], Loop]
) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    dist.init_process_group("gloo", rank=rank, world_size=workers)
    try:
        torch.save(train(cfg, exchange.distributed()).state(), folder / f"{rank}.pt")
    finally:
        dist.destroy_process_group()


def written(folder: Path, **changes: Any) -> Path:
    """The pictures with their labels, a card of the small network, and a profile's YAML file that trains it."""
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    names = {"type": TYPES, "genre": GENRES}
    lines = ["file,type,genre,split"]
    for row in range(COUNT):
        Image.fromarray(picture(row)).save(folder / "pictures" / f"{row:02}.png")
        told = [names[task][ids[row]] if ids[row] >= 0 else "" for task, ids in labels().items()]
        lines.append(",".join([f"{row:02}.png", *told, ("val", "train", "test", "train")[row // 4 % 4]]))
    (folder / "pictures" / "labels.csv").write_text("\n".join(lines) + "\n")
    card = {
        "name": "small",
        "task": "classify",
        "architecture": ARCHITECTURE,
        "input": SPEC.model_dump(mode="json"),
        "yields": ["embedding"],
        "embedding_dim": trunks.dim(ARCHITECTURE),
        "licence": "none",
        "source": "random weights",
    }
    (folder / "small.yaml").write_text(yaml.safe_dump(card))
    values = profile(**changes).model_dump(mode="json", exclude_unset=True)
    values["data"] |= {
        "sources": [{"path": "pictures/labels.csv"}],
        "short_side_px": 40,
        "cache": str(folder / "cache"),
        "near_bits": None,  # stripes are alike
    }
    values["network"] |= {"card": str(folder / "small.yaml")}
    path = folder / "stripes.yaml"
    path.write_text(yaml.safe_dump(values))
    return path
