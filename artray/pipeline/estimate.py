"""What an archive of a given size will take, by what was measured: arithmetic, and a short run that measures."""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from artray.config import Profile
from artray.errors import ConfigError
from artray.models import cards
from artray.pipeline.progress import Reporter, Silent
from artray.store.vectors import LITE_ROWS

MACHINES: Final = (1, 4, 16)
SAMPLE: Final = 240
"""Pictures that a measurement processes: a minute or so."""


class Rate(NamedTuple):
    """How fast a machine processes pictures."""

    images_per_s: float
    cores: int
    where: str


PUBLISHED: Final = Rate(15.67, 2, "docs/benchmarks.md: 1,500 pictures of 2 megapixels, profile bundled")

RECORD_BYTES: Final = 1_100
"""Of a record without its embedding: labels, objects, metadata, how it looks. Measured: the demo's store."""

LINK_BYTES: Final = 165
"""Of a vector in the graph, beside its numbers. Measured: docs/search.md."""

DUPLICATES_S: Final = 22.5 * 60 / 700_000
"""Of a processor, per work, to find copies. Measured: docs/duplicates.md."""

LITE_MS: Final = (8.0, 0.56e-3)
"""A question to Milvus Lite: at no works, and per work. Measured up to 100,000 works: docs/search.md."""

GRAPH_MS: Final = 28.0
"""A question with its records at 700,000 works, by the graph in a file. Measured: docs/search.md."""


def published(profile: str | Path, overrides: Sequence[str]) -> Rate | None:
    """What was measured of a profile as it is shipped; None where nothing was."""
    return PUBLISHED if str(profile) == "bundled" and not overrides else None


def measured(profile: Profile, reporter: Reporter | None = None, images: int = SAMPLE) -> Rate:
    """Process a sample archive in a temporary folder on this machine.

    Raises:
        ConfigError: the profile's models cannot be used.
        TransientError: something outside failed.
    """
    from artray.archive.sample import make
    from artray.pipeline.run import Options, process

    local = profile.model_copy(update={"store": profile.store.model_copy(update={"milvus_uri": None})})
    with tempfile.TemporaryDirectory(prefix="artray-estimate-") as folder, reporter or Silent() as told:
        archive, store = Path(folder) / "archive", Path(folder) / "store"
        make.write_archive(archive, images, 0, 0)
        summary = process(str(archive), str(store), local, told, Options())
    where = f"measured here, {images:,} pictures of the sample archive"
    return Rate(summary.steady_images_per_s or summary.images_per_s, os.cpu_count() or 1, where)


def estimate(images: int, profile: Profile, rate: Rate | None) -> dict[str, Any]:
    """What an archive takes, in seconds and bytes.

    Args:
        images: how many pictures it has.
        profile: what is done with them.
        rate: of a machine; None where it is not known.

    Raises:
        ConfigError: there is no picture, or a card of the profile is not known.
    """
    if images < 1:
        raise ConfigError(f"images: expected at least 1, got {images}")
    loaded = (cards.load(name) for name in profile.classify.cards)
    dim = next((card.embedding_dim or 0 for card in loaded if "embedding" in card.yields), 0)
    engine = _engine(profile, images)
    records, vectors = images * (RECORD_BYTES + 4 * dim), images * (LINK_BYTES + 4 * dim) if dim and engine else 0
    return {
        "images": images,
        "profile": profile.name,
        "rate": None if rate is None else rate._asdict(),
        "processing": _times(images, rate),
        "bytes": {"records": records, "vectors": vectors},
        "embedding_dim": dim,
        "index": {
            "engine": engine,
            "question_ms": _question_ms(profile, engine, images),
            "why": _why(profile, engine, images),
        },
        "duplicates": {"processor_s": round(images * DUPLICATES_S)},
    }


def _times(images: int, rate: Rate | None) -> list[dict[str, int]]:
    """How long it takes on so many machines; none where it is not known."""
    if rate is None or not rate.images_per_s:
        return []
    return [{"machines": each, "seconds": round(images / rate.images_per_s / each)} for each in MACHINES]


def _engine(profile: Profile, images: int) -> str | None:
    """Which engine has the vectors; None where there is no index."""
    store = profile.store
    if not store.index:
        return None
    if store.engine != "auto":
        return store.engine
    return "milvus" if store.milvus_uri or images <= LITE_ROWS else "hnsw"


def _question_ms(profile: Profile, engine: str | None, images: int) -> float | None:
    """How long a question takes; None where it was not measured: of a Milvus server, or without an index."""
    if engine == "milvus":
        return None if profile.store.milvus_uri else _lite_ms(images)
    return GRAPH_MS if engine == "hnsw" else None


def _lite_ms(images: int) -> int:
    least, each = LITE_MS
    return round(least + each * images)


def _why(profile: Profile, engine: str | None, images: int) -> str:
    """A sentence on the engine."""
    lite = f"Milvus Lite goes through the keys of all vectors at every question: {_lite_ms(images):,} ms"
    if engine is None:
        return "no index (store.index: false): all records are compared at every question"
    if engine == "hnsw":
        return "a graph in a file" if images <= LITE_ROWS else f"a graph in a file. {lite} at this size"
    if profile.store.milvus_uri:
        return f"the Milvus server {profile.store.milvus_uri}"
    return (
        "Milvus Lite"
        if images <= LITE_ROWS
        else f"{lite} at this size; leave store.engine at auto for a graph in a file"
    )
