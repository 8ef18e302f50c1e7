"""The vectors of a store in Milvus: a server, or Milvus Lite in the store's own folder."""

from typing import Any, ClassVar, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from typing_extensions import override

from artray.errors import ConfigError
from artray.retrieve.metrics import recovered, searchable
from artray.store import milvus, views
from artray.store.find import Filters
from artray.store.layout import Store
from artray.store.marks import Marks
from artray.store.records import Records
from artray.store.vectors import BATCH_ROWS, EPOCH, Floats, Hit, Index, Progress, Synced, embeddings, matrix_of

BULK_ROWS: Final = 5_000
"""While Milvus Lite writes more than this it keeps nothing in memory: else it builds the graph again at every flush."""


class MilvusIndex(Index):
    """See :class:`artray.store.vectors.Index`; Milvus is opened when it is needed.

    Args:
        store: whose vectors.
        milvus_uri: a server's URI; None for Milvus Lite in the store's own folder.
    """

    engine: ClassVar[str] = "milvus"
    complete: ClassVar[bool] = False
    instant: ClassVar[bool] = False

    def __init__(self, store: Store, milvus_uri: str | None = None) -> None:
        super().__init__(store)
        self.milvus_uri = milvus_uri
        if milvus_uri:
            self.folder = store.location / "vectors"
        self.path = store.vectors_path / "milvus.db"
        self.name = f"artray_{store.location.key}" if milvus_uri else "works"
        self.marks = Marks(self.folder)
        self._client: Any = None
        self._loaded = False

    @override
    def close(self) -> None:
        client, self._client, self._loaded = self._client, None, False
        if client is not None:
            client.close()
            if self.milvus_uri is None:
                milvus.release(self.path)

    @override
    def sync(self, records: Records, progress: Progress | None = None) -> Synced:
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

    @override
    def search(self, query: Floats, limit: int, chosen: Any = None) -> list[Hit]:
        with milvus.failing(self.milvus_uri or str(self.path)):
            found = self._ready().search(
                self.name,
                [searchable(self.metric, np.asarray(query, np.float32)[None])[0]],
                filter=chosen or "",
                limit=limit,
                output_fields=list(milvus.FIELDS),
                search_params={"params": {"ef": max(128, 2 * limit)}},
            )[0]
        return [self._hit(hit["entity"]) for hit in found]

    @override
    def get(self, image_id: str) -> Hit | None:
        with milvus.failing(self.milvus_uri or str(self.path)):
            found = self._ready().get(self.name, [milvus.key(image_id)], output_fields=list(milvus.FIELDS))
        return self._hit(found[0]) if found else None

    @override
    def choose(self, filters: Filters, records: Records, connection: views.Connection) -> str:
        wanted = filters.wanted()
        names = [filters.type or "", filters.genre or "", *(one.name for one in wanted)]
        simple = all(one.score_min == 0.0 and one.count == 1 for one in wanted)
        if self.store.is_method or filters.others() or not simple or not all(map(milvus.expressible, names)):
            raise ConfigError("the vector index knows type, genre and names of objects only")
        return milvus.expression(filters.type, filters.genre, [one.name for one in wanted])

    @override
    def _described(self) -> dict[str, Any] | None:
        described = super()._described()
        there = bool(self.milvus_uri) or self.path.exists() or not (described or {}).get("dim")
        return described if there else None

    @override
    def _marked(self) -> pa.Table:
        return self.marks.table() if self._described() is not None else self.marks.table().slice(0, 0)

    @override
    def _moment(self) -> Any:
        return self.marks.moment()

    def _renew(self, dim: int) -> bool:
        """Make the collection anew where there is none, where it lost vectors, or where the length changed."""
        described = self._described()
        if described is not None and described["dim"] == dim and (not dim or self._complete()):
            return False
        self._clear("milvus.db")
        if dim or self.milvus_uri or self.path.exists():
            self._drop()
        if dim:
            milvus.create(self._connected(), self.name, dim, "L2" if self.metric == "euclidean" else "IP")
        self._describe(dim)
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

    def _upsert(self, records: Records, todo: list[str], dim: int, progress: Progress | None) -> int:
        """Write the vectors of these images; returns how many have one. The others lose what they had."""
        upserted = done = 0
        for batch in embeddings(records, set(todo)):
            moments = pc.fill_null(batch["processed_at"], EPOCH).cast(pa.int64()).to_pylist()
            there, matrix = matrix_of(batch, dim)
            rows = views.rows(batch.drop_columns(["embedding"]))
            kept = [pair for pair, good in zip(zip(rows, moments, strict=True), there.to_pylist(), strict=True) if good]
            if kept:
                entities = [
                    milvus.entity(*pair, vector)
                    for pair, vector in zip(kept, searchable(self.metric, matrix), strict=True)
                ]
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

    def _hit(self, entity: dict[str, Any]) -> Hit:
        embedding = recovered(self.metric, np.asarray(entity["embedding"], np.float32)[None])[0]
        return Hit(str(entity["image_id"]), int(entity["processed_at"]), embedding)
