"""The vectors of a store as a graph in a file, searched in this process: for stores that are large.

    graph-NAME.faiss    the vectors and their graph (faiss's HNSW), mapped into memory where it is only read
    rows-NAME.parquet   image_id, processed_at, row in the graph and place among the records
    index.json          names the graph and the rows that count

A synchronisation writes new files and then names them, so that a crash leaves the ones before, and who searches
meanwhile goes on with these. Vectors of images that are gone stay in the graph, which cannot lose any, and are passed
over; when they become many, a new graph is made of the others.

Source: Malkov and Yashunin (2018) for the graph.
"""

import contextlib
import functools
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from typing_extensions import override

from artray.errors import StoreBusyError, TransientError
from artray.location import first_line
from artray.retrieve.metrics import recovered, searchable
from artray.store import find, views
from artray.store.find import Filters
from artray.store.layout import Store
from artray.store.records import Records
from artray.store.vectors import EPOCH, LOCK, Floats, Hit, Hits, Index, Progress, Synced, embeddings, matrix_of, named

Rows = npt.NDArray[np.int64]

LINKS: Final = 16
BUILD_EF: Final = 100
SEARCH_EF: Final = 128
"""Chosen from the measured curve of recall and latency; see docs/search.md."""

DEAD_MOST: Final = 0.25
"""A graph of which more than this part is gone is made anew."""

SCAN_ROWS: Final = 50_000
"""So few chosen vectors are compared one by one, which is exact and takes less time than the graph would."""

SAVE_ROWS: Final = 250_000
"""A long synchronisation is saved after so many, so that one that is interrupted goes on from there."""

ROWS: Final = pa.schema(
    [
        ("image_id", pa.string()),
        ("processed_at", pa.timestamp("us", tz="UTC")),
        ("row", pa.int64()),  # in the graph; null where the record has no embedding
        ("place", pa.int64()),  # among all records, file after file, of the version that index.json names; or null
    ]
)


class Loaded(NamedTuple):
    """What counts, in the form in which it is asked."""

    moment: str  # the name of the rows: whatever is written has new ones
    graph: Any  # a faiss.IndexHNSWFlat; None where there are no vectors
    matrix: Floats  # float32[V, D], the graph's vectors, in its memory
    rows: pa.Table  # of ROWS
    names: pa.Array  # their image_ids
    moments: Rows  # their processed_at, in microseconds since 1970
    positions: Rows  # per vector of the graph, its position in ``rows``; -1 for one that is gone
    alive: Rows | None  # the graph's vectors that are not gone; None for all of them
    place_of: Rows  # per vector its record's place; empty where places are not known
    row_of: Rows  # per place among the records, the vector's row in the graph; -1 for none; empty likewise


def _loaded(moment: str, graph: Any, rows: pa.Table) -> Loaded:
    rows = rows.combine_chunks()
    moments = rows["processed_at"].cast(pa.int64()).to_numpy()
    names = rows["image_id"].chunk(0) if len(rows) else pa.array([], pa.string())
    nowhere = np.zeros(0, np.int64)
    if graph is None:
        nothing = np.zeros((0, 1), np.float32)
        return Loaded(moment, None, nothing, rows, names, moments, nowhere, None, nowhere, nowhere)
    storage = _faiss().downcast_index(graph.storage)
    matrix = _faiss().rev_swig_ptr(storage.get_xb(), storage.ntotal * storage.d).reshape(-1, storage.d)
    there = np.flatnonzero(rows["row"].is_valid().to_numpy())
    kept = rows.take(pa.array(there))
    row = kept["row"].to_numpy()
    positions = np.full(graph.ntotal, -1, np.int64)
    positions[row] = there
    alive = None if len(there) == graph.ntotal else np.sort(row)
    place_of = row_of = nowhere
    if len(rows) and not rows["place"].null_count:  # also of records without a vector: filters find these, too
        place = rows["place"].to_numpy()
        row_of, place_of = np.full(int(place.max()) + 1, -1, np.int64), np.full(graph.ntotal, -1, np.int64)
        row_of[place[there]], place_of[row] = row, place[there]
    return Loaded(moment, graph, matrix, rows, names, moments, positions, alive, place_of, row_of)


class HnswIndex(Index):
    """See :class:`artray.store.vectors.Index`."""

    engine: ClassVar[str] = "hnsw"
    complete: ClassVar[bool] = True
    instant: ClassVar[bool] = True

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.path = Path(self.folder.uri)
        self._loaded: Loaded | None = None
        self._starts: tuple[str, Rows] | None = None

    @override
    def close(self) -> None:
        self._loaded = None

    @override
    def search(self, query: Floats, limit: int, chosen: Rows | None = None) -> Hits:
        loaded = self._current()
        alive = loaded.alive if chosen is None else chosen
        count = len(loaded.positions) if alive is None else len(alive)
        rows = np.zeros(0, np.int64)
        if loaded.graph is not None and count:
            wanted = searchable(self.metric, np.asarray(query, np.float32)[None])
            rows = _nearest(loaded, wanted, min(limit, count), alive)[0]
        return Hits(rows[rows >= 0], functools.partial(self._hits, loaded))

    @override
    def get(self, image_id: str) -> Hit | None:
        loaded = self._current()
        at = pc.index(loaded.names, image_id).as_py()
        row = loaded.rows["row"][at].as_py() if at >= 0 else None
        return None if row is None else self._hits(loaded, np.array([row]))[0]

    @override
    def choose(self, filters: Filters, records: Records, connection: views.Connection) -> Rows:
        loaded, where = self._current(), find.condition(filters)
        starts = self._starts_of(records, loaded)
        if starts is not None:
            statement = "SELECT file_index, file_row_number FROM placed WHERE error = '' AND vanished_at IS NULL AND "
            found = connection.execute(statement + where.sql, views.bound(where.parameters)).fetchnumpy()
            rows = loaded.row_of[starts[found["file_index"].astype(np.int64)] + found["file_row_number"]]
            return np.sort(rows[rows >= 0])
        connection.register("indexed", loaded.rows.select(["image_id", "row"]))
        statement = f"SELECT row FROM works JOIN indexed USING (image_id) WHERE error = '' AND {where.sql}"  # noqa: S608
        found = connection.execute(f"{statement} AND row IS NOT NULL", views.bound(where.parameters)).fetchnumpy()
        return np.sort(np.asarray(found["row"], np.int64))

    @override
    def places(self, records: Records, hits: Sequence[Hit]) -> dict[str, tuple[int, int]] | None:
        loaded = self._current()
        starts = self._starts_of(records, loaded)
        if starts is None:
            return None
        found: dict[str, tuple[int, int]] = {}
        for hit in hits:
            place = int(loaded.place_of[hit.row])
            file = int(np.searchsorted(starts, place, side="right")) - 1
            found[hit.image_id] = (file, place - int(starts[file]))
        return found

    def _starts_of(self, records: Records, loaded: Loaded) -> Rows | None:
        """The first place of each file of the records, if these are the ones that the vectors' places are among."""
        if not len(loaded.row_of) or self._read().get("records") != named(records):
            return None
        if self._starts is None or self._starts[0] != named(records):
            self._starts = named(records), views.part_starts(records)
        return self._starts[1]

    @override
    def sync(self, records: Records, progress: Progress | None = None) -> Synced:
        todo, gone = self._difference(records)
        described = self._described()
        if not todo and not gone and described is not None:
            if described.get("records") != named(records):  # in another order, or of another version, but no others
                with self._alone():
                    described = self._described() or described
                    self._finish(described["dim"], described["graph"], self._marks(described["rows"]), records)
            return Synced(0, 0, self.count)
        with self._alone():
            dim = self._dim_of(records, todo)
            if self._described() is not None and dim != self.dim:
                self._clear()
                todo, gone = self._difference(records)
            old = self._load(whole=True) if self._described() is not None else None
            growing = _Growing(self.metric, dim, old, {*todo, *gone})
            upserted = self._grow(growing, records, todo, progress)
            self._finish(growing.dim, self._written(growing.graph), growing.rows(), records)
        return Synced(upserted, len(gone), self.count)

    def _grow(self, growing: "_Growing", records: Records, todo: list[str], progress: Progress | None) -> int:
        upserted = done = saved = 0
        for batch in embeddings(records, set(todo)):
            upserted += growing.add(batch)
            done += batch.num_rows
            if progress is not None:
                progress(done, len(todo))
            if done - saved >= SAVE_ROWS:
                self._save(growing.dim, self._written(growing.graph), growing.rows())
                saved = done
        return upserted

    def _finish(self, dim: int, graph: str, rows: pa.Table, records: Records) -> None:
        """Write the rows that are up to date with the records, and say where each lies; ``graph``: its name."""
        with views.opened(records) as connection:
            connection.register("indexed", rows.append_column("position", pa.array(range(len(rows)), pa.int64())))
            statement = "SELECT file_index, file_row_number FROM indexed JOIN placed USING (image_id) ORDER BY position"
            found = connection.sql(statement).to_arrow_table()
            models = connection.execute("SELECT DISTINCT models FROM stored WHERE error = '' LIMIT 2").fetchall()
        if not found["file_index"].null_count:
            starts = views.part_starts(records)
            place = starts[found["file_index"].to_numpy().astype(np.int64)] + found["file_row_number"].to_numpy()
            rows = rows.set_column(ROWS.get_field_index("place"), ROWS.field("place"), pa.array(place, pa.int64()))
        one = {"models": models[0][0]} if len(models) == 1 else {}
        self._save(dim, graph, rows, records=named(records), **one)

    def _written(self, graph: Any) -> str:
        """The name of a graph, which is written; nothing for None."""
        name = uuid.uuid4().hex[:12] if graph is not None else ""
        if name:
            _faiss().write_index(graph, str(self._graph(name)))
        return name

    def _save(self, dim: int, graph: str, rows: pa.Table, **told: Any) -> None:
        """Write the rows of a graph, name both, and delete the others."""
        moment = uuid.uuid4().hex[:12]
        pq.write_table(rows, self._rows(moment))
        self._describe(dim, graph=graph, rows=moment, **told)
        self._clear("index.json", self._rows(moment).name, self._graph(graph).name)
        self._loaded = None

    def _graph(self, name: str) -> Path:
        return self.path / f"graph-{name}.faiss"

    def _rows(self, name: str) -> Path:
        return self.path / f"rows-{name}.parquet"

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the folder, in which only one process may write.

        Raises:
            StoreBusyError: another one does.
        """
        import fcntl

        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / LOCK).open("wb") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise StoreBusyError(
                    f"{self.path}: another process brings the vectors up to date; wait until it has ended"
                ) from error
            yield

    def _current(self) -> Loaded:
        """What counts, loaded."""
        if self._loaded is None or self._loaded.moment != self._read().get("rows", ""):
            self._loaded = self._load(whole=False)
        return self._loaded

    def _load(self, *, whole: bool) -> Loaded:
        """What counts; ``whole``: in memory, to be added to, and not mapped into it."""
        described = self._described() or {}
        moment = str(described.get("rows", ""))
        if not described.get("graph"):
            return _loaded(moment, None, self._marks(moment))
        path = self._graph(described["graph"])
        try:
            graph = _faiss().read_index(str(path), 0 if whole else _faiss().IO_FLAG_MMAP_IFC)
        except RuntimeError as error:
            raise TransientError(
                f"{path}: the vector index cannot be read: {first_line(error)}; remove {self.path} and run artray index"
            ) from error
        return _loaded(moment, graph, self._marks(moment))

    def _marks(self, name: str) -> pa.Table:
        try:
            return pq.read_table(self._rows(name), schema=ROWS)
        except (FileNotFoundError, pa.ArrowException):
            return ROWS.empty_table()

    @override
    def _marked(self) -> pa.Table:
        rows = self._marks((self._described() or {}).get("rows", ""))
        return rows.select(["image_id", "processed_at"]).append_column("vector", pc.is_valid(rows["row"]))

    @override
    def _moment(self) -> Any:
        return (self._described() or {}).get("rows")

    @override
    def _described(self) -> dict[str, Any] | None:
        described = super()._described()
        if described is None or not self._rows(described.get("rows", "")).exists():
            return None
        return described if not described["dim"] or self._graph(described["graph"]).exists() else None

    def _hits(self, loaded: Loaded, rows: Rows) -> list[Hit]:
        at = loaded.positions[rows]
        names, moments = loaded.names.take(pa.array(at)).to_pylist(), loaded.moments[at].tolist()
        vectors = recovered(self.metric, loaded.matrix[rows])
        return list(map(Hit, names, moments, vectors, rows.tolist()))


class _Growing:
    """A graph to which vectors are added.

    Args:
        metric: how they are compared.
        dim: their length; 0 where there are none.
        old: what there is; None to begin anew.
        without: the images whose vectors are no longer those of their records.
    """

    def __init__(self, metric: str, dim: int, old: Loaded | None, without: set[str]) -> None:
        self.metric, self.dim = metric, dim
        old = old or _loaded("", None, ROWS.empty_table())
        names = pa.array(without, pa.string())
        kept = old.rows.filter(pc.invert(pc.is_in(old.rows["image_id"], value_set=names)))
        self.graph = old.graph if old.graph is not None or not dim else _empty(metric, dim)
        if self.graph is not None and len(kept) < (1 - DEAD_MOST) * self.graph.ntotal:
            kept = self._anew(kept)
        self._tables = [kept]

    def add(self, batch: pa.Table) -> int:
        """Add the embeddings of a batch's records; returns how many have one."""
        there, matrix = matrix_of(batch, self.dim)
        rows = np.full(batch.num_rows, -1, np.int64)
        if len(matrix):
            first = self.graph.ntotal
            self.graph.add(searchable(self.metric, matrix))
            rows[there.to_numpy()] = np.arange(first, self.graph.ntotal)
        moments = pc.fill_null(batch["processed_at"], EPOCH)
        row = pa.array(rows, pa.int64(), mask=rows < 0)
        nowhere = pa.nulls(batch.num_rows, pa.int64())
        self._tables.append(pa.table([batch["image_id"], moments, row, nowhere], schema=ROWS))
        return len(matrix)

    def rows(self) -> pa.Table:
        """The rows of ROWS so far."""
        return pa.concat_tables(self._tables).combine_chunks()

    def _anew(self, kept: pa.Table) -> pa.Table:
        """A new graph of the vectors that stay; their rows, with new places."""
        old, self.graph = self.graph, _empty(self.metric, self.dim)
        good = kept.filter(pc.is_valid(kept["row"]))
        rows = good["row"].to_numpy()
        for start in range(0, len(rows), SCAN_ROWS):
            self.graph.add(old.reconstruct_batch(rows[start : start + SCAN_ROWS]))
        placed = good.set_column(2, ROWS.field("row"), pa.array(np.arange(len(rows)), pa.int64()))
        return pa.concat_tables([placed, kept.filter(pc.is_null(kept["row"]))])


def _faiss() -> Any:
    """The library, which takes a while to import, and whose stubs lack much."""
    import faiss

    return faiss


def _empty(metric: str, dim: int) -> Any:
    graph = _faiss().IndexHNSWFlat(
        dim, LINKS, _faiss().METRIC_L2 if metric == "euclidean" else _faiss().METRIC_INNER_PRODUCT
    )
    graph.hnsw.efConstruction = BUILD_EF
    return graph


def _nearest(loaded: Loaded, queries: Floats, limit: int, chosen: Rows | None) -> Rows:
    """int64[N, limit] rows of the graph nearest to float32[N, D], -1 where there are fewer."""
    graph = loaded.graph
    queries = np.ascontiguousarray(queries, np.float32)
    if chosen is None:
        parameters = _faiss().SearchParametersHNSW(efSearch=max(SEARCH_EF, 2 * limit))
        return np.asarray(graph.search(queries, limit, params=parameters)[1])
    if len(chosen) <= SCAN_ROWS:
        return _scanned(loaded, queries, limit, chosen)
    bits = np.zeros((graph.ntotal + 7) // 8 * 8, bool)
    bits[chosen] = True
    packed = np.packbits(bits, bitorder="little")
    selector = _faiss().IDSelectorBitmap(graph.ntotal, _faiss().swig_ptr(packed))
    parameters = _faiss().SearchParametersHNSW(sel=selector, efSearch=max(SEARCH_EF, 2 * limit))
    found = np.asarray(graph.search(queries, limit, params=parameters)[1])
    return found if (found >= 0).all() else _scanned(loaded, queries, limit, chosen)


def _scanned(loaded: Loaded, queries: Floats, limit: int, chosen: Rows) -> Rows:
    """Likewise, by comparing with each chosen one."""
    _, near = _faiss().knn(queries, loaded.matrix[chosen], limit, metric=loaded.graph.metric_type)
    rows: Rows = np.where(near >= 0, chosen[near], -1)
    return rows
