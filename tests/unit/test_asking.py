"""Questions as people ask them: several pictures, unlike others, several methods at once."""

from pathlib import Path

import numpy as np
import pytest

from artray.errors import ConfigError
from artray.store.asking import Question, answer
from artray.store.find import Filters
from artray.store.layout import Store
from artray.store.records import Records
from artray.store.similar import combined, similar
from tests import made_store
from tests.unit.test_similar import with_method

A, B, C = (made_store.name(number) for number in (1, 2, 3))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return with_method(tmp_path_factory.mktemp("asking"), "cosine")[0]


def embeddings(store: Store) -> dict[str, np.ndarray]:
    columns = ["image_id", "embedding", "error", "vanished_at"]
    rows = Records.open(store).delta().to_pyarrow_table(columns=columns).to_pylist()
    return {row["image_id"]: np.array(row["embedding"]) for row in rows if not row["error"] and not row["vanished_at"]}


def test_several_pictures_are_meant_together(store: Store) -> None:
    vectors = embeddings(store)
    middle = vectors[A] + vectors[B]  # of unit vectors: the direction of their mean
    expected = sorted(vectors.keys() - {A, B}, key=lambda name: -float(vectors[name] @ middle))[:5]
    found = answer(store, Question(like=(A, B)))
    assert [work["image_id"] for work in found["works"]] == expected
    assert found["query"] == [A, B]
    assert answer(store, Question(like=(B, A)))["works"] == found["works"]
    assert answer(store, Question(like=(A,)))["query"] == A


def test_what_is_not_wanted_is_kept_away(store: Store) -> None:
    vectors = embeddings(store)
    moved = vectors[A] - 0.5 * vectors[C]
    expected = sorted(vectors.keys() - {A, C}, key=lambda name: -float(vectors[name] @ moved))[:5]
    found = answer(store, Question(like=(A,), unlike=(C,)))
    assert [work["image_id"] for work in found["works"]] == expected
    with pytest.raises(ConfigError, match="cancel each other out"):
        combined([np.array([1, 0], np.float32)], [np.array([2, 0], np.float32)] * 2, "chi_square")


def test_several_methods_are_fused_by_ranks(store: Store) -> None:
    own, other = (similar(store, A, 100, method=name).works for name in ("embedding", "other"))
    points: dict[str, float] = {}
    for ranking in (own, other):
        for place, work in enumerate(ranking, 1):
            points[work["image_id"]] = points.get(work["image_id"], 0) + 1 / (60 + place)
    expected = sorted(points, key=lambda name: (-points[name], name))[:6]
    found = answer(store, Question(like=(A,), methods=("embedding", "other"), k=6))
    assert [work["image_id"] for work in found["works"]] == expected
    assert found["works"][0]["score"] == pytest.approx(points[expected[0]] * 61 / 2, abs=1e-6)
    assert found["method"] == "embedding+other"
    page = answer(store, Question(like=(A,), methods=("embedding", "other"), k=3, offset=3))
    assert page["works"] == found["works"][3:]


def test_filters_hold_for_all_methods(store: Store) -> None:
    asked = Question(like=(A,), methods=("embedding", "other"), filters=Filters(type="drawing"))
    assert {work["type"] for work in answer(store, asked)["works"]} == {"drawing"}


def test_each_method_expands_its_own_query(store: Store) -> None:
    for name in ("embedding", "other"):
        asked = answer(store, Question(like=(A,), methods=(name,), expand=3, k=8))["works"]
        assert asked == similar(store, A, 8, method=name, expand=3).works
    lists = [
        [work["image_id"] for work in similar(store, A, 100, method=name, expand=3).works]
        for name in ("embedding", "other")
    ]
    points = {
        name: sum(1 / (61 + each.index(name)) for each in lists if name in each) for name in {*lists[0], *lists[1]}
    }
    found = answer(store, Question(like=(A,), methods=("embedding", "other"), expand=3, k=6))["works"]
    assert [work["image_id"] for work in found] == sorted(points, key=lambda name: (-points[name], name))[:6]


def test_an_expanded_question_stays_away_from_what_is_not_wanted(store: Store) -> None:
    vectors = embeddings(store)
    moved = vectors[A] - 0.5 * vectors[C]
    moved /= np.linalg.norm(moved)
    there = sorted(vectors.keys() - {A, C}, key=lambda name: -float(vectors[name] @ moved))
    again = moved + sum(vectors[name] for name in there[:3])
    expected = sorted(there, key=lambda name: -float(vectors[name] @ again))[:5]
    found = answer(store, Question(like=(A,), unlike=(C,), expand=3))
    assert [work["image_id"] for work in found["works"]] == expected


@pytest.mark.parametrize(
    ("question", "message"),
    [
        (Question(), "expected pictures or --words, or else --colour"),
        (Question(like=(A,), colours=("#fff",)), "expected pictures or --words, or else --colour"),
        (Question(colours=("#fff",)), "--method colours: expected embedding, other; artray embed ARCHIVE"),
        (Question(like=(A,), words=("a ship",)), "has no embeddings"),
        (Question(like=(A,), expand=-1), "--expand: expected 0 to 100, got -1"),
        (Question(like=(A, "nothing.jpg")), "neither an image_id of the store nor a file"),
    ],
)
def test_what_cannot_be_asked(store: Store, question: Question, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        answer(store, question)


def test_an_empty_store(tmp_path: Path) -> None:
    made = made_store.store(tmp_path / "store", 1)
    found = answer(made, Question(like=(made_store.name(0),), k=1_000))
    assert found["works"] == []
