"""Real works and made copies of them, with all that duplicates are found by, and which of them show the same work."""

import csv
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from artray.classify.model import Embedder
from artray.models import cards
from artray.retrieve.alignment import Pictures
from artray.retrieve.duplicates import Copies, Works, components
from artray.retrieve.hashing import look, spectra
from tests.benchmarks.copies import KINDS, made
from tests.benchmarks.rivals import hashes

Ints = npt.NDArray[np.int64]

CARD = "efficientnet-lite2-art"
SEEN = Path(__file__).with_name("same_works.csv")
"""Pairs of files that the list of works does not call the same, but that are, or may be, as somebody saw."""

ORIGINAL = -1


class Set(NamedTuple):
    """N pictures: works, and copies of some of them."""

    works: Works
    work: Ints  # int64[N]: the number of the work
    cluster: Ints  # int64[N]: the same of works that are one, as far as anybody knows
    kind: Ints  # int64[N]: ORIGINAL, or the place in copies.KINDS
    hashes: dict[str, npt.NDArray[np.uint8]]  # rival's name to uint8[N, bytes]

    def at(self, rows: Any) -> "Set":
        """Some of them."""
        pictures = Pictures(*(column[rows] for column in self.works.pictures))
        works = Works(pictures, *(column[rows] for column in self.works[1:]))
        return Set(
            works,
            self.work[rows],
            self.cluster[rows],
            self.kind[rows],
            {name: column[rows] for name, column in self.hashes.items()},
        )


class Costs(NamedTuple):
    """Milliseconds per picture of a processor."""

    look: float
    embedding: float
    hashes: dict[str, float]


def table(data: Path) -> list[dict[str, str]]:
    """The rows of art.csv whose picture is there."""
    with (data / "art.csv").open(encoding="utf-8", newline="") as file:
        return [row for row in csv.DictReader(file) if row["file"]]


def clusters(rows: list[dict[str, str]]) -> Ints:
    """int64[N]: works that the list calls the same, or that somebody saw to be, have the same number."""
    first: dict[str, int] = {}
    pairs = []
    for number, row in enumerate(rows):
        if row["duplicate_group"]:
            pairs.append((first.setdefault(row["duplicate_group"], number), number))
    place = {row["file"]: number for number, row in enumerate(rows)}
    with SEEN.open(encoding="utf-8", newline="") as file:
        pairs += [(place[row["file"]], place[row["other"]]) for row in csv.DictReader(file) if row["other"] in place]
    a, b = np.array(pairs, np.int64).reshape(-1, 2).T
    nothing = np.zeros(len(a), np.int64)
    maps = np.zeros((len(a), 2, 3), np.float32)
    return components(len(rows), Copies(a, b, nothing, nothing.astype(np.float32), nothing, maps))


def chosen(rows: list[dict[str, str]], count: int) -> Ints:
    """The works that are copied."""
    return np.random.default_rng(0).permutation(len(rows))[:count]


def gathered(data: Path, count: int, cache: Path, first: int | None = None) -> tuple[Set, Costs]:
    """All works, and copies of ``count`` of them; kept in ``cache``, some works at a time, for it takes an hour.

    ``first`` takes only so many of the list, with those of them that are among the copied ones.
    """
    rows = table(data)
    cache.mkdir(parents=True, exist_ok=True)
    copied = set(chosen(rows, count).tolist())
    parts = []
    for start in range(0, len(rows) if first is None else first, 50):
        names = range(start, min(start + 50, len(rows)))
        told = "".join(str(int(number in copied)) for number in names)
        file = cache / f"{start:05d}-{int(told, 2):x}.npz"
        if not file.exists():
            np.savez(file, **_part(data, rows, names, copied))
            sys.stderr.write(f"works up to {names.stop} of {len(rows)}\n")
        with np.load(file) as loaded:
            parts.append(dict(loaded))
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    times = {name: float(values.mean()) for name, values in joined.items() if name.startswith("ms_")}
    rivals = {name: joined[f"hash_{name}"] for name in hashes.NAMES if f"hash_{name}" in joined}
    pictures = Pictures(
        joined["thumbnail"],
        spectra(joined["thumbnail"]),
        np.log(joined["width"] / joined["height"]).astype(np.float32),
    )
    count = len(joined["work"])
    works = Works(
        pictures,
        joined["chroma"],
        joined["width"] * joined["height"],
        np.arange(count),
        joined["embedding"],
        np.ones(count, bool),
    )
    costs = Costs(times["ms_look"], times["ms_embedding"], {name: times[f"ms_{name}"] for name in rivals})
    return Set(works, joined["work"], clusters(rows)[joined["work"]], joined["kind"], rivals), costs


def _part(data: Path, rows: list[dict[str, str]], names: range, copied: set[int]) -> dict[str, Any]:
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    embed, methods = Embedder(cards.load(CARD)), hashes.methods()
    columns: dict[str, list[Any]] = {}
    for number in names:
        original = np.asarray(Image.open(data / rows[number]["file"]).convert("RGB"))
        for kind in range(ORIGINAL, len(KINDS) if number in copied else 0):
            picture = original if kind == ORIGINAL else made(original, list(KINDS)[kind], number)
            seen, look_ms = timed(look, picture)
            (embedding,), embedding_ms = timed(embed, [picture])
            row = {"work": number, "kind": kind, "width": picture.shape[1], "height": picture.shape[0]}
            row |= {"thumbnail": seen.thumbnail, "chroma": np.float32(seen.chroma), "ms_look": look_ms}
            row |= {"embedding": embedding.astype(np.float16), "ms_embedding": embedding_ms}
            for name, method in methods.items():
                row[f"hash_{name}"], row[f"ms_{name}"] = timed(method, picture)
            for name, value in row.items():
                columns.setdefault(name, []).append(value)
    return {name: np.array(values) for name, values in columns.items()}


def timed(function: Any, argument: Any) -> tuple[Any, float]:
    """What a function returns, and the milliseconds of a processor that it took."""
    start = time.thread_time()
    found = function(argument)
    return found, (time.thread_time() - start) * 1e3


def halves(every: Set) -> tuple[Set, Set]:
    """Half of the works, by which thresholds are chosen, and the other half, on which they are judged."""
    random = np.random.default_rng(1).permutation(int(every.cluster.max()) + 1) % 2 == 0
    first = random[every.cluster]
    return every.at(np.flatnonzero(first)), every.at(np.flatnonzero(~first))
