"""Every question of a store on S3, and of one whose parts were rewritten: the same answers as of a local one."""

from collections.abc import Callable
from pathlib import Path

import pytest

from artray.errors import TransientError
from artray.store import export, find, rewrite, show, similar, sql
from artray.store.find import Filters
from artray.store.layout import Store
from artray.store.records import Records
from artray.store.vectors import opened
from tests import made_store

COUNTS = "SELECT type, count(*), avg(type_score) FROM works GROUP BY type ORDER BY type"


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return made_store.store(tmp_path_factory.mktemp("local") / "store", 120, batch=40)


def same(first: Store, second: Store, folder: Path) -> None:
    filters = Filters(type="painting", objects=("animals",))
    assert find.find(first, filters, sort="-type_score") == find.find(second, filters, sort="-type_score")
    assert sql.query(first, COUNTS) == sql.query(second, COUNTS)
    asked = [similar.similar(store, "01/0000001.jpg", 5).works for store in (first, second)]
    assert asked[0] == asked[1]
    assert show.show(first, "01/0000001.jpg") == show.show(second, "01/0000001.jpg")
    lines = []
    for store in (first, second):
        export.export(store, folder / "out.jsonl", "jsonl", embedding=True)
        lines.append(sorted((folder / "out.jsonl").read_text(encoding="utf-8").splitlines()))
    assert lines[0] == lines[1]


def test_on_s3(local: Store, s3_bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARTRAY_CACHE", str(tmp_path / "cache"))
    remote = made_store.store(f"s3://{s3_bucket}/a store", 120, batch=40)
    same(local, remote, tmp_path)
    with opened(remote) as index:
        synced = index.sync(Records.open(remote))
        assert synced.count == synced.upserted > 100
        found = similar.similar(remote, "01/0000001.jpg", 5, index=index)
    assert found.note == ""
    assert found.works == similar.similar(local, "01/0000001.jpg", 5).works


def test_rewritten_parts(local: Store, tmp_path: Path) -> None:
    compacted = made_store.store(tmp_path / "compacted", 120, batch=10)
    assert rewrite.compact(Records.open(compacted), "again") > 0
    same(local, compacted, tmp_path)
    merged = made_store.store(tmp_path / "merged", 120, batch=120)
    rewrite.upsert(Records.open(merged), next(made_store.tables(120, batch=40)), "again")
    assert find.find(local, limit=1000).count == find.find(merged, limit=1000).count
    assert sql.query(merged, "SELECT count(*) FROM objects").rows[0][0] > 0


def test_a_part_that_cannot_be_read_is_no_defect_of_artray(any_store: Store, tmp_path: Path) -> None:
    """Storage that fails while it is read, whoever reads: an error that says what to do, and no half of a file."""
    records = Records.create(any_store)
    for table in made_store.tables(80, batch=40):
        records.append(table)
    name = next(name for name in any_store.records.names() if name.startswith("part-"))
    (any_store.records / name).remove()
    out = tmp_path / "out.csv"
    asked: list[Callable[[], object]] = [
        lambda: find.find(any_store, Filters(type="painting")),
        lambda: similar.similar(any_store, [1.0] * 8),
        lambda: show.show(any_store, "nothing.jpg"),
        lambda: export.export(any_store, out, "csv"),
    ]
    for ask in asked:
        with pytest.raises(TransientError, match=f"ask again; if that does not help: artray verify .*{any_store.uri}"):
            ask()
    assert not out.exists()
    with pytest.raises(TransientError, match="ask again; if that does not help"):
        sql.query(any_store, COUNTS)


def test_a_part_that_goes_while_sql_runs(any_store: Store) -> None:
    records = Records.create(any_store)
    for table in made_store.tables(80, batch=40):
        records.append(table)
    with sql.Session(any_store) as session:
        assert session.query("SELECT count(*) FROM works").rows[0][0] > 70
        for name in records.parts()[0]:
            (any_store.records / name).remove()
        with pytest.raises(TransientError, match="ask again; if that does not help"):
            session.query("SELECT max(type_score), count(DISTINCT genre) FROM works")
        with pytest.raises(TransientError):
            session.query("SELECT sum(width_px) FROM works")
