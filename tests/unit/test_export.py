"""Exports: every row, whole files or none, and nothing that a spreadsheet runs."""

import csv
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from artray import schema
from artray.errors import ConfigError
from artray.store import export as module
from artray.store import layout
from artray.store.export import cell, export
from artray.store.layout import Store
from artray.store.records import Records
from tests import made_store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return made_store.store(tmp_path_factory.mktemp("export") / "store", 120, batch=60)


def test_parquet_has_the_records_own_types(store: Store, tmp_path: Path) -> None:
    out = tmp_path / "works.parquet"
    assert export(store, out, "parquet") == 119  # no. 96 has vanished
    table = pq.read_table(out)
    assert table.schema.names == [name for name in schema.RECORD.names if name not in ("embedding", "thumbnail")]
    assert table.schema.field("objects").type == schema.RECORD.field("objects").type
    assert export(store, out, "parquet", embedding=True) == 119
    assert pq.read_table(out).schema.equals(schema.RECORD)
    assert [path.name for path in tmp_path.iterdir()] == ["works.parquet"]


def test_jsonl(store: Store, tmp_path: Path) -> None:
    out = tmp_path / "works.jsonl"
    assert export(store, out, "jsonl") == 119
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    first = next(row for row in rows if row["image_id"] == "00/0000000.jpg")
    assert first["metadata"] == {"artist": "Vincent van Gogh", "year": "1500", "title": "Work no. 0"}
    assert first["processed_at"] == "2024-01-01T00:00:00+00:00"
    assert "embedding" not in first
    export(store, out, "jsonl", embedding=True)
    assert len(json.loads(out.read_text(encoding="utf-8").splitlines()[0])["embedding"]) == 8


def test_csv(store: Store, tmp_path: Path) -> None:
    out = tmp_path / "works.csv"
    assert export(store, out, "csv") == 119
    with out.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 119
    assert json.loads(rows[0]["metadata"])["artist"] == "Vincent van Gogh"
    assert isinstance(json.loads(rows[0]["objects"]), list)


def test_csv_of_hostile_texts(tmp_path: Path) -> None:
    made = layout.create_store(tmp_path / "store")
    names = ["=cmd|' /C calc'!A0", "a\x00b\u202egpj.exe", '"quoted",\nline', "@SUM(1)", "plain"]
    table = next(made_store.tables(5))
    Records.create(made).append(table.set_column(0, table.schema.field(0), [names]))
    export(made, tmp_path / "works.csv", "csv")
    with (tmp_path / "works.csv").open(encoding="utf-8", newline="") as file:
        found = [row["image_id"] for row in csv.DictReader(file)]
    assert found == ["'=cmd|' /C calc'!A0", "abgpj.exe", '"quoted",\nline', "'@SUM(1)", "plain"]


@pytest.mark.parametrize("text", ["=1", "+1", "-1", "@a", "\t=1", "\r=1", "\n=1", "\u202e=1", "\x00=1", "＝1"])
def test_a_formula_gets_an_apostrophe(text: str) -> None:
    assert cell(text).startswith("'")


def test_numbers_and_nothing_stay_as_they_are() -> None:
    assert cell(-1.5) == -1.5
    assert cell(None) is None
    assert cell("") == ""
    assert cell([1.0, None]) == "[1.0, null]"


def test_a_failure_leaves_the_old_file(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "works.csv"
    out.write_text("old")

    def failing(value: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "cell", failing)
    with pytest.raises(ConfigError, match="No space left"):
        export(store, out, "csv")
    assert out.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["works.csv"]


def test_wrong_arguments(store: Store, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--format cvs: expected one of .*did you mean csv\?"):
        export(store, tmp_path / "a", "cvs")
    with pytest.raises(ConfigError, match="got a folder"):
        export(store, tmp_path, "csv")
    with pytest.raises(ConfigError, match="cannot be written"):
        export(store, tmp_path / "no" / "a.csv", "csv")
    with pytest.raises(ConfigError, match="in the store itself"):
        export(store, Path(store.uri) / "records" / "a.parquet", "parquet")
    with pytest.raises(ConfigError, match="parquet or jsonl only"):
        export(store, tmp_path / "a", "csv", embedding=True)


def test_an_empty_store(tmp_path: Path) -> None:
    made = layout.create_store(tmp_path / "store")
    Records.create(made)
    for name in ("parquet", "csv", "jsonl"):
        assert export(made, tmp_path / name, name) == 0
    assert pq.read_table(tmp_path / "parquet").num_rows == 0
    assert isinstance(pq.read_schema(tmp_path / "parquet"), pa.Schema)
    assert (tmp_path / "csv").read_text().startswith('"image_id","uri",')
