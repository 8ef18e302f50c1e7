"""The recipe of the bundled heads: linear heads for type and genre, fitted on frozen embeddings.

    python -m artray.classify.fit_heads --data art.csv --out heads

``art.csv`` has the columns file (relative to it), split (train, val or test), artist, repo, type and genre; a row may
lack a type or a genre. Writes heads.safetensors and metrics.json, and prints a table.

Every picture is embedded three times: as it is, mirrored, and without its colours. How strongly to regularise, and how
far to balance the classes, is chosen by cross-validation over the artists of train and val; the heads are then fitted
on both, and test is looked at once. Prints are no type: they count for the genre alone, and are shown apart. The
same data and threads give the same file.
"""

import argparse
import csv
import itertools
import json
import sys
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from artray.classify import heads
from artray.classify.fit_metrics import bootstrap, markdown, measure
from artray.classify.inputs import Image
from artray.classify.model import Embedder
from artray.errors import ConfigError
from artray.models import cards
from artray.taxonomy import GENRES, TYPES

Floats: TypeAlias = NDArray[np.float32]

CLASSES: Final = {"type": TYPES, "genre": GENRES}
VIEWS: Final = ("plain", "mirrored", "grey")
FOLDS: Final = 5
STRENGTHS: Final = (3e-4, 1e-3, 3e-3, 1e-2)
"""Inverse strengths of regularisation that are tried: scikit-learn's C, for standardised features."""

BALANCES: Final = (0.5, 0.75, 1.0)
"""Exponents of the classes' weights that are tried: 0 leaves the classes as they are, 1 makes them weigh the same."""

CHOSEN_BY: Final = {"type": "mcc", "genre": "macro_f1"}
ITERATIONS: Final = 60


class Work(NamedTuple):
    """One picture and what is known of it."""

    path: Path
    split: str
    artist: str  # or the book, where the artist is not known
    labels: dict[str, str]  # "type" and "genre": a class, "print" as a type, or ""


class Linear(NamedTuple):
    """A head before it is saved."""

    weight: NDArray[np.float64]  # [C, D]
    bias: NDArray[np.float64]  # [C]


class Choice(NamedTuple):
    """How a head is fitted."""

    strength: float
    balance: float


def read(data: Path) -> list[Work]:
    """The rows of a CSV file whose pictures are there.

    Raises:
        ConfigError: it cannot be read, or lacks a column.
    """
    try:
        with data.open(newline="", encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file) if row["file"]]
            return [
                Work(
                    data.parent / row["file"],
                    row["split"],
                    row["artist"].strip().lower() or row["repo"],
                    {task: row[task] for task in CLASSES},
                )
                for row in rows
            ]
    except OSError as error:
        raise ConfigError(f"--data {data}: cannot be read ({error.strerror})") from error
    except KeyError as error:
        raise ConfigError(f"--data {data}: expected a column {error}") from error


def embed(works: Sequence[Work], card: cards.Card) -> Floats:
    """float32[V, N, D]: the embeddings of every picture in every view of :data:`VIEWS`."""
    embedder = Embedder(card)
    return np.stack([embedder(views(work.path)) for work in works], axis=1)


def views(path: Path) -> list[Image]:
    """A picture as it is, mirrored, and without its colours."""
    pixels = cv2.imread(str(path))
    if pixels is None:
        raise ConfigError(f"{path}: expected a picture; the CSV file names it")
    plain = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB).astype(np.uint8)
    grey = np.repeat(cv2.cvtColor(plain, cv2.COLOR_RGB2GRAY)[:, :, None], 3, axis=2).astype(np.uint8)
    return [plain, np.ascontiguousarray(plain[:, ::-1]), grey]


def fit(embeddings: Floats, class_ids: NDArray[np.int64], classes: int, choice: Choice) -> Linear:
    """A linear head by logistic regression on standardised embeddings; the standardisation is folded into it.

    Args:
        embeddings: float32[V, N, D].
        class_ids: int64[N].
        classes: how many there are.
        choice: regularisation and balance.
    """
    rows = embeddings.reshape(-1, embeddings.shape[-1])
    mean, std = rows.mean(axis=0, dtype=np.float64), rows.std(axis=0, dtype=np.float64) + 1e-6
    features = torch.from_numpy(((rows - mean) / std).astype(np.float32))
    target = torch.from_numpy(np.tile(class_ids, len(embeddings)))
    counts = np.maximum(np.bincount(class_ids, minlength=classes), 1)
    row_weights = torch.from_numpy((len(class_ids) / counts) ** choice.balance).float()[target]
    row_weights /= row_weights.sum()
    weight = torch.zeros(classes, rows.shape[1], requires_grad=True)
    bias = torch.zeros(classes, requires_grad=True)
    optimiser = torch.optim.LBFGS([weight, bias], max_iter=ITERATIONS, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        losses = torch.nn.functional.cross_entropy(features @ weight.T + bias, target, reduction="none")
        total = (losses * row_weights).sum() + weight.square().sum() / (2 * choice.strength * len(class_ids))
        total.backward()  # type: ignore[no-untyped-call]
        return total

    optimiser.step(loss)  # type: ignore[no-untyped-call]
    folded = weight.detach().double().numpy() / std
    return Linear(folded, bias.detach().double().numpy() - folded @ mean)


def predict(head: Linear, embeddings: Floats) -> NDArray[np.int64]:
    """int64[N]: the most probable class of embeddings float32[N, D]."""
    return np.asarray((embeddings @ head.weight.T + head.bias).argmax(axis=1))


def choose(task: str, embeddings: Floats, class_ids: NDArray[np.int64], artists: Sequence[str]) -> Choice:
    """The best choice by cross-validation; all works of an artist are in one fold."""
    folds = np.array([zlib.crc32(artist.encode()) % FOLDS for artist in artists])
    scores: dict[Choice, float] = {}
    for choice in itertools.starmap(Choice, itertools.product(STRENGTHS, BALANCES)):
        predicted = np.empty(len(class_ids), np.int64)
        for fold in range(FOLDS):
            held, rest = folds == fold, folds != fold
            head = fit(embeddings[:, rest], class_ids[rest], len(CLASSES[task]), choice)
            predicted[held] = predict(head, embeddings[0, held])
        scores[choice] = measure(CLASSES[task], class_ids, predicted)[CHOSEN_BY[task]]
        sys.stderr.write(f"{task}: {choice}: {CHOSEN_BY[task]} {scores[choice]:.3f}\n")
    return max(scores, key=scores.__getitem__)


def train(task: str, works: Sequence[Work], embeddings: Floats) -> tuple[Linear, Choice]:
    """The head of a task, from all works of train and val that have a class of it."""
    names = CLASSES[task]
    mask = np.array([work.split != "test" and work.labels[task] in names for work in works])
    known = [work for work, keep in zip(works, mask, strict=True) if keep]
    class_ids = np.array([names.index(work.labels[task]) for work in known])
    choice = choose(task, embeddings[:, mask], class_ids, [work.artist for work in known])
    return fit(embeddings[:, mask], class_ids, len(names), choice), choice


def evaluate(task: str, head: heads.Head, works: Sequence[Work], embeddings: Floats) -> dict[str, Any]:
    """Metrics on test with 95 % intervals, and what becomes of the prints of train, val and test.

    Args:
        task: "type" or "genre".
        head: as a card's.
        works: N of them.
        embeddings: float32[N, D], of the pictures as they are.
    """
    names = CLASSES[task]
    places = [n for n, work in enumerate(works) if work.split == "test" and work.labels[task] in names]
    truth = np.array([names.index(works[n].labels[task]) for n in places])
    predicted = heads.score(head, embeddings[places]).argmax(axis=1)
    result: dict[str, Any] = {"n": len(places), "metrics": bootstrap(names, truth, predicted)}
    if task == "type":
        prints = [n for n, work in enumerate(works) if work.labels["type"] == "print"]
        counts = np.bincount(heads.score(head, embeddings[prints]).argmax(axis=1), minlength=len(names))
        result["prints"] = dict(zip(names, counts.tolist(), strict=True))
    return result


def run(data: Path, out: Path, card_name: str) -> str:
    """Fit both heads, save them with their metrics, and return the table as Markdown."""
    from safetensors.numpy import save_file

    torch.set_num_threads(1)
    works, card = read(data), cards.load(card_name)
    out.mkdir(parents=True, exist_ok=True)
    embeddings = _cached_embeddings(works, card, out / f"embeddings-{card.trunk_key()}.npy")
    tensors: dict[str, Floats] = {}
    results: dict[str, Any] = {}
    for task, names in CLASSES.items():
        linear, choice = train(task, works, embeddings)
        weight, bias = (part.astype(np.float32) for part in linear)
        tensors |= {f"{task}.0.weight": weight, f"{task}.0.bias": bias}
        head = heads.Head(names, (heads.Layer(weight.astype(np.float64), bias.astype(np.float64)),))
        results[task] = evaluate(task, head, works, embeddings[0]) | {"choice": choice._asdict()}
    save_file(tensors, out / "heads.safetensors")
    (out / "metrics.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    return markdown(results)


def _cached_embeddings(works: Sequence[Work], card: cards.Card, path: Path) -> Floats:
    """Embeddings from an earlier run with as many works and the same trunk, or new ones."""
    if path.exists():
        stored: Floats = np.load(path, allow_pickle=False)
        if stored.shape[:2] == (len(VIEWS), len(works)):
            return stored
    embeddings = embed(works, card)
    np.save(path, embeddings)
    return embeddings


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m artray.classify.fit_heads", description="Fit the bundled heads.")
    parser.add_argument("--data", type=Path, required=True, help="CSV file: file, split, artist, repo, type, genre")
    parser.add_argument("--out", type=Path, required=True, help="folder for heads.safetensors and metrics.json")
    parser.add_argument("--card", default="efficientnet-lite0-art", help="card whose trunk makes the embeddings")
    given = parser.parse_args(arguments)
    sys.stdout.write(run(given.data, given.out, given.card))


if __name__ == "__main__":
    main()
