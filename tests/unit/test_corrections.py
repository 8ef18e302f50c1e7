"""What people put right: kept beside the records, told of, and learned from."""

from pathlib import Path

import pytest

from artray.errors import ConfigError
from artray.store import corrections
from artray.store.layout import Store, open_store
from artray.store.show import show
from artray.train.datasets import reading
from artray.train.profile import Source, TrainProfile
from tests import made_store

FIRST, SECOND = made_store.name(0), made_store.name(1)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return made_store.store(tmp_path / "store", 60)


def test_the_last_word_counts_per_head(store: Store) -> None:
    assert corrections.read(store) == {}
    assert corrections.correct(store, [FIRST, SECOND, FIRST], {"type": "Drawing"}, "ada") == 2
    corrections.correct(store, [FIRST], {"type": "none", "genre": "still life"}, "ben")
    corrections.correct(store, [FIRST], {"genre": "portrait"}, "eve")
    said = corrections.read(open_store(store.uri))
    assert said[SECOND].labels == {"type": "drawing"}
    assert (said[FIRST].labels, said[FIRST].by) == ({"type": "none", "genre": "portrait"}, "eve")


def test_a_correction_is_shown_and_the_record_stays(store: Store) -> None:
    before = show(store, FIRST)
    assert before["corrected"] is None
    corrections.correct(store, [FIRST], {"type": "drawing"}, "ada")
    after = show(store, FIRST)
    assert {name: after["corrected"][name] for name in ("type", "by")} == {"type": "drawing", "by": "ada"}
    assert after | {"corrected": None} == before


@pytest.mark.parametrize(
    ("image_ids", "labels", "message"),
    [
        ([FIRST], {}, "expected --type, --genre or both"),
        ([FIRST], {"type": "etching"}, "--type: expected one of painting, drawing, none, got 'etching'"),
        ([FIRST, "x.jpg"], {"type": "drawing"}, r"x\.jpg: no such image"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_written(
    store: Store, image_ids: list[str], labels: dict[str, str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        corrections.correct(store, image_ids, labels, "ada")
    assert corrections.read(store) == {}


def test_a_damaged_correction_is_named(store: Store) -> None:
    corrections.correct(store, [FIRST], {"type": "drawing"}, "ada")
    name = (store.location / corrections.FOLDER).names()[0]
    store.write_json(f"{corrections.FOLDER}/{name}", {"labels": 3})
    with pytest.raises(ConfigError, match=rf"{name}: expected a correction"):
        corrections.read(store)


def test_they_are_a_set_of_labels(any_store: Store) -> None:
    from artray.store.records import Records

    records = Records.create(any_store)
    for table in made_store.tables(60):
        records.append(table)
    corrections.correct(any_store, [FIRST, SECOND], {"type": "drawing", "genre": "portrait"}, "ada")
    corrections.correct(any_store, [SECOND], {"type": "none"}, "ada")
    source = Source(kind="corrections", path=any_store.uri, name="put right")
    profile = TrainProfile.model_validate(
        {"name": "x", "data": {"sources": [source.model_dump()]}, "heads": {"type": {}, "genre": {}}}
    )
    found = reading.read(source, profile)
    assert not found.problems
    rows = {row["work_id"]: row for row in found.works.to_pylist()}
    assert rows.keys() == {f"put right/{FIRST}", f"put right/{SECOND}"}
    first, second = rows[f"put right/{FIRST}"], rows[f"put right/{SECOND}"]
    assert (first["type"], first["genre"], first["group"]) == ("drawing", "portrait", "Vincent van Gogh")
    assert (second["type"], second["genre"]) == (None, "portrait")
    assert first["uri"]
