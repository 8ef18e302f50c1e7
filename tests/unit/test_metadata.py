"""What a museum knows of its images: tables as museums have them, joined on a name."""

from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from artray.archive import metadata
from artray.errors import ConfigError
from artray.location import Location


def read(folder: Path, name: str, content: str | bytes | pa.Table) -> dict[str, dict[str, str]]:
    path = folder / name
    if isinstance(content, pa.Table):
        pq.write_table(content, path)
    else:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    table = metadata.read(Location.of(path))
    assert table.schema == metadata.TABLE
    return {row["key"]: dict(row["metadata"]) for row in table.to_pylist()}


@pytest.mark.parametrize(
    "content",
    [
        "file,title,artist\na.jpg,Hare,Dürer\nb.jpg,,\n",
        "file;title;artist\r\na.jpg;Hare;Dürer\r\nb.jpg;;\r\n",
        "file\ttitle\tartist\na.jpg\tHare\tDürer\nb.jpg\t\t",
        b"\xef\xbb\xbf" + "file,title,artist\na.jpg,Hare,Dürer\nb.jpg,,\n".encode(),  # as Excel writes UTF-8
        '"file","title","artist"\n"a.jpg","Hare","Dürer"\n"b.jpg","",""\n',
        "File,title,artist\nb.jpg,,\na.jpg,Hare,Dürer\na.jpg,Other,Other\n",  # of a name given twice, the first
    ],
)
def test_csv_as_it_comes(tmp_path: Path, content: str | bytes) -> None:
    assert read(tmp_path, "m.csv", content) == {"a.jpg": {"title": "Hare", "artist": "Dürer"}, "b.jpg": {}}


def test_quotes_line_breaks_and_what_looks_like_a_number(tmp_path: Path) -> None:
    content = 'file,title,no\n"a,b.jpg","He said ""hi""",007\n"c\nd.jpg","O\'Brien; study",1.50\n#e.jpg,x,NULL\n'
    assert read(tmp_path, "m.csv", content) == {
        "#e.jpg": {"title": "x", "no": "NULL"},
        "a,b.jpg": {"title": 'He said "hi"', "no": "007"},
        "c\nd.jpg": {"title": "O'Brien; study", "no": "1.50"},
    }


def test_the_first_row_of_a_name_is_taken_in_any_size(tmp_path: Path) -> None:
    rows = "".join(f"{number % 20_000}.jpg,{number // 20_000}\n" for number in range(60_000))
    found = read(tmp_path, "m.csv", f"file,n\n{rows}")
    assert len(found) == 20_000
    assert {entry["n"] for entry in found.values()} == {"0"}


def test_columns_with_the_names_that_the_query_uses(tmp_path: Path) -> None:
    content = "file,key,metadata,row,e,k,v\na.jpg,1,2,3,4,5,6\nb.jpg,1,2,3,4,5,6\nc.jpg,,,,,,\n"
    all_six = {"key": "1", "metadata": "2", "row": "3", "e": "4", "k": "5", "v": "6"}
    assert read(tmp_path, "m.csv", content) == {"a.jpg": all_six, "b.jpg": all_six, "c.jpg": {}}


@pytest.mark.parametrize("suffix", ["csv", "parquet", "jsonl"])
def test_hostile_column_names_are_names(tmp_path: Path, suffix: str) -> None:
    import csv
    import io
    import json

    names = [
        "x'; DROP TABLE y; --\"",
        '"',
        "''",
        "?",
        "$1",
        "a b",
        "{}",
        "%s",
        "); COPY (SELECT 1) TO '/tmp/x'; --",
        "素",
    ]
    if suffix == "parquet":
        content: Any = pa.table({"image_id": ["a"]} | {name: ["1"] for name in names})
    elif suffix == "jsonl":
        content = json.dumps({"image_id": "a"} | dict.fromkeys(names, "1"))
    else:
        out = io.StringIO()
        csv.writer(out).writerows([["image_id", *names], ["a", *["1"] * len(names)]])
        content = out.getvalue()
    assert read(tmp_path, f"m.{suffix}", content) == {"a": dict.fromkeys(names, "1")}


def test_which_column_names_the_image(tmp_path: Path) -> None:
    # a name may be the work's: any other column goes before it
    assert read(tmp_path, "m.csv", "name,path\nMona Lisa,a.jpg\n") == {"a.jpg": {"name": "Mona Lisa"}}
    assert read(tmp_path, "m.csv", "path,IMAGE_ID,file\n1,2,3\n") == {"2": {"path": "1", "file": "3"}}
    assert read(tmp_path, "m.csv", "Name\na.jpg\n") == {"a.jpg": {}}
    with pytest.raises(ConfigError, match=r"expected a column named image_id or .*, got titel, nr$"):
        read(tmp_path, "m.csv", "Titel,Nr\nx,1\n")


def test_names_in_other_cases_are_other_columns(tmp_path: Path) -> None:
    assert len(read(tmp_path, "m.csv", "file,Title,title\na.jpg,1,2\n")["a.jpg"]) == 2
    assert len(read(tmp_path, "m.parquet", pa.table({"file": ["a"], "T": ["1"], "t": ["2"]}))["a"]) == 2


def test_jsonl_values_stay_as_they_are_written(tmp_path: Path) -> None:
    lines = (
        '{"file":"a.jpg","year":1850,"date":"1999-1-1","made":"2020-01-01T00:00:00Z","in":{"x":[1,2]},"no":null,"ok":true}',
        *(f'{{"file":"{number}","year":{number}}}' for number in range(25_000)),  # more than are looked at for types
        '{"file":"b.jpg","year":"c. 1850","late":"x"}',
    )
    found = read(tmp_path, "m.jsonl", "\n".join(lines))
    assert found["a.jpg"] == {
        **{"year": "1850", "date": "1999-1-1", "made": "2020-01-01T00:00:00Z"},
        **{"in": '{"x":[1,2]}', "ok": "true"},
    }
    assert found["b.jpg"] == {"year": "c. 1850", "late": "x"}
    assert read(tmp_path, "m.ndjson", '{"file": "a.jpg"}\n') == {"a.jpg": {}}


def test_parquet_columns_of_any_type(tmp_path: Path) -> None:
    content = pa.table(
        {
            "image_id": pa.array([7, None]),
            "list": [[1, 2], None],
            "blob": [b"\xff\0", None],
            "time": [datetime(2020, 1, 1), None],
            "float": [1.5, None],
        }
    )
    assert read(tmp_path, "m.parquet", content) == {
        "7": {"list": "[1, 2]", "blob": "\\xFF\\x00", "time": "2020-01-01 00:00:00", "float": "1.5"}
    }


def test_file_names_are_no_patterns(tmp_path: Path) -> None:
    (tmp_path / "works 1.csv").write_text("file,title\nz.jpg,wrong\n")
    for name in ("works [1].csv", "works ?.csv", "*.csv", "{a,b}.csv", "it's.csv"):
        assert read(tmp_path, name, "file,title\na.jpg,x\n") == {"a.jpg": {"title": "x"}}, name


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("m.txt", "file\na.jpg\n", "expected a .csv, .jsonl or .parquet file, got .txt"),
        ("metadata", "file\na.jpg\n", "got no suffix"),
        ("m.csv", "", "expected a column named"),
        ("m.csv", "file,title\na.jpg,Dürer\n".encode("latin-1"), "(?i)not utf-8"),
        ("m.csv", "file,title\na.jpg,Dürer\n".encode("utf-16"), "cannot be read|expected a column"),
        ("m.csv", "file,title\na.jpg,x,y,z\nb.jpg\n", "cannot be read|expected a column"),
        ("m.csv", "file,title\na.jpg," + "x" * 3_000_000, "cannot be read"),
        ("m.jsonl", '{"file":"a.jpg"', "Malformed JSON"),
        ("m.jsonl", "[1, 2]", "expected a column named"),
        ("m.jsonl", '{"file":"a","t":1,"t":2}', "duplicate key"),
        ("m.parquet", b"PAR1 is how it begins", "cannot be read"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        read(tmp_path, name, content)
    assert str(tmp_path / name) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        metadata.read(Location.of(tmp_path / "m.csv"))
    (tmp_path / "d.csv").mkdir()
    with pytest.raises(ConfigError, match="Is a directory"):
        metadata.read(Location.of(tmp_path / "d.csv"))


def test_large_cells_and_null_characters_are_kept(tmp_path: Path) -> None:
    found = read(tmp_path, "m.csv", "file,title\na.jpg," + "x" * 1_000_000 + "\nb.jpg,a\0b\n")
    assert len(found["a.jpg"]["title"]) == 1_000_000
    assert found["b.jpg"] == {"title": "a\0b"}


def test_on_s3(s3_bucket: str) -> None:
    place = Location.of(f"s3://{s3_bucket}/works.csv")
    with pytest.raises(ConfigError, match=r"not found|No such file"):
        metadata.read(place)
    place.write_bytes(b"file,title\na.jpg,x\n")
    assert metadata.read(place).to_pylist() == [{"key": "a.jpg", "metadata": [("title", "x")]}]
