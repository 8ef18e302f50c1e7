"""The embeddings of a store, or of one of its methods, as matrices: for questions that are asked of all of them."""

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from artray.store import views
from artray.store.layout import Store
from artray.store.records import Records
from artray.store.searching import same_as
from artray.store.vectors import GOOD, Floats, matrix_of

BATCH_ROWS: Final = 4_096


def image_ids(holder: Store) -> set[str]:
    """The images that have an embedding by the model that the store has now."""
    same = same_as(holder).clause()
    with views.opened(Records.open(holder)) as connection:
        statement = (
            "SELECT image_id FROM (SELECT *, models AS made_by FROM stored) "  # noqa: S608
            f"WHERE {GOOD} AND embedding IS NOT NULL AND {same.sql}"
        )
        return {name for (name,) in views.fetched(connection, statement, same.parameters)}


def matrix(holder: Store, wanted: Sequence[str]) -> Floats:
    """float32[N, D]: the embeddings of N images that have one, in their order."""
    rows = {name: row for row, name in enumerate(wanted)}
    found = np.empty((len(wanted), dimension(holder)), np.float32)
    for there, values in parts(holder, set(wanted)):
        found[[rows[name] for name in there]] = values
    return found


def parts(holder: Store, wanted: set[str]) -> Iterator[tuple[list[str], Floats]]:
    """Some of the images that are wanted at a time, in order, and their embeddings float32[n, D]."""
    dim = dimension(holder)
    for batch in views.batches(Records.open(holder), ["image_id", "embedding"], BATCH_ROWS, wanted):
        there, values = matrix_of(batch, dim)
        names = batch["image_id"].filter(there)
        order = np.argsort(names.to_numpy())
        yield names.take(order).to_pylist(), values[order]


def dimension(holder: Store) -> int:
    """How many values an embedding has: what the store says, or else the first one; 1 without any."""
    if told := holder.embedding.get("dimension"):
        return int(told)
    with views.opened(Records.open(holder)) as connection:
        found = views.fetched(connection, f"SELECT len(embedding) FROM stored WHERE {GOOD} LIMIT 1")  # noqa: S608
    return int(found[0][0] or 1) if found else 1
