"""Training on a finished store's embeddings: labels name its images, and no image is read."""

from collections import Counter
from collections.abc import Sequence
from pathlib import PurePosixPath

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from artray.archive.listing import Entry
from artray.errors import ConfigError
from artray.models.cards import Card
from artray.pipeline.rehead import made_by
from artray.store import views
from artray.store.layout import open_store
from artray.store.records import Records

ROWS: int = 2_000


def entries(path: str) -> dict[str, Entry]:
    """The images of a store that have an embedding, by image_id, and by file name where only one has it.

    Raises:
        ConfigError: there is no such store.
        TransientError: the storage failed.
    """
    found: dict[str, Entry] = {}
    columns = ["image_id", "uri", "version", "size_bytes", "error", "vanished_at", "embedding"]
    for batch in views.batches(Records.open(open_store(path)), columns, ROWS):
        good = pc.and_(
            pc.equal(batch["error"], ""), pc.and_(batch["vanished_at"].is_null(), batch["embedding"].is_valid())
        )
        for row in batch.filter(good).drop_columns(["embedding", "error", "vanished_at"]).to_pylist():
            found[row["image_id"]] = Entry(row["image_id"], row["uri"], row["size_bytes"] or 0, row["version"] or "")
    names = Counter(PurePosixPath(image_id).name for image_id in found)
    once = {PurePosixPath(name).name: entry for name, entry in found.items() if names[PurePosixPath(name).name] == 1}
    return once | found


def matrix(path: str, uris: Sequence[str]) -> npt.NDArray[np.float32]:
    """float32[N, D]: the embeddings of images by where they are, in order.

    Raises:
        ConfigError: an image has none any more.
        TransientError: the storage failed.
    """
    places = {uri: row for row, uri in enumerate(uris)}
    rows: npt.NDArray[np.float32] | None = None
    seen = 0
    for batch in views.batches(Records.open(open_store(path)), ["uri", "embedding"], ROWS):
        for uri, vector in zip(batch["uri"].to_pylist(), batch["embedding"], strict=True):
            if uri in places and vector.is_valid:
                values = vector.values.to_numpy()
                rows = np.zeros((len(uris), len(values)), np.float32) if rows is None else rows
                rows[places[uri]] = values
                seen += 1
    if rows is None or seen != len(places):
        raise ConfigError(
            f"data.embeddings {path}: expected an embedding of each of {len(places):,} works, got {seen:,}"
        )
    return rows


def check(path: str, card: Card) -> None:
    """Make sure that a card's trunk made the embeddings of a store.

    Raises:
        ConfigError: another one did, or none.
    """
    held, _, _ = made_by(open_store(path))
    if held.trunk_key() != card.trunk_key():
        raise ConfigError(
            f"network.card: expected {held.name}, whose trunk made the embeddings of {path}, got {card.name}"
        )
