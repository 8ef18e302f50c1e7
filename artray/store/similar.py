"""Works that look like a given one, by the embeddings of the store or of another method that was added to it.

The vector index proposes candidates; their scores are computed here, from embeddings that are the records' own (the
same processed_at), so a score means the same whatever proposed it. Without an index, behind it, or with filters that
it cannot apply, all records are compared: exact, and slower by the time it takes to read them.
"""

import heapq
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from artray.errors import ConfigError
from artray.retrieve import queries
from artray.store import find, views
from artray.store.find import Filters
from artray.store.layout import Store
from artray.store.records import Records
from artray.store.vectors import Floats, Index

METHOD: Final = "embedding"
"""What the store's own embeddings are called."""

MAX_K: Final = 1_000
MAX_EXPAND: Final = 100
UNLIKE: Final = queries.Rocchio(1.0, 0.0, 0.5)
"""What is not wanted counts half as much as what is."""

_NONE: Final = np.zeros((0, 1), np.float32)

Query: TypeAlias = "str | npt.ArrayLike"
"""An image_id of the store, or the embedding of any image."""


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
    if method in (None, METHOD) or method == store.embedding.get("card"):
        return store
    known = store.methods()
    if method not in known:
        raise ConfigError(
            f"--method {method}: expected {', '.join([METHOD, *known])}{find.near(str(method), known)}; "
            f"artray embed ARCHIVE STORE --method {method} adds a method"
        )
    return store.method(str(method))


def check_methods(methods: Sequence[str]) -> None:
    """Raises ConfigError where there are no methods to compare, or one is there twice."""
    if not methods or len(set(methods)) < len(methods):
        raise ConfigError(f"--method: expected one or more different methods, got {', '.join(methods) or 'none'}")


def similar(
    store: Store,
    query: Query,
    k: int = 5,
    filters: Filters | None = None,
    *,
    also: Sequence[Query] = (),
    unlike: Sequence[Query] = (),
    index: Index | None = None,
    method: str = METHOD,
    excluded: Collection[str] = (),
    offset: int = 0,
    expand: int = 0,
) -> Similar:
    """The ``k`` works most similar to an image of the store, or to an embedding; or to several, and unlike others.

    Args:
        store: where to look.
        query: an image_id, which is not among the results; or float[D], the embedding of any image.
        k: how many, at most; fewer where fewer pass the filters.
        filters: as of find.find.
        also: further ones, which count as much; works like their mean are looked for.
        unlike: likewise, but what is like them is not wanted.
        index: the method's vectors, opened by the caller and kept for further questions; None compares all records.
        method: "embedding" for the store's own, or one of store.methods().
        excluded: further images that are not to be among the results.
        offset: how many of the most similar ones to leave out: the next page.
        expand: so many of the best works are added to the query, each counting for as much, and it is asked again.

    Returns:
        The works and their scores; equal scores in the order of image_id.

    Raises:
        ConfigError: no such image, no embedding, a wrong length, or an unknown name.
    """
    records = Records.open(store)
    with views.opened(records) as connection:
        return search(
            records,
            connection,
            query,
            k,
            filters,
            also=also,
            unlike=unlike,
            index=index,
            method=method,
            excluded=excluded,
            offset=offset,
            expand=expand,
        )


def search(
    records: Records,
    connection: views.Connection,
    query: Query,
    k: int = 5,
    filters: Filters | None = None,
    *,
    also: Sequence[Query] = (),
    unlike: Sequence[Query] = (),
    index: Index | None = None,
    method: str = METHOD,
    excluded: Collection[str] = (),
    offset: int = 0,
    expand: int = 0,
) -> Similar:
    """:func:`similar` over records and a connection that are open (see views.opened)."""
    from artray.store.searching import Search

    if not 1 <= k <= MAX_K:
        raise ConfigError(f"-k: expected 1 to {MAX_K}, got {k}")
    if not 0 <= offset <= MAX_K:
        raise ConfigError(f"--offset: expected 0 to {MAX_K}, got {offset}")
    if not 0 <= expand <= MAX_EXPAND:
        raise ConfigError(f"--expand: expected 0 to {MAX_EXPAND}, got {expand}")
    filters = filters or Filters()
    asked = Search(records, connection, filters, index, source(records.store, method))
    wanted, unwanted = ([asked.vector(one) for one in some] for some in ((query, *also), unlike))
    left_out = {*excluded, *(one for one in (query, *also, *unlike) if isinstance(one, str))}
    vector = combined(wanted, unwanted, asked.metric)
    if expand:
        vector = asked.expanded(vector, expand, left_out)
    scored = asked.run(vector, k + offset, left_out)[offset:]
    if not scored:
        find.check_names(connection, filters)
    works = _rows(records, connection, scored, asked.places)
    ranked = [{"rank": rank} | work for rank, work in enumerate(works, offset + 1)]
    return Similar(query if isinstance(query, str) else "image", method, ranked, asked.note)


def combined(wanted: Sequence[Floats], unwanted: Sequence[Floats], metric: str) -> Floats:
    """One query float32[D] of those that works are to be like, at least one, and those that they are not to be like.

    Raises:
        ConfigError: they differ in length, or cancel each other out.
    """
    if len({len(vector) for vector in (*wanted, *unwanted)}) > 1:
        raise ConfigError("embedding: expected queries of one length, got several")
    if len(wanted) == 1 and not unwanted:
        return wanted[0]
    try:
        first = queries.rocchio(wanted[0], np.stack(wanted), _NONE, queries.Rocchio(0.0, 1.0, 0.0), metric)
        return queries.rocchio(first, _NONE, np.array(unwanted), UNLIKE, metric) if unwanted else first
    except ValueError as error:
        raise ConfigError(f"{error}; leave one of them out") from error


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
    records: Records, connection: views.Connection, scored: list[Scored], places: Mapping[str, tuple[int, int]]
) -> list[dict[str, Any]]:
    """The works as find.find gives them, with their score; by their places, where known, in a fifth of the time."""
    if not scored:
        return []
    names = [one.image_id for one in scored]
    if all(name in places for name in names):
        found = find.works(connection, views.at(records, [places[name] for name in names], find.COLUMNS), [])
    else:
        statement = f"SELECT {find.COLUMNS} FROM works WHERE list_contains(?, image_id)"  # noqa: S608
        found = find.works(connection, statement, [names])
    rows = {row["image_id"]: row for row in found}
    return [{"score": one.score} | rows[one.image_id] for one in scored]
