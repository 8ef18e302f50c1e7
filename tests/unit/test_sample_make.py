"""Sample archives: what is written, that it is the same every time, and that nothing is overwritten."""

import csv
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from PIL import Image, ImageOps

from artray.archive.sample import encode, variation
from artray.archive.sample.make import COLUMNS, slug, write_archive
from artray.archive.sample.works import shipped
from artray.errors import ConfigError

TINY = (0.02, 0.05)


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def rows(folder):
    with (folder / "works.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    folder = tmp_path_factory.mktemp("archive")
    return folder, write_archive(folder, 90, seed=7, megapixels=TINY)


def test_up_to_61_are_the_shipped_pictures(tmp_path):
    written = write_archive(tmp_path, 5, seed=0)
    works = shipped()[:5]
    assert contents(tmp_path).keys() == {"works.csv", *(work.file for work in works)}
    assert all((tmp_path / work.file).read_bytes() == work.path.read_bytes() for work in works)
    assert written == (5, sum(work.path.stat().st_size for work in works), [])


def test_beyond_them_come_variations_in_nested_folders(archive):
    folder, written = archive
    files = contents(folder)
    del files["works.csv"]
    assert len(files) == written.images == 90
    assert sum(map(len, files.values())) == written.size_bytes
    depths = Counter(name.count("/") for name in files)
    assert depths == {0: 61, 2: 29}
    assert {name.split("/")[0] for name in files if "/" in name} == {"0000", "0001"}  # 64 to a folder


def test_metadata_names_every_picture_in_order(archive):
    folder, _ = archive
    found = rows(folder)
    assert tuple(found[0]) == COLUMNS
    assert COLUMNS == ("image_id", "title", "artist", "year", "type", "genre", "licence", "source", "note")
    assert {row["image_id"] for row in found} == contents(folder).keys() - {"works.csv"}
    assert [row["image_id"] for row in found[:61]] == [work.file for work in shipped()]
    assert all(row["title"] and row["artist"] and row["licence"] and row["note"] for row in found)
    assert all(row["note"].startswith("variation of ") for row in found[61:])


def test_every_picture_opens(archive):
    folder, _ = archive
    for row in rows(folder):
        with Image.open(folder / row["image_id"]) as image:
            image.load()


def test_same_seed_same_bytes(archive, tmp_path):
    folder, _ = archive
    write_archive(tmp_path / "again", 90, seed=7, megapixels=TINY)
    assert contents(tmp_path / "again") == contents(folder)


def test_a_smaller_archive_is_part_of_a_larger_one(archive, tmp_path):
    folder, _ = archive
    write_archive(tmp_path, 70, seed=7, megapixels=TINY)
    smaller = contents(tmp_path)
    del smaller["works.csv"]
    assert len(smaller) == 70
    assert smaller.items() <= contents(folder).items()


def test_another_seed_gives_other_variations(archive, tmp_path):
    folder, _ = archive
    write_archive(tmp_path, 70, seed=8, megapixels=TINY)
    varied = {data for name, data in contents(tmp_path).items() if "/" in name}
    assert len(varied) == 9
    assert varied.isdisjoint(contents(folder).values())


def test_plain_archives_hold_2_megapixel_jpegs_only(tmp_path):
    write_archive(tmp_path, 3, seed=0, plain_2mp=True)
    for row in rows(tmp_path):
        with Image.open(tmp_path / row["image_id"]) as image:
            assert (image.format, image.mode) == ("JPEG", "RGB")
            assert image.size[0] * image.size[1] == pytest.approx(2e6, rel=0.01)
            assert 274 not in image.getexif()


def test_defects_come_on_top(tmp_path):
    counted = []
    written = write_archive(tmp_path, 2, seed=0, defects=3, progress=lambda done, total: counted.append((done, total)))
    assert [defect.path.parent for defect in written.defects] == [tmp_path / "defects"] * 3
    assert len(rows(tmp_path)) == 2
    assert counted == [(1, 5), (2, 5), (5, 5)]


@pytest.mark.parametrize("name", ["mine.txt", "works.csv", ".hidden"])
def test_a_folder_that_holds_something_is_left_alone(tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(ConfigError, match=rf"expected a new or an empty folder, got one that holds {name}; give"):
        write_archive(tmp_path, 1, seed=0)
    assert contents(tmp_path) == {name: b"mine"}


def test_a_file_in_the_way_is_left_alone(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ConfigError, match="expected a folder, got a file"):
        write_archive(tmp_path / "file", 1, seed=0)
    with pytest.raises(ConfigError, match=r"cannot be written \(Not a directory\)"):
        write_archive(tmp_path / "file" / "below", 1, seed=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"images": -1}, "images: expected a number of at least 0, got -1"),
        ({"seed": -1}, "seed: expected"),
        ({"defects": -1}, "defects: expected"),
        ({"megapixels": (2, 1)}, "megapixels: expected 0 < least <= greatest, got 2 and 1"),
        ({"megapixels": (0, 1)}, "megapixels: expected"),
    ],
)
def test_numbers_out_of_range(tmp_path, arguments, message):
    with pytest.raises(ConfigError, match=message):
        write_archive(tmp_path / "new", **{"images": 1, "seed": 0, **arguments})
    assert not (tmp_path / "new").exists()


def test_formats_come_in_their_shares():
    n = 2_000
    found = Counter(variation.draw(1, number, 61, (1, 6)).encoding for number in range(n))
    assert sum(variation.SHARES.values()) == pytest.approx(1)
    for encoding, share in variation.SHARES.items():
        sigma = (share * (1 - share) / n) ** 0.5
        assert found[encoding] / n == pytest.approx(share, abs=4 * sigma), encoding
    jpeg = sum(share for encoding, share in variation.SHARES.items() if encoding.startswith("jpeg"))
    assert jpeg == pytest.approx(0.85)


def test_a_recipe_hangs_on_seed_and_number_alone():
    assert variation.draw(3, 100, 61, (1, 6)) == variation.draw(3, 100, 61, (1, 6))
    assert variation.draw(3, 100, 61, (1, 6)) != variation.draw(3, 101, 61, (1, 6))
    sizes = [variation.draw(3, number, 61, (1, 6)).megapixels for number in range(200)]
    assert 1 <= min(sizes) < 1.2 < 5 < max(sizes) <= 6


def recipe(**changes):
    plain = variation.draw_plain(0, 0, 61)._replace(
        crop=(0.0, 0.0, 1.0, 1.0), hue_degrees=0.0, saturation=1.0, contrast=1.0, gamma=1.0, grain=0.0, quality=95
    )
    return plain._replace(**changes)


def picture(height=40, width=60):
    """Dark left, bright right, reddish top: every orientation looks different."""
    across, down = np.meshgrid(np.linspace(40, 200, width), np.linspace(220, 60, height))
    return np.rint(np.stack([down, across, across], axis=2)).astype(np.uint8)


def test_a_recipe_that_changes_nothing_changes_nothing():
    rgb = picture()
    assert (variation.render(rgb, recipe(megapixels=40 * 60 / 1e6)) == rgb).all()


def test_crop_takes_the_named_part():
    rgb = picture()
    part = variation.render(rgb, recipe(crop=(0.5, 0.0, 1.0, 0.5), megapixels=20 * 30 / 1e6))
    assert (part == rgb[:20, 30:]).all()


@pytest.mark.parametrize("degrees", [-40, 15, 180])
def test_greys_have_no_hue_to_turn(degrees):
    turned = variation.colour_matrix(degrees, 1.3, 1.0)[:, :3] @ np.full(3, 77.0)
    assert turned == pytest.approx([77.0] * 3)


def test_a_full_turn_of_hue_changes_nothing():
    assert variation.colour_matrix(360, 1, 1) == pytest.approx(np.eye(3, 4), abs=1e-9)


def test_contrast_leaves_middle_grey():
    matrix = variation.colour_matrix(0, 1, 0.5)
    assert matrix @ [127.5, 127.5, 127.5, 1] == pytest.approx([127.5] * 3)
    assert matrix @ [227.5, 227.5, 227.5, 1] == pytest.approx([177.5] * 3)  # half as far from the middle


@pytest.mark.parametrize(
    ("encoding", "format_and_mode"),
    [
        ("jpeg", ("JPEG", "RGB")),
        ("jpeg grey", ("JPEG", "L")),
        ("jpeg cmyk", ("JPEG", "CMYK")),
        ("jpeg exif", ("JPEG", "RGB")),
        ("png", ("PNG", "RGB")),
        ("png grey", ("PNG", "L")),
        ("png 16 bit", ("PNG", "RGB")),  # Pillow reduces it on reading
        ("tiff", ("TIFF", "RGB")),
        ("tiff 16 bit", ("TIFF", "RGB")),
    ],
)
def test_each_encoding_holds_the_picture(tmp_path, encoding, format_and_mode):
    rgb = picture()
    orientation = 6 if encoding == "jpeg exif" else 1
    path = tmp_path / "file"
    path.write_bytes(encode.encode(rgb, recipe(encoding=encoding, orientation=orientation)))
    with Image.open(path) as image:
        assert (image.format, image.mode) == format_and_mode
        shown = np.asarray(ImageOps.exif_transpose(image).convert("RGB"), np.int16)
    expected = Image.fromarray(rgb).convert("L").convert("RGB") if "grey" in encoding else rgb
    assert np.abs(shown - np.asarray(expected, np.int16)).mean() < (3 if "jpeg" in encoding else 1e-9)


def test_all_encodings_are_tested():
    parameters = test_each_encoding_holds_the_picture.pytestmark[0].args[1]
    assert {encoding for encoding, _ in parameters} == set(variation.SHARES)


@pytest.mark.parametrize("orientation", range(2, 9))
def test_turned_pictures_are_shown_upright(tmp_path, orientation):
    rgb = picture()
    path = tmp_path / "turned.jpg"
    path.write_bytes(encode.encode(rgb, recipe(encoding="jpeg exif", orientation=orientation)))
    with Image.open(path) as image:
        assert image.getexif()[274] == orientation
        assert image.size == ((60, 40) if orientation < 5 else (40, 60))
        shown = np.asarray(ImageOps.exif_transpose(image), np.int16)
    assert np.abs(shown - rgb).mean() < 3


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_16_bits_are_written(suffix):
    import cv2

    data = np.frombuffer(encode.encode_16_bit(picture(), suffix), np.uint8)
    deep = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    assert deep.dtype == np.uint16
    assert (deep[:, :, ::-1] == picture().astype(np.uint16) * 257).all()


@pytest.mark.parametrize(
    ("text", "expected"), [("Goyō Hashiguchi", "goyo-hashiguchi"), ("夜", "untitled"), ("a" * 99, "a" * 60)]
)
def test_slugs(text, expected):
    assert slug(text) == expected


def test_shipped_pictures_are_written_without_loading_opencv_or_ray(tmp_path):
    script = (
        "import sys; from artray.archive.sample.make import write_archive; write_archive(sys.argv[1], 2, 0); "
        "sys.exit(' '.join({'cv2', 'PIL', 'ray', 'torch'} & set(sys.modules)) or None)"
    )
    done = subprocess.run([sys.executable, "-c", script, tmp_path / "a"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
