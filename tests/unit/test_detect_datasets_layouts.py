"""Labelled boxes: each layout's own ways."""

from pathlib import Path

import numpy as np
import pytest

from artray.detect.datasets import reading
from artray.detect.datasets.sources import BoxSource
from artray.errors import ConfigError
from tests.labelled_boxes import (
    BOX,
    UPRIGHT,
    annotation,
    boxes,
    column,
    image,
    look,
    picture,
    read,
    region,
    task,
    told,
    voc_object,
    write_coco,
    write_csv,
    write_photo_art_50,
    write_tasks,
    write_voc,
)


def test_a_table_of_ones_own(tmp_path: Path) -> None:
    for name in "abcd":
        picture(tmp_path / f"{name}.jpg")
    lines = [
        "a.jpg,10,5,30,25,dog,Train,Anker",
        "b.jpg,10,5,30,25,dog,train,",
        "b.jpg,1,5,30,25,dog,test,",
        "c.jpg,,,,,,,",
        "c.jpg,1,5,30,25,dog,,",
        "d.jpg,,,,,,,",
        ",1,2,3,4,dog,,",
    ]
    found = read("csv", write_csv(tmp_path, *lines), name="mine")
    assert column(found, "image_id") == ["mine/a.jpg", "mine/d.jpg"]
    assert column(found, "group") == ["Anker", "mine/d.jpg"]
    assert column(found, "part") == ["train", None]
    assert told(found.left_out) == [
        "boxes.csv line 3 (b.jpg): expected one split in all of its rows, got test, train; its 2 boxes with it",
        "boxes.csv line 5 (c.jpg): a row says that it has no objects, another has one; its box with it",
        "boxes.csv line 8: expected a file, got none; its box with it",
    ]
    assert column(read("csv", tmp_path / "boxes.csv", part="test"), "part") == ["test"] * 2
    with pytest.raises(ConfigError, match=r"expected a column 'x1', got file, label"):
        read("csv", write_csv(tmp_path, header="file,label"))
    with pytest.raises(ConfigError, match="found nothing there"):
        read("csv", tmp_path / "none.csv")
    with pytest.raises(ConfigError, match="expected a CSV table of boxes, got a folder"):
        read("csv", tmp_path)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("{", "expected a COCO document in JSON"),
        ("[]", "expected a list of objects named 'images'"),
        ('{"images": [], "annotations": [7], "categories": []}', "expected a list of objects named 'annotations'"),
        ('{"images": [], "annotations": []}', "expected a list of objects named 'categories'"),
        (b"\xff\xfe", "expected text in UTF-8, got other bytes at 0"),
    ],
)
def test_what_is_no_coco_document(tmp_path: Path, text: str | bytes, what: str) -> None:
    (tmp_path / "c.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError, match=what):
        read("coco", tmp_path / "c.json")
    with pytest.raises(ConfigError, match="got a folder; name the file"):
        read("coco", tmp_path)


def test_coco_annotations_of_odd_forms(tmp_path: Path) -> None:
    picture(tmp_path / "a.jpg")
    given = [
        annotation(1, 1, [1, 2, 3]),
        annotation(2, 1, None),
        annotation(3, 1, [1, 2, 3, 4], category=99),
        annotation(4, 1, [1, 2, -3, 4]),
        annotation(5, 1, [1, 2, 3, "four"]),
        {"id": 6, "image_id": [1]},
    ]
    found = read("coco", write_coco(tmp_path, [image(1, "a.jpg")], given))
    assert told(found.left_out) == [
        "annotations.json: annotation 1: expected four numbers as its corners, got something else",
        "annotations.json: annotation 2: expected four numbers as its corners, got something else",
        "annotations.json: annotation 3: expected a listed category, got 99",
        "annotations.json: annotation 4: expected x1 < x2 and y1 < y2, got [1, 2, -2, 6], which is reversed",
        "annotations.json: annotation 5: expected four numbers as its corners, got something else",
        "annotations.json: image [1]: is not listed; its box with it",
    ]
    assert found.boxes.num_rows == 0
    assert column(found, "image_id") == ["coco/a.jpg"]


def test_values_say_what_the_artist_and_the_work_are(tmp_path: Path) -> None:
    picture(tmp_path / "images" / "Cubism" / "picasso_women.jpg")
    picture(tmp_path / "images" / "b.jpg")
    images = [image(1, "Cubism/picasso_women.jpg", source="w_jpg.rf.1.jpg"), image(2, "b.jpg", artist="Anker")]
    patterns = {"file": "/(?P<artist>[^_]+)_", "source": r"^(?P<duplicates>.*)_jpg\.rf"}
    found = read("coco", write_coco(tmp_path, images, []), told=patterns)
    assert column(found, "group") == ["picasso", "Anker"]
    assert column(found, "duplicates") == ["coco/w", None]
    with pytest.raises(ValueError, match=r"file: expected a group with a name"):
        BoxSource(path="x", told={"file": "a(b)"})
    with pytest.raises(ValueError, match=r"file: expected a regular expression"):
        BoxSource(path="x", told={"file": "a("})
    with pytest.raises(ValueError, match="lists: expected only with the kind voc"):
        BoxSource(path="x", lists={"train": "a.txt"})


def test_some_of_a_sets_pictures_are_taken(tmp_path: Path) -> None:
    for name in ("images/Cubism/a.jpg", "images/Cubism/b.jpg", "images/Pop Art/c.jpg"):
        picture(tmp_path / name)
    images = [
        image(1, "Cubism/a.jpg", artist="Anker"),
        image(2, "Cubism/b.jpg"),
        image(3, "Pop Art/c.jpg", artist="Ankers"),
        image(4, "Pop Art/away.jpg"),
    ]
    given = [annotation(number, number, [10, 5, 20, 20]) for number in (1, 2, 3, 4, 5)]
    given += [annotation(6, 3, [1, 1, 5, 5], category=9)]
    path, styles = write_coco(tmp_path, images, given), {"file": "^(?P<style>[^/]+)/"}
    cubism = read("coco", path, told=styles, only={"style": "Cubism"})
    assert column(cubism, "image_id") == ["coco/Cubism/a.jpg", "coco/Cubism/b.jpg"]
    assert cubism.listed == (("coco", 2),)
    assert cubism.published["boxes"].to_pylist() == [3]  # two, and one of a picture that nothing is known of
    assert told(cubism.left_out) == ["annotations.json: image 5: is not listed; its box with it"]
    anker = read("coco", path, told=styles, only={"style": "Cubism|Pop Art", "artist": "Anker"})
    assert column(anker, "image_id") == ["coco/Cubism/a.jpg"]  # all of the value must match
    assert column(read("coco", path, only={"file": r".*/c\.jpg"}), "image_id") == ["coco/Pop Art/c.jpg"]
    wanted = "coco: only: expected pictures with stile: Cubism, found none among 4; their values are artist, .*style"
    with pytest.raises(ConfigError, match=wanted):
        read("coco", path, told=styles, only={"stile": "Cubism"})
    with pytest.raises(ValueError, match=r"style: expected a regular expression"):
        BoxSource(path="x", only={"style": "a("})


def test_lists_of_voc_and_of_people_art(tmp_path: Path) -> None:
    for name in ("style/a b.jpg", "style/c.jpg", "d.png", "e.jpg", "f.jpg"):
        picture(tmp_path / "JPEGImages" / name)
    write_voc(tmp_path, "style/a b.jpg", UPRIGHT, voc_object())
    write_voc(tmp_path, "d", UPRIGHT, voc_object())
    write_voc(tmp_path, "f", UPRIGHT, voc_object())
    (tmp_path / "Annotations" / "e.xml").write_text("<annotation>")
    (tmp_path / "Annotations" / "dog_train.txt").write_text("style/a b.jpg 1\nstyle/c.jpg -1\nx.jpg -1\n")
    (tmp_path / "Annotations" / "dog_test.txt").write_text("d  1\ne  1\ng  0\nd\n")
    lists = {"train": "Annotations/dog_train.txt", "test": "Annotations/dog_test.txt"}
    found = read("voc", tmp_path, lists=lists, group=["owner"])
    assert column(found, "image_id") == ["voc/style/a b.jpg", "voc/style/c.jpg", "voc/d.png"]
    assert column(found, "part") == ["train", "train", "test"]
    assert column(found, "group") == ["Anker", "voc/style/c.jpg", "Anker"]
    assert boxes(found) == [("style/a b.jpg", "dog", *BOX), ("d.png", "dog", *BOX)]
    assert told(found.left_out) == [
        f"dog_train.txt line 3 (x.jpg): no such picture below {tmp_path}/JPEGImages",
        "dog_test.txt line 2 (e.jpg): Annotations/e.xml: no record: no element found: line 1, column 12",
        "dog_test.txt line 3 (g.jpg): expected a record Annotations/g.xml, found none",
        "dog_test.txt line 4 (d.png): is named a second time; the first one counts; its box with it",
        "Annotations/f.xml (f.jpg): is in none of the lists; its box with it",
    ]
    with pytest.raises(ConfigError, match="expected a list of pictures, found none"):
        read("voc", tmp_path, lists={"train": "none.txt"})
    with pytest.raises(ConfigError, match="expected a folder of records in XML"):
        read("voc", tmp_path / "JPEGImages")


def test_voc_counts_pixels_from_one_and_others_from_nought(tmp_path: Path) -> None:
    picture(tmp_path / "JPEGImages" / "a.jpg")
    part = "<part><name>head</name><bndbox><xmin>1</xmin></bndbox></part>"
    write_voc(tmp_path, "a", UPRIGHT, voc_object((1, 1, 60, 40), more=part), voc_object((7, 7, 7, 7)))
    assert boxes(read("voc", tmp_path)) == [("a.jpg", "dog", 0, 0, 60, 40), ("a.jpg", "dog", 6, 6, 7, 7)]
    write_voc(tmp_path, "a", UPRIGHT, voc_object((0, 0, 60, 40)), voc_object(name=""), voc_object(("", 1, 2, 3)))
    found = read("voc", tmp_path, first_px=0)
    assert boxes(found) == [("a.jpg", "dog", 0, 0, 60, 40)]
    assert told(found.left_out) == [
        "Annotations/a.xml: object 2: expected a name, got none",
        "Annotations/a.xml: object 3: expected four numbers as its corners, got something else",
    ]


def test_yolo_lists_polygons_and_lines_that_are_wrong(tmp_path: Path) -> None:
    for name in ("images/x/a.jpg", "images/x/b.jpg", "images/y/c.jpg"):
        picture(tmp_path / "set" / name)
    (tmp_path / "set" / "labels" / "x").mkdir(parents=True)
    (tmp_path / "set" / "labels" / "x" / "a.txt").write_text(
        "0 0.5 0.5 0.5 0.5\n1 0.5 0.5 0.5 0.5 0.9\n2 0.5 0.5 0.1 0.1\n0.5 0.5 0.5 0.1 0.1\n0 0.1 0.1 0.2 0.1 0.2 0.3\n"
    )
    (tmp_path / "set" / "train.txt").write_text("./images/x/a.jpg\nimages/x/b.jpg\nimages/x/away.jpg\n")
    settings = "path: .\ntrain: train.txt\nval:\ntest: [images/y]\nnames:\n  0: dog\n  1: person\n"
    (tmp_path / "set" / "mine.yaml").write_text(settings)
    found = read("yolo", tmp_path / "set" / "mine.yaml")
    assert column(found, "part") == ["train", "train", "test"]
    rounded = [(*row[:2], *(round(value, 6) for value in row[2:])) for row in boxes(found)]
    assert rounded == [("images/x/a.jpg", "dog", 15, 10, 45, 30), ("images/x/a.jpg", "dog", 6, 4, 12, 12)]
    assert told(found.left_out) == [
        "labels/x/a.txt line 2: expected 4 numbers, or 6 and more of a polygon, got 5",
        "labels/x/a.txt line 3: expected a class from 0 to 1, got '2'",
        "labels/x/a.txt line 4: expected a class from 0 to 1, got '0.5'",
        f"images/x/away.jpg: no such picture below {tmp_path}/set",
    ]
    (tmp_path / "set" / "mine.yaml").write_text("train: elsewhere\nnames: [dog]\n")
    with pytest.raises(ConfigError, match=r"train: expected a folder or list of pictures below .*, got 'elsewhere'"):
        read("yolo", tmp_path / "set" / "mine.yaml")
    (tmp_path / "set" / "mine.yaml").write_text("train: images\nnames: {1: dog}\n")
    with pytest.raises(ConfigError, match="names: expected the classes' names, from 0 on"):
        read("yolo", tmp_path / "set" / "mine.yaml")
    with pytest.raises(ConfigError, match=r"expected data\.yaml or classes\.txt"):
        read("yolo", tmp_path / "set")


def test_open_images_boxes_what_it_verified(tmp_path: Path) -> None:
    picture(tmp_path / "a.jpg")
    (tmp_path / "oidv6-train-annotations-bbox.csv").write_text(
        "ImageID,LabelName,XMin,XMax,YMin,YMax\na,person,0.5,0.6,0.5,0.6\na,bicycle,0,1,0,1\n"
    )
    found = read("open-images", tmp_path)
    assert column(found, "labelled") == [["persons (others)"]]  # nobody looked for dogs
    assert column(found, "part") == ["train"]
    everywhere = read("open-images", tmp_path, labelled=["dog"])
    assert column(everywhere, "labelled") == [["dog"]]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"expected a table \*annotations-bbox\.csv"):
        read("open-images", tmp_path / "empty")


def test_photo_art_50_as_it_is_published(tmp_path: Path) -> None:
    for name in ("1.dog/1a_0001.jpg", "1.dog/1p_0001.jpg", "1.dog/1p_0002.jpg", "3.person/3.a_1.jpg", "other/a.jpg"):
        picture(tmp_path / name)
    lines = "1a_0001.jpg 1 1 60 40", "1p_0001.jpg 11 6 20 20\r", "", "1a_0001.jpg 11 6 20 20", "1p_0003.jpg 1 1 2 2"
    write_photo_art_50(tmp_path, "1", *lines)
    write_photo_art_50(tmp_path, "2", "2a_0001.jpg 1 1 2 2")
    write_photo_art_50(tmp_path, "3", "3.a_1.jpg 11 6 20", "3.a_1.jpg 11 6 20 x", "3.a_1.jpg 11 6 20 20 20")
    found = read("photo-art-50", tmp_path)
    assert boxes(found) == [
        ("1.dog/1a_0001.jpg", "dog", 0, 0, 60, 40),
        ("1.dog/1a_0001.jpg", "dog", *BOX),
        ("1.dog/1p_0001.jpg", "dog", *BOX),
    ]
    assert column(found, "labelled") == [["dog"], ["dog"], ["persons (others)"]]  # a picture's own class alone
    assert told(found.left_out) == [
        f"gt_bb/1.txt line 5 (1.dog/1p_0003.jpg): no such picture below {tmp_path}; its box with it",
        "gt_bb/2.txt: expected pictures in a folder 2.CLASS, found none",
        "gt_bb/3.txt line 1: expected four numbers as its corners, got something else",
        "gt_bb/3.txt line 2: expected four numbers as its corners, got something else",
        f"gt_bb/3.txt line 3 (3.person/3.a_1.jpg 11): no such picture below {tmp_path}; its box with it",
        "1.dog/1p_0002.jpg: expected boxes of it in gt_bb/1.txt, found none",
    ]
    art = read("photo-art-50", tmp_path, only={"domain": "art"})
    assert column(art, "image_id") == ["photo-art-50/1.dog/1a_0001.jpg", "photo-art-50/3.person/3.a_1.jpg"]
    dogs = read("photo-art-50", tmp_path, only={"class": "dog", "domain": "photo"})
    assert column(dogs, "image_id") == ["photo-art-50/1.dog/1p_0001.jpg"]
    with pytest.raises(
        ConfigError, match=r"expected Photo-Art-50's folder, with gt_bb/002\.txt and others, found none"
    ):
        read("photo-art-50", tmp_path / "1.dog")


def test_label_studio_turns_and_annotators(tmp_path: Path) -> None:
    for name in ("x/a.jpg", "x/b.jpg", "y/b.jpg", "c.jpg", "d.jpg", "é.jpg"):
        picture(tmp_path / "images" / name)
    cancelled = {"was_cancelled": True, "result": [region((0, 0, 1, 1), "dog")]}
    # 20 x 10 px at (30, 10), turned clockwise by a quarter: 10 px to the left, 20 px down
    quarter = region((50, 25, 100 / 3, 25), "dog", value={"rotation": 90})
    path = write_tasks(
        tmp_path,
        task(1, "a.jpg", cancelled, [quarter, region((0, 0, 50, 50), "dog", "person")], [region((0, 0, 1, 1), "dog")]),
        task(2, "/data/local-files/?d=some/where/y/b.jpg", [region((0, 0, 50, 50))]),
        task(3, "s3://bucket/b.jpg", [region((0, 0, 50, 50), "dog")]),
        task(4, "c.jpg"),
        task(5, "d.jpg", [region((0, 0, 50, 50), "dog", image_rotation=90)]),
        task(6, "https://host/%C3%A9.jpg", [{"type": "choices"}], artist="Anker"),
        {"id": 7, "data": {"text": "no picture"}, "annotations": []},
    )
    found = read("label-studio", path)
    assert column(found, "image_id") == [f"label-studio/{name}" for name in ("x/a.jpg", "y/b.jpg", "d.jpg", "é.jpg")]
    assert column(found, "group")[3] == "Anker"
    assert np.allclose([row[2:] for row in boxes(found)], [(20, 10, 30, 30), (0, 0, 30, 20), (0, 0, 30, 20)])
    assert told(found.left_out) == [
        "export.json: task 2: region 1: expected a label, got none",
        f"export.json: task 3 (b.jpg): no such picture below {tmp_path}/images; its box with it",
        "export.json: task 4 (c.jpg): nobody has labelled it yet",
        "export.json: task 5: region 1: the picture was turned in Label Studio; turn it back there",
        "export.json: task 7: expected data with a picture's path, got none",
    ]
    (tmp_path / "min.json").write_text('[{"image": "a.jpg", "label": []}]')
    with pytest.raises(ConfigError, match="expected Label Studio's export JSON, a list of tasks with data"):
        read("label-studio", tmp_path / "min.json")


def test_a_set_on_s3(s3_bucket: str, tmp_path: Path) -> None:
    from artray.archive import s3

    picture(tmp_path / "images" / "a.jpg", orientation=8)
    write_coco(tmp_path, [image(1, "a.jpg"), image(2, "away.jpg")], [annotation(1, 1, [10, 5, 20, 20])])
    for name in ("annotations.json", "images/a.jpg"):
        s3.client().put_object(Bucket=s3_bucket, Key=f"set/{name}", Body=(tmp_path / name).read_bytes())
    source = BoxSource(kind="coco", path=f"s3://{s3_bucket}/set/annotations.json", labels="coco", unknown="drop")
    found = reading.read(source)
    assert boxes(found) == [("a.jpg", "dog", *BOX)]
    assert column(found, "uri") == [f"s3://{s3_bucket}/set/images/a.jpg"]
    seen, looks = look(found)
    assert (seen.images.num_rows, len(looks.plain)) == (1, 1)
    assert told(found.left_out) == [
        f"annotations.json: image 2 (away.jpg): no such picture below s3://{s3_bucket}/set/images"
    ]
