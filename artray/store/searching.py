"""One question of :mod:`artray.store.similar`: the index where it serves, all records where it does not."""

import functools
import heapq
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import numpy as np

from artray.errors import ConfigError, TransientError
from artray.retrieve import queries
from artray.retrieve.metrics import similarities
from artray.store import find, views
from artray.store.find import Filters
from artray.store.layout import Store
from artray.store.records import Records
from artray.store.similar import Query, Scored, best, one_vector
from artray.store.vectors import Floats, Hit, Index, embeddings, matrices, metric_of


class Search:
    """Where a question is asked.

    Args:
        records: the store's, with labels and boxes.
        connection: with their views (see views.opened).
        filters: what works must be.
        index: the vectors of ``source``; None compares all records.
        source: whose embeddings: the store itself, or one of its methods.
    """

    def __init__(
        self, records: Records, connection: views.Connection, filters: Filters, index: Index | None, source: Store
    ) -> None:
        self.records, self.filters, self._connection = records, filters, connection
        self.index, self.note = index, ""
        self.places: dict[str, tuple[int, int]] = {}  # file and row of records that were looked at on the way
        self.proposed: dict[str, Floats] = {}  # embeddings that the index had, likewise
        self.embedded = records if source == records.store else Records.open(source)
        described = source.embedding
        self.metric, self.card, self.same = metric_of(described), described.get("card", ""), same_as(described)

    @functools.cached_property
    def connection(self) -> views.Connection:
        """With the views of :func:`_define`, too; what the index answers alone does without."""
        _define(self._connection, None if self.embedded is self.records else self.embedded)
        return self._connection

    def embedding(self, image_id: str) -> Floats:
        """The embedding of an image of the store; from here on it is compared with those of the same model only."""
        statement = "SELECT error, epoch_us(processed_at), models FROM embedded WHERE image_id = ?"
        row = views.fetched(self.connection, statement, [image_id])
        if not row:
            raise ConfigError(f"{image_id}: no such image in {self.embedded.store.uri}; artray find lists them")
        if row[0][0]:
            raise ConfigError(f"{image_id}: has no embedding, it failed ({row[0][0]})")
        models = row[0][2] or ""
        makers = [maker for maker in models.split(",") if maker.startswith(f"{self.card}@")]
        if self.card:  # of a card that the store no longer has: those that all cards made likewise
            self.same = Same(maker=makers[0]) if makers else Same(models=models)
        hit = self._of_index(image_id)
        if hit is not None and hit.processed_at_us == row[0][1]:
            return one_vector(hit.embedding)
        for batch in embeddings(self.embedded, {image_id}):
            if batch["embedding"][0].is_valid:
                return one_vector(batch["embedding"][0].as_py())
        raise ConfigError(f"{image_id}: has no embedding; run artray process with a profile that yields one")

    def vector(self, query: Query) -> Floats:
        """The embedding of an image of the store, or one that is given."""
        return self.embedding(query) if isinstance(query, str) else one_vector(query)

    def expanded(self, vector: Floats, count: int, excluded: Collection[str]) -> Floats:
        """A query with the ``count`` works added to it that are most similar to it, as :meth:`run` finds them.

        Raises:
            ConfigError: they cancel each other out.
        """
        names = [one.image_id for one in self.run(vector, count, excluded)]
        if not names:
            return vector
        found = {name: self.proposed[name] for name in names if name in self.proposed}
        for there, matrix in matrices(self.embedded, len(vector), {*names} - found.keys()):
            found |= dict(zip(there, matrix, strict=True))
        try:
            return queries.expanded(vector, np.stack([found[name] for name in names]), metric=self.metric)
        except ValueError as error:
            raise ConfigError(f"{error}; leave --expand out") from error

    def run(self, vector: Floats, k: int, excluded: Collection[str]) -> list[Scored]:
        """The most similar images that pass the filters, less the excluded ones."""
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

    def _proposed(self, vector: Floats, k: int, excluded: Collection[str]) -> list[Scored] | None:
        """The index's candidates, scored; None where it does not serve."""
        index = self.index
        if not self._serves() or index is None:
            return None
        if reason := self._reason(index, vector):
            self._give_up(reason)
            return None
        try:
            chosen = index.choose(self.filters, self.records, self._connection) if self.filters else None
            hits = index.search(vector, candidates(k) + len(excluded), chosen)
        except (ConfigError, TransientError) as error:
            self._give_up(f"{error}")
            return None
        hits = [hit for hit in hits if hit.image_id not in excluded]
        kept = self._fresh(hits)
        self.proposed = {hit.image_id: hit.embedding for hit in kept}
        if len(kept) < k and ((self.filters and not index.complete) or len(kept) < len(hits)):
            return None  # few pass the filters, and the graph does not reach all of these
        matrix = np.stack([hit.embedding for hit in kept]) if kept else np.empty((0, len(vector)), np.float32)
        return best(zip([hit.image_id for hit in kept], self._scores(matrix, vector), strict=True), k)

    def _scores(self, matrix: Floats, vector: Floats) -> list[float]:
        return [float(score) for score in similarities(self.metric, matrix, vector)]

    def _reason(self, index: Index, vector: Floats) -> str:
        """Why the index cannot answer this, or nothing."""
        if index.dim != len(vector):
            return f"the index has vectors of {index.dim} values, the query {len(vector)}"
        lag = index.lag(self.embedded)
        return f"the vector index is {lag:,} images behind (artray index)" if lag else ""

    def _fresh(self, hits: list[Hit]) -> list[Hit]:
        """The hits whose records are those that their vectors are from, and of the query's model."""
        if self.index is not None and self.embedded is self.records and self.same.fits(self.index.models):
            known_places = self.index.places(self.records, hits)
            if known_places is not None:  # the index is of this very version of the records
                self.places = known_places
                return hits
        same = self.same.clause()
        statement = (
            "SELECT image_id, epoch_us(embedded_at), file_index, file_row_number FROM searched "  # noqa: S608
            f"WHERE list_contains(?, image_id) AND {same.sql}"
        )
        asked = [[hit.image_id for hit in hits], *same.parameters]
        rows = views.fetched(self.connection, statement, asked) if hits else []
        known = {image_id: moment for image_id, moment, _, _ in rows}
        self.places = {image_id: (file, row) for image_id, _, file, row in rows if file is not None}
        return [hit for hit in hits if known.get(hit.image_id) == hit.processed_at_us]

    def _exact(self, vector: Floats, k: int, excluded: Collection[str]) -> list[Scored]:
        """The most similar of all records that pass the filters; embeddings of another length have no score."""
        passing = self._passing() - {*excluded}
        kept: list[tuple[float, str]] = []
        for names, matrix in matrices(self.embedded, len(vector)) if passing else ():
            there = np.flatnonzero(np.fromiter((name in passing for name in names), bool, len(names)))
            rough = _rough(self.metric, matrix, vector)[there]
            first = there[np.argsort(-rough, kind="stable")[: candidates(k)]]
            found = zip(self._scores(matrix[first], vector), (names[at] for at in first), strict=True)
            kept = heapq.nsmallest(k, [*kept, *((-score, name) for score, name in found)])
        return [Scored(name, -score) for score, name in kept]

    def _passing(self) -> set[str]:
        """The images that pass the filters and whose embedding is of the query's model; a note tells of others."""
        same, where = self.same.clause(), find.condition(self.filters)
        statement = f"SELECT image_id, {same.sql} FROM searched WHERE {where.sql}"  # noqa: S608
        rows = views.fetched(self.connection, statement, [*same.parameters, *where.parameters])
        if others := sum(not comparable for _, comparable in rows):
            left_out = f"{others:,} works made with another model are left out (artray process makes them anew)"
            self.note = "; ".join(dict.fromkeys(filter(None, [self.note, left_out])))
        return {name for name, comparable in rows if comparable}


def _define(connection: views.Connection, method: Records | None) -> None:
    """The views ``embedded``, the records that have the embeddings, and ``searched``, the works to be found.

    Args:
        connection: with the views of the store's records.
        method: the records of another method's embeddings.
    """
    if method is None:
        connection.execute("CREATE OR REPLACE TEMP VIEW embedded AS SELECT * FROM stored")
        columns, source = "*, processed_at AS embedded_at, models AS made_by", "placed"
    else:
        views.attach(connection, method, "embedded")
        columns = "placed.*, embedded.processed_at AS embedded_at, embedded.models AS made_by"
        source = "placed JOIN embedded ON placed.image_id = embedded.image_id AND embedded.error = ''"
    connection.execute(
        f"CREATE OR REPLACE TEMP VIEW searched AS SELECT {columns} FROM {source} "  # noqa: S608
        "WHERE placed.error = '' AND placed.vanished_at IS NULL"
    )


class Same(NamedTuple):
    """Which records' embeddings can be compared: another trunk's may have the same length by chance.

    All of them where nothing is said.
    """

    maker: str | None = None  # the card, with its fingerprint, that must be among those that made a record
    models: str | None = None  # or all that made it

    def clause(self) -> find.Clause:
        """As a condition on ``searched``."""
        if self.maker is not None:
            return find.Clause("list_contains(string_split(coalesce(made_by, ''), ','), ?)", [self.maker])
        return find.Clause("true", []) if self.models is None else find.Clause("made_by = ?", [self.models])

    def fits(self, models: str | None) -> bool:
        """Whether it holds for records that were made so; False where that is not known."""
        if models is None:
            return False
        if self.maker is not None:
            return self.maker in models.split(",")
        return self.models in (None, models)


def same_as(described: Mapping[str, Any]) -> Same:
    """Which embeddings can be compared with those of the model that a store describes as its own."""
    return Same(maker=f"{described['card']}@{described.get('fingerprint')}") if described.get("card") else Same()


def _rough(metric: str, matrix: Floats, vector: Floats) -> Floats:
    """float32[N] that ranks rows nearly as the metric does, in less time where that is to be had."""
    if metric == "cosine":
        return matrix @ vector  # embeddings that are compared so have unit norm
    found: Floats = similarities(metric, matrix, vector).astype(np.float32)
    return found


def candidates(k: int) -> int:
    """How many are scored exactly to find the ``k`` best."""
    return max(20, 4 * k)
