"""The vector index: the difference is written, nothing is lost, and everything can be."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from artray.errors import ArtrayError, StoreBusyError
from artray.store import hnsw_index, layout, milvus, milvus_index, rewrite, vectors
from artray.store.hnsw_index import HnswIndex
from artray.store.layout import Store
from artray.store.milvus_index import MilvusIndex
from artray.store.records import Records
from artray.store.vectors import Index
from tests import made_store

pytest.importorskip("milvus_lite")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return made_store.store(tmp_path / "store", 120, batch=60)


@pytest.fixture(params=[MilvusIndex, HnswIndex])
def engine(request: pytest.FixtureRequest) -> type[Index]:
    return request.param


def good(rows: int) -> int:
    """How many of the first rows have neither failed nor vanished."""
    return sum(index % 50 != 49 and index % 97 != 96 for index in range(rows))


def test_sync_writes_the_difference(store: Store, engine: type[Index]) -> None:
    records = Records.open(store)
    with engine(store) as index:
        assert index.lag(records) == good(120)
        assert index.sync(records) == (good(120), 0, good(120))
        assert index.lag(records) == 0
        assert index.sync(records) == (0, 0, good(120))
        changed = next(made_store.tables(1, seed=7)).set_column(
            records.delta().to_pyarrow_table().schema.get_field_index("vanished_at"),
            "vanished_at",
            [[made_store.START]],
        )
        rewrite.update(records, changed.select(["image_id", "vanished_at"]), "later")
        assert index.lag(records) == 1
        assert index.count == good(120)
        assert index.sync(records) == (0, 1, good(120) - 1)
        assert index.get("00/0000000.jpg") is None
        hit = index.get("01/0000001.jpg")
        assert hit is not None
        table = records.delta().to_pyarrow_table(columns=["image_id", "embedding"])
        stored = dict(zip(table["image_id"].to_pylist(), table["embedding"].to_pylist(), strict=True))
        assert hit.embedding.tolist() == stored["01/0000001.jpg"]
        nearest = index.search(hit.embedding, 3)
        assert nearest[0].image_id == "01/0000001.jpg"
        assert len(nearest) == 3


def test_a_crash_in_the_middle_is_made_good(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    records = Records.open(store)
    monkeypatch.setattr(vectors, "BATCH_ROWS", 20)
    with MilvusIndex(store) as index:
        original, calls = milvus_index.Marks.done, []

        def crashing(self, *args) -> None:
            calls.append(1)
            if len(calls) == 3:
                raise KeyboardInterrupt
            original(self, *args)

        monkeypatch.setattr(milvus_index.Marks, "done", crashing)
        with pytest.raises(KeyboardInterrupt):
            index.sync(records)
    monkeypatch.setattr(milvus_index.Marks, "done", original)
    with MilvusIndex(store) as index:
        assert index.lag(records) == good(120)  # everything was under way
        assert index.sync(records).count == good(120)
        assert index.lag(records) == 0
        assert index._complete()


@pytest.mark.parametrize("lost", ["milvus", "index.json", "synced.parquet", "broken"])
def test_what_is_lost_is_made_again(store: Store, lost: str) -> None:
    import shutil

    records = Records.open(store)
    with MilvusIndex(store) as index:
        index.sync(records)
    if lost == "milvus":
        shutil.rmtree(store.vectors_path / "milvus.db")
    elif lost == "broken":
        (store.vectors_path / "synced.parquet").write_bytes(b"no parquet")
    else:
        (store.vectors_path / lost).unlink()
    with MilvusIndex(store) as index:
        assert index.lag(records) == good(120)
        assert index.sync(records).count == good(120)
        assert index.lag(records) == 0


def test_another_length_makes_it_anew(store: Store, engine: type[Index]) -> None:
    records = Records.open(store)
    with engine(store) as index:
        index.sync(records)
        assert index.dim == 8
        newer = next(made_store.tables(120, dim=4))
        moved = [moment.replace(year=2025) for moment in newer["processed_at"].to_pylist()]
        position = newer.schema.get_field_index("processed_at")
        rewrite.upsert(records, newer.set_column(position, newer.schema.field(position), [moved]), "later")
        assert index.sync(records).count == good(120)
        assert index.dim == 4


def test_records_without_embeddings(tmp_path: Path, engine: type[Index]) -> None:
    made = layout.create_store(tmp_path / "store")
    records = Records.create(made)
    with engine(made) as index:
        assert index.sync(records) == (0, 0, 0)
    table = next(made_store.tables(10))
    position = table.schema.get_field_index("embedding")
    records.append(
        table.set_column(
            position, table.schema.field(position), pa.array([None] * 10, table.schema.field(position).type)
        )
    )
    with engine(made) as index:
        assert index.sync(records) == (0, 0, 0)
        assert index.lag(records) == 0
        assert index.dim == 0


def test_a_second_process_is_told(store: Store) -> None:
    code = (
        "import sys, pathlib; from artray.store.layout import open_store\n"
        "from artray.store.milvus_index import MilvusIndex\n"
        f"index = MilvusIndex(open_store({store.uri!r})); index._connected()\n"
        "print('open', flush=True); sys.stdin.read()"
    )
    with MilvusIndex(store) as index:
        index.sync(Records.open(store))
    holder = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "open\n"
    try:
        with MilvusIndex(store) as index, pytest.raises(StoreBusyError, match="another process has the vectors open"):
            index.get("a")
        with MilvusIndex(store) as index:
            assert index.lag(Records.open(store)) == 0  # asks the marks, not Milvus
    finally:
        holder.communicate("")


def test_names_of_any_kind(tmp_path: Path, engine: type[Index]) -> None:
    made = layout.create_store(tmp_path / "store")
    names = ["a'\"\\b.jpg", "ü/日本.jpg", "x" * 5000, "new\nline", "% _ {}"]
    table = next(made_store.tables(5))
    Records.create(made).append(table.set_column(0, table.schema.field(0), [names]))
    with engine(made) as index:
        index.sync(Records.open(made))
        for name in names:
            hit = index.get(name)
            assert hit is not None
            assert hit.image_id == name


def test_filters_cannot_be_broken_out_of() -> None:
    with pytest.raises(ArtrayError, match="cannot stand"):
        milvus.expression('" or type != "', None, [])
    assert not milvus.expressible("a\nb")
    assert milvus.expression(None, None, []) == ""


def test_an_unreachable_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = layout.create_store(tmp_path / "store")
    Records.create(made)
    index = MilvusIndex(made, "http://127.0.0.1:1")
    assert index.name.startswith("artray_")
    assert index.count == 0
    assert np.isfinite(index.dim)


def test_a_graph_passes_over_what_is_gone_and_is_made_anew_when_much_is(store: Store) -> None:
    records = Records.open(store)
    with HnswIndex(store) as index:
        index.sync(records)
        names = records.delta().to_pyarrow_table(columns=["image_id"])["image_id"].to_pylist()
        for gone, vectors_left in ((names[:10], good(120)), (names[10:50], None)):
            before = index.count
            moment = pa.array([made_store.START] * len(gone), pa.timestamp("us", tz="UTC"))
            rewrite.update(records, pa.table({"image_id": gone, "vanished_at": moment}), "later")
            found = index.sync(records)
            assert index.count == before - found.deleted
            graph = index._current().graph
            assert graph.ntotal == (vectors_left or index.count)  # kept in the graph, or made anew without them
            query = index.get(names[60])
            assert query is not None
            hits = index.search(query.embedding, 120)
            assert len(hits) == index.count
            assert not {hit.image_id for hit in hits} & {*names[:50][: 10 if vectors_left else 50]}
        assert len(list(store.vectors_path.glob("graph-*"))) == 1


def test_a_graph_that_is_interrupted_goes_on(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vectors, "BATCH_ROWS", 20)
    monkeypatch.setattr(hnsw_index, "SAVE_ROWS", 40)
    records = Records.open(store)

    def interrupt(done: int, total: int) -> None:
        if done > 80:
            raise KeyboardInterrupt

    with HnswIndex(store) as index, pytest.raises(KeyboardInterrupt):
        index.sync(records, interrupt)
    with HnswIndex(store) as index:
        assert 0 < index.lag(records) < good(120)
        told: list[int] = []
        index.sync(records, lambda done, total: told.append(total))
        assert told[0] < good(120)
        assert (index.count, index.lag(records)) == (good(120), 0)


@pytest.mark.parametrize("lost", ["index.json", "rows", "graph"])
def test_a_graph_that_is_lost_is_made_again(store: Store, lost: str) -> None:
    records = Records.open(store)
    with HnswIndex(store) as index:
        index.sync(records)
    next(store.vectors_path.glob(f"{lost}*")).unlink()
    with HnswIndex(store) as index:
        assert index.lag(records) == good(120)
        assert index.sync(records).count == good(120)


def test_a_broken_graph_is_told_of(store: Store) -> None:
    from artray.errors import TransientError

    with HnswIndex(store) as index:
        index.sync(Records.open(store))
    next(store.vectors_path.glob("graph*")).write_bytes(b"no graph")
    with HnswIndex(store) as index, pytest.raises(TransientError, match="run artray index"):
        index.get("00/0000000.jpg")


def test_a_store_that_grows_changes_its_engine(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    assert vectors.sync(store).count == good(120)
    assert (store.vectors_path / "milvus.db").exists()
    monkeypatch.setattr(vectors, "LITE_ROWS", 100)
    assert vectors.sync(store).count == good(120)
    assert not (store.vectors_path / "milvus.db").exists()
    with vectors.opened(store) as index:
        assert isinstance(index, HnswIndex)
        assert index.lag(Records.open(store)) == 0


def test_one_writer_of_a_graph_at_a_time(store: Store) -> None:
    with HnswIndex(store) as first, first._alone(), HnswIndex(store) as second, pytest.raises(StoreBusyError):
        second.sync(Records.open(store))
