"""``python -m tests.benchmarks.training``: training against a bare PyTorch loop and on two workers, and relabelling.

All do the same work on the same kept pictures with the same network and augmentation, each in a process of its own, in
turn in every round, validation left out. The bare loop is what one writes without a framework: DataLoader, network,
Adam. Two trainings that share nothing, at the same time, are the most that the machine does for two workers.
"""

import argparse
import os
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import simplejpeg
import torch
import torch.multiprocessing
from PIL import Image
from torch import Tensor, distributed, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from artray.archive.sample.make import write_archive
from artray.models import cards, trunks, weights
from artray.pipeline.progress import Silent
from artray.pipeline.rehead import rehead
from artray.train import devices, exchange, fit
from artray.train.cache import Cache
from artray.train.pictures import Pictures
from artray.train.profile import TrainProfile
from artray.train.trainer import Trainer
from tests import made_store
from tests.benchmarks import machine

ROOT = Path(__file__).parents[2]
TWO, MOST = "artray, two workers", "two trainings that share nothing"
BATCH = 64
"""Of all workers together."""

Epoch: TypeAlias = Callable[[], float]
"""Trains for one, and returns its images per second."""


def profile(size_px: int, workers: int) -> TrainProfile:
    """Type of the bundled trunk's last two stages, as the report fine-tunes."""
    return TrainProfile.model_validate(
        {
            "name": "bench",
            "data": {"sources": [{"path": "none"}]},
            "heads": {"type": {}},
            "network": {"size_px": size_px},
            "crop": {"kind": "random_resized", "resize_px": size_px},
            "augment": [{"name": "horizontal_flip"}, {"name": "colour_jitter"}],
            "training": {"batch_size": BATCH, "epochs": 100},
            "workers": {"workers": workers},
        }
    )


def kept(folder: Path, images: int) -> list[Path]:
    """So many pictures of the sample archive, kept with a shorter side of 256 pixels."""
    archive, cache = folder / "archive", Cache(folder / "cache", 256)
    if not archive.exists():
        write_archive(archive, images, 0, 0, lambda done, total: None)
    files = sorted(path for path in archive.rglob("*") if path.suffix in (".jpg", ".png"))[:images]
    paths = []
    for path in files:
        target = cache.path(str(path), "1")
        if not target.exists():
            cache.keep(str(path), "1", np.asarray(Image.open(path).convert("RGB")))
        paths.append(target)
    return paths


class Read:
    """A kept picture by its number."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = list(paths)

    def __call__(self, row: int) -> np.ndarray:
        return simplejpeg.decode_jpeg(self.paths[row].read_bytes(), colorspace="RGB")  # type: ignore[no-any-return]


def ours(paths: Sequence[Path], size_px: int) -> Epoch:
    """artray's loop, as a worker of Ray Train runs it."""
    devices.keep_freed()
    among = exchange.distributed()
    cfg, card = profile(size_px, among.workers), cards.load("efficientnet-lite0-imagenet")
    rows = np.arange(len(paths))
    network = fit.build(cfg, card, among)
    inputs = Pictures(cfg, fit.network_input(cfg, card), Read(paths))
    trainer = Trainer(cfg, network, inputs, {"type": rows % 2}, rows, rows[:0], among)

    def epoch() -> float:
        result = trainer.run_epoch()
        return result.images / result.seconds

    return epoch


class Plain(Dataset[tuple[Tensor, int]]):
    """The bare loop's data."""

    def __init__(self, paths: Sequence[Path], size_px: int) -> None:
        self.read, self.count = Read(paths), len(paths)
        self.transform = v2.Compose(
            [
                v2.Resize(size_px),
                v2.RandomResizedCrop(size_px),
                v2.RandomHorizontalFlip(),
                v2.ColorJitter(0.5, 0.5, 0.5, 0.1),
                v2.ToImage(),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize([127 / 255] * 3, [128 / 255] * 3),
            ]
        )

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.read(row))), row % 2


def bare(paths: Sequence[Path], size_px: int) -> Epoch:
    """A plain loop."""
    file = weights.fetch(cards.load("efficientnet-lite0-imagenet").weights["trunk"])
    trunk = trunks.load("efficientnet_lite0", weights.read_tensors(file))
    stages = trunks.stages("efficientnet_lite0", trunk)
    for name, parameter in trunk.named_parameters():
        parameter.requires_grad_(stages[name] >= 4)
    for part in trunk.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.weight.requires_grad_(True)
            part.bias.requires_grad_(True)
    network = nn.Sequential(trunk, nn.Linear(1280, 1)).to(memory_format=torch.channels_last)
    optimiser = torch.optim.Adam([each for each in network.parameters() if each.requires_grad], lr=1e-4)
    loader = DataLoader(Plain(paths, size_px), batch_size=BATCH, shuffle=True)

    def epoch() -> float:
        start = time.perf_counter()
        network.train()
        for images, truth in loader:
            optimiser.zero_grad(set_to_none=True)
            logits = network(images.contiguous(memory_format=torch.channels_last))[:, 0]
            nn.functional.binary_cross_entropy_with_logits(logits, truth.float()).backward()
            optimiser.step()
        return len(paths) / (time.perf_counter() - start)

    return epoch


class Apart:
    """A contestant in a process of its own; a context manager."""

    def __init__(self, make: Callable[..., Epoch], *given: Any) -> None:
        self._pipe, far = torch.multiprocessing.Pipe()
        context = torch.multiprocessing.get_context("spawn")
        self._process = context.Process(target=_serve, args=(far, make, given), daemon=True)
        self._process.start()

    def begin(self) -> None:
        """Begin an epoch."""
        self._pipe.send(True)

    def end(self) -> float:
        """Wait for its end; returns its images per second."""
        rate: float = self._pipe.recv()
        return rate

    def __call__(self) -> float:
        self.begin()
        return self.end()

    def __enter__(self) -> "Apart":
        return self

    def __exit__(self, *_: object) -> None:
        self._pipe.send(False)
        self._process.join()


def _serve(pipe: Any, make: Callable[..., Epoch], given: Sequence[Any]) -> None:
    torch.set_num_threads(1)
    epoch = make(*given)
    while pipe.recv():
        pipe.send(epoch())


def both(first: Apart, second: Apart) -> float:
    """Images per second of two at the same time."""
    first.begin()
    second.begin()
    return first.end() + second.end()


def two(paths: Sequence[Path], size_px: int, folder: Path, rounds: int) -> list[float]:
    """Images per second of two workers that share batches, a figure per epoch."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(_worker, (port, paths, size_px, folder, rounds), nprocs=2)
    return [float(line) for line in (folder / "two.txt").read_text().split()]


def _worker(rank: int, port: int, paths: Sequence[Path], size_px: int, folder: Path, rounds: int) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", rank=rank, world_size=2)
    epoch = ours(paths, size_px)
    epoch()
    rates = [epoch() for _ in range(rounds)]
    if rank == 0:
        (folder / "two.txt").write_text(" ".join(map(str, rates)))
    distributed.destroy_process_group()


def relabelling(folder: Path, rows: int, rounds: int) -> list[float]:
    """Seconds that new labels of so many stored embeddings take, each time by another card."""
    folder.mkdir()
    names = [made_store.card(folder, f"card-{seed}", seed, "efficientnet_lite0") for seed in range(2)]
    store = made_store.classified(folder / "store", -(-rows * 50 // 49), cards.load(names[0]))  # every 50th has none
    seconds = []
    for number in range(rounds):
        start = time.perf_counter()
        done = rehead(store, str(names[(number + 1) % 2]), Silent())
        seconds.append(time.perf_counter() - start)
        sys.stderr.write(f"rehead: {done.rows:,} rows in {seconds[-1]:.1f} s\n")
    return seconds


def alternating(paths: Sequence[Path], size_px: int, rounds: int) -> dict[str, list[float]]:
    """Images per second by contestant, a figure per round."""
    with Apart(ours, paths, size_px) as one, Apart(ours, paths, size_px) as other, Apart(bare, paths, size_px) as plain:
        epochs: dict[str, Epoch] = {"artray": one, "bare loop": plain, MOST: lambda: both(one, other)}
        rates: dict[str, list[float]] = {name: [] for name in epochs}
        for number in range(rounds + 1):
            for name, epoch in epochs.items():
                rate = epoch()
                if number:  # the first one warms up
                    rates[name].append(rate)
                sys.stderr.write(f"{name}: {rate:.1f} images/s\n")
    return rates


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.training")
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--size", type=int, default=224, help="side of the input")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=100_000, help="stored embeddings that get new labels")
    parser.add_argument("--markdown", type=Path, default=ROOT / "docs" / "benchmarks-training.md")
    told = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        paths = kept(Path(folder), told.images)
        rates = alternating(paths, told.size, told.rounds)
        rates[TWO] = two(paths, told.size, Path(folder), told.rounds)
        seconds = relabelling(Path(folder) / "relabelled", told.rows, told.rounds)
    told.markdown.write_text(page(rates, seconds, told, machine.describe()), encoding="utf-8")


def page(
    rates: dict[str, list[float]], seconds: list[float], told: argparse.Namespace, described: dict[str, Any]
) -> str:
    """The results as Markdown."""
    ratio = statistics.median(one / two for one, two in zip(rates["artray"], rates["bare loop"], strict=True))
    scaled, most = (statistics.median(rates[name]) / statistics.median(rates["artray"]) for name in (TWO, MOST))
    rows = [f"| {name} | {statistics.median(values):.1f} |" for name, values in rates.items()]
    met = "met" if ratio >= 0.9 else "missed"
    relabelled = statistics.median(seconds)
    soon = "met" if relabelled <= 10 * told.rows / 100_000 else "missed"
    return "\n".join(
        [
            "# Benchmarks of training",
            "",
            "Measured by `make bench-train`; this page is written by it.",
            "",
            " ".join((__doc__ or "").split("\n\n", 1)[1].split()),
            "",
            f"{described['date']}; {described['cores']} cores of {described['cpu']}, {described['ram_gib']} GiB. "
            f"{told.images} pictures, inputs of {told.size} pixels, batches of {BATCH}, EfficientNet-Lite0 with "
            f"conv4-5 trained, {told.rounds} rounds, a thread per process.",
            "",
            "| | images/s, median |",
            "|---|---:|",
            *rows,
            "",
            f"artray is {ratio:.2f} times as fast as the bare loop (median of rounds); at least 0.9 wanted: {met}. "
            f"Two workers do {scaled:.2f} times as much as one; two trainings that share nothing {most:.2f} times.",
            "",
            f"`artray rehead` gives {told.rows:,} stored embeddings of 1,280 numbers new types and genres in "
            f"{relabelled:.1f} s (median of {told.rounds}); 10 s for 100,000 wanted: {soon}.",
            "",
            "On a GPU: [benchmarks-training-gpu.md](benchmarks-training-gpu.md).",
            "",
        ]
    )


if __name__ == "__main__":
    main()
