"""Sets of labelled works: what is read, and what is wrong with which line."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from artray.errors import ConfigError
from artray.train import splits
from artray.train.datasets import layouts, reading
from artray.train.profile import CLASSES, Source, TrainProfile


def profile(**heads: Any) -> TrainProfile:
    return TrainProfile.model_validate(
        {"name": "test", "data": {"sources": [{"path": "none"}]}, "heads": heads or {"type": {}, "genre": {}}}
    )


def pictures(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(folder / name)


def rows(found: reading.Found, *columns: str) -> list[tuple[Any, ...]]:
    return [tuple(row[name] for name in columns) for row in found.works.to_pylist()]


def test_a_table_and_what_is_wrong_in_which_line(tmp_path: Path) -> None:
    pictures(tmp_path, "a/1.jpg", "2.png", "3.jpg", "4.jpg", "6.jpg")
    (tmp_path / "labels.csv").write_text(
        "file,type,genre,split,artist,duplicate_group\n"
        "a/1.jpg,Painting,portrait,train,Berthe,\n"
        '"2.png",drawing,,,"de la Tour, Georges",d1\n'
        "3.jpg,fresco,landscape,val,,d1\n"
        "4.jpg,,,,,\n"
        "5.jpg,painting,,,,\n"
        "a/1.jpg,drawing,,,,\n"
        "6.jpg,painting,,dev,,\n",
        encoding="utf-8-sig",
    )
    found = reading.read(Source(path=str(tmp_path / "labels.csv")), profile())
    assert rows(found, "work_id", "type", "genre", "part", "group", "duplicates") == [
        ("csv/a/1.jpg", "painting", "portrait", "train", "Berthe", None),
        ("csv/2.png", "drawing", None, None, "de la Tour, Georges", "csv/d1"),
        ("csv/3.jpg", None, "landscape", "val", "csv/3.jpg", "csv/d1"),
    ]
    assert [problem.split("; ")[0] for problem in found.problems] == [
        "labels.csv line 4: type: expected painting, drawing or nothing, got 'fresco'",
        f"labels.csv line 6: 5.jpg: no such picture below {tmp_path}",
        "labels.csv line 7: a/1.jpg: is named a second time",
        "labels.csv line 8: split: expected train, val, test or nothing, got 'dev'",
    ]
    only_type = reading.read(Source(path=str(tmp_path / "labels.csv")), profile(type={}))
    assert len(only_type.works) == 2


def test_a_source_says_what_its_labels_are_here_and_which_part_it_is(tmp_path: Path) -> None:
    pictures(tmp_path, "1.jpg", "2.jpg", "3.jpg")
    (tmp_path / "t.csv").write_text("file,type\n1.jpg,etching\n2.jpg,fresco\n3.jpg,painting\n")
    source = Source(
        path=str(tmp_path / "t.csv"), name="mine", part="test", labels={"etching": "drawing", "fresco": None}
    )
    found = reading.read(source, profile())
    assert rows(found, "work_id", "source", "type", "part") == [
        ("mine/1.jpg", "mine", "drawing", "test"),
        ("mine/3.jpg", "mine", "painting", "test"),
    ]
    assert found.problems == []
    few = reading.read(source.model_copy(update={"limit": 1}), profile())
    assert len(few.works) == 1
    assert rows(few, "work_id") == rows(reading.read(source.model_copy(update={"limit": 1}), profile()), "work_id")


def test_a_limit_takes_of_all_parts(tmp_path: Path) -> None:
    names = [f"{n}.jpg" for n in range(400)]
    pictures(tmp_path, *names)
    (tmp_path / "t.csv").write_text("file,type\n" + "".join(f"{name},painting\n" for name in names))
    found = reading.read(Source(path=str(tmp_path / "t.csv"), limit=100), profile())
    parts = splits.split(found.works, np.zeros(100, np.uint64), 0.15, 0.15, None).works["part"].to_pylist()
    assert 55 < parts.count("train") < 85


def test_a_picture_is_one_work_however_it_is_written(tmp_path: Path) -> None:
    pictures(tmp_path, "p.jpg")
    (tmp_path / "t.csv").write_text("file,type\np.jpg,painting\n./p.jpg,drawing\n")
    found = reading.read(Source(path=str(tmp_path / "t.csv")), profile())
    assert rows(found, "work_id", "type") == [("csv/p.jpg", "painting")]
    assert found.problems == ["t.csv line 3: ./p.jpg: is named a second time; the first row counts"]


def test_labels_of_heads_that_are_not_trained_are_nobodys_concern(tmp_path: Path) -> None:
    pictures(tmp_path, "p.jpg")
    (tmp_path / "t.csv").write_text("file,type,genre\np.jpg,print,portrait\n")
    assert reading.read(Source(path=str(tmp_path / "t.csv")), profile(genre={})).problems == []


def test_a_label_must_become_one_that_is_known(tmp_path: Path) -> None:
    pictures(tmp_path, "p.jpg")
    (tmp_path / "t.csv").write_text("file,type\np.jpg,etching\n")
    with pytest.raises(ConfigError, match=r"labels: etching: expected null or one of drawing, .*got 'drawng'"):
        reading.read(Source(path=str(tmp_path / "t.csv"), labels={"etching": "drawng"}), profile())


def test_old_line_ends_are_told(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b"file,type\rp.jpg,painting\r")
    with pytest.raises(ConfigError, match=r"t\.csv"):
        reading.read(Source(path=str(tmp_path / "t.csv")), profile())


def test_classes_of_ones_own_are_found_in_any_case(tmp_path: Path) -> None:
    pictures(tmp_path, "1.jpg", "2.jpg")
    (tmp_path / "t.csv").write_text("file,type\n1.jpg,FRESCO\n2.jpg,Etching\n")
    source = Source(path=str(tmp_path / "t.csv"), labels={"Etching": "Print"})
    found = reading.read(source, profile(type={"classes": ["Fresco", "Print"]}))
    assert rows(found, "type") == [("Fresco",), ("Print",)]


def test_a_folder_per_label(tmp_path: Path) -> None:
    pictures(tmp_path, "painting/a.jpg", "painting/deep/b.jpg", "Drawing/c.jpg", "portrait/d.jpg", "e.jpg")
    found = reading.read(Source(kind="folder", path=str(tmp_path)), profile())
    assert sorted(rows(found, "work_id", "type", "genre")) == [
        ("folder/Drawing/c.jpg", "drawing", None),
        ("folder/painting/a.jpg", "painting", None),
        ("folder/portrait/d.jpg", None, "portrait"),
    ]


@pytest.mark.parametrize(
    ("text", "told"),
    {
        "name,type\nx,y\n": "expected a column 'file', got name, type",
        "file,artist\nx,y\n": "expected a column genre or type, got artist, file",
        "": "expected a column 'file', got none",
        b"file,type\n\xff\xfe.jpg,painting\n": "expected text in utf-8-sig, got other bytes at 10",
    }.items(),
)
def test_a_table_that_cannot_be_one(tmp_path: Path, text: str | bytes, told: str) -> None:
    (tmp_path / "t.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError, match=told):
        reading.read(Source(path=str(tmp_path / "t.csv")), profile())


def test_a_set_that_is_not_there_and_a_kind_that_is_not_known(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected a table of labels, found none"):
        reading.read(Source(path=str(tmp_path / "none.csv")), profile())
    with pytest.raises(ConfigError, match=r"kind: expected one of .*csv, .*folder.* or a YAML file, got 'wiki'"):
        reading.read(Source(kind="wiki", path=str(tmp_path)), profile())


def test_iconclass_notations(tmp_path: Path) -> None:
    pictures(tmp_path, "a.jpg", "b.jpg", "c.jpg", "d.jpg")
    codes = {"a.jpg": ["31A", "48C52"], "b.jpg": ["48(+351)"], "c.jpg": ["48(+354)", "48(+351)"], "d.jpg": ["31A"]}
    (tmp_path / "data.json").write_text(json.dumps(codes | {"gone.jpg": ["48(+354)"]}))
    found = reading.read(Source(kind="brill", path=str(tmp_path)), profile())
    assert rows(found, "work_id", "type") == [("brill/a.jpg", "drawing"), ("brill/b.jpg", "painting")]
    assert found.problems == [f"data.json: gone.jpg: gone.jpg: no such picture below {tmp_path}"]


def test_rijksmuseum_records(tmp_path: Path) -> None:
    pictures(tmp_path, "jpg/SK-1.jpg", "jpg/RP-2.jpg", "jpg/BK-3.jpg")
    (tmp_path / "xml").mkdir()
    for name, kind in {"SK-1": "schilderij", "RP-2": "tekening", "BK-3": "beeld"}.items():
        (tmp_path / "xml" / f"{name}.xml").write_text(
            f'<r xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:type>{kind}</dc:type><dc:creator>X</dc:creator></r>'
        )
    (tmp_path / "xml" / "BAD.xml").write_text("<r>")
    found = reading.read(Source(kind="rijksmuseum", path=str(tmp_path)), profile())
    assert sorted(rows(found, "work_id", "type", "group")) == [
        ("rijksmuseum/jpg/RP-2.jpg", "drawing", "X"),
        ("rijksmuseum/jpg/SK-1.jpg", "painting", "X"),
    ]


TABLES = {
    "semart": (
        "semart_train.csv",
        "IMAGE_FILE\tAUTHOR\tTYPE\n1.jpg\tA\treligious\n2.jpg\tB\tstill-life\n3.jpg\tC\tother\n",
        "Images/{}",
        {"1.jpg": "history painting", "2.jpg": "still life"},
    ),
    "wga": (
        "catalog.csv",
        "AUTHOR;TITLE;URL;FORM;TYPE\nA;T;https://www.wga.hu/html/a/1.html;painting;religious\n"
        "B;T;https://www.wga.hu/html/b/2.html;painting;genre\nC;T;https://www.wga.hu/html/b/3.html;sculpture;religious\n",
        "art/{}",
        {"a/1.jpg": "history painting", "b/2.jpg": "genre painting"},
    ),
    "wikiart": (
        "genre_train.csv",
        "Realism/a_1.jpg,8\nBaroque/b_2.jpg,4\n",
        "{}",
        {"Realism/a_1.jpg": "drawing"},
    ),
    "met": (
        "MetObjects.csv",
        "Object ID,Department,Object Name,Artist Display Name\n1,Drawings and Prints,Drawing,A\n"
        "2,Drawings and Prints,Print,A\n3,European Paintings,Drawing,B\n",
        "images/{}",
        {"1.jpg": "drawing"},
    ),
    "getty": (
        "metadata.csv",
        "file,object_type,genre\nx/1.jpg,Drawings,History\nx/2.jpg,Photograph,\n",
        "{}",
        {"x/1.jpg": "drawing"},
    ),
    "art500k": (
        "label_list.csv",
        "author_name\tFILE\tGenre\nA\tp/1.jpg\treligious painting\nB\tp/2.jpg\tabstract\n",
        "{}",
        {"p/1.jpg": "history painting"},
    ),
}


@pytest.mark.parametrize("kind", TABLES)
def test_publishers_tables(tmp_path: Path, kind: str) -> None:
    table, text, place, expected = TABLES[kind]
    pictures(tmp_path, *(place.format(name) for name in [*expected, "3.jpg"]))
    for name in layouts.load(kind).tables:
        header = "" if layouts.load(kind).columns else text.splitlines()[0] + "\n"
        (tmp_path / name).write_text(text if name == table else header, encoding="latin-1")
    found = reading.read(Source(kind=kind, path=str(tmp_path)), profile())
    told = {row[0].removeprefix(f"{kind}/"): {row[1], row[2]} for row in rows(found, "work_id", "type", "genre")}
    assert set(told) == {place.format(name) for name in expected}
    assert all(label in told[place.format(name)] for name, label in expected.items())


@pytest.mark.parametrize(
    ("kind", "label"),
    {
        "bing": "drawing",
        "kaggle-art-images": "drawing",
        "kaggle-best-artworks": "painting",
        "europeana": "portrait",
    }.items(),
)
def test_publishers_folders(tmp_path: Path, kind: str, label: str) -> None:
    pictures(tmp_path, "drawings/a.jpg", "engraving/b.jpg", "portrait/c.jpg")
    found = reading.read(Source(kind=kind, path=str(tmp_path)), profile())
    assert {label} <= {value for row in rows(found, "type", "genre") for value in row}
    assert len(found.works) == {"bing": 3, "kaggle-best-artworks": 3}.get(kind, 1)
    assert found.problems == []


@pytest.mark.parametrize("kind", layouts.known())
def test_every_layout_maps_to_labels_of_the_taxonomy(kind: str) -> None:
    layout = layouts.load(kind)
    for task, known in CLASSES.items():
        labels = getattr(layout, task)
        given = {*(labels.map or {}).values(), labels.always} - {None}
        assert given <= set(known)
    assert set(layout.report) <= {*CLASSES["type"], *CLASSES["genre"]}
    assert layout.title
