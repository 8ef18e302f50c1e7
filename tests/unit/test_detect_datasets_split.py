"""Labelled boxes: merged, split without near-duplicates on two sides, judged against, and written as COCO."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from artray.detect.datasets import reading, splitting, tables
from artray.detect.datasets.sources import BoxSource
from artray.detect.datasets.splitting import Looks
from artray.detect.datasets.tables import NO_CLASS, Labelled, merged
from artray.detect.datasets.truths import truths, write_coco
from artray.errors import ConfigError
from artray.location import Location
from tests.labelled_boxes import column, look, picture, read, told, voc_object, write_csv, write_voc

HEADER = "file,x1,y1,x2,y2,label,split,duplicates"


def listed(folder: Path, rows: Sequence[str], **given: Any) -> Labelled:
    """A set of pictures that are all alike."""
    folder.mkdir(parents=True, exist_ok=True)
    for row in rows:
        picture(folder / row.split(",")[0])
    return read("csv", write_csv(folder, *rows, header=HEADER), **given)


def looks(*plain: int, mirrored: Sequence[int] = ()) -> Looks:
    return Looks(np.array(plain, np.uint64), np.array(mirrored or [0] * len(plain), np.uint64))


def noise(seed: int) -> Image.Image:
    """Something with large structure."""
    small = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    return Image.fromarray(small).resize((160, 120), Image.Resampling.BICUBIC)


def test_a_picture_of_two_sets_counts_once(tmp_path: Path) -> None:
    first = listed(tmp_path, ["a.jpg,1,1,5,5,dog,,", "b.jpg,,,,,,,"], name="first")
    second = listed(tmp_path, ["b.jpg,1,1,5,5,dog,,", "c.jpg,1,1,5,5,person,,"], name="second")
    found = merged([first, second])
    assert column(found, "image_id") == ["first/a.jpg", "first/b.jpg", "second/c.jpg"]
    assert found.boxes["image_id"].to_pylist() == ["first/a.jpg", "second/c.jpg"]
    assert found.left_out == ("second/b.jpg: is first/b.jpg, too, whose boxes count; its box with it",)
    assert list(tables.told(found)) == [
        "first: 2 of 2 images; dog: 1 of 1 boxes",
        "second: 1 of 2 images; persons (others): 1 of 1 boxes; dog: 0 of 1 boxes",
    ]
    with pytest.raises(ConfigError, match="second: expected each name once"):
        merged([second, second])
    nothing = merged([])
    assert (nothing.images.num_rows, nothing.boxes.num_rows, nothing.left_out) == (0, 0, ())


def test_published_parts_stay_and_others_go_by_hash(tmp_path: Path) -> None:
    rows = [f"{number}.jpg,1,1,5,5,dog,{'test' if number < 5 else ''}," for number in range(60)]
    found = listed(tmp_path, rows)
    done = splitting.split(found, None, 0.3, 0.0)
    parts = column(done.found, "part")
    assert parts[:5] == ["test"] * 5
    assert 8 <= parts.count("val") <= 26
    assert parts.count("train") + parts.count("val") == 55
    assert column(splitting.split(found, None, 0.3, 0.0).found, "part") == parts
    assert tables.per_part(done.found) == {"dog": {part: parts.count(part) for part in dict.fromkeys(parts)}}
    tested = splitting.part(done.found, "test")
    assert column(tested, "part") == ["test"] * 5
    assert tested.boxes.num_rows == 5


def test_reproductions_never_straddle_and_a_test_set_stays_what_it_is(tmp_path: Path) -> None:
    rows = [
        "a.jpg,1,1,5,5,dog,train,",
        "b.jpg,1,1,5,5,dog,test,",  # looks like a
        "c.jpg,1,1,5,5,dog,val,d1",
        "d.jpg,1,1,5,5,dog,,d1",  # said to be c
        "e.jpg,1,1,5,5,dog,train,",
        "f.jpg,1,1,5,5,dog,val,",  # e, mirrored
        "g.jpg,1,1,5,5,dog,train,",  # like no other, and like its own mirror image
    ]
    hashes = [0b1, 0b11, 1 << 20, 3 << 40, 7 << 50, 5 << 30, 0xF << 58]
    seen = looks(*hashes, mirrored=[0, 0, 0, 0, 5 << 30, 7 << 50, 0xF << 58])
    found = listed(tmp_path, rows)
    done = splitting.split(found, seen, 0.0, 0.0, near_bits=1)
    kept = dict(zip(column(done.found, "image_id"), column(done.found, "part"), strict=True))
    assert kept == {
        "csv/b.jpg": "test",
        "csv/c.jpg": "val",
        "csv/d.jpg": "val",
        "csv/f.jpg": "val",
        "csv/g.jpg": "train",
    }
    assert done.groups == 3
    assert done.found.left_out == (
        "csv/a.jpg: is in train, and another picture of the same work in test; its box with it",
        "csv/e.jpg: is in train, and another picture of the same work in val; its box with it",
    )
    assert tables.counts(done.found, "csv") == {"dog": (7, 5)}
    unturned = splitting.split(found, looks(*hashes), 0.0, 0.0, near_bits=1)
    assert "csv/e.jpg" in column(unturned.found, "image_id")
    with pytest.raises(ValueError, match="expected 7 hashes, one per image, got 1"):
        splitting.split(found, looks(1), 0.0, 0.0)


def test_pictures_are_looked_at_from_both_sides_where_a_set_is_said_to_be_mirrored(tmp_path: Path) -> None:
    made = {"a.png": noise(1), "b.png": noise(1).transpose(Image.Transpose.FLIP_LEFT_RIGHT), "c.png": noise(2)}
    for name, image in made.items():
        image.save(tmp_path / name)
    (tmp_path / "cut.png").write_bytes((tmp_path / "a.png").read_bytes()[:600])
    rows = [f"{name},1,1,5,5,dog,," for name in (*made, "cut.png")]
    found = reading.read(BoxSource(path=str(write_csv(tmp_path, *rows, header=HEADER)), name="turned"))
    assert found.images.num_rows == 4  # the header of the fourth is whole
    seen, hashes = look(found, mirrored=["turned"])
    assert column(seen, "image_id") == ["turned/a.png", "turned/b.png", "turned/c.png"]
    assert [line.partition(": ")[0] for line in seen.left_out] == ["turned/cut.png"]
    assert splitting.near(hashes, 4) == [(0, 1)]
    _, plain = look(found)
    assert plain.mirrored.tolist() == [0, 0, 0]
    assert splitting.near(plain, 4) == []
    nothing, none = look(merged([]))
    assert (len(none.plain), splitting.split(nothing, none, 0.1, 0.1).groups) == (0, 0)


def test_truths_are_of_images_that_are_labelled_for_all_classes(tmp_path: Path) -> None:
    dogs = listed(tmp_path / "dogs", ["a.jpg,1,1,5,5,dog,,", "a.jpg,2,2,6,6,bicycle,,", "b.jpg,,,,,,,"], name="dogs")
    people = listed(
        tmp_path / "people", ["c.jpg,1,1,5,9,person,,"], name="people", labels={"person": "persons (others)"}
    )
    picture(tmp_path / "voc" / "JPEGImages" / "d.jpg")
    hard = voc_object((11, 11, 20, 30), "person", "<difficult>1</difficult>")
    write_voc(tmp_path / "voc", "d", None, hard, voc_object((1, 1, 2, 2)))
    found = merged([dogs, people, read("voc", tmp_path / "voc")])
    judged = truths(found, ["persons (others)"])
    assert judged.image_ids == ("dogs/a.jpg", "dogs/b.jpg", "people/c.jpg", "voc/d.jpg")
    assert (judged.truths.images, judged.truths.classes) == (4, 1)
    assert judged.truths.image_ids.tolist() == [2, 3]
    assert judged.truths.boxes_xyxy.tolist() == [[1, 1, 5, 9], [10, 10, 20, 30]]
    assert judged.truths.crowd.tolist() == [False, True]
    assert judged.truths.areas.tolist() == [32, 200]
    both = truths(found, ["dog", "persons (others)"])
    assert both.image_ids == ("dogs/a.jpg", "dogs/b.jpg", "voc/d.jpg")
    assert (both.truths.image_ids.tolist(), both.truths.class_ids.tolist()) == ([0, 2, 2], [0, 1, 0])
    assert truths(merged([]), ["dog"]).truths.boxes_xyxy.shape == (0, 4)
    with pytest.raises(ConfigError, match=r"class: expected one of .*, got 'dogs'"):
        truths(found, ["dogs"])
    with pytest.raises(ValueError, match="expected each once"):
        truths(found, ["dog", "dog"])


def test_a_coco_document_reads_back_as_it_was(tmp_path: Path) -> None:
    picture(tmp_path / "JPEGImages" / "a.jpg", orientation=6)
    picture(tmp_path / "JPEGImages" / "b.jpg")
    hard = voc_object((11, 6, 30, 25), "person", "<difficult>1</difficult>")
    write_voc(tmp_path, "a", (40, 60), voc_object((6, 31, 25, 50)), hard.replace("person", "bicycle"))
    write_voc(tmp_path, "b", None, hard)
    found = read("voc", tmp_path, part="val")
    path = Location.of(tmp_path / "merged.json")
    assert write_coco(found, path) == 1
    document = json.loads((tmp_path / "merged.json").read_text())
    assert [image["file_name"] for image in document["images"]] == ["JPEGImages/a.jpg", "JPEGImages/b.jpg"]
    assert document["annotations"][0]["bbox"] == [10, 5, 20, 20]
    assert document["annotations"][0]["area"] == 400
    back = reading.read(BoxSource(kind="coco", path=path.uri))
    assert (back.left_out, back.mended) == ((), ())
    for name in ("uri", "width_px", "height_px", "part", "labelled"):
        assert column(back, name) == column(found, name)
    known = [row for row in found.boxes.to_pylist() if row["class_name"]]
    for mine, theirs in zip(known, back.boxes.to_pylist(), strict=True):
        assert {name: theirs[name] for name in (*tables.CORNERS, "class_name", "crowd", "difficult")} == {
            name: mine[name] for name in (*tables.CORNERS, "class_name", "crowd", "difficult")
        }


def test_pycocotools_reads_what_is_written(tmp_path: Path) -> None:
    from pycocotools.coco import COCO

    found = listed(tmp_path, ["a.jpg,1,2,5,9,dog,,", "b.jpg,,,,,,,"])
    write_coco(found, Location.of(tmp_path / "merged.json"))
    coco = COCO(str(tmp_path / "merged.json"))
    (annotation,) = coco.loadAnns(coco.getAnnIds(catIds=coco.getCatIds(catNms=["dog"])))
    assert (annotation["bbox"], annotation["area"]) == ([1, 2, 4, 7], 28)
    assert coco.loadImgs(annotation["image_id"])[0]["file_name"] == "a.jpg"
    assert len(coco.getImgIds()) == 2


def test_nothing_is_dropped_without_a_word(tmp_path: Path) -> None:
    """Published boxes are those that are kept and those that some line names."""
    rows = ["a.jpg,1,1,5,5,dog,,", "a.jpg,1,1,1,5,dog,,", "a.jpg,9,9,5,5,bicycle,,", "b.jpg,1,1,5,5,dog,dev,"]
    found = listed(tmp_path, rows)
    counts = tables.counts(found, "csv")
    assert counts == {"dog": (3, 1), NO_CLASS: (1, 0)}
    lost = sum(count.published - count.kept for count in counts.values())
    assert len(told(found.left_out)) == lost == 3
