"""The embeddings of a store, or of one of its methods, as matrices: for questions that are asked of all of them."""

from collections.abc import Iterator, Sequence

import numpy as np

from artray.store import views
from artray.store.records import Records
from artray.store.searching import same_as
from artray.store.vectors import GOOD, Floats, matrices


def image_ids(records: Records) -> set[str]:
    """The images that have an embedding by the model that the store has now."""
    same = same_as(records.store.embedding).clause()
    with views.opened(records) as connection:
        statement = (
            "SELECT image_id FROM (SELECT *, models AS made_by FROM stored) "  # noqa: S608
            f"WHERE {GOOD} AND embedding IS NOT NULL AND {same.sql}"
        )
        return {name for (name,) in views.fetched(connection, statement, same.parameters)}


def matrix(records: Records, wanted: Sequence[str]) -> Floats:
    """float32[N, D]: the embeddings of N images that have one, in their order."""
    dim, rows = dimension(records), {name: row for row, name in enumerate(wanted)}
    found = np.empty((len(wanted), dim), np.float32)
    for there, values in matrices(records, dim, set(wanted)):
        found[[rows[name] for name in there]] = values
    return found


def parts(records: Records, wanted: set[str]) -> Iterator[tuple[list[str], Floats]]:
    """Some of the images that are wanted at a time, in order, and their embeddings float32[n, D]."""
    for names, values in matrices(records, dimension(records), wanted):
        order = sorted(range(len(names)), key=names.__getitem__)
        yield [names[place] for place in order], values[order]


def dimension(records: Records) -> int:
    """How many values an embedding has: what the store says, or else the first one; 1 without any."""
    if told := records.store.embedding.get("dimension"):
        return int(told)
    with views.opened(records) as connection:
        found = views.fetched(connection, f"SELECT len(embedding) FROM stored WHERE {GOOD} LIMIT 1")  # noqa: S608
    return int(found[0][0] or 1) if found else 1
