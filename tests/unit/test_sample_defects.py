"""Every broken file is broken in the way that it says, and every odd one is good."""

import io
import os
import pickle
import stat
import struct
import zipfile

import numpy as np
import pytest
from PIL import Image, ImageCms, UnidentifiedImageError

from artray.archive.sample.defects import KINDS, write_defects
from artray.archive.sample.oddities import ENCODINGS, NAMES, cmyk_profile, sample_picture, write_oddities
from artray.errors import ERROR_KINDS, InvariantError

LIMIT = 3_000_000


def written(folder, seed=0, count=None):
    count = len(KINDS) if count is None else count
    return write_defects(folder, count, seed, limit_bytes=LIMIT)


@pytest.fixture(scope="module")
def defects(tmp_path_factory):
    return {defect.kind: defect for defect in written(tmp_path_factory.mktemp("defects"))}


def small_contents(found):
    """The bytes of the regular files but the one over the limit; none of the others is ever opened."""
    return {d.path.name: d.path.read_bytes() for d in found if d.path.lstat().st_size < LIMIT and is_file(d.path)}


def is_file(path):
    return stat.S_ISREG(path.lstat().st_mode) and os.access(path, os.R_OK)


def test_one_of_each_kind(defects):
    assert list(defects) == list(KINDS)
    assert all(os.path.lexists(defect.path) for defect in defects.values())
    assert {defect.expected_kind for defect in defects.values()} <= {*ERROR_KINDS, None, ""}


def test_the_same_seed_gives_the_same_bytes(tmp_path):
    first, again, other = (
        small_contents(written(tmp_path / name, seed)) for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert first == again
    differing = {name for name in first if first[name] != other[name]}
    assert {name.split("-", 1)[1] for name in differing} >= {"truncated-jpeg.jpg", "garbage-scan.jpg", "text.jpg"}


def test_kinds_go_round(tmp_path):
    found = written(tmp_path, count=len(KINDS) + 2)
    assert [defect.kind for defect in found[-2:]] == list(KINDS)[:2]
    assert found[1].path.read_bytes() != found[-1].path.read_bytes()
    assert len({defect.path for defect in found}) == len(found)


def test_none_is_none(tmp_path):
    assert written(tmp_path, count=0) == []


def test_writing_again_replaces(tmp_path):
    assert written(tmp_path) == written(tmp_path)


def test_an_empty_file(defects):
    assert defects["empty"].path.stat().st_size == 0


@pytest.mark.parametrize(("kind", "name"), [("truncated jpeg", "JPEG"), ("truncated png", "PNG")])
def test_truncated_files_begin_well(defects, kind, name):
    with Image.open(defects[kind].path) as image:
        assert image.format == name
        with pytest.raises(OSError, match="truncated"):
            image.load()


def test_garbage_in_the_scan(defects):
    path = defects["garbage scan"].path
    assert path.read_bytes().endswith(b"\xff\xd9")  # not cut
    with Image.open(path) as image, pytest.raises(OSError, match="broken data stream"):
        image.load()


@pytest.mark.parametrize("kind", ["text", "svg", "zip", "pickle"])
def test_what_is_no_image(defects, kind):
    with pytest.raises(UnidentifiedImageError):
        Image.open(defects[kind].path)


def test_what_these_are_instead(defects):
    assert defects["text"].path.read_text().startswith("This is not a picture")
    assert b"<svg xmlns" in defects["svg"].path.read_bytes()
    assert zipfile.ZipFile(defects["zip"].path).testzip() is None
    with Image.open(defects["eps"].path) as image:
        assert image.format == "EPS"  # recognised; drawing it would run Ghostscript


def test_the_pickle_gives_itself_away(defects):
    with pytest.raises(InvariantError, match="was loaded"):
        pickle.loads(defects["pickle"].path.read_bytes())


def test_bombs_claim_more_than_they_are(defects):
    png, jpeg = (defects[kind].path.read_bytes() for kind in ("png bomb", "jpeg bomb"))
    assert struct.unpack(">II", png[16:24]) == (60_000, 60_000)
    frame = jpeg.index(b"\xff\xc0")
    assert struct.unpack(">HH", jpeg[frame + 5 : frame + 9]) == (60_000, 60_000)
    assert len(png) < 1_000
    assert len(jpeg) < 200_000
    for content in (png, jpeg):
        with pytest.raises(Image.DecompressionBombError):
            Image.open(io.BytesIO(content))


def test_the_file_over_the_limit_is_a_hole(defects):
    status = defects["over the byte limit"].path.stat()
    assert status.st_size == LIMIT + 1
    assert status.st_blocks * 512 < LIMIT / 2  # takes room for its picture only


def test_the_forbidden_file(defects):
    defect = defects["forbidden"]
    assert stat.S_IMODE(defect.path.stat().st_mode) == 0
    assert defect.expected_kind == ("" if os.access(defect.path, os.R_OK) else "denied")


def test_links_and_pipes(defects):
    assert defects["dangling link"].path.is_symlink()
    assert not defects["dangling link"].path.exists()
    with pytest.raises(OSError, match="Too many levels of symbolic links"):
        defects["link to itself"].path.stat()
    circle = defects["folder in itself"].path
    assert (circle / circle.name / circle.name).is_dir()
    assert stat.S_ISFIFO(defects["fifo"].path.lstat().st_mode)
    assert [defects[kind].expected_kind for kind in ("folder in itself", "fifo")] == [None, None]


@pytest.fixture(scope="module")
def oddities(tmp_path_factory):
    folder = tmp_path_factory.mktemp("oddities")
    return folder, write_oddities(folder)


@pytest.mark.filterwarnings("ignore::UserWarning")  # the corrupt EXIF block is meant
def test_every_oddity_opens(oddities):
    folder, paths = oddities
    assert len(set(paths)) == len(paths) == len(ENCODINGS) + len(NAMES)
    assert {path for path in folder.rglob("*") if path.is_file()} == set(paths)
    for path in paths:
        with Image.open(path) as image:
            image.load()


def opened(oddities, name):
    return Image.open(oddities[0] / name)


def test_oddities_are_odd(oddities):
    modes = {name: opened(oddities, name).mode for name in ("cmyk.jpg", "palette.png", "alpha.png", "16-bit-grey.png")}
    assert modes == {"cmyk.jpg": "CMYK", "palette.png": "P", "alpha.png": "RGBA", "16-bit-grey.png": "I;16"}
    assert opened(oddities, "one-pixel.png").size == (1, 1)
    assert opened(oddities, "strip-20000x10.jpg").size == (20_000, 10)
    assert opened(oddities, "really-a-png.jpg").format == "PNG"
    assert (opened(oddities, "animated.gif").n_frames, opened(oddities, "pages.tif").n_frames) == (4, 4)
    formats = {opened(oddities, f"picture.{suffix}").format for suffix in ("webp", "avif", "jp2", "bmp")}
    assert formats == {"WEBP", "AVIF", "JPEG2000", "BMP"}
    assert "icc_profile" not in opened(oddities, "cmyk.jpg").info
    with pytest.raises(OSError, match="cannot open profile"):
        ImageCms.ImageCmsProfile(io.BytesIO(opened(oddities, "corrupt-profile.jpg").info["icc_profile"]))


def test_names_are_as_nasty_as_file_systems_allow():
    assert max(len(os.fsencode(part)) for name in NAMES for part in name.split("/")) == 255
    assert any("\n" in name for name in NAMES)
    with pytest.raises(UnicodeDecodeError):
        [os.fsencode(name).decode() for name in NAMES]


def test_the_cmyk_profile_means_what_its_inks_say():
    profile = ImageCms.ImageCmsProfile(io.BytesIO(cmyk_profile()))
    srgb = ImageCms.createProfile("sRGB")
    inks = Image.fromarray(
        np.array([[[0, 0, 0, 0], [0, 255, 255, 0], [255, 0, 255, 0], [0, 0, 0, 255]]], np.uint8), "CMYK"
    )
    paper, red, green, black = np.asarray(ImageCms.profileToProfile(inks, profile, srgb, outputMode="RGB"), int)[0]
    assert paper.min() > 230
    assert red[0] > 180 > 100 > red[1:].max()
    assert green[1] > 120 > 110 > green[0]
    assert black.max() < 60


def test_the_sample_picture_is_small_and_real():
    image = sample_picture()
    assert (max(image.size), image.mode) == (96, "RGB")
    assert len(image.getcolors(10_000)) > 1_000
