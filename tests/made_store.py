"""Made rows: records of a store without an archive or a model, as many as wanted, the same for the same seed."""

import os
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import numpy as np
import pyarrow as pa

from artray import schema, taxonomy
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


def _table(seed: int, centres: np.ndarray, indices: range) -> pa.Table:
    randoms = [np.random.default_rng([seed, index]) for index in indices]  # a row is the same in any batch
    vectors = np.stack([centres[r.integers(len(centres))] + 0.7 * r.normal(size=centres.shape[1]) for r in randoms])
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    rows = [_row(random, index) for random, index in zip(randoms, indices, strict=True)]
    batch: dict[str, list[Any]] = {name: [row.get(name) for row in rows] for name in schema.RECORD.names}
    del batch["embedding"]
    table = schema.table(batch, schema.RECORD)
    failed = np.array([row["error"] != "" for row in rows])
    return table.set_column(schema.RECORD.get_field_index("embedding"), "embedding", _lists(vectors, failed))


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
        "mean_rgb": random.uniform(0, 255, 3).tolist(),
        "objects": [_object(random) for _ in range(int(random.integers(0, 5)))],
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
