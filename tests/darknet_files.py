"""Small networks in Darknet's own files, with seeded weights."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from artray.detect import darknet, darknet_cfg

CFG = """
[net]
# Testing
batch=1
batch = 64
width = 96
height=96
channels=3

[convolutional]
batch_normalize=1
filters=8
size=3
stride=2
pad=1
activation=leaky

[maxpool]
size=2
stride=2

[convolutional]
batch_normalize=1
filters=4
size=3
stride=2
pad=1
activation=leaky

[maxpool]
size=2
stride=2

[convolutional]
filters=8
size=3
stride=2
padding=1
activation=leaky

[maxpool]
size=2
stride=1

[route]
layers=3

[reorg]
stride=2

; the fine map beside the coarse one
[route]
layers = -1, -3

[convolutional]
filters={filters}
activation=linear

[region]
anchors = 0.5,0.75, 1.5,2
classes={classes}
coords=4
num=2
softmax=1
jitter=.2
{more}
"""
"""A network like YOLOv2: two anchors on three by three cells."""


def cfg_text(classes: int = 3, more: str = "") -> str:
    return CFG.format(filters=2 * (5 + classes), classes=classes, more=more)


def numbers(cfg: darknet_cfg.Cfg, seed: int = 0) -> NDArray[np.float32]:
    """What a file holds after its header, in its order."""
    rng = np.random.default_rng(seed)
    network = darknet.Network(cfg, cfg.size_wh)
    parts: list[NDArray[Any]] = []
    for conv, is_normalised in zip(network.convolutions(), network.normalised, strict=True):
        parts.append(rng.normal(0, 0.3, conv.out_channels))
        if is_normalised:
            parts += [rng.uniform(low, high, conv.out_channels) for low, high in ((0.5, 1.5), (-0.2, 0.2), (0.3, 2))]
        parts.append(rng.normal(0, (3 / conv.weight[0].numel()) ** 0.5, conv.weight.numel()))
    return np.concatenate(parts).astype("<f4")


def written(folder: Path, text: str, seed: int = 0) -> tuple[Path, Path]:
    """A ``.cfg`` and a ``.weights`` file of version 0.2."""
    config, weights = folder / "small.cfg", folder / "small.weights"
    config.write_text(text)
    header = np.array([0, 2, 0], "<i4").tobytes() + np.array([64], "<i8").tobytes()
    weights.write_bytes(header + numbers(darknet_cfg.parse(text), seed).tobytes())
    return config, weights
