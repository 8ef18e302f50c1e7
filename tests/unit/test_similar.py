"""Similar works: the index and the comparison with all records say the same."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from artray import schema
from artray.errors import ConfigError
from artray.store import rewrite
from artray.store.find import Filters
from artray.store.hnsw_index import HnswIndex
from artray.store.layout import Store, create_store
from artray.store.milvus_index import MilvusIndex
from artray.store.records import Records
from artray.store.similar import best, one_vector, similar
from artray.store.vectors import Index
from tests import made_store

QUERY = "01/0000001.jpg"


@pytest.fixture(scope="module", params=["it's a store", "[not read by DuckDB]"])
def store(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Store:
    return made_store.store(tmp_path_factory.mktemp("similar") / request.param, 300, batch=100)


@pytest.fixture(scope="module")
def index(store: Store):
    with MilvusIndex(store) as opened:
        opened.sync(Records.open(store))
        yield opened


def expected(store: Store, k: int) -> list[str]:
    """By numpy, over all good rows."""
    columns = ["image_id", "embedding", "error", "vanished_at"]
    rows = [
        row
        for row in Records.open(store).delta().to_pyarrow_table(columns=columns).to_pylist()
        if row["error"] == "" and row["vanished_at"] is None
    ]
    matrix = np.array([row["embedding"] for row in rows])
    query = matrix[[row["image_id"] for row in rows].index(QUERY)]
    order = np.argsort(-(matrix @ query))
    return [rows[i]["image_id"] for i in order if rows[i]["image_id"] != QUERY][:k]


def test_the_nearest_come_first_and_the_query_is_not_among_them(store: Store) -> None:
    found = similar(store, QUERY, 10)
    assert [work["image_id"] for work in found.works] == expected(store, 10)
    assert [work["rank"] for work in found.works] == list(range(1, 11))
    assert found.works[0]["score"] >= found.works[-1]["score"]
    assert found.works[0]["metadata"]["artist"]
    assert found.note == ""


@pytest.mark.parametrize(
    ("filters", "note"),
    [
        (Filters(), ""),
        (Filters(type="Painting"), ""),
        (Filters(genre="portrait", objects=("animals",)), ""),
        (Filters(objects=("persons (others)",)), ""),
        (Filters(objects=("dog:0.5",)), "knows type"),
        (Filters(text="gogh"), "knows type"),
    ],
)
def test_the_index_says_the_same(store: Store, index: Index, filters: Filters, note: str) -> None:
    with_index, without = similar(store, QUERY, 5, filters, index=index), similar(store, QUERY, 5, filters)
    assert with_index.works == without.works
    assert with_index.note.count(note)
    assert bool(with_index.note) == bool(note)


def test_a_query_by_embedding(store: Store, index: Index) -> None:
    hit = index.get(QUERY)
    assert hit is not None
    found = similar(store, hit.embedding * 3, 2, index=index)  # any length
    assert (found.query, found.works[0]["image_id"], found.works[0]["score"]) == ("image", QUERY, 1.0)


def test_an_index_that_lags_or_is_empty_is_not_asked(store: Store, tmp_path: Path) -> None:
    made = made_store.store(tmp_path / "store", 60)
    with MilvusIndex(made) as behind:
        found = similar(made, QUERY, 3, index=behind)
        assert "empty" in found.note
        assert len(found.works) == 3
        behind.sync(Records.open(made))
        assert similar(made, QUERY, 3, index=behind).note == ""
        later = list(made_store.tables(70, batch=60))[1]
        Records.open(made).append(later, "later")
        assert "10 images behind" in similar(made, QUERY, 3, index=behind).note


@pytest.mark.parametrize("indexed", [False, True])
def test_embeddings_of_another_model_are_left_out(tmp_path: Path, indexed: bool) -> None:
    """While a run with another model is under way, the store holds embeddings of both, of the same length."""
    made = create_store(tmp_path / "store")
    records = Records.create(made)
    makers = {"trunk@old,decode@640": range(200, 260), "trunk@new,decode@640": range(160)}
    for models, numbers in makers.items():
        for table in made_store.tables(260, batch=20):
            kept = table.filter(pc.is_in(table["image_id"], pa.array([made_store.name(n) for n in numbers])))
            if len(kept):
                column = schema.RECORD.get_field_index("models")
                records.append(kept.set_column(column, schema.RECORD.field("models"), pa.array([models] * len(kept))))
    made.write_json("store.json", made.read_json("store.json") | {"embedding": {"card": "trunk", "fingerprint": "new"}})
    index = MilvusIndex(made)
    if indexed:
        index.sync(records)
    with index:
        for query, same in ((made_store.name(3), range(160)), (made_store.name(205), range(200, 260))):
            found = similar(made, query, 1_000, index=index if indexed else None)
            names = {work["image_id"] for work in found.works}
            assert names < {made_store.name(n) for n in same}
            assert len(names) > len(same) * 0.9
            assert "works made with another model are left out" in found.note
        by_vector = similar(made, index.get(made_store.name(3)).embedding if indexed else [1.0] * 8, 1_000)
        assert len(by_vector.works) == 156  # of the present model: 160 less 3 that failed and 1 that vanished


@pytest.mark.parametrize(
    ("query", "arguments", "message"),
    [
        ("no.jpg", {}, "no such image"),
        ("49/0000049.jpg", {}, r"failed \(truncated\)"),
        (QUERY, {"k": 0}, "-k: expected 1"),
        (QUERY, {"method": "colour"}, "--method colour: expected embedding; artray embed"),
        (QUERY, {"filters": Filters(type="paintng")}, "did you mean painting"),
        ([0.0] * 8, {}, "not all zero"),
        ([float("nan")] * 8, {}, "finite"),
        ([[1.0]], {}, "one vector"),
    ],
)
def test_wrong_questions(store: Store, query: object, arguments: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        similar(store, query, **arguments)  # type: ignore[arg-type]


def test_another_length_has_no_neighbours(store: Store, index: Index) -> None:
    found = similar(store, [1.0, 0.0], 5, index=index)
    assert found.works == []
    assert "vectors of 8 values, the query 2" in found.note


def test_only_vectors_are_asked_for() -> None:
    assert one_vector([3, 4]).tolist() == [3.0, 4.0]
    assert best([], 3) == []


def test_pages_follow_each_other(store: Store, index: Index) -> None:
    whole = similar(store, QUERY, 9, index=index).works
    pages = [work for start in (0, 3, 6) for work in similar(store, QUERY, 3, index=index, offset=start).works]
    assert pages == whole
    with pytest.raises(ConfigError, match="--offset: expected 0"):
        similar(store, QUERY, 3, offset=-1)


def expected_expanded(store: Store, count: int, k: int, type: str | None = None) -> list[tuple[str, float]]:
    """By numpy: the mean direction of the query and its ``count`` nearest, and what is nearest to that."""
    columns = ["image_id", "embedding", "type", "error", "vanished_at"]
    rows = Records.open(store).delta().to_pyarrow_table(columns=columns).to_pylist()
    good = {row["image_id"]: row for row in rows if row["error"] == "" and row["vanished_at"] is None}
    query = np.array(good[QUERY]["embedding"])
    passing = {
        name: np.array(row["embedding"]) for name, row in good.items() if name != QUERY and type in (None, row["type"])
    }
    first = sorted(passing, key=lambda name: -(passing[name] @ query))[:count]
    moved = query + sum(passing[name] for name in first)
    scores = {name: float(vector @ moved / np.linalg.norm(moved)) for name, vector in passing.items()}
    return sorted(scores.items(), key=lambda pair: -pair[1])[:k]


@pytest.mark.parametrize("type", [None, "drawing"])
def test_the_best_works_are_added_to_the_query(store: Store, index: Index, type: str | None) -> None:
    filters = Filters(type=type)
    found = similar(store, QUERY, 10, filters, expand=3)
    wanted = expected_expanded(store, 3, 10, type)
    assert [work["image_id"] for work in found.works] == [name for name, _ in wanted]
    assert [work["score"] for work in found.works] == pytest.approx([score for _, score in wanted], abs=1e-6)
    assert found.works != similar(store, QUERY, 10, filters).works
    indexed = similar(store, QUERY, 10, filters, expand=3, index=index)
    assert (indexed.works, indexed.note) == (found.works, "")
    pages = [work for start in (0, 5) for work in similar(store, QUERY, 5, filters, expand=3, offset=start).works]
    assert pages == found.works


def test_what_a_query_is_expanded_with(store: Store, index: Index) -> None:
    assert similar(store, QUERY, 5, expand=0).works == similar(store, QUERY, 5).works
    first = similar(store, QUERY, 1).works[0]["image_id"]
    without = similar(store, QUERY, 5, expand=1, excluded=[first])
    assert first not in {work["image_id"] for work in without.works}
    nothing = Filters(text="no such words anywhere")
    assert similar(store, QUERY, 5, nothing, expand=3).works == []
    few = Filters(where=("year=1502",))  # one work: all that there is
    assert len(similar(store, QUERY, 5, few, expand=3, index=index).works) == 1
    for wrong in (-1, 101):
        with pytest.raises(ConfigError, match=f"--expand: expected 0 to 100, got {wrong}"):
            similar(store, QUERY, 5, expand=wrong)


def test_works_of_another_model_are_told_of_once(tmp_path: Path) -> None:
    made = made_store.store(tmp_path / "store", 60)
    made.write_json("store.json", made.read_json("store.json") | {"embedding": {"card": "trunk", "fingerprint": "new"}})
    found = similar(made, [1.0] * 8, 3, expand=3)
    assert found.works == []
    assert found.note.count("works made with another model are left out") == 1


@pytest.mark.parametrize(
    "filters",
    [
        Filters(),
        Filters(type="Painting"),
        Filters(objects=("dog:0.5",)),
        Filters(text="gogh"),
        Filters(genre="portrait"),
    ],
)
def test_a_graph_applies_every_filter(tmp_path: Path, filters: Filters) -> None:
    made = made_store.store(tmp_path / "store", 300, batch=100)
    with HnswIndex(made) as graph:
        graph.sync(Records.open(made))
        found, exact = similar(made, QUERY, 5, filters, index=graph), similar(made, QUERY, 5, filters)
    assert found.works == exact.works
    assert found.note == ""


def test_a_graph_knows_where_works_lie_until_they_move(tmp_path: Path) -> None:
    made = made_store.store(tmp_path / "store", 300, batch=100)
    with HnswIndex(made) as graph:
        graph.sync(Records.open(made))
        for moved in (False, True, False):
            records = Records.open(made)
            if moved:
                rewrite.compact(records, "later")
            hit = graph.get(QUERY)
            assert hit is not None
            places = graph.places(records, [hit])
            assert (places is None) == moved
            for filters in (Filters(), Filters(type="painting"), Filters(where=("year>=1600",))):
                found = similar(made, QUERY, 5, filters, index=graph)
                assert found.works == similar(made, QUERY, 5, filters).works
                assert found.note == ""
            assert graph.sync(records) == (0, 0, graph.count)


def with_method(folder: Path, metric: str) -> tuple[Store, Store]:
    """A store, and another method's embeddings in it, of 4 values."""
    made = made_store.store(folder / "store", 200, batch=100)
    method = create_store(made.method("other").uri, method="other", embedding={"metric": metric})
    records = Records.create(method)
    for table in made_store.tables(200, dim=4, seed=5):
        columns = {name: table[name] for name in schema.RECORD.names}
        columns |= {name: pa.nulls(len(table), schema.RECORD.field(name).type) for name in ("type", "genre", "objects")}
        records.append(pa.table(columns, schema=schema.RECORD))
    return made, method


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("engine", [None, MilvusIndex, HnswIndex])
def test_another_method_has_embeddings_of_its_own(tmp_path: Path, metric: str, engine: type[Index] | None) -> None:
    made, method = with_method(tmp_path, metric)
    assert made.methods() == ["other"]
    index = engine(method) if engine else None
    if index:
        index.sync(Records.open(method))
    rows = {
        row["image_id"]: row
        for row in Records.open(method).delta().to_pyarrow_table(columns=["image_id", "embedding"]).to_pylist()
    }
    own = {
        row["image_id"]: row
        for row in Records.open(made)
        .delta()
        .to_pyarrow_table(columns=["image_id", "type", "error", "vanished_at"])
        .to_pylist()
    }
    for filters in (Filters(), Filters(type="drawing")):
        found = similar(made, QUERY, 5, filters, method="other", index=index)
        query = np.array(rows[QUERY]["embedding"])
        far = {
            name: np.linalg.norm(np.array(row["embedding"]) - query)  # of unit vectors, that ranks as cosines do
            for name, row in rows.items()
            if own[name]["error"] == "" and own[name]["vanished_at"] is None and name != QUERY and row["embedding"]
            if not filters or own[name]["type"] == filters.type
        }
        assert [work["image_id"] for work in found.works] == sorted(far, key=far.__getitem__)[:5]
        assert found.method == "other"
        assert found.works[0]["genre"]  # the store's own labels come with them
        again = similar(made, QUERY, 5, filters, method="other", index=index, expand=3)
        assert again.works == similar(made, QUERY, 5, filters, method="other", expand=3).works
    if index:
        index.close()


def test_a_method_that_is_not_there(tmp_path: Path) -> None:
    made, _ = with_method(tmp_path, "cosine")
    with pytest.raises(ConfigError, match="expected embedding, other; did you mean other"):
        similar(made, QUERY, method="othr")
