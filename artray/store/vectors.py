"""The vector index: a Milvus collection that is made from the records and can be made again at any time.

    with vectors.Index(store) as index:
        index.sync(records)
        hits = index.search(embedding, 50)

It can lag behind the records or be lost; they cannot. It is brought up to date by the difference to what is marked
as done (artray.store.marks), so that doing it again does nothing, and doing the rest after a crash does the rest.
"""

import contextlib
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from types import TracebackType
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from artray.config import StoreConfig
from artray.location import Location
from artray.store import milvus, views
from artray.store.layout import Store
from artray.store.marks import Marks
from artray.store.records import Records

Floats = npt.NDArray[np.float32]

FORMAT: Final = 1
BATCH_ROWS: Final = 1_000
BULK_ROWS: Final = 5_000
"""While Milvus Lite writes more than this it keeps nothing in memory: else it builds the graph again at every flush."""

GOOD: Final = "error = '' AND vanished_at IS NULL"
EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)


class Synced(NamedTuple):
    """What a synchronisation did, and how many vectors there are now."""

    upserted: int
    deleted: int
    count: int  # type: ignore[assignment]  # also a method of tuples


class Hit(NamedTuple):
    """A vector near the one looked for."""

    image_id: str
    processed_at_us: int  # of the record that it is from, microseconds since 1970
    embedding: Floats  # float32[D]


class Index:
    """The vectors of a store; a context manager. Milvus is opened when it is needed, and kept until :meth:`close`.

    A process holds at most one of a store's at a time.

    Args:
        store: whose vectors.
        milvus_uri: a server's URI; None for Milvus Lite in the store's own folder.
    """

    def __init__(self, store: Store, milvus_uri: str | None = None) -> None:
        self.store, self.milvus_uri = store, milvus_uri
        self.folder = store.location / "vectors" if milvus_uri else Location(str(store.vectors_path))
        self.path = store.vectors_path / "milvus.db"
        self.name = f"artray_{store.location.key}" if milvus_uri else "works"
        self.marks = Marks(self.folder)
        self._client: Any = None
        self._loaded = False
        self._lag: tuple[Any, int] | None = None  # for a version of the records and of the marks

    def __enter__(self) -> "Index":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the collection, so that another process can open it."""
        client, self._client, self._loaded = self._client, None, False
        if client is not None:
            client.close()
            if self.milvus_uri is None:
                milvus.release(self.path)

    @property
    def dim(self) -> int:
        """The vectors' length; 0 where there are none."""
        return int((self._described() or {}).get("dim", 0))

    @property
    def count(self) -> int:
        """How many vectors are marked as being there; Milvus is not asked."""
        return _vectors(self._marked())

    def lag(self, records: Records) -> int:
        """How many records' vectors have to be written or deleted; Milvus is not asked."""
        moment = (records.version, self.marks.moment())
        if self._lag is None or self._lag[0] != moment:
            with self._compared(records) as connection:
                statement = "SELECT (SELECT count(*) FROM todo) + (SELECT count(*) FROM gone)"
                self._lag = moment, int(connection.execute(statement).fetchall()[0][0])
        return self._lag[1]

    def sync(self, records: Records, progress: Callable[[int, int], None] | None = None) -> Synced:
        """Make the vectors those of ``records``: idempotent, resumable, some rows at a time.

        Of records with embeddings of different lengths (after a change of models) those like the newest are taken.
        ``progress`` is called with the number of images done so far, and of all that there are to do.

        Raises:
            StoreBusyError: another process has Milvus Lite open.
            TransientError: Milvus failed.
        """
        todo, gone = self._difference(records)
        if not todo and not gone and self._described() is not None:
            return Synced(0, 0, self.count)
        with milvus.failing(self.milvus_uri or str(self.path)):
            dim = self._dim_of(records, todo)
            if self._renew(dim):
                todo, gone = self._difference(records)
            self.marks.begin([*todo, *gone])
            self._delete(gone)
            if dim and not self.milvus_uri and len(todo) > BULK_ROWS:
                self._connected().release_collection(self.name)
                self._loaded = False
            upserted = self._upsert(records, todo, dim, progress)
            self.marks.forget(gone)
            if dim:
                self._connected().flush(self.name)
                self._ready()
        self.marks.save()
        return Synced(upserted, len(gone), self.count)

    def search(self, query: Floats, limit: int, expression: str = "") -> list[Hit]:
        """The vectors nearest to float32[D] ``query`` of unit norm, the nearest first, approximately.

        Args:
            query: what to look for.
            limit: how many, at most.
            expression: a Milvus filter (see milvus.expression).

        Raises:
            StoreBusyError: another process has Milvus Lite open.
            TransientError: Milvus failed.
        """
        with milvus.failing(self.milvus_uri or str(self.path)):
            found = self._ready().search(
                self.name,
                [np.asarray(query, np.float32)],
                filter=expression,
                limit=limit,
                output_fields=list(milvus.FIELDS),
                search_params={"params": {"ef": max(128, 2 * limit)}},
            )[0]
        return [_hit(hit["entity"]) for hit in found]

    def get(self, image_id: str) -> Hit | None:
        """The vector of an image, or None."""
        with milvus.failing(self.milvus_uri or str(self.path)):
            found = self._ready().get(self.name, [milvus.key(image_id)], output_fields=list(milvus.FIELDS))
        return _hit(found[0]) if found else None

    def _described(self) -> dict[str, Any] | None:
        """What index.json says; None where there is no such index."""
        described = (self.folder / "index.json").read_json()
        fits = described is not None and described.get("format") == FORMAT
        there = bool(self.milvus_uri) or self.path.exists() or not (described or {}).get("dim")
        return described if fits and there else None

    def _marked(self) -> pa.Table:
        return self.marks.table() if self._described() is not None else self.marks.table().slice(0, 0)

    @contextlib.contextmanager
    def _compared(self, records: Records) -> Iterator[views.Connection]:
        """A connection with the tables ``todo`` (to be written) and ``gone`` (to be deleted)."""
        with views.opened(records) as connection:
            connection.register("marked", self._marked())
            moment = "coalesce(processed_at, to_timestamp(0)) AS processed_at"
            for statement in (
                f"CREATE TEMP TABLE good AS SELECT image_id, {moment} FROM stored WHERE {GOOD}",  # noqa: S608
                "CREATE TEMP TABLE todo AS SELECT * FROM good EXCEPT SELECT image_id, processed_at FROM marked",
                "CREATE TEMP TABLE gone AS SELECT image_id FROM marked EXCEPT SELECT image_id FROM good",
            ):
                connection.execute(statement)
            yield connection

    def _difference(self, records: Records) -> tuple[list[str], list[str]]:
        """The images to be written, the newest first, and those to be deleted."""
        with self._compared(records) as connection:
            todo = connection.execute("SELECT image_id FROM todo ORDER BY processed_at DESC, image_id").fetchall()
            gone = connection.execute("SELECT image_id FROM gone").fetchall()
        return [row[0] for row in todo], [row[0] for row in gone]

    def _dim_of(self, records: Records, todo: list[str]) -> int:
        """The length of the newest embedding; 0 where there is none at all."""
        newest = next(embeddings(records, set(todo[:1])), None)
        if newest is not None and newest["embedding"][0].is_valid:
            return len(newest["embedding"][0])
        if self.dim:
            return self.dim
        lengths = (pc.max(pc.list_value_length(batch["embedding"])).as_py() for batch in embeddings(records, set(todo)))
        return next((length for length in lengths if length), 0)

    def _renew(self, dim: int) -> bool:
        """Make the collection anew where there is none, where it lost vectors, or where the length changed."""
        described = self._described()
        if described is not None and described["dim"] == dim and (not dim or self._complete()):
            return False
        for name in ("index.json", "synced.parquet"):
            (self.folder / name).remove()
        if dim or self.milvus_uri or self.path.exists():
            self._drop()
        if dim:
            milvus.create(self._connected(), self.name, dim)
        self.folder.make()
        (self.folder / "index.json").write_json({"format": FORMAT, "dim": dim})
        return True

    def _complete(self) -> bool:
        """Whether Milvus has as many vectors as are marked, or more (of images under way)."""
        client = self._connected()
        if not client.has_collection(self.name):
            return False
        if self.milvus_uri is None:
            count = client.get_collection_stats(self.name)["row_count"]  # exact, and without loading the vectors
        else:
            count = self._ready().query(self.name, filter="", output_fields=["count(*)"])[0]["count(*)"]
        return int(count) >= self.count

    def _drop(self) -> None:
        client = self._connected()
        self._loaded = False
        if client.has_collection(self.name):
            client.drop_collection(self.name)

    def _delete(self, image_ids: list[str]) -> None:
        for start in range(0, len(image_ids) if self.dim else 0, BATCH_ROWS):
            keys = [milvus.key(image_id) for image_id in image_ids[start : start + BATCH_ROWS]]
            self._connected().delete(self.name, ids=keys)

    def _upsert(self, records: Records, todo: list[str], dim: int, progress: Callable[[int, int], None] | None) -> int:
        """Write the vectors of these images; returns how many have one. The others lose what they had."""
        upserted = done = 0
        for batch in embeddings(records, set(todo)):
            moments = pc.fill_null(batch["processed_at"], EPOCH).cast(pa.int64()).to_pylist()
            there, matrix = matrix_of(batch, dim)
            rows = views.rows(batch.drop_columns(["embedding"]))
            kept = [pair for pair, good in zip(zip(rows, moments, strict=True), there.to_pylist(), strict=True) if good]
            if kept:
                entities = [milvus.entity(*pair, vector) for pair, vector in zip(kept, matrix, strict=True)]
                self._connected().upsert(self.name, entities)
            self._delete(batch["image_id"].filter(pc.invert(there)).to_pylist())
            self.marks.done([row["image_id"] for row in rows], moments, there.to_pylist())
            upserted, done = upserted + len(kept), done + len(rows)
            if progress is not None:
                progress(done, len(todo))
        return upserted

    def _connected(self) -> Any:
        """The Milvus client."""
        if self._client is None:
            self._client = milvus.server(self.milvus_uri) if self.milvus_uri else milvus.lite(self.path)
        return self._client

    def _ready(self) -> Any:
        """The client with the collection in memory."""
        client = self._connected()
        if not self._loaded:
            client.load_collection(self.name)
            self._loaded = True
        return client


def configured(store: Store) -> StoreConfig:
    """Where the latest run put the vectors, and whether it did."""
    runs = store.runs(1)
    return StoreConfig.reported(runs[-1].get("profile", {}).get("store", {})) if runs else StoreConfig()


def lag(store: Store, records: Records, milvus_uri: str | None = None) -> dict[str, int]:
    """How many vectors there are, and how many are missing, outdated or too many: {count, lag}."""
    index = Index(store, milvus_uri)
    return {"count": index.count, "lag": index.lag(records)}


def embeddings(records: Records, image_ids: set[str]) -> Iterator[pa.Table]:
    """image_id, processed_at, type, genre, objects and embedding of these images, at most BATCH_ROWS at a time."""
    columns = ["image_id", "processed_at", "type", "genre", "objects", "embedding"]
    return views.batches(records, columns, BATCH_ROWS, image_ids)


def matrix_of(batch: pa.Table, dim: int) -> tuple[pa.ChunkedArray, Floats]:
    """The embeddings of ``dim`` values among a batch's N rows: which rows have one, bool[N], and float32[M, dim]."""
    column = batch["embedding"]
    there = pc.fill_null(pc.equal(pc.list_value_length(column), max(dim, 1)), False)
    if not pc.all(pc.or_(there, pc.is_null(column))).as_py():
        column = column.filter(there)  # copies every vector; null rows need no such thing
    values = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return there, values.reshape(-1, max(dim, 1))


def _vectors(marked: pa.Table) -> int:
    return int(pc.sum(pc.and_(marked["vector"], pc.is_valid(marked["processed_at"]))).as_py() or 0)


def _hit(entity: dict[str, Any]) -> Hit:
    embedding = np.asarray(entity["embedding"], np.float32)
    return Hit(str(entity["image_id"]), int(entity["processed_at"]), embedding)
