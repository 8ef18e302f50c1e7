"""The work that all contestants do: the same pictures, the same decoder and models, the same columns into Parquet."""

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torchvision import transforms

from artray import config, schema
from artray.models import cards, trunks, weights
from artray.schema import Batch

BATCH_IMAGES = 16
SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".gif", ".bmp", ".jp2", ".avif")

RESULT = pa.schema(
    [
        pa.field("image_id", pa.string()),
        pa.field("width_px", pa.int32()),
        pa.field("height_px", pa.int32()),
        *schema.CLASSIFIED,
        *schema.DETECTED,
    ]
)
"""What every contestant writes of an image; artray writes more."""


class Task(NamedTuple):
    """What a rival is told."""

    archive: Path
    out: Path  # an empty folder
    cores: int
    profile: config.Profile


def task() -> Task:
    """From the command line of a rival's process."""
    parser = argparse.ArgumentParser()
    parser.add_argument("archive", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--cores", type=int, default=os.cpu_count())
    parser.add_argument("--set", action="append", default=[], metavar="section.key=value")
    told = parser.parse_args()
    return Task(told.archive, told.out, told.cores, config.load("bundled", told.set))


def pictures(archive: Path) -> list[Path]:
    """Every image file of the archive, by name."""
    return sorted(path for path in archive.rglob("*") if path.suffix.lower() in SUFFIXES)


class Models:
    """The profile's classifier and detectors, as artray's own workers make them.

    ``threads`` is how many threads torch uses in this process; None leaves it to torch.
    """

    def __init__(self, profile: config.Profile, threads: int | None) -> None:
        from artray.classify.stage import Classify
        from artray.detect.stage import Detect

        if threads:
            torch.set_num_threads(threads)
        self.classify, self.detect = Classify(profile.classify), Detect(profile.detect)

    def __call__(self, ids: Sequence[str], pixels: Sequence[Any], sizes_wh: Sequence[tuple[int, int]]) -> pa.Table:
        """Rows of :data:`RESULT` for pictures uint8[H, W, 3] whose longer side is at most ``decode.max_side_px``."""
        batch: Batch = {
            "image_id": list(ids),
            "pixels": list(pixels),
            "width_px": [width for width, _ in sizes_wh],
            "height_px": [height for _, height in sizes_wh],
            "error": [""] * len(ids),
            "error_detail": [""] * len(ids),
        }
        done = self.detect(self.classify(batch))
        if failed := [detail for detail in done["error_detail"] if detail]:
            raise RuntimeError(f"expected results of every picture, got {failed[0]}")  # no work is quickly done
        return schema.table(done, RESULT)


class PlainModels(Models):
    """The same weights in the code that a user of a guide writes: whole batches through timm's network as it is.

    ``threads`` as of :class:`Models`. The detectors are artray's own here, too.
    """

    def __init__(self, profile: config.Profile, threads: int | None) -> None:
        super().__init__(profile, threads)
        self.classify.embedders = {
            card.trunk_key(): PlainEmbedder(card) for card in map(cards.load, profile.classify.cards)
        }


class PlainEmbedder:
    """Resize, normalise, one forward pass of the batch, unit norm."""

    def __init__(self, card: cards.Card) -> None:
        self.spec, self.dim = card.input, card.embedding_dim
        self.trunk = trunks.load(card.architecture, weights.read_tensors(weights.fetch(card.weights["trunk"], "guide")))
        size = (card.input.size_px, card.input.size_px)
        mean, std = ([value / 255 for value in values] for values in (card.input.mean, card.input.std))
        self.transform = transforms.Compose(
            [transforms.ToTensor(), transforms.Resize(size), transforms.Normalize(mean, std)]
        )

    def __call__(self, images: Sequence[Any]) -> Any:
        """float32[N, D] of uint8[H, W, 3] pictures."""
        with torch.inference_mode():
            features = self.trunk(torch.stack([self.transform(image) for image in images]))
            return torch.nn.functional.normalize(features).numpy()


def ready(out: Path) -> None:
    """Note that a process of a rival has its models loaded: the empty file's time is the moment."""
    (out / f"ready-{os.getpid()}").touch()


def ready_at(out: Path) -> float | None:
    """When the first of them was ready, in seconds since the epoch."""
    return min((path.stat().st_mtime for path in out.glob("ready-*")), default=None)


def write(tables: Sequence[pa.Table], out: Path) -> None:
    """All rows into one Parquet file."""
    pq.write_table(pa.concat_tables(tables), out / "rows.parquet", compression="zstd")


def finished(**more: Any) -> None:
    """Tell the moment at which the last row was in Parquet; the last line that a rival prints."""
    sys.stdout.write("\n" + json.dumps({"end_at": time.time(), **more}) + "\n")
    sys.stdout.flush()


def fit(pixels: Any, max_side_px: int) -> Any:
    """A picture uint8[H, W, 3] made smaller so that its longer side is at most ``max_side_px``."""
    import cv2

    height, width = pixels.shape[:2]
    scale = max_side_px / max(height, width)
    if scale >= 1:
        return pixels
    size_wh = max(1, round(width * scale)), max(1, round(height * scale))
    return cv2.resize(pixels, size_wh, interpolation=cv2.INTER_AREA)
