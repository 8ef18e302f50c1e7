"""A small training of a detector: rectangles on grey grounds, dogs red and cats blue."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image
from safetensors.torch import save

from artray.detect.yolox import YoloxNano
from artray.models import cards
from artray.models.cards import Card
from artray.train import exchange
from artray.train.detectors import labels as known
from artray.train.detectors import learners
from artray.train.detectors.labels import Boxed, Labels
from artray.train.detectors.pictures import Pictures
from artray.train.detectors.profile import DetectorProfile
from artray.train.detectors.trainer import Trainer
from tests import training

COUNT = 24
NAMES = ("dog", "cat")
COLOURS = {"dog": (200, 30, 30), "cat": (30, 30, 200)}
SIZE_PX = 64


def profile(**changes: Any) -> DetectorProfile:
    """Two epochs of few batches, from random weights."""
    values: dict[str, Any] = {
        "name": "rectangles",
        "classes": list(NAMES),
        "data": {"sources": [{"path": "none"}]},
        "detector": {"random": True, "size_px": SIZE_PX, "norms": "trained"},
        "augment": {"artify": 0, "greyscale": 0},
        "optimiser": {"lr": 0.01},
        "training": {"epochs": 2, "batch_size": 6, "precision": "float64"},
        "test": {"resamples": 20},
    }
    for section, given in changes.items():
        values[section] = values.get(section, {}) | given if isinstance(given, dict) else given
    return DetectorProfile.model_validate(values)


def box(row: int) -> tuple[int, int, int, int]:
    """Where a picture's rectangle is."""
    random = np.random.default_rng(row)
    x, y = (int(each) for each in random.integers(2, 20, 2))
    width, height = (int(each) for each in random.integers(16, 34, 2))
    return x, y, x + width, y + height


def name(row: int) -> str:
    """What it is."""
    return NAMES[row % 2]


def picture(row: int) -> np.ndarray:
    """uint8[56, 60, 3]."""
    random = np.random.default_rng([row, 1])
    pixels = random.integers(90, 130, (56, 60, 3)).astype(np.uint8)
    x1, y1, x2, y2 = box(row)
    pixels[y1:y2, x1:x2] = COLOURS[name(row)]
    return pixels


def labels() -> Labels:
    """A set that calls dogs and cats by their names and boxes all of them."""
    told, counted = known.told_classes(NAMES, NAMES), known.counted_as(NAMES, NAMES)
    everything = np.ones((COUNT, len(NAMES)), bool)
    boxed = (Boxed(np.array([box(row)], float), np.array([row % 2]), np.zeros(1, bool)) for row in range(COUNT))
    return Labels(
        NAMES,
        tuple(boxed),
        np.array([[60, 56]] * COUNT),
        everything,
        np.array([told] * COUNT),
        everything,
        np.array([counted] * COUNT),
        ("csv",) * COUNT,
        tuple(map(str, range(COUNT))),
    )


def trainer(cfg: DetectorProfile, among: exchange.Exchange | None = None, card: Card | None = None) -> Trainer:
    """A worker with the network that all of them start from."""
    among = among or exchange.alone()
    torch.set_num_threads(1)  # more would wait for each other on pictures as small as these
    learner = learners.build(cfg, card or cards.load("yolox-nano-coco"), NAMES, among)
    rows, there = np.arange(COUNT), labels()
    pictures = Pictures(cfg, there, learner.size_px, picture)
    return Trainer(cfg, learner, pictures, there, rows[rows % 4 > 0], rows[rows % 4 == 0], among)


def trained(cfg: DetectorProfile, among: exchange.Exchange | None = None) -> Trainer:
    """All epochs of a training."""
    made = trainer(cfg, among)
    while not made.done:
        made.run_epoch()
    return made


def shared(cfg: DetectorProfile, workers: int, folder: Path) -> list[dict[str, Any]]:
    """The final states of so many processes that share every batch."""
    return training.shared(cfg, workers, folder, trained)


def written(folder: Path, **changes: Any) -> Path:
    """The pictures with their boxes, a card of random weights, and a profile's YAML file that fine-tunes them."""
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    lines = ["file,x1,y1,x2,y2,label,split"]
    for row in range(COUNT):
        Image.fromarray(picture(row)).save(folder / "pictures" / f"{row:02}.png")
        part = ("val", "train", "train", "test")[row // 2 % 4]
        lines.append(f"{row:02}.png,{','.join(map(str, box(row)))},{name(row)},{part}")
    (folder / "pictures" / "boxes.csv").write_text("\n".join(lines) + "\n")
    torch.manual_seed(3)
    data = save(YoloxNano(len(NAMES)).state_dict())
    (folder / "random.safetensors").write_bytes(data)
    card = {
        "name": "start",
        "task": "detect",
        "architecture": "yolox_nano",
        "yields": ["objects"],
        "classes": ["hound", "tomcat"],
        "labels": {"hound": "dog", "tomcat": "cat"},
        "weights": {"model": {"uri": "random.safetensors", "sha256": hashlib.sha256(data).hexdigest()}},
        "licence": "none",
        "source": "random weights",
    }
    (folder / "start.yaml").write_text(yaml.safe_dump(card))
    values = profile(**changes).model_dump(mode="json", exclude_unset=True)
    values["data"] |= {
        "sources": [{"path": "pictures/boxes.csv"}],
        "short_side_px": 56,
        "cache": str(folder / "cache"),
        "near_bits": None,  # rectangles are alike
    }
    values["detector"] |= {"card": str(folder / "start.yaml"), "random": False}
    path = folder / "rectangles.yaml"
    path.write_text(yaml.safe_dump(values))
    return path
