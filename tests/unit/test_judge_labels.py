"""artray judge labels: methods of a store judged by what their works share."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from artray import schema
from artray.cli import app
from artray.errors import ConfigError
from artray.store.judge_labels import Question, judge
from artray.store.layout import Store, create_store
from artray.store.records import Records

DIM = 4
MAKER = {"card": "c", "fingerprint": "1", "dimension": DIM, "metric": "euclidean"}
BY_ARTIST = Question("metadata.artist")


def vector(*, artist: float = 0.0, genre: float = 0.0, work: float = 0.0) -> list[float]:
    return [artist, genre, work, 1.0]


def row(name: str, artist: str | None, genre: str, work: str = "", kind: str = "photograph") -> dict[str, Any]:
    said = {"artist": artist, "work": work, "kind": kind}
    return {
        "image_id": name,
        "uri": name,
        "error": "",
        "genre": genre,
        "models": "c@1,decode@640",
        "metadata": {key: value for key, value in said.items() if value},
        "objects": [],
    }


ROWS = (
    row("a1", "a", "portrait", "w"),
    row("a2", "a", "landscape", "w", "drawing"),
    row("a3", "a", "portrait"),
    row("b1", "b", "landscape"),
    row("b2", "b", "portrait", kind="drawing"),
    row("c1", "c", "portrait"),  # the only work of its artist
    row("d1", None, "portrait"),  # nobody knows whose
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Seven works, by one method like others of the same artist, by another like others of the same genre."""
    made = create_store(tmp_path_factory.mktemp("labels") / "store", embedding=MAKER)
    method = create_store(made.method("genres").uri, method="genres", embedding=MAKER | {"metric": "cosine"})
    artists, genres = {"a": 0.0, "b": 5.0, "c": 9.0, None: 20.0}, {"portrait": 0.0, "landscape": 9.0}
    own = [vector(artist=artists[each["metadata"].get("artist")] + at / 100) for at, each in enumerate(ROWS)]
    other = [vector(genre=genres[each["genre"]] + at / 100) for at, each in enumerate(ROWS)]
    for target, vectors in ((made, own), (method, other)):
        rows = [each | {"embedding": values} for each, values in zip(ROWS, vectors, strict=True)]
        write(target, rows)
    return made


def write(target: Store, rows: list[dict[str, Any]]) -> None:
    columns = {name: [each.get(name) for each in rows] for name in schema.RECORD.names}
    Records.create(target).append(schema.table(columns, schema.RECORD))


def test_the_method_that_finds_more_of_an_artist_is_better(store: Store) -> None:
    told = judge(store, ["embedding", "genres"], BY_ARTIST)
    assert told["methods"]["embedding"]["map"]["value"] == 1.0
    assert told["methods"]["genres"]["map"]["value"] < 1.0
    assert (told["works"], told["queries"], told["without_relevant"]) == (6, 5, 1)  # c has no other work, d no artist
    (by_map, by_precision) = told["comparisons"]
    assert (by_map["measure"], by_map["first"], by_map["second"]) == ("map", "embedding", "genres")
    assert by_map["difference"] == pytest.approx(1 - told["methods"]["genres"]["map"]["value"])
    assert by_precision["measure"] == "p@5"


def test_by_the_stores_own_genres(store: Store) -> None:
    told = judge(store, ["embedding", "genres"], Question("genre"))
    assert told["methods"]["genres"]["map"]["value"] == 1.0 > told["methods"]["embedding"]["map"]["value"]


def test_queries_and_results_may_be_of_different_kinds(store: Store) -> None:
    asked = BY_ARTIST._replace(asked=("kind=drawing",), among=("kind=photograph",))
    told = judge(store, ["embedding"], asked)
    assert (told["queries"], told["works"]) == (2, 4)
    assert told["methods"]["embedding"]["hit@1"]["value"] == 1.0


def test_works_without_a_label_may_be_ranked_too(store: Store) -> None:
    told, alone = (judge(store, ["genres"], BY_ARTIST._replace(others=others)) for others in (True, False))
    assert (told["works"], told["queries"]) == (7, 5)
    assert told["methods"]["genres"]["map"]["value"] < alone["methods"]["genres"]["map"]["value"]


def test_reproductions_of_the_same_work_are_no_results(store: Store) -> None:
    told = judge(store, ["embedding"], BY_ARTIST._replace(same_work="metadata.work", k=1))
    assert told["methods"]["embedding"]["recall@1"]["value"] == pytest.approx((1 + 1 + 1 / 2 + 1 + 1) / 5)
    # of a1 and a2, which are one work, only a3 is left to be found; of a3 there are two works


def test_fused_methods_are_between(store: Store) -> None:
    told = judge(store, ["embedding", "genres", "embedding+genres"], BY_ARTIST)["methods"]
    assert told["genres"]["map"]["value"] < told["embedding+genres"]["map"]["value"] <= 1.0


def test_a_method_fused_with_itself_ranks_alike(store: Store) -> None:
    told = judge(store, ["genres", "genres+genres"], BY_ARTIST)["methods"]
    assert told["genres+genres"] == told["genres"]


def test_clusters_widen_intervals_and_change_no_means(store: Store) -> None:
    alone, together = (judge(store, ["genres"], BY_ARTIST._replace(clusters=key)) for key in (None, "metadata.artist"))
    assert alone["methods"]["genres"]["map"]["value"] == together["methods"]["genres"]["map"]["value"]


def test_few_queries_are_drawn(store: Store) -> None:
    assert judge(store, ["genres"], Question("genre", most=3))["queries"] == 3


def test_works_without_an_embedding_by_each_method_are_left_out(tmp_path: Path) -> None:
    made = create_store(tmp_path / "store", embedding=MAKER)
    write(made, [each | {"embedding": vector(artist=1.0)} for each in ROWS])
    method = create_store(made.method("some").uri, method="some", embedding=MAKER)
    some = [each | {"embedding": vector(artist=1.0)} for each in ROWS[:4]]
    some[3] |= {"models": "c@0"}  # made by an earlier state of the model
    write(method, some)
    assert judge(made, ["embedding", "some"], BY_ARTIST)["works"] == 3


@pytest.mark.parametrize(
    ("methods", "question", "message"),
    [
        ([], BY_ARTIST, "--method: expected one or more different methods, got none"),
        (["embedding", "embedding"], BY_ARTIST, "one or more different methods"),
        (["embeding"], BY_ARTIST, "--method embeding: expected embedding, genres"),
        (["embedding+x"], BY_ARTIST, "--method x: expected"),
        (["embedding"], Question("artist"), "artist: expected one of type, genre, objects, metadata.artist"),
        (["embedding"], Question("metadata.artis"), "did you mean metadata.artist"),
        (["embedding"], Question("genre", clusters="metadata.x"), "metadata.x: expected one of"),
        (["embedding"], Question("genre", asked=("knd=a",)), "--where knd: expected a key of the metadata"),
        (["embedding"], Question("objects"), "objects: expected works that share it, got none"),
        (["embedding"], Question("genre", clusters="objects"), "expected what a work has one of, got objects"),
        (["embedding"], Question("genre", k=0), "-k: expected 1 to 1000, got 0"),
        (["embedding"], Question("genre", most=0), "--queries: expected at least 1, got 0"),
    ],
)
def test_what_cannot_be_asked(store: Store, methods: list[str], question: Question, message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace("+", "[+]")):
        judge(store, methods, question)


def test_an_empty_store(tmp_path: Path) -> None:
    made = create_store(tmp_path / "store", embedding=MAKER)
    Records.create(made)
    with pytest.raises(ConfigError, match="genre: expected works that share it, got none"):
        judge(made, ["embedding"], Question("genre"))


def test_the_command(store: Store) -> None:
    told = CliRunner().invoke(
        app, ["judge", "labels", store.uri, "metadata.artist", "--method", "embedding", "--method", "genres", "--json"]
    )
    assert told.exit_code == 0, told.output
    assert json.loads(told.stdout)["methods"]["embedding"]["map"]["value"] == 1.0
    shown = CliRunner().invoke(app, ["judge", "labels", store.uri, "metadata.artist"])
    assert shown.exit_code == 0, shown.output
    assert "5 queries among 6 works, by metadata.artist; 1 more have none to find" in " ".join(shown.stdout.split())


def test_intervals_are_the_same_for_the_same_seed(store: Store) -> None:
    first, second = (judge(store, ["genres"], BY_ARTIST) for _ in range(2))
    assert first == second
    assert np.isfinite(first["methods"]["genres"]["map"]["low"])
