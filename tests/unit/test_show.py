"""One record, and its boxes drawn."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from artray import config
from artray.errors import ConfigError
from artray.store import pictures
from artray.store.layout import Store
from artray.store.show import COLOURS, corners, draw, save, show
from artray.taxonomy import OBJECTS
from tests import made_store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return made_store.store(tmp_path_factory.mktemp("show") / "store", 100)


def found(x1: float, y1: float, x2: float, y2: float, category: str = "animals", name: str = "dog") -> dict:
    return {"class_name": name, "category": category, "score": 0.9, "x1_px": x1, "y1_px": y1, "x2_px": x2, "y2_px": y2}


def test_everything_is_shown(store: Store) -> None:
    record = show(store, "00/0000000.jpg")
    assert record["metadata"]["artist"] == "Vincent van Gogh"
    assert len(record["embedding"]) == 8
    assert record["processed_at"] == "2024-01-01T00:00:00+00:00"
    assert show(store, "96/0000096.jpg")["vanished_at"] is not None
    assert show(store, "49/0000049.jpg")["embedding"] is None


def test_an_unknown_image_has_a_hint(store: Store) -> None:
    with pytest.raises(ConfigError, match=r"did you mean 00/0000000\.jpg\?"):
        show(store, "0000000.jpg")
    with pytest.raises(ConfigError, match="artray find lists them"):
        show(store, "x'y")


def test_every_category_has_a_colour() -> None:
    assert set(COLOURS) == set(OBJECTS)


def test_boxes_are_drawn_at_the_pictures_scale() -> None:
    grey = np.full((200, 300, 3), 128, np.uint8)
    record = {"width_px": 600, "height_px": 400, "objects": [found(100, 100, 500, 300)]}  # 50..250 x 50..150 here
    drawn = draw(grey, record)
    assert drawn.shape == grey.shape
    assert drawn.dtype == np.uint8
    assert tuple(drawn[150, 150]) == COLOURS["animals"]  # the lower edge
    assert tuple(drawn[100, 50]) == COLOURS["animals"]  # the left edge
    assert tuple(drawn[100, 150]) == (128, 128, 128)  # inside
    assert (grey == 128).all()


@pytest.mark.parametrize("shade", [0, 255])
def test_a_box_shows_on_black_and_on_white(shade: int) -> None:
    plain = np.full((100, 100, 3), shade, np.uint8)
    drawn = draw(plain, {"width_px": 100, "height_px": 100, "objects": [found(20, 30, 80, 90)]}).astype(int)
    assert np.abs(drawn - plain).max() >= 127


def test_boxes_that_are_not_there() -> None:
    plain = np.zeros((50, 50, 3), np.uint8)
    nan = float("nan")
    for objects in ([], None, [found(nan, 0, 1, 1)], [found(40, 40, 10, 10)]):
        assert (draw(plain, {"width_px": 50, "height_px": 50, "objects": objects}) == plain).all()
    assert corners(found(-100, -100, 1000, 1000), (1.0, 1.0), (50, 40)) == (0, 0, 49, 39)
    draw(np.zeros((1, 1, 3), np.uint8), {"width_px": 1, "height_px": 1, "objects": [found(0, 0, 1, 1)]})
    draw(plain, {"width_px": 50, "height_px": 50, "objects": [found(0, 0, 50, 50, "other", "ünknown 日本")]})


def test_save(store: Store, tmp_path: Path) -> None:
    source = tmp_path / "a.png"
    Image.new("RGB", (64, 48), "grey").save(source)
    status = source.stat()
    record = {"image_id": "a.png", "uri": str(source), "version": f"{status.st_mtime_ns}-{status.st_size}"}
    record |= {"width_px": 64, "height_px": 48, "objects": [found(8, 8, 40, 40)]}
    for name in ("out.png", "out.jpg"):
        save(store, record, tmp_path / name, 640)
        with Image.open(tmp_path / name) as image:
            assert image.size == (64, 48)
    before = hashlib.sha256((tmp_path / "out.png").read_bytes()).hexdigest()
    save(store, record, tmp_path / "out.png", 640)
    assert hashlib.sha256((tmp_path / "out.png").read_bytes()).hexdigest() == before
    with pytest.raises(ConfigError, match="expected a name that ends with"):
        save(store, record, tmp_path / "out.gif", 640)
    with pytest.raises(ConfigError, match="changed"):
        save(store, record | {"version": "1-1"}, tmp_path / "out.png", 640)


def test_pictures_are_read_as_the_latest_run_read_them(store: Store, tmp_path: Path) -> None:
    Image.new("RGB", (300, 200), "grey").save(tmp_path / "a.png")
    assert pictures.Pictures(store).of_file(tmp_path / "a.png").pixels.shape == (200, 300, 3)
    profile = config.load("bundled", ["decode.max_side_px=100", "archive.max_file_bytes=100000"])
    store.write_json("runs/20250101T000000-aaaaaa.json", {"profile": profile.model_dump(mode="json")})
    picture = pictures.Pictures(store).of_file(tmp_path / "a.png")
    assert (picture.pixels.shape, picture.width_px) == ((67, 100, 3), 300)
    document = profile.model_dump(mode="json")
    document["decode"] |= {"plugins": ["no_such_module"]}  # it is on the cluster alone
    store.write_json("runs/20250101T000000-aaaaaa.json", {"profile": document})
    assert pictures.Pictures(store).of_file(tmp_path / "a.png").width_px == 300
    for changed, message in (
        ({"max_pixels": 1_000}, "cannot be decoded: too_large"),
        ({"max_pixels": 1_000, "a_key_of_a_newer_artray": 1}, "cannot be decoded: too_large"),
    ):
        document = profile.model_dump(mode="json")
        document["decode"] |= changed
        store.write_json("runs/20250101T000000-aaaaaa.json", {"profile": document})
        with pytest.raises(ConfigError, match=message):
            pictures.Pictures(store).of_file(tmp_path / "a.png")


def test_a_region_is_in_pixels_of_the_original() -> None:
    picture = pictures.Picture(np.arange(100 * 50 * 3).reshape(50, 100, 3).astype(np.uint8), 200, 100)
    assert picture.crop([0, 0, 200, 100]).shape == (50, 100, 3)
    assert picture.crop([20, 40, 60, 80]).shape == (20, 20, 3)
    assert picture.crop([199, 99, 200, 100]).shape == (1, 1, 3)
    for region in ([0, 0, 0, 1], [0, 0, 201, 1], [-1, 0, 1, 1], [float("nan"), 0, 1, 1]):
        with pytest.raises(ConfigError, match="--region"):
            picture.crop(region)
