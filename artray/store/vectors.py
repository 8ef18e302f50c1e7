"""The vector index: a collection of vectors that is made from the records and can be made again at any time.

    with vectors.opened(store, records) as index:
        index.sync(records)
        hits = index.search(embedding, 50)

It can lag behind the records or be lost; they cannot. It is brought up to date by the difference to what it has marked
as done, so that doing it again does nothing, and doing the rest after a crash does the rest.

    milvus  a Milvus server, or Milvus Lite for a store that is not large (artray.store.milvus_index)
    hnsw    a graph in a file, searched in this process, for one that is (artray.store.hnsw_index)
"""

import abc
import contextlib
import functools
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Final, NamedTuple, overload

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from typing_extensions import override

from artray.config import StoreConfig
from artray.location import Location
from artray.store import views
from artray.store.find import Filters
from artray.store.layout import Store
from artray.store.records import Records

Floats = npt.NDArray[np.float32]
Progress = Callable[[int, int], None]

FORMAT: Final = 2
LOCK: Final = "LOCK"
BATCH_ROWS: Final = 1_000
COMPARED_ROWS: Final = 4_096
"""So many embeddings are in memory at a time where all are compared."""

LITE_ROWS: Final = 20_000
"""More vectors than this are not left to Milvus Lite, whose every search goes through all keys; see docs/search.md."""

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
    row: int = -1  # where the index has it, if it says so


class Hits(Sequence[Hit]):
    """What a search found: where the index has it; names and vectors are read when they are looked at.

    Args:
        rows: int64[N], the nearest first.
        read: the hits at such rows.
    """

    def __init__(self, rows: npt.NDArray[np.int64], read: Callable[[npt.NDArray[np.int64]], list[Hit]]) -> None:
        self.rows, self._read = rows, read

    @functools.cached_property
    def _hits(self) -> list[Hit]:
        return self._read(self.rows)

    @override
    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, at: int) -> Hit: ...

    @overload
    def __getitem__(self, at: slice) -> list[Hit]: ...

    @override
    def __getitem__(self, at: int | slice) -> Hit | list[Hit]:
        return self._hits[at]


class Index(abc.ABC):
    """The vectors of a store; a context manager. What it needs is opened then, and kept until :meth:`close`.

    A process holds at most one of a store's at a time.

    Args:
        store: whose vectors.
    """

    engine: ClassVar[str]
    complete: ClassVar[bool]
    """Whether a search finds as many as there are, however few a filter leaves."""

    instant: ClassVar[bool]
    """Whether it answers a first question sooner than a comparison with all records would."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.folder = Location(str(store.vectors_path))
        self.metric = metric_of(store.embedding)
        self._lag: tuple[Any, int] | None = None  # for a version of the records and of what is marked
        self._held: tuple[Any, dict[str, Any]] = (None, {})  # index.json, and when it was written

    def __enter__(self) -> "Index":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @abc.abstractmethod
    def close(self) -> None:
        """Let go of the vectors, so that another process can have them."""

    @abc.abstractmethod
    def sync(self, records: Records, progress: Progress | None = None) -> Synced:
        """Make the vectors those of ``records``: idempotent, resumable, some rows at a time.

        Of records with embeddings of different lengths (after a change of models) those like the newest are taken.
        ``progress`` is called with the number of images done so far, and of all that there are to do.

        Raises:
            StoreBusyError: another process has them open.
            TransientError: the engine failed.
        """

    @abc.abstractmethod
    def search(self, query: Floats, limit: int, chosen: Any = None) -> Sequence[Hit]:
        """The vectors nearest to an embedding float32[D], the nearest first, approximately.

        Args:
            query: what to look for.
            limit: how many, at most.
            chosen: what :meth:`choose` said; None for all.

        Raises:
            StoreBusyError: another process has them open.
            TransientError: the engine failed.
        """

    @abc.abstractmethod
    def get(self, image_id: str) -> Hit | None:
        """The vector of an image, or None."""

    @abc.abstractmethod
    def choose(self, filters: Filters, records: Records, connection: views.Connection) -> Any:
        """The filters as :meth:`search` takes them.

        Args:
            filters: what works must be, not empty.
            records: those that have the labels.
            connection: with their views (see views.opened).

        Raises:
            ConfigError: this engine cannot apply them; says what it can.
        """

    @abc.abstractmethod
    def _marked(self) -> pa.Table:
        """image_id, processed_at and whether there is a vector, of all images that are done or under way."""

    @abc.abstractmethod
    def _moment(self) -> Any:
        """Changes whenever :meth:`_marked` does."""

    def places(self, records: Records, hits: Sequence[Hit]) -> dict[str, tuple[int, int]] | None:  # noqa: ARG002
        """Where the hits' records lie, (file_index, file_row_number) as the view ``placed`` numbers them.

        Args:
            records: those that the vectors are from.
            hits: of :meth:`search`.

        Returns:
            None where it is not known, or where the records have changed since the vectors were made of them.
        """
        return None

    @property
    def models(self) -> str | None:
        """What made all of the vectors, as records say it; None where it was not one and the same."""
        told = (self._described() or {}).get("models")
        return None if told is None else str(told)

    @property
    def dim(self) -> int:
        """The embeddings' length; 0 where there are none."""
        return int((self._described() or {}).get("dim", 0))

    @property
    def count(self) -> int:
        """How many vectors are marked as being there; the engine is not asked."""
        return _vectors(self._marked())

    def lag(self, records: Records) -> int:
        """How many records' vectors have to be written or deleted; the engine is not asked."""
        if (self._described() or {}).get("records") == named(records):
            return 0
        moment = (records.version, self._moment())
        if self._lag is None or self._lag[0] != moment:
            with self._compared(records) as connection:
                statement = "SELECT (SELECT count(*) FROM todo) + (SELECT count(*) FROM gone)"
                self._lag = moment, int(connection.execute(statement).fetchall()[0][0])
        return self._lag[1]

    def _clear(self, *kept: str) -> None:
        """Remove all that is in the folder, whichever engine made it, but what is named."""
        for name in self.folder.names():
            path = Path(f"{self.folder.uri}/{name}")
            if name in kept or name == LOCK:
                continue
            if not self.folder.is_s3 and path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                (self.folder / name).remove()

    def _described(self) -> dict[str, Any] | None:
        """What index.json says; None where there is no such index."""
        described = self._read()
        fits = (FORMAT, self.engine, self.metric) == tuple(described.get(key) for key in ("format", "engine", "metric"))
        return described if fits else None

    def _read(self) -> dict[str, Any]:
        """The content of index.json, of a local one read again only if it was replaced: it is looked at often."""
        if self.folder.is_s3:
            return (self.folder / "index.json").read_json() or {}
        try:
            status = os.stat(f"{self.folder.uri}/index.json")  # noqa: PTH116 - three times as fast as of a Path
        except OSError:
            return {}
        moment = (status.st_mtime_ns, status.st_ino, status.st_size)
        if self._held[0] != moment:
            self._held = moment, (self.folder / "index.json").read_json() or {}
        return self._held[1]

    def _describe(self, dim: int, **more: Any) -> None:
        """Write index.json."""
        told = {"format": FORMAT, "engine": self.engine, "metric": self.metric, "dim": dim}
        self.folder.make()
        (self.folder / "index.json").write_json(more | told)

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


def configured(store: Store) -> StoreConfig:
    """Where the latest run put the vectors, and whether it did."""
    runs = store.runs(1)
    return StoreConfig.reported(runs[-1].get("profile", {}).get("store", {})) if runs else StoreConfig()


def metric_of(described: Mapping[str, Any]) -> str:
    """How embeddings that a store describes so are compared; see artray.retrieve.metrics."""
    return str(described.get("metric", "cosine"))


def opened(store: Store, records: Records | None = None, cfg: StoreConfig | None = None) -> Index:
    """The index of a store, by the engine that its configuration asks for.

    Args:
        store: whose vectors.
        records: where they are to be brought up to date: by how many there are ``auto`` chooses the engine.
        cfg: None for that of the latest run.
    """
    from artray.store.hnsw_index import HnswIndex
    from artray.store.milvus_index import MilvusIndex

    cfg = cfg or configured(store)
    if cfg.milvus_uri or cfg.engine == "milvus":
        return MilvusIndex(store, cfg.milvus_uri)
    described = (Location(str(store.vectors_path)) / "index.json").read_json() or {}
    there = described.get("engine") == HnswIndex.engine
    large = there if records is None else there or records.count() > LITE_ROWS
    return HnswIndex(store) if cfg.engine == "hnsw" or large else MilvusIndex(store)


def sync(store: Store, cfg: StoreConfig | None = None, progress: Progress | None = None) -> Synced:
    """Bring a store's vectors up to date; see :meth:`Index.sync`."""
    records = Records.open(store)
    with opened(store, records, cfg) as index:
        return index.sync(records, progress)


def embeddings(records: Records, image_ids: set[str]) -> Iterator[pa.Table]:
    """image_id, processed_at, type, genre, objects and embedding of these images, at most BATCH_ROWS at a time."""
    columns = ["image_id", "processed_at", "type", "genre", "objects", "embedding"]
    return views.batches(records, columns, BATCH_ROWS, image_ids)


def matrices(records: Records, dim: int, image_ids: set[str] | None = None) -> Iterator[tuple[list[str], Floats]]:
    """Names and embeddings float32[n, dim] of all records, or of these images, some at a time.

    What has no embedding, or one of another length, is left out.
    """
    for batch in views.batches(records, ["image_id", "embedding"], COMPARED_ROWS, image_ids):
        there, matrix = matrix_of(batch, dim)
        yield batch["image_id"].filter(there).to_pylist(), matrix


def matrix_of(batch: pa.Table, dim: int) -> tuple[pa.ChunkedArray, Floats]:
    """The embeddings of ``dim`` values among a batch's N rows: which rows have one, bool[N], and float32[M, dim]."""
    column = batch["embedding"]
    there = pc.fill_null(pc.equal(pc.list_value_length(column), max(dim, 1)), False)
    if not pc.all(pc.or_(there, pc.is_null(column))).as_py():
        column = column.filter(there)  # copies every vector; null rows need no such thing
    values = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return there, values.reshape(-1, max(dim, 1))


def named(records: Records) -> str:
    """The table and its version, by which an index knows whether it is up to date."""
    return f"{records.delta().metadata().id}@{records.version}"


def _vectors(marked: pa.Table) -> int:
    return int(pc.sum(pc.and_(marked["vector"], pc.is_valid(marked["processed_at"]))).as_py() or 0)
