"""Made embeddings that lie as real ones do: as many as wanted, the same for the same seed."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

NEIGHBOURS = 5
DIRECTIONS = 500
NOISE = 0.8


def real(folder: Path | None, count: int, cache: Path) -> Floats:
    """float32[N, 1280] of unit norm: the bundled classifier's embeddings of pictures.

    Args:
        folder: of pictures; None for variations of the sample's works.
        count: how many, at most.
        cache: where they are kept, as a .npy file.
    """
    if cache.exists():
        kept: Floats = np.load(cache)
        return kept
    from PIL import Image

    from artray.archive.sample import make
    from artray.classify.model import Embedder
    from artray.models import cards

    if folder is None:
        folder = cache.with_suffix(".pictures")
        make.write_archive(folder, count, 0, 0, lambda *_: None)
    paths = sorted(path for path in folder.rglob("*") if path.suffix in (".jpg", ".png", ".webp"))
    embed = Embedder(cards.load("efficientnet-lite2-art"))
    found = [
        embed([np.asarray(Image.open(path).convert("RGB"))])[0] for path in paths[:: max(1, -(-len(paths) // count))]
    ]
    made = np.stack(found)
    np.save(cache, made)
    return made


def made(real: Floats, rows: int, dim: int, seed: int = 0, batch: int = 20_000) -> Iterator[Floats]:
    """float32[<= batch, dim] of unit norm, ``rows`` in all.

    Each is a real embedding, in the ``dim`` directions in which these differ most, moved by structured noise: a random
    mixture of the differences between real embeddings and their nearest neighbours, so that it goes where works differ
    from their kin, and by as much.
    """
    points = projected(real, dim)
    cosines = points @ points.T
    np.fill_diagonal(cosines, -1)
    near = np.argpartition(-cosines, NEIGHBOURS, axis=1)[:, :NEIGHBOURS]
    apart = (points[near] - points[:, None]).reshape(-1, dim)
    random = np.random.default_rng(seed)
    apart = apart[random.permutation(len(apart))[:DIRECTIONS]]
    for start in range(0, rows, batch):
        count = min(batch, rows - start)
        noise = random.normal(size=(count, len(apart))).astype(np.float32) @ apart / np.sqrt(len(apart))
        yield _unit(points[random.integers(len(points), size=count)] + NOISE * noise)


def projected(real: Floats, dim: int) -> Floats:
    """float32[N, dim] of unit norm: embeddings in the directions in which they differ most."""
    middle = real - real.mean(axis=0)
    directions = np.linalg.svd(middle, full_matrices=False)[2][:dim]
    return _unit((middle @ directions.T).astype(np.float32))


def _unit(vectors: Floats) -> Floats:
    unit: Floats = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return unit
