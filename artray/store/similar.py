"""Works that look like a given one: cosine similarity of embeddings.

The vector index proposes candidates; their scores are computed here, from embeddings that are the records' own (the
same processed_at), so a score means the same whatever proposed it. Without an index, behind it, or with filters that
it cannot apply, all records are compared: exact, and slower by the time it takes to read them.
"""

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from artray.errors import ConfigError, TransientError
from artray.store import find, milvus, views
from artray.store.find import Filters
from artray.store.layout import Store
from artray.store.records import Records
from artray.store.vectors import Floats, Hit, Index, embeddings, matrix_of

METHOD: Final = "embedding"
MAX_K: Final = 1_000
REGION_SIDE_PX: Final = 4_096
"""A region is cut out of a picture of this size, so that small ones are not blurred."""

FRESH: Final = "error = '' AND vanished_at IS NULL"
BATCH_ROWS: Final = 4_096


class Similar(NamedTuple):
    """Works like the query, the most similar first, and what there is to know about how they were found."""

    query: str  # the image_id, or "image"
    method: str
    works: list[dict[str, Any]]  # {rank: 1.., score: cosine in [-1, 1], ... as find.find}
    note: str = ""  # why the index was not used, where one was given and was not


class Scored(NamedTuple):
    """An image and its cosine similarity to the query."""

    image_id: str
    score: float


def similar(
    store: Store,
    query: str | npt.ArrayLike,
    k: int = 5,
    filters: Filters | None = None,
    *,
    index: Index | None = None,
    method: str = METHOD,
    excluded: str | None = None,
) -> Similar:
    """The ``k`` works most similar to an image of the store, or to an embedding.

    Args:
        store: where to look.
        query: an image_id, which is not among the results; or float[D], the embedding of any image.
        k: how many, at most; fewer where fewer pass the filters.
        filters: as of find.find.
        index: the vectors, opened by the caller and kept for further questions; None compares all records.
        method: "embedding".
        excluded: an image that is not to be among the results of a query by embedding.

    Returns:
        The works and their scores; equal scores in the order of image_id.

    Raises:
        ConfigError: no such image, no embedding, a wrong length, or an unknown name.
    """
    records = Records.open(store)
    with views.opened(records) as connection:
        return search(records, connection, query, k, filters, index=index, method=method, excluded=excluded)


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
) -> Similar:
    """:func:`similar` over records and a connection that are open (see views.opened)."""
    if method != METHOD:
        raise ConfigError(f"--method {method}: expected {METHOD}")
    if not 1 <= k <= MAX_K:
        raise ConfigError(f"-k: expected 1 to {MAX_K}, got {k}")
    filters = filters or Filters()
    asked = _Search(records, connection, filters, index)
    name = query if isinstance(query, str) else None
    vector = unit(query) if name is None else asked.embedding(name)
    scored = asked.run(vector, k, name or excluded)
    if not scored:
        find.check_names(connection, filters)
    return Similar(name or "image", method, _rows(connection, scored, asked.places), asked.note)


def answer(
    store: Store,
    query: str,
    *,
    k: int = 5,
    region: Sequence[float] | None = None,
    filters: Filters | None = None,
    method: str | None = None,
    index: Index | None = None,
) -> dict[str, Any]:
    """Works like an image of the store, like the picture in a file, or like a region of either.

    Args:
        store: where to look.
        query: an image_id; or else a path.
        k: how many, at most.
        region: x1, y1, x2, y2 in pixels of the upright original.
        filters: as of find.find.
        method: None or "embedding".
        index: the vectors where the caller keeps them open. Without, all records are compared, which for a single
            question is faster than opening Milvus Lite, for that reads all vectors, too.

    Returns:
        {query, method, works, note}, as ``artray similar --json`` prints it.

    Raises:
        ConfigError: no such image, no picture, or an unknown name.
    """
    from artray.store import pictures

    with views.opened(Records.open(store)) as connection:
        rows = find.works(connection, "SELECT image_id, uri, version FROM stored WHERE image_id = ?", [query])
    asked: str | Floats = query
    if not rows or region is not None:
        side_px = None if region is None else REGION_SIDE_PX
        read = pictures.Pictures(store)
        picture = read.of_record(rows[0], side_px) if rows else read.of_file(query, side_px)
        asked = pictures.embedding(store, picture.pixels if region is None else picture.crop(region))
    excluded = query if rows else None
    found = similar(store, asked, k, filters, index=index, method=method or METHOD, excluded=excluded)
    return found._asdict() | {"query": query}


class _Search:
    """One question: the index where it serves, all records where it does not."""

    def __init__(self, records: Records, connection: views.Connection, filters: Filters, index: Index | None) -> None:
        self.records, self.connection, self.filters = records, connection, filters
        self.index, self.note = index, ""
        self.places: dict[str, tuple[int, int]] = {}  # file and row of records that were looked at on the way
        described = (records.store.read_json("store.json") or {}).get("embedding") or {}
        self.card = described.get("card", "")
        self.same = _made_by(f"{self.card}@{described.get('fingerprint')}") if self.card else find.Clause("true", [])

    def embedding(self, image_id: str) -> Floats:
        """The embedding of an image of the store; from here on it is compared with those of the same model only."""
        statement = "SELECT error, epoch_us(processed_at), models FROM stored WHERE image_id = ?"
        row = views.fetched(self.connection, statement, [image_id])
        if not row:
            raise ConfigError(f"{image_id}: no such image in {self.records.store.uri}; artray find lists them")
        if row[0][0]:
            raise ConfigError(f"{image_id}: has no embedding, it failed ({row[0][0]})")
        models = row[0][2] or ""
        makers = [maker for maker in models.split(",") if maker.startswith(f"{self.card}@")]
        if self.card:  # of a card that the store no longer has: those that all cards made likewise
            self.same = _made_by(makers[0]) if makers else find.Clause("models = ?", [models])
        hit = self._of_index(image_id)
        if hit is not None and hit.processed_at_us == row[0][1]:
            return unit(hit.embedding)
        for batch in embeddings(self.records, {image_id}):
            if batch["embedding"][0].is_valid:
                return unit(batch["embedding"][0].as_py())
        raise ConfigError(f"{image_id}: has no embedding; run artray process with a profile that yields one")

    def run(self, vector: Floats, k: int, excluded: str | None) -> list[Scored]:
        """The most similar images that pass the filters, less the excluded one."""
        proposed = self._proposed(vector, k, excluded) if self.index else None
        return self._exact(vector, k, excluded) if proposed is None else proposed

    def _of_index(self, image_id: str) -> Hit | None:
        """The index's vector of an image, None where the index does not serve."""
        if not self._serves():
            return None
        try:
            return self.index.get(image_id) if self.index else None
        except TransientError as error:
            self._give_up(f"{error}")
        return None

    def _serves(self) -> bool:
        """Whether there is an index with vectors; a note is left where there is not."""
        if self.index and not self.index.dim:
            self._give_up("the vector index is empty (artray index fills it)")
        return self.index is not None

    def _give_up(self, reason: str) -> None:
        self.index, self.note = None, f"compared with all records: {reason}"

    def _proposed(self, vector: Floats, k: int, excluded: str | None) -> list[Scored] | None:
        """The index's candidates, scored; None where it does not serve."""
        if not self._serves() or self.index is None:
            return None
        if reason := self._reason(self.index, vector):
            self._give_up(reason)
            return None
        try:
            hits = self.index.search(vector, candidates(k) + 1, self._expression())
        except TransientError as error:
            self._give_up(f"{error}")
            return None
        hits = [hit for hit in hits if hit.image_id != excluded]
        kept = self._fresh(hits)
        if len(kept) < k and (self.filters or len(kept) < len(hits)):
            return None  # few pass the filters, and the graph does not reach all of these
        matrix = np.stack([hit.embedding for hit in kept]) if kept else np.empty((0, len(vector)), np.float32)
        return best(zip([hit.image_id for hit in kept], scores(matrix, vector), strict=True), k)

    def _reason(self, index: Index, vector: Floats) -> str:
        """Why the index cannot answer this, or nothing."""
        if index.dim != len(vector):
            return f"the index has vectors of {index.dim} values, the query {len(vector)}"
        if not self._pushable():
            return "the vector index knows type, genre and names of objects only"
        lag = index.lag(self.records)
        return f"the vector index is {lag:,} images behind (artray index)" if lag else ""

    def _pushable(self) -> bool:
        """Whether the index can apply the filters by itself."""
        wanted = self.filters.wanted()
        names = [self.filters.type or "", self.filters.genre or "", *(w.name for w in wanted)]
        simple = all(w.score_min == 0.0 and w.count == 1 for w in wanted) and not (
            self.filters.text or self.filters.error
        )
        return simple and all(milvus.expressible(name) for name in names)

    def _expression(self) -> str:
        return milvus.expression(self.filters.type, self.filters.genre, [w.name for w in self.filters.wanted()])

    def _fresh(self, hits: list[Hit]) -> list[Hit]:
        """The hits whose records are those that their vectors are from, and of the query's model."""
        statement = (
            "SELECT image_id, epoch_us(processed_at), file_index, file_row_number FROM placed "  # noqa: S608
            f"WHERE {FRESH} AND list_contains(?, image_id) AND {self.same.sql}"
        )
        asked = [[hit.image_id for hit in hits], *self.same.parameters]
        rows = views.fetched(self.connection, statement, asked) if hits else []
        known = {image_id: moment for image_id, moment, _, _ in rows}
        self.places = {image_id: (file, row) for image_id, _, file, row in rows if file is not None}
        return [hit for hit in hits if known.get(hit.image_id) == hit.processed_at_us]

    def _exact(self, vector: Floats, k: int, excluded: str | None) -> list[Scored]:
        """The most similar of all records that pass the filters; embeddings of another length have no score."""
        passing = self._passing()
        passing.discard(excluded or "")
        kept: list[tuple[float, str, Floats]] = []
        for names, matrix in self._matrices(len(vector)) if passing else ():
            there = np.flatnonzero(np.fromiter((name in passing for name in names), bool, len(names)))
            rough = (matrix @ vector)[there]
            first = np.argsort(-rough, kind="stable")[: candidates(k)]
            kept += [(-float(rough[i]), names[there[i]], matrix[there[i]].copy()) for i in first]
            kept = heapq.nsmallest(candidates(k), kept, key=lambda entry: entry[:2])
        matrix = np.stack([entry[2] for entry in kept]) if kept else np.empty((0, len(vector)), np.float32)
        return best(zip([entry[1] for entry in kept], scores(matrix, vector), strict=True), k)

    def _passing(self) -> set[str]:
        """The images that pass the filters and whose embedding is of the query's model; a note tells of others."""
        same, where = self.same, find.condition(self.filters)
        statement = f"SELECT image_id, {same.sql} FROM works WHERE error = '' AND {where.sql}"  # noqa: S608
        rows = views.fetched(self.connection, statement, [*same.parameters, *where.parameters])
        if others := sum(not comparable for _, comparable in rows):
            left_out = f"{others:,} works made with another model are left out (artray process makes them anew)"
            self.note = "; ".join(filter(None, [self.note, left_out]))
        return {name for name, comparable in rows if comparable}

    def _matrices(self, dim: int) -> Iterator[tuple[list[str], Floats]]:
        """Names and embeddings float32[N, dim] of all records, some at a time."""
        for batch in views.batches(self.records, ["image_id", "embedding"], BATCH_ROWS):
            there, matrix = matrix_of(batch, dim)
            yield batch["image_id"].filter(there).to_pylist(), matrix


def _made_by(maker: str) -> find.Clause:
    """Whether a record's embedding is of this model: another trunk's may have its length by chance."""
    return find.Clause("list_contains(string_split(coalesce(models, ''), ','), ?)", [maker])


def candidates(k: int) -> int:
    """How many are scored exactly to find the ``k`` best."""
    return max(20, 4 * k)


def unit(vector: npt.ArrayLike) -> Floats:
    """A vector of unit norm.

    Raises:
        ConfigError: it is not one vector of finite numbers, or it is all zero.
    """
    array = np.asarray(vector, np.float32)
    norm = float(np.linalg.norm(array.astype(np.float64))) if array.ndim == 1 else 0.0
    if not np.isfinite(norm) or norm == 0.0:
        raise ConfigError(f"embedding: expected one vector of finite numbers, not all zero, got shape {array.shape}")
    direction: Floats = array / np.float32(norm)
    return direction


def scores(matrix: Floats, vector: Floats) -> list[float]:
    """Cosine similarity of every row of float32[N, D] with float32[D]: N values in [-1, 1].

    In double precision and rounded to six digits, so that neither the order of summation nor the rounding of the
    stored values shows: the same picture scores 1, and equal pictures score the same.
    """
    rows, column = matrix.astype(np.float64), vector.astype(np.float64)
    norms = np.linalg.norm(rows, axis=1) * np.linalg.norm(column)
    cosines = (rows @ column) / np.where(norms > 0.0, norms, 1.0)
    return [float(score) for score in np.clip(np.round(cosines, 6), -1.0, 1.0)]


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
    return [{"rank": rank, "score": one.score} | rows[one.image_id] for rank, one in enumerate(scored, 1)]
