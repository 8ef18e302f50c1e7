"""Finding works: filters, counts, orders, and names that do not exist."""

from pathlib import Path

import pyarrow as pa
import pytest

from artray import schema
from artray.errors import ConfigError
from artray.store import find, layout, sql
from artray.store.find import Filters, Wanted, parse_object
from artray.store.layout import Store
from artray.store.records import Records
from tests import made_store


def box(name: str, category: str, score: float) -> dict:
    return {"class_name": name, "category": category, "score": score, "source": "made"} | dict.fromkeys(
        ("x1_px", "y1_px", "x2_px", "y2_px"), 1.0
    )


WORKS = [
    {
        "type": "painting",
        "type_score": 0.9,
        "genre": "portrait",
        "error": "",
        "metadata": {"artist": "Anna Ö.", "year": "90"},
    }
    | {"objects": [box("dog", "animals", 0.9), box("dog", "animals", 0.4), box("face", "faces", 0.8)]},
    {
        "type": "painting",
        "type_score": 0.6,
        "genre": "landscape",
        "error": "",
        "metadata": {"artist": "Bo", "year": "1900"},
    }
    | {"objects": [box("cat", "animals", 0.7)]},
    {"type": "drawing", "type_score": 0.6, "genre": "portrait", "error": "", "metadata": {"note": "50% 'off'; -- x"}},
    {"error": "truncated", "error_detail": "ends early", "metadata": {}},
]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    made = layout.create_store(tmp_path_factory.mktemp("store"))
    rows = [
        row | {"image_id": f"{name}.jpg", "uri": f"file:///{name}.jpg"} for name, row in zip("abcd", WORKS, strict=True)
    ]
    batch = {name: [row.get(name) for row in rows] for name in schema.RECORD.names}
    Records.create(made).append(schema.table(batch, schema.RECORD))
    return made


def ids(store: Store, sort: str = "image_id", **filters: object) -> str:
    found = find.find(store, Filters(**filters), sort=sort)  # type: ignore[arg-type]
    assert found.count == len(found.works)
    return "".join(work["image_id"][0] for work in found.works)


def test_filters_are_anded(store: Store) -> None:
    assert ids(store) == "abcd"
    assert ids(store, type="painting") == "ab"
    assert ids(store, type="Painting", genre="PORTRAIT") == "a"
    assert ids(store, type="painting", objects=("animals",), text="bo") == "b"


def test_objects_by_class_category_score_and_count(store: Store) -> None:
    assert ids(store, objects=("dog",)) == "a"
    assert ids(store, objects=("animals",)) == "ab"
    assert ids(store, objects=("faces:0.5",)) == "a"
    assert ids(store, objects=("dogx2",)) == "a"
    assert ids(store, objects=("dog:0.5x2",)) == ""  # the second dog scores 0.4
    assert ids(store, objects=("dog", "cat")) == ""
    assert ids(store, objects=("Animals/Dog:0.5",)) == "a"
    assert ids(store, objects=("animals/dogx3",)) == ""
    assert ids(store, objects=("dog:0.9",)) == "a"  # a bound that is met exactly, in single precision


def test_text_is_words_in_any_case_and_never_a_pattern(store: Store) -> None:
    assert ids(store, text="ANNA ö") == "a"
    assert ids(store, text="50% 'OFF'; --") == "c"
    assert ids(store, text="%") == "c"
    assert ids(store, text="_") == ""
    assert ids(store, text="b.jpg") == "b"
    assert ids(store, text="' OR true --") == ""


def test_errors(store: Store) -> None:
    assert ids(store, error="any") == ids(store, error="truncated") == "d"
    assert ids(store, error="none") == "abc"
    assert ids(store, error="missing") == ""


def test_sorting(store: Store) -> None:
    assert ids(store, "-type_score") == "abcd"  # b and c are equal: by image_id
    assert ids(store, "type_score") == "bcad"
    assert ids(store, "-image_id") == "dcba"
    assert ids(store, "type,-image_id") == "cbad"
    assert ids(store, "-objects") == "abcd"
    assert ids(store, "metadata.year") == "abcd"  # 90 before 1900: numbers, not texts
    assert ids(store, "-metadata.year") == "bacd"
    assert ids(store, "metadata.a'] --") == "abcd"


def test_limit_offset_and_count(store: Store) -> None:
    found = find.find(store, limit=2, offset=1)
    assert found.count == 4
    assert [work["image_id"] for work in found.works] == ["b.jpg", "c.jpg"]
    assert find.find(store, limit=0) == (4, [])


def test_a_work_is_json_shaped(store: Store) -> None:
    work = find.find(store, limit=1).works[0]
    assert work["metadata"] == {"artist": "Anna Ö.", "year": "90"}
    assert work["objects"][0]["class_name"] == "dog"
    assert set(work) >= {
        "image_id",
        "uri",
        "type",
        "type_score",
        "genre",
        "genre_score",
        "objects",
        "mean_rgb",
        "error",
    }
    assert "embedding" not in work


@pytest.mark.parametrize(
    ("filters", "sort", "message"),
    [
        ({"type": "paintng"}, "image_id", r"--type paintng: expected one of .*; did you mean painting\?"),
        ({"genre": "x"}, "image_id", "--genre x: expected one of genre painting"),
        ({"objects": ("dgo",)}, "image_id", r"--object dgo: .*; did you mean dog\?"),
        ({"objects": ("persons/dog",)}, "image_id", "--object persons/dog: expected animals/dog"),
        ({"objects": ("animls/dog",)}, "image_id", r"--object animls: .*; did you mean animals\?"),
        ({"objects": ("dog:2",)}, "image_id", r"expected a score in \[0, 1\], got 2"),
        ({"objects": ("dog:nan",)}, "image_id", "expected a score"),
        ({"objects": ("dog:high",)}, "image_id", "expected CLASS"),
        ({"objects": ("",)}, "image_id", "expected CLASS"),
        ({"objects": ("dogx0",)}, "image_id", "expected a count"),
        ({"error": "truncate"}, "image_id", r"did you mean truncated\?"),
        ({}, "type_scores", r"--sort type_scores: expected metadata\.KEY.*did you mean type_score"),
        ({}, "image_id; DROP VIEW works", "--sort"),
    ],
)
def test_unknown_names(store: Store, filters: dict, sort: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        find.find(store, Filters(**filters), sort=sort)


def test_limits(store: Store) -> None:
    with pytest.raises(ConfigError, match="--limit"):
        find.find(store, limit=-1)
    with pytest.raises(ConfigError, match="offset"):
        find.find(store, offset=-1)


def test_an_empty_store(tmp_path: Path) -> None:
    made = layout.create_store(tmp_path / "store")
    with pytest.raises(ConfigError, match="no records yet"):
        find.find(made)
    Records.create(made)
    assert find.find(made) == (0, [])
    assert find.find(made, Filters(type="painting", objects=("faces",))) == (0, [])


def test_parse_object() -> None:
    assert parse_object("Child Jesus:.5x3") == Wanted("child jesus", 0.5, 3)
    assert parse_object("boxx2") == Wanted("box", 0.0, 2)
    assert parse_object("ox") == Wanted("ox", 0.0, 1)
    assert parse_object("Persons / Persons (others):0.5x2") == Wanted("persons (others)", 0.5, 2, "persons")


def test_vanished_works_are_not_found(store: Store, tmp_path: Path) -> None:
    from tests import made_store

    made = made_store.store(tmp_path / "store", 100)
    assert find.find(made, limit=0).count == 99  # no. 96 has vanished
    assert isinstance(next(made_store.tables(1)), pa.Table)


def test_words_that_are_no_utf8_are_looked_for_and_not_found(store: Store) -> None:
    latin1 = b"D\xfcrer".decode("utf-8", "surrogateescape")  # as Python hands on such a command line
    assert ids(store, text=latin1) == ""
    with pytest.raises(ConfigError, match="--type"):
        find.find(store, Filters(type=latin1))


def test_the_least_certain_come_first(tmp_path: Path) -> None:
    made = layout.create_store(tmp_path / "store")
    scores = {"a": [0.9, 0.1], "b": [0.5, 0.5], "c": [1.0, 0.0], "d": None}
    rows = [
        {"image_id": f"{name}.jpg", "uri": name, "error": "", "type": "painting"}
        | {"type_disagreement": {"a": 0.5, "b": 1.0, "c": 0.0}.get(name)}
        | {"type_scores": dict(zip(("painting", "drawing"), given, strict=True)) if given else None}
        for name, given in scores.items()
    ]
    batch = {name: [row.get(name) for row in rows] for name in schema.RECORD.names}
    Records.create(made).append(schema.table(batch, schema.RECORD))
    assert ids(made, "-type_entropy") == "bacd"
    asked = "SELECT image_id, round(entropy(type_scores), 3) FROM works ORDER BY 1"
    assert ids(made, "-type_disagreement") == "bacd"
    assert sql.query(made, asked).rows == [["a.jpg", 0.469], ["b.jpg", 1.0], ["c.jpg", 0.0], ["d.jpg", None]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return made_store.store(tmp_path_factory.mktemp("where") / "store", 60)


def test_where_asks_the_metadata(made: Store) -> None:
    # made rows: artist by index % 5, year 1500 + index % 400
    everyone = find.find(made, Filters()).count
    years = [find.find(made, Filters(where=(f"year{one}1510",))).count for one in ("<", "=", ">")]
    assert sum(years) == everyone
    assert years[0] + years[1] == find.find(made, Filters(where=("year<=1510",))).count
    decade = find.find(made, Filters(where=("year >= 1505", "year<1515")), limit=100).works
    assert {work["metadata"]["year"] for work in decade} <= {str(year) for year in range(1505, 1515)}
    assert decade
    for text in ("artist=rembrandt van rijn", "artist~REMBRANDT"):
        assert {work["metadata"]["artist"] for work in find.find(made, Filters(where=(text,))).works} == {
            "Rembrandt van Rijn"
        }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("year", "expected KEY, one of"),
        ("year>=old", "expected a number after >=, got old"),
        ("yeer>=1880", r"--where yeer: expected a key of the metadata \(artist, title, year\); did you mean year"),
        ("a'; DROP VIEW works; --=1", "expected a key of the metadata"),
    ],
)
def test_where_that_asks_nothing(made: Store, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        find.find(made, Filters(where=(text,)))
