"""``python -m tests.benchmarks.training_gpu``: training on a GPU against what its forward and backward passes alone do.

The network, the batch size and the precision are those of the training; its pictures are read, decoded and augmented
by processes beside it, which live from epoch to epoch: an epoch is measured that follows on another. The limit is a
loop over one batch that stays on the GPU: forward and backward passes, no optimiser. All in turn in every round,
validation left out. Ray is not needed, nor are a store's packages.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.nn import functional

from artray.models import trunks
from artray.models.cards import Input
from artray.train import epochs, exchange
from artray.train.cache import Cache
from artray.train.networks import Network
from artray.train.pictures import Pictures
from artray.train.profile import TrainProfile
from artray.train.sampling import Share
from artray.train.trainer import Trainer

ROOT = Path(__file__).parents[2]
SAMPLE = Path(trunks.__file__).parents[1] / "archive" / "sample" / "images"
WANTED = 0.85
PASSES = 40
"""Of the limit, at most."""

PRECISION = {"cuda": "bfloat16", "cpu": "float32"}
SHORT_SIDE_PX = 400
"""Of kept pictures. Source: report, Image Classification, section 4.2."""


def profile(told: argparse.Namespace, graph: bool = False) -> TrainProfile:
    """Types, the whole network trained, in the report's size, crops and mirroring; graph: workers.cuda_graph."""
    return TrainProfile.model_validate(
        {
            "name": "bench",
            "data": {"sources": [{"path": "none"}]},
            "heads": {"type": {}},
            "network": {"trained": "all"},
            "crop": {"kind": "random_resized"},
            "augment": [{"name": "horizontal_flip"}],
            "training": {"batch_size": told.batch, "epochs": 100, "precision": PRECISION[told.device]},
            "workers": {"device": told.device, "loader_processes": told.processes, "cuda_graph": graph},
        }
    )


def spec(told: argparse.Namespace) -> Input:
    """The network's, with ImageNet's mean and deviation."""
    return Input(size_px=told.size, mean=(124.0, 116.0, 104.0), std=(58.0, 57.0, 57.0), resize="squash")


class Read:
    """A kept picture by its number: those of the sample archive, over and over."""

    def __init__(self, cache: Cache, names: Sequence[str]) -> None:
        self.cache, self.names = cache, list(names)

    def __call__(self, row: int) -> np.ndarray:
        image = self.cache.read(self.names[row % len(self.names)], "1")
        assert image is not None
        return image


def kept(folder: Path) -> Read:
    """The pictures of the sample archive, kept as a training keeps them."""
    cache, files = Cache(folder, SHORT_SIDE_PX), sorted(SAMPLE.rglob("*.jpg"))
    for file in files:
        cache.keep(file.name, "1", np.asarray(Image.open(file).convert("RGB")))
    return Read(cache, [file.name for file in files])


def network(architecture: str, device: str) -> Network:
    """With random weights."""
    made = Network(trunks.make(architecture), trunks.dim(architecture), {"type": (1,)})
    return made.to(device).to(memory_format=torch.channels_last)


def ours(architecture: str, read: Read, told: argparse.Namespace, graph: bool = False) -> Callable[[], float]:
    """An epoch of artray's loop, after one that starts its processes; returns its images per second."""
    cfg, rows = profile(told, graph), np.arange(told.images)
    trainer = Trainer(
        cfg,
        network(architecture, told.device),
        Pictures(cfg, spec(told), read),
        {"type": rows % 2},
        rows,
        rows[:0],
        exchange.alone(),
    )

    def epoch() -> float:
        trainer.run_epoch()  # begins with nothing prepared, the next one with what is prepared whenever one ends
        result = trainer.run_epoch()
        trainer.close()  # its processes would go on while others are measured
        return result.images / result.seconds

    return epoch


def limit(architecture: str, told: argparse.Namespace) -> Callable[[], float]:
    """Forward and backward passes of a batch that stays where it is; returns their images per second."""
    model = network(architecture, told.device).train()
    images = torch.randn(told.batch, 3, told.size, told.size, device=told.device)
    images = images.contiguous(memory_format=torch.channels_last)
    truth = torch.arange(told.batch, device=told.device).remainder(2).float()

    def passes(count: int) -> None:
        for _ in range(count):
            model.zero_grad(set_to_none=True)
            with torch.autocast(told.device, torch.bfloat16, enabled=told.device == "cuda"):
                logits = model(images)["type"][:, 0]
            functional.binary_cross_entropy_with_logits(logits.float(), truth).backward()
        if told.device == "cuda":
            torch.cuda.synchronize()

    def epoch() -> float:
        passes(10)  # cuDNN tries out its kernels
        start, count = time.perf_counter(), min(PASSES, max(1, told.images // told.batch))
        passes(count)
        return count * told.batch / (time.perf_counter() - start)

    return epoch


def loading(read: Read, told: argparse.Namespace) -> float:
    """Images per second that the processes beside the training prepare, with nobody who trains."""
    cfg, rows = profile(told), np.arange(told.images)

    def planned(number: int) -> tuple[epochs.Epoch, list[Share]]:
        epoch = epochs.plan(cfg, {"type": rows % 2}, rows, number)
        return epoch, epoch.shares(told.batch, exchange.alone())

    pictures, start, images = Pictures(cfg, spec(told), read), 0.0, 0
    for number in range(2):  # the first one starts the processes
        start = time.perf_counter()
        images = sum(len(batch) for batch in pictures.training(number, 0, planned))
    rate = images / (time.perf_counter() - start)
    pictures.close()
    return rate


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.training_gpu")
    parser.add_argument("--architectures", nargs="+", default=["resnet50", "densenet201"])
    parser.add_argument("--images", type=int, default=12_800)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--size", type=int, default=224, help="side of the input")
    parser.add_argument("--processes", type=int, default=max(1, (os.cpu_count() or 2) - 1), help="that read pictures")
    parser.add_argument("--device", choices=list(PRECISION), default="cuda", help="cpu to try this script")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--markdown", type=Path, default=ROOT / "docs" / "benchmarks-training-gpu.md")
    told = parser.parse_args()
    torch.backends.cudnn.benchmark = True
    found: dict[str, Any] = {
        "gpu": torch.cuda.get_device_name(0) if told.device == "cuda" else "none",
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        **{name: getattr(told, name) for name in ("images", "batch", "size", "processes", "rounds")},
        "rates": {},
    }
    with tempfile.TemporaryDirectory() as folder:
        read = kept(Path(folder))
        found["loading"] = loading(read, told)
        for architecture in told.architectures:
            contestants = {"artray": ours(architecture, read, told), "limit": limit(architecture, told)}
            if told.device == "cuda":
                contestants["graph"] = ours(architecture, read, told, graph=True)
            rates: dict[str, list[float]] = {name: [] for name in contestants}
            for _ in range(told.rounds):
                for name, epoch in contestants.items():
                    rates[name].append(epoch())
                    sys.stderr.write(f"{architecture} {name}: {rates[name][-1]:.0f} images/s\n")
            found["rates"][architecture] = rates
            told.json.write_text(json.dumps(found, indent=1), encoding="utf-8")
    told.markdown.write_text(page(found), encoding="utf-8")


def page(found: dict[str, Any]) -> str:
    """The results as Markdown."""
    rows = []
    for architecture, rates in found["rates"].items():
        limits, cells, ratios = rates["limit"], [], []
        for name in ("artray", "graph"):
            if own := rates.get(name):
                ratios.append(statistics.median(one / most for one, most in zip(own, limits, strict=True)))
                cells.append(f"{statistics.median(own):,.0f} ({ratios[-1]:.2f})")
        met = "met" if max(ratios) >= WANTED else "missed"
        cells += ["not run"] * (2 - len(cells))
        rows.append(f"| {architecture} | {' | '.join(cells)} | {statistics.median(limits):,.0f} | {WANTED}: {met} |")
    return "\n".join(
        [
            "# Benchmarks of training on a GPU",
            "",
            "Measured by `python -m tests.benchmarks.training_gpu`; this page is written by it.",
            "",
            " ".join((__doc__ or "").split("\n\n", 1)[1].split()),
            "",
            f"{found['date']}; {found['gpu']}, {found['cores']} processor cores; torch {found['torch']}. Mixed "
            f"precision (bfloat16), batches of {found['batch']}, inputs of {found['size']} pixels, "
            f"{found['images']:,} pictures with a shorter side of {SHORT_SIDE_PX} pixels per epoch, "
            f"{found['processes']} processes that prepare them, {found['rounds']} rounds; "
            "cuDNN tries out its kernels for all.",
            "",
            "Images per second, and in brackets as a part of the limit:",
            "",
            "| | artray | with `workers.cuda_graph` | limit | wanted |",
            "|---|---:|---:|---:|---:|",
            *rows,
            "",
            f"Reading, decoding and augmenting alone, with nobody who trains: {found['loading']:,.0f} images/s.",
            "",
        ]
    )


if __name__ == "__main__":
    main()
