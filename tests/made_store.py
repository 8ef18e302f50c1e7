"""Made rows: records of a store without an archive or a model, as many as wanted, the same for the same seed."""

import hashlib
import os
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import yaml
from safetensors.numpy import save_file

from artray import schema, taxonomy
from artray.config import Profile
from artray.models import trunks
from artray.models.cards import Card
from artray.pipeline.report import Report, embedding_of
from artray.retrieve import hashing
from artray.store.layout import Store, create_store
from artray.store.records import Records

START = datetime(2024, 1, 1, tzinfo=timezone.utc)
ARTISTS = ("Vincent van Gogh", "Rembrandt van Rijn", "Albrecht Dürer", "Rachel Ruysch", "J. M. W. Turner")


def tables(rows: int, dim: int = 8, seed: int = 0, batch: int = 10_000) -> Iterator[pa.Table]:
    """Tables of schema.RECORD, ``rows`` rows in all: every 50th failed, every 97th vanished, embeddings in clusters."""
    centres = np.random.default_rng(seed).normal(size=(40, dim))
    for start in range(0, rows, batch):
        yield _table(seed, centres, range(start, min(start + batch, rows)))


def store(folder: os.PathLike[str] | str, rows: int, dim: int = 8, seed: int = 0, batch: int = 10_000) -> Store:
    """A store of made rows."""
    made = create_store(folder)
    records = Records.create(made)
    for table in tables(rows, dim, seed, batch):
        records.append(table)
    return made


def card(folder: Path, name: str, seed: int, architecture: str = "resnet18", **changes: Any) -> Path:
    """A card without weights for its trunk, and random heads."""
    random, dim, tensors = np.random.default_rng(seed), trunks.dim(architecture), {}
    for task, names in (("type", taxonomy.TYPES), ("genre", taxonomy.GENRES)):
        tensors |= {
            f"{task}.0.weight": random.normal(size=(len(names), dim)).astype(np.float32) * 20,
            f"{task}.0.bias": random.normal(size=len(names)).astype(np.float32),
        }
    save_file(tensors, folder / f"{name}.safetensors")
    digest = hashlib.sha256((folder / f"{name}.safetensors").read_bytes()).hexdigest()
    values = {
        "name": name,
        "task": "classify",
        "architecture": architecture,
        "input": {"size_px": 64, "mean": [127, 127, 127], "std": [128, 128, 128]},
        "yields": ["type", "genre", "embedding"],
        "heads": {"type": list(taxonomy.TYPES), "genre": list(taxonomy.GENRES)},
        "weights": {
            "trunk": {"uri": "torchvision://ResNet18_Weights.IMAGENET1K_V1"},
            "heads": {"uri": f"{name}.safetensors", "sha256": digest},
        },
        "embedding_dim": dim,
        "licence": "none",
        "source": "tests",
    } | changes
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def classified(folder: os.PathLike[str] | str, rows: int, maker: Card, batch: int = 10_000) -> Store:
    """A store of made rows whose embeddings are a card's, with that card's run."""
    made = create_store(folder)
    records, place = Records.create(made), schema.RECORD.get_field_index("models")
    for table in tables(rows, maker.embedding_dim, 0, batch):
        models = pa.array([f"{maker.name}@{maker.fingerprint()},decode@640"] * table.num_rows, pa.string())
        records.append(table.set_column(place, schema.RECORD.field(place), models))
    classify = Profile(name="made").classify.model_copy(update={"cards": (maker.name,)})
    with Report(made, "/archive", "run-1", Profile(name="made").model_copy(update={"classify": classify}), [maker]):
        pass
    made.write_json(
        "store.json", (made.read_json("store.json") or {}) | {"archive": "/archive", "embedding": embedding_of(maker)}
    )
    return made


def _table(seed: int, centres: np.ndarray, indices: range) -> pa.Table:
    randoms = [np.random.default_rng([seed, index]) for index in indices]  # a row is the same in any batch
    vectors = np.stack([centres[r.integers(len(centres))] + 0.7 * r.normal(size=centres.shape[1]) for r in randoms])
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    rows = [_row(random, index) for random, index in zip(randoms, indices, strict=True)]
    _look(rows)
    batch: dict[str, list[Any]] = {name: [row.get(name) for row in rows] for name in schema.RECORD.names}
    del batch["embedding"]
    table = schema.table(batch, schema.RECORD)
    failed = np.array([row["error"] != "" for row in rows])
    return table.set_column(schema.RECORD.get_field_index("embedding"), "embedding", _lists(vectors, failed))


def _look(rows: list[dict[str, Any]]) -> None:
    """Give rows with a spectrum the thumbnail that it is of, and what is computed from that."""
    good = [row for row in rows if "spectrum" in row]
    transform = hashing.cosines(hashing.FREQUENCIES, hashing.SIDE_PX)
    spectra = np.array([row.pop("spectrum") for row in good]).reshape(-1, 8, 8)
    thumbnails = np.clip(np.rint(128 + transform.T @ spectra @ transform), 0, 255).astype(np.uint8)
    for row, thumbnail, found in zip(good, thumbnails, hashing.hashes(hashing.spectra(thumbnails)), strict=True):
        row |= {"thumbnail": thumbnail.tobytes(), "perceptual_hash": hashing.stored(int(found))}


def _lists(vectors: np.ndarray, null: np.ndarray) -> pa.Array:
    """list<float32> of the rows, null where told."""
    offsets = np.arange(len(vectors) + 1, dtype=np.int32) * vectors.shape[1]
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(vectors.ravel()), mask=pa.array(null))


def name(index: int) -> str:
    """The image_id of a row."""
    return f"{index % 100:02d}/{index:07d}.jpg"


def _row(random: np.random.Generator, index: int) -> dict[str, Any]:
    image_id = name(index)
    row: dict[str, Any] = {
        "image_id": image_id,
        "uri": f"file:///archive/{image_id}",
        "size_bytes": 1000 + index,
        "version": f"v{index}",
        "metadata": {"artist": ARTISTS[index % 5], "year": str(1500 + index % 400), "title": f"Work no. {index}"},
        "error": "",
        "error_detail": "",
        "models": "m1",
        "run_id": "made",
        "processed_at": START + timedelta(seconds=index),
        "vanished_at": START + timedelta(days=400) if index % 97 == 96 else None,
    }
    if index % 50 == 49:
        return row | {"error": "truncated", "error_detail": "ends early"}
    kinds = random.dirichlet(np.ones(len(taxonomy.TYPES)))
    genres = random.dirichlet(np.ones(len(taxonomy.GENRES)))
    return row | {
        "width_px": 640,
        "height_px": 480,
        "content_sha256": f"{index:064x}",
        "type": taxonomy.TYPES[int(kinds.argmax())],
        "type_score": kinds.max(),
        "type_scores": dict(zip(taxonomy.TYPES, kinds, strict=True)),
        "genre": taxonomy.GENRES[int(genres.argmax())],
        "genre_score": genres.max(),
        "genre_scores": dict(zip(taxonomy.GENRES, genres, strict=True)),
        "genre_disagreement": 0.2,
        "mean_rgb": random.uniform(0, 255, 3).tolist(),
        "objects": [_object(random) for _ in range(int(random.integers(0, 5)))],
        "chroma": random.uniform(0, 60),
        "spectrum": random.normal(size=(8, 8)) * 250,
    }


def _object(random: np.random.Generator) -> dict[str, Any]:
    names = tuple(taxonomy.CATEGORY)
    name = names[int(random.integers(len(names)))]
    x_px, y_px = random.uniform(0, 300), random.uniform(0, 200)
    return {
        "class_name": name,
        "category": taxonomy.CATEGORY[name],
        "score": random.uniform(0.3, 1.0),
        "x1_px": x_px,
        "y1_px": y_px,
        "x2_px": x_px + random.uniform(10, 300),
        "y2_px": y_px + random.uniform(10, 200),
        "source": "made",
    }
