"""Made works among real ones: as many as an archive has, each a mixture of three real ones.

A mixture is of random parts of real thumbnails, in random turns and with weights of a third or so each, its embedding
the same mixture of real embeddings, with noise: it has a real work's frequencies and lies where real embeddings lie.
"""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from artray.retrieve.alignment import Pictures
from artray.retrieve.duplicates import Works
from artray.retrieve.hashing import SIDE_PX, TURNS, laid, spectra
from artray.retrieve.registration import into_windows, sample
from tests.benchmarks.copied_works import ORIGINAL, Set

Floats = npt.NDArray[np.float32]

BATCH = 10_000
SOURCES = 3
MADE = ORIGINAL - 1
"""The kind of a made work."""


def among(real: Set, rows: int, scratch: Path) -> Set:
    """``rows`` made works with the pictures of a set among them, in random places; the large arrays are files."""
    total = rows + len(real.work)
    place = np.random.default_rng(0).permutation(total)
    scratch.mkdir(parents=True, exist_ok=True)
    thumbnails = np.memmap(scratch / "made-thumbnails", np.uint8, "w+", shape=(total, SIDE_PX, SIDE_PX))
    shape = (total, real.works.embeddings.shape[1])
    embeddings = np.memmap(scratch / "made-embeddings", np.float16, "w+", shape=shape)
    aspects = np.random.default_rng(1).normal(0, 0.35, total).astype(np.float32)
    originals = np.flatnonzero(real.kind == ORIGINAL)
    for start in range(0, rows, BATCH):
        here = place[start : min(start + BATCH, rows)]
        thumbnails[here], embeddings[here] = mixtures(real.works, originals, len(here), start)
    there = place[rows:]
    thumbnails[there], embeddings[there] = real.works.pictures.thumbnails, real.works.embeddings
    aspects[there] = real.works.pictures.aspects
    parts = [spectra(thumbnails[start : start + BATCH]) for start in range(0, total, BATCH)]
    pictures = Pictures(thumbnails, np.concatenate(parts), aspects)
    chroma = spread(total, there, real.works.chroma, 20.0)
    pixels = spread(total, there, real.works.pixels, 200_000)
    works = Works(pictures, chroma, pixels, np.arange(total), embeddings, np.ones(total, bool))
    work = spread(total, there, real.work, -1)
    work[work < 0] = int(real.work.max()) + 1 + np.arange(rows)
    cluster = spread(total, there, real.cluster, -1)
    cluster[cluster < 0] = int(real.cluster.max()) + 1 + np.arange(rows)
    return Set(works, work, cluster, spread(total, there, real.kind, MADE), {})


def spread(total: int, there: Any, values: Any, other: Any) -> Any:
    """Values at some places, another one everywhere else."""
    found = np.full(total, other, values.dtype)
    found[there] = values
    return found


def mixtures(works: Works, rows: Any, count: int, seed: int) -> tuple[Floats, Floats]:
    """Thumbnails uint8[N, 32, 32] and embeddings float16[N, D]."""
    rng = np.random.default_rng([2, seed])
    sources = rows[rng.integers(0, len(rows), (SOURCES, count))]
    weights = rng.dirichlet([9] * SOURCES, count).T.astype(np.float32)
    mixed = sum(w[:, None, None] * parts(works, source, rng) for w, source in zip(weights, sources, strict=True))
    mixed = mixed - mixed.mean(axis=(1, 2), keepdims=True)
    mixed *= rng.uniform(25, 70, (count, 1, 1)) / (mixed.std(axis=(1, 2), keepdims=True) + 1)
    thumbnails = np.clip(mixed + rng.uniform(60, 180, (count, 1, 1)), 0, 255).astype(np.uint8)
    own = works.embeddings[sources].astype(np.float32)
    vectors = np.einsum("sn,snd->nd", weights, own)
    vectors += rng.normal(0, 0.35 / np.sqrt(vectors.shape[1]), vectors.shape)
    return thumbnails, (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)


def parts(works: Works, rows: Any, rng: np.random.Generator) -> Floats:
    """Random parts of thumbnails, in random turns: float32[N, 32, 32]."""
    sides = rng.uniform(0.45, 1, (len(rows), 2))
    starts = rng.uniform(0, 1 - sides)
    windows = np.concatenate([starts, starts + sides], axis=1).astype(np.float32)
    found, _ = sample(works.pictures.thumbnails[rows].astype(np.float32), into_windows(windows))
    turns = rng.integers(0, len(TURNS), len(rows))
    for turn in range(len(TURNS)):
        found[turns == turn] = laid(found[turns == turn], TURNS[turn])
    return found
