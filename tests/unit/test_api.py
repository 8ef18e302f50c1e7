"""``import artray``: the verbs as functions."""

from pathlib import Path

import pytest

import artray
from artray.errors import ConfigError
from artray.store.layout import Store
from tests import made_store


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return made_store.store(tmp_path_factory.mktemp("api") / "store", 60)


def test_every_verb_is_there_and_documented() -> None:
    verbs = [name for name in dir(artray) if not name.startswith("_")]
    assert {"demo", "sample", "process", "status", "verify", "find", "sql", "similar", "show", "export"} <= set(verbs)
    for name in verbs:
        assert getattr(artray, name).__doc__
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = artray.nothing
    assert artray.__version__


def test_questions(made: Store, tmp_path: Path) -> None:
    found = artray.find(made.uri, type="drawing", object=["animals"], limit=3)
    assert found["count"] >= len(found["works"]) > 0
    assert all(work["type"] == "drawing" for work in found["works"])
    assert artray.sql(made.uri, "SELECT count(*) FROM works")["rows"] == [[60]]
    assert artray.sql(made.uri, "FROM works", max_rows=1)["more"] is True
    assert artray.status(made.uri)["images"] == 60
    assert artray.show(made.uri, "00/0000000.jpg")["image_id"] == "00/0000000.jpg"
    assert artray.export(made.uri, tmp_path / "w.csv", format="csv")["rows"] == 60
    assert artray.verify(made.uri)["ok"] is False  # its vectors are not made yet
    assert artray.index(made.uri) == {"upserted": 59, "deleted": 0, "count": 59, "methods": {}}
    assert artray.verify(made.uri)["ok"] is True
    assert artray.find(Path(made.uri))["count"] == 60  # a path will do


def test_what_is_wrong_is_said_before_anything_is_done(tmp_path: Path) -> None:
    archive, store = tmp_path / "archive", tmp_path / "store"
    archive.mkdir()
    (archive / "a.jpg").write_bytes(b"x")
    for wrong in ({"limit": 0}, {"profile": "nothing"}, {"set": ["x.y=1"]}, {"set": ["classify.cards=[nothing]"]}):
        with pytest.raises(ConfigError):
            artray.process(archive, store, **wrong)
        assert not store.exists()
    with pytest.raises(ConfigError, match=r"a: b\.csv: cannot be read"):
        artray.process(archive, store, metadata=tmp_path / "a: b.csv")


def test_the_sample_archive(tmp_path: Path) -> None:
    written = artray.sample(tmp_path / "archive", images=2, defects=1)
    assert written["images"] == 2
    assert written["size_bytes"] > 0
    assert set(written["defects"][0]) == {"path", "kind", "expected"}
    with pytest.raises(ConfigError):
        artray.sample(tmp_path / "other", images=-1)
