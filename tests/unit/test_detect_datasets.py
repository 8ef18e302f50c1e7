"""Labelled boxes: what every layout says, in pixels of the upright picture, and what is wrong with which line."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from artray.archive.sample.encode import orientation_exif
from artray.detect.datasets import frames, readers, reading, tables
from artray.detect.datasets.frames import Seen
from artray.detect.datasets.sources import BoxSource
from artray.detect.datasets.tables import BOXES, IMAGES, Labelled
from artray.errors import ConfigError
from tests.labelled_boxes import (
    BOX,
    PER_CENT,
    UPRIGHT,
    annotation,
    boxes,
    column,
    image,
    picture,
    read,
    region,
    task,
    told,
    voc_object,
    write_coco,
    write_csv,
    write_lists,
    write_photo_art_50,
    write_tasks,
    write_voc,
)

# ---- every layout says the same


def as_coco(folder: Path) -> Labelled:
    picture(folder / "images" / "a.jpg")
    picture(folder / "images" / "b.jpg")
    given = annotation(1, 7, [10, 5, 20, 20]), annotation(2, 7, [0, 0, 60, 40], 2, iscrowd=1)
    return read("coco", write_coco(folder, [image(7, "a.jpg", split="valid"), image(8, "b.jpg")], [*given]))


def as_voc(folder: Path) -> Labelled:
    picture(folder / "JPEGImages" / "a.jpg")
    picture(folder / "JPEGImages" / "b.jpg")
    person = voc_object((1, 1, 60, 40), "person", "<difficult>1</difficult>")
    write_voc(folder, "a", UPRIGHT, voc_object(), person)
    write_voc(folder, "b", UPRIGHT)
    write_lists(folder, train="b\n", val="a\n")
    return read("voc", folder)


def as_yolo(folder: Path) -> Labelled:
    picture(folder / "valid" / "images" / "a.jpg")
    picture(folder / "train" / "images" / "b.jpg")
    (folder / "valid" / "labels").mkdir()
    (folder / "valid" / "labels" / "a.txt").write_text(
        "0 0.333333333333 0.375 0.333333333333 0.5\n\n1 0 0 1 0 1 1 0 1\n"
    )
    (folder / "data.yaml").write_text("train: ../train/images\nval: ../valid/images\nnames: [dog, person]\n")
    return read("yolo", folder)


def as_open_images(folder: Path) -> Labelled:
    picture(folder / "pictures" / "a.jpg")
    (folder / "class-descriptions-boxable.csv").write_text("/m/0bt9lr,dog\n/m/01g317,person\n")
    (folder / "validation-annotations-bbox.csv").write_text(
        "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsGroupOf\n"
        f"a,x,/m/0bt9lr,1,{10 / 60},0.5,0.125,0.625,0\n"
        "a,x,/m/01g317,1,0,1,0,1,1\n"
        "elsewhere,x,/m/0bt9lr,1,0,1,0,1,0\n"
    )
    return read("open-images", folder)


def as_label_studio(folder: Path) -> Labelled:
    picture(folder / "images" / "a.jpg")
    picture(folder / "images" / "b.jpg")
    first = task(1, "/data/upload/1/0123abcd-a.jpg", [region(PER_CENT, "dog"), region((0, 0, 100, 100), "person")])
    return read(
        "label-studio", write_tasks(folder, first | {"data": first["data"] | {"split": "val"}}, task(2, "b.jpg", []))
    )


def as_csv(folder: Path) -> Labelled:
    picture(folder / "a.jpg")
    picture(folder / "b.jpg")
    rows = "a.jpg,10,5,30,25,dog,val,", "a.jpg,0,0,60,40,person,val,", "b.jpg,,,,,,train,"
    return read("csv", write_csv(folder, *rows))


@pytest.mark.parametrize("made", [as_coco, as_voc, as_yolo, as_open_images, as_label_studio, as_csv])
def test_every_layout_gives_the_same_boxes(tmp_path: Path, made: Any) -> None:
    found = made(tmp_path)
    names = [name.rpartition("/")[2] for name in column(found, "image_id")]
    assert sorted(names) == (["a.jpg"] if made is as_open_images else ["a.jpg", "b.jpg"])
    assert column(found, "part")[names.index("a.jpg")] == "val"
    assert [row[1] for row in boxes(found)] == ["dog", "person"]
    assert np.allclose([row[2:] for row in boxes(found)], [BOX, (0, 0, 60, 40)], atol=1e-6)
    assert found.boxes["class_name"].to_pylist() == ["dog", "persons (others)"]
    assert found.boxes["crowd"].to_pylist() == [False, made in (as_coco, as_open_images)]
    assert found.boxes["difficult"].to_pylist() == [False, made is as_voc]
    assert (found.images.schema, found.boxes.schema, found.published.schema) == (IMAGES, BOXES, tables.PUBLISHED)
    assert column(found, "labelled")[0] == ["persons (others)", "dog"]
    assert found.mended == ()
    away = ["validation-annotations-bbox.csv: 1 pictures of the table are not here"]
    assert told(found.left_out) == (away if made is as_open_images else [])


def test_kinds_are_those_that_are_told_of() -> None:
    from artray.detect import datasets

    assert all(f"`{kind}`" in (datasets.__doc__ or "") for kind in readers.READERS)
    with pytest.raises(ConfigError, match=r"kind: expected one of coco, csv, .*, got 'cocoa'"):
        reading.read(BoxSource(kind="cocoa", path="x"))


# ---- pictures that are stored turned


@pytest.mark.parametrize("orientation", range(1, 9))
def test_boxes_are_turned_as_the_picture_is(tmp_path: Path, orientation: int) -> None:
    """A white box is painted into the stored picture; Pillow turns it upright."""
    stored = np.zeros((40, 60, 3), np.uint8)
    stored[5:25, 10:30] = 255
    Image.fromarray(stored).save(tmp_path / "p.png", exif=orientation_exif(orientation))
    shown = np.asarray(ImageOps.exif_transpose(Image.open(tmp_path / "p.png")))[..., 0]
    ys, xs = np.nonzero(shown)
    seen = Seen((60, 40), orientation)
    assert seen.upright_wh == shown.shape[::-1]
    expected = [[xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]]
    assert frames.upright(np.array([BOX], np.float64), seen).tolist() == expected


def test_a_size_says_what_boxes_refer_to(tmp_path: Path) -> None:
    """The picture is 60 x 40 upright, and stored as 40 x 60 turned left (orientation 6)."""
    turned = (5, 30, 25, 50)  # BOX in the stored picture: x = y upright, y = 60 - x upright
    picture(tmp_path / "images" / "a.jpg", orientation=6)
    picture(tmp_path / "JPEGImages" / "a.jpg", orientation=6)
    for size, corners in {UPRIGHT: BOX, (40, 60): turned}.items():
        xywh = [corners[0], corners[1], corners[2] - corners[0], corners[3] - corners[1]]
        coco = write_coco(tmp_path, [image(1, "a.jpg", width=size[0], height=size[1])], [annotation(1, 1, xywh)])
        assert boxes(read("coco", coco)) == [("a.jpg", "dog", *BOX)]
        one_based = (corners[0] + 1, corners[1] + 1, corners[2], corners[3])
        write_voc(tmp_path, "a", size, voc_object(one_based))
        assert boxes(read("voc", tmp_path)) == [("a.jpg", "dog", *BOX)]
    assert column(read("voc", tmp_path), "width_px") == [60]


def test_without_a_size_each_kind_has_its_own_way(tmp_path: Path) -> None:
    """COCO, YOLO, Label Studio and our tables refer to the upright picture, the others to the stored one."""
    turned = (5, 30, 25, 50)
    for name in ("a.jpg", "images/a.jpg", "JPEGImages/a.jpg", "yolo/a.jpg", "open/a.jpg", "50/1.dog/1p_1.jpg"):
        picture(tmp_path / name, orientation=6)
    coco = write_coco(tmp_path, [{"id": 1, "file_name": "a.jpg"}], [annotation(1, 1, [10, 5, 20, 20])])
    write_voc(tmp_path, "a", None, voc_object((6, 31, 25, 50)))
    (tmp_path / "yolo" / "a.txt").write_text(f"0 {20 / 60} {15 / 40} {20 / 60} {20 / 40}")
    (tmp_path / "yolo" / "classes.txt").write_text("dog\nperson\n")
    rows = f"a,dog,{5 / 40},{25 / 40},{30 / 60},{50 / 60}"
    (tmp_path / "open" / "annotations-bbox.csv").write_text(f"ImageID,LabelName,XMin,XMax,YMin,YMax\n{rows}\n")
    write_photo_art_50(tmp_path / "50", "1", "1p_1.jpg 6 31 20 20")
    plain = region(PER_CENT, "dog")
    plain.pop("original_width")
    found = {
        "coco": read("coco", coco),
        "voc": read("voc", tmp_path),
        "yolo": read("yolo", tmp_path / "yolo"),
        "open-images": read("open-images", tmp_path / "open"),
        "photo-art-50": read("photo-art-50", tmp_path / "50"),
        "label-studio": read("label-studio", write_tasks(tmp_path, task(1, "a.jpg", [plain]))),
        "csv": read("csv", write_csv(tmp_path, "a.jpg,10,5,30,25,dog,,")),
    }
    assert set(found) == set(readers.READERS) - {"store"}  # whose records have a size
    for kind, each in found.items():
        assert np.allclose([row[2:] for row in boxes(each)], [BOX]), kind
    told_so = read("csv", write_csv(tmp_path, f"a.jpg,{','.join(map(str, turned))},dog,,"), frame="stored")
    assert boxes(told_so) == [("a.jpg", "dog", *BOX)]


def test_nearly_square_pictures_are_told_apart_by_their_very_size() -> None:
    seen = Seen((400, 399), 6)
    assert frames.frame_of(seen, (400, 399), "upright") == "stored"
    assert frames.frame_of(seen, (800, 798), "upright") == "upright"  # either may be meant
    assert frames.frame_of(Seen((400, 400), 6), (400, 400), "stored") == "stored"


# ---- what is wrong with boxes and pictures


def test_boxes_that_are_none_are_left_out_and_told(tmp_path: Path) -> None:
    picture(tmp_path / "a.jpg")
    lines = [
        "a.jpg,10,5,30,25,dog,,",
        "a.jpg,10,5,10,25,dog,,",
        "a.jpg,30,5,10,25,dog,,",
        "a.jpg,60,5,70,25,dog,,",
        "a.jpg,-5,-5,30,25.5,dog,,",
        "a.jpg,-0.6,0,20,40.9,dog,,",
        "a.jpg,10,5,30,25,dog,,",
        "a.jpg,10,5,30,25,person,,",
        "a.jpg,10,five,30,25,dog,,",
        "a.jpg,10,5,30,,dog,,",
        "a.jpg,10,5,30,25,,,",
        "a.jpg,10,5,nan,25,dog,,",
    ]
    found = read("csv", write_csv(tmp_path, *lines))
    assert boxes(found) == [
        ("a.jpg", "dog", *BOX),
        ("a.jpg", "dog", 0, 0, 30, 25.5),
        ("a.jpg", "dog", 0, 0, 20, 40),
        ("a.jpg", "person", *BOX),
    ]
    assert sorted(told(found.left_out)) == sorted(
        [
            "boxes.csv line 3: expected x1 < x2 and y1 < y2, got [10, 5, 10, 25], which has no area",
            "boxes.csv line 4: expected x1 < x2 and y1 < y2, got [30, 5, 10, 25], which is reversed",
            "boxes.csv line 5: [60, 5, 70, 25] px lies outside the picture of 60 x 40 px",
            "boxes.csv line 8: the picture has this box of 'dog' already; the first one counts",
            "boxes.csv line 10: expected four numbers as its corners, got something else",
            "boxes.csv line 11: expected four numbers as its corners, got something else",
            "boxes.csv line 12: has no label",
            "boxes.csv line 13: expected four numbers as its corners, got something else",
        ]
    )
    assert told(found.mended) == ["boxes.csv line 6: reached 5.0 px beyond the picture and is clipped"]
    assert tables.counts(found, "csv") == {"persons (others)": (1, 1), "dog": (10, 3), tables.NO_CLASS: (1, 0)}
    assert list(tables.told(found)) == [
        "csv: 1 of 1 images; persons (others): 1 of 1 boxes; dog: 3 of 10 boxes; no class of artray's: 0 of 1 boxes"
    ]


def test_a_size_that_differs_scales_boxes_or_leaves_the_picture_out(tmp_path: Path) -> None:
    for name in ("half.jpg", "other.jpg", "turned.jpg"):
        picture(tmp_path / "images" / name)
    images = [
        image(1, "half.jpg", width=120, height=80),
        image(2, "other.jpg", width=60, height=60),
        image(3, "turned.jpg", width=40, height=60),
    ]
    given = [annotation(number, number, [20, 10, 40, 40]) for number in (1, 2, 3)]
    found = read("coco", write_coco(tmp_path, images, given))
    assert boxes(found) == [("half.jpg", "dog", *BOX)]
    assert column(found, "image_id") == ["coco/half.jpg"]
    assert told(found.mended) == [
        "annotations.json: image 1 (half.jpg): labelled at 120 x 80 px, is 60 x 40 px: boxes are scaled"
    ]
    assert told(found.left_out) == [
        "annotations.json: image 2 (other.jpg): labelled at 60 x 60 px, is 60 x 40 px: another aspect ratio, so "
        "another picture or crop; its box with it",
        "annotations.json: image 3 (turned.jpg): labelled at 40 x 60 px, is 60 x 40 px: another aspect ratio, so "
        "another picture or crop; its box with it",
    ]
    assert tables.counts(found, "coco") == {"dog": (3, 1)}


def test_pictures_that_cannot_be_used(tmp_path: Path) -> None:
    picture(tmp_path / "images" / "a.jpg")
    (tmp_path / "images" / "broken.jpg").write_bytes(b"\xff\xd8 no picture")
    (tmp_path / "images" / "text.jpg").write_text("no picture either")
    images = [
        image(1, "a.jpg"),
        image(1, "b.jpg"),
        image(2, "./a.jpg"),
        image(3, "away.jpg"),
        image(4, "broken.jpg"),
        image(5, "text.jpg"),
        image(6, "a.jpg", split="dev"),
        {"id": 7},
    ]
    given = [annotation(number, of, [1, 1, 5, 5]) for number, of in enumerate([1, 2, 3, 3, 4, 9], 1)]
    found = read("coco", write_coco(tmp_path, images, given))
    assert column(found, "image_id") == ["coco/a.jpg"]
    assert found.boxes.num_rows == 1
    assert told(found.left_out) == [
        "annotations.json: image 1 (b.jpg): its id is given a second time; the first image counts",
        "annotations.json: image 2 (./a.jpg): is named a second time; the first one counts; its box with it",
        f"annotations.json: image 3 (away.jpg): no such picture below {tmp_path}/images; its 2 boxes with it",
        "annotations.json: image 4 (broken.jpg): corrupt: no picture that can be read; its box with it",
        "annotations.json: image 5 (text.jpg): corrupt: no picture that can be read",
        "annotations.json: image 6 (a.jpg): split: expected train, val, test or nothing, got 'dev'",
        "annotations.json: image 7: expected a file_name, got none",
        "annotations.json: image 9: is not listed; its box with it",
    ]
    assert tables.counts(found, "coco") == {"dog": (6, 1)}


def test_a_label_that_is_not_known_is_an_error_unless_it_is_to_be_dropped(tmp_path: Path) -> None:
    picture(tmp_path / "a.jpg")
    path = write_csv(tmp_path, "a.jpg,10,5,30,25,Dog,,", "a.jpg,1,5,30,25,bicicle,,", "a.jpg,2,5,30,25,bicycle,,")
    wanted = r"csv: boxes\.csv line 3: csv: expected one of its 3 labels, got 'bicicle'; did you mean bicycle\?.*drop"
    with pytest.raises(ConfigError, match=wanted):
        read("csv", path)
    found = read("csv", path, unknown="drop")
    assert [row[1] for row in boxes(found)] == ["Dog", "bicycle"]
    assert found.boxes["class_name"].to_pylist() == ["dog", None]
    assert told(found.left_out) == ["boxes.csv line 3: 'bicicle' is none of the labels of csv"]
    assert tables.counts(found, "csv") == {"dog": (1, 1), tables.NO_CLASS: (2, 1)}


def test_labels_are_a_table_a_mapping_or_the_classes_themselves(tmp_path: Path) -> None:
    picture(tmp_path / "a.jpg")
    path = write_csv(tmp_path, "a.jpg,10,5,30,25,dog,,")
    assert read("csv", path, labels="coco").boxes["class_name"].to_pylist() == ["dog"]
    own = read("csv", path, labels=None, labelled=["dog", "cat"])
    assert column(own, "labelled") == [["cat", "dog"]]
    assert len(column(read("csv", path, labels=None), "labelled")[0]) == 28
    with pytest.raises(ConfigError, match=r"labels: dog: class: expected one of .*, got 'dogs'; did you mean dog"):
        read("csv", path, labels={"dog": "dogs"})
    with pytest.raises(ConfigError, match=r"labelled: class: .*did you mean cat"):
        read("csv", path, labelled=["cats"])
    with pytest.raises(ConfigError, match="labels: expected one of byzart, "):
        read("csv", path, labels="cocoa")
