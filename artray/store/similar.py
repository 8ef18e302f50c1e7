"""Works that look like a given one, by the embeddings of the store or of another method that was added to it.

The vector index proposes candidates; their scores are computed here, from embeddings that are the records' own (the
same processed_at), so a score means the same whatever proposed it. Without an index, behind it, or with filters that
it cannot apply, all records are compared: exact, and slower by the time it takes to read them.
"""

import heapq
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from artray.errors import ConfigError
from artray.store import find, views
from artray.store.find import Filters
from artray.store.layout import Store
from artray.store.records import Records
from artray.store.vectors import Floats, Index

METHOD: Final = "embedding"
"""What the store's own embeddings are called."""

MAX_K: Final = 1_000
REGION_SIDE_PX: Final = 4_096
"""A region is cut out of a picture of this size, so that small ones are not blurred."""


class Similar(NamedTuple):
    """Works like the query, the most similar first, and what there is to know about how they were found."""

    query: str  # the image_id, or "image"
    method: str
    works: list[dict[str, Any]]  # {rank: 1.., score: similarity of at most 1, ... as find.find}
    note: str = ""  # why the index was not used, where one was given and was not


class Scored(NamedTuple):
    """An image and its similarity to the query."""

    image_id: str
    score: float


def source(store: Store, method: str | None) -> Store:
    """The store whose records have the embeddings of a method: the store itself, or one of its methods'.

    Raises:
        ConfigError: it has no such method.
    """
    own = (store.read_json("store.json") or {}).get("embedding") or {}
    if method in (None, METHOD, own.get("card")):
        return store
    known = store.methods()
    if method not in known:
        raise ConfigError(
            f"--method {method}: expected {', '.join([METHOD, *known])}{find.near(str(method), known)}; "
            f"artray embed ARCHIVE STORE --method {method} adds a method"
        )
    return store.method(str(method))


def similar(
    store: Store,
    query: str | npt.ArrayLike,
    k: int = 5,
    filters: Filters | None = None,
    *,
    index: Index | None = None,
    method: str = METHOD,
    excluded: str | None = None,
    offset: int = 0,
) -> Similar:
    """The ``k`` works most similar to an image of the store, or to an embedding.

    Args:
        store: where to look.
        query: an image_id, which is not among the results; or float[D], the embedding of any image.
        k: how many, at most; fewer where fewer pass the filters.
        filters: as of find.find.
        index: the method's vectors, opened by the caller and kept for further questions; None compares all records.
        method: "embedding" for the store's own, or one of store.methods().
        excluded: an image that is not to be among the results of a query by embedding.
        offset: how many of the most similar ones to leave out: the next page.

    Returns:
        The works and their scores; equal scores in the order of image_id.

    Raises:
        ConfigError: no such image, no embedding, a wrong length, or an unknown name.
    """
    records = Records.open(store)
    with views.opened(records) as connection:
        return search(
            records, connection, query, k, filters, index=index, method=method, excluded=excluded, offset=offset
        )


def search(
    records: Records,
    connection: views.Connection,
    query: str | npt.ArrayLike,
    k: int = 5,
    filters: Filters | None = None,
    *,
    index: Index | None = None,
    method: str = METHOD,
    excluded: str | None = None,
    offset: int = 0,
) -> Similar:
    """:func:`similar` over records and a connection that are open (see views.opened)."""
    from artray.store.searching import Search

    if not 1 <= k <= MAX_K:
        raise ConfigError(f"-k: expected 1 to {MAX_K}, got {k}")
    if not 0 <= offset <= MAX_K:
        raise ConfigError(f"--offset: expected 0 to {MAX_K}, got {offset}")
    filters = filters or Filters()
    asked = Search(records, connection, filters, index, source(records.store, method))
    name = query if isinstance(query, str) else None
    vector = one_vector(query) if name is None else asked.embedding(name)
    scored = asked.run(vector, k + offset, name or excluded)[offset:]
    if not scored:
        find.check_names(connection, filters)
    works = _rows(connection, scored, asked.places)
    ranked = [{"rank": rank} | work for rank, work in enumerate(works, offset + 1)]
    return Similar(name or "image", method, ranked, asked.note)


def answer(
    store: Store,
    query: str,
    *,
    k: int = 5,
    region: Sequence[float] | None = None,
    filters: Filters | None = None,
    method: str | None = None,
    index: Index | None = None,
    offset: int = 0,
) -> dict[str, Any]:
    """Works like an image of the store, like the picture in a file, or like a region of either.

    Args:
        store: where to look.
        query: an image_id; or else a path.
        k: how many, at most.
        region: x1, y1, x2, y2 in pixels of the upright original.
        filters: as of find.find.
        method: None or "embedding" for the store's own, or one of store.methods().
        index: the vectors where the caller keeps them open. Without, all records are compared, which for a single
            question is faster than opening Milvus Lite, for that reads all vectors, too.
        offset: how many to leave out: the next page.

    Returns:
        {query, method, works, note}, as ``artray similar --json`` prints it.

    Raises:
        ConfigError: no such image, no picture, or an unknown name.
    """
    from artray.store import pictures

    holder = source(store, method)
    with views.opened(Records.open(store)) as connection:
        rows = find.works(connection, "SELECT image_id, uri, version FROM stored WHERE image_id = ?", [query])
    asked: str | Floats = query
    if not rows or region is not None:
        side_px = None if region is None else REGION_SIDE_PX
        read = pictures.Pictures(holder)
        picture = read.of_record(rows[0], side_px) if rows else read.of_file(query, side_px)
        asked = pictures.embedding(holder, picture.pixels if region is None else picture.crop(region))
    found = similar(
        store,
        asked,
        k,
        filters,
        index=index,
        method=method or METHOD,
        excluded=query if rows else None,
        offset=offset,
    )
    return found._asdict() | {"query": query}


def one_vector(values: npt.ArrayLike) -> Floats:
    """An embedding float32[D] that works can be compared with.

    Raises:
        ConfigError: it is not one vector of finite numbers, or it is all zero.
    """
    array: Floats = np.asarray(values, np.float32)
    if array.ndim != 1 or not np.isfinite(array).all() or not array.any():
        raise ConfigError(f"embedding: expected one vector of finite numbers, not all zero, got shape {array.shape}")
    return array


def best(scored: Iterable[tuple[str, float]], k: int) -> list[Scored]:
    """The ``k`` highest scores; equal ones in the order of image_id.

    >>> best([("b", 0.5), ("a", 0.5), ("c", 0.9)], 2)
    [Scored(image_id='c', score=0.9), Scored(image_id='a', score=0.5)]
    """
    return [Scored(*pair) for pair in heapq.nsmallest(k, scored, key=lambda pair: (-pair[1], pair[0]))]


def _rows(
    connection: views.Connection, scored: list[Scored], places: Mapping[str, tuple[int, int]]
) -> list[dict[str, Any]]:
    """The works as find.find gives them, with rank and score; by their places, where known, in a fifth of the time."""
    if not scored:
        return []
    names = [one.image_id for one in scored]
    if all(name in places for name in names):
        at = " OR ".join(
            f"(file_index = {file} AND file_row_number = {row})" for file, row in (places[name] for name in names)
        )
        found = find.works(connection, f"SELECT {find.COLUMNS} FROM placed WHERE {at}", [])  # noqa: S608 (numbers)
    else:
        statement = f"SELECT {find.COLUMNS} FROM works WHERE list_contains(?, image_id)"  # noqa: S608
        found = find.works(connection, statement, [names])
    rows = {row["image_id"]: row for row in found}
    return [{"score": one.score} | rows[one.image_id] for one in scored]
