"""Faces equal the reference's, whatever else is in the batch."""

import hashlib
import importlib.util
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

import artray
from artray.detect.detector import Detector
from artray.detect.mtcnn import Mtcnn, pyramid

SAMPLE = Path(artray.__file__).parent / "archive" / "sample" / "images"
REFERENCE = json.loads(Path(__file__).parent.parent.joinpath("data", "mtcnn_reference.json").read_text())["images"]
SHIPPED = Path(importlib.util.find_spec("mtcnn").submodule_search_locations[0], "assets", "weights")


def detector(**settings):
    return Mtcnn(*(SHIPPED / f"{name}.lz4" for name in ("pnet", "rnet", "onet")), **settings)


@pytest.fixture(scope="module")
def mtcnn():
    return detector()


def prepared(name, max_side_px=640):
    """A sample picture as the reference was shown it."""
    path = SAMPLE / name
    if not path.exists():
        pytest.skip(f"the sample archive has no {name}")
    with Image.open(path) as opened:
        pixels = np.array(opened.convert("RGB"))
    height, width = pixels.shape[:2]
    scale = max_side_px / max(height, width)
    if scale >= 1:
        return pixels
    return cv2.resize(pixels, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_AREA)


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("name", sorted(REFERENCE))
def test_faces_are_the_references(mtcnn, name):
    pixels, expected = prepared(name), REFERENCE[name]
    if hashlib.sha256(pixels.tobytes()).hexdigest() != expected["sha256"]:
        pytest.skip("this Pillow or OpenCV reads or resizes the picture to other pixels than the reference saw")
    (found,) = mtcnn([pixels])
    assert found.scores == pytest.approx(expected["scores"], abs=1e-3)
    np.testing.assert_allclose(found.boxes_xyxy, np.reshape(expected["boxes_xyxy"], (-1, 4)), atol=0.5)
    assert not found.class_ids.any()


def test_live_reference_agrees(mtcnn):
    """Where TensorFlow is installed: at other sizes than those recorded."""
    pytest.importorskip("tensorflow", reason="the reference runs on TensorFlow")
    reference = pytest.importorskip("mtcnn").MTCNN()
    for name in sorted(REFERENCE)[::5]:
        pixels = prepared(name, max_side_px=401)
        (found,) = mtcnn([pixels])
        rows = np.asarray(reference.detect_faces(pixels, box_format="xyxy", output_type="numpy"))
        assert found.scores == pytest.approx(rows[:, 5], abs=1e-3), name
        np.testing.assert_allclose(found.boxes_xyxy, rows[:, 1:5], atol=0.5, err_msg=name)


@pytest.fixture(scope="module")
def several():
    """Pictures of different sizes, a face in most, none in one."""
    names = ["fc_mon_pierre.png", "fc_mon_philip.png", "fc_mon_william.png", "wp22_bird-on-gray.jpg"]
    blank = np.full((90, 77, 3), 200, np.uint8)
    return [prepared(name, side) for name, side in zip(names, (251, 320, 333, 160), strict=True)] + [blank]


def test_a_record_does_not_depend_on_its_neighbours(mtcnn, several):
    alone = [mtcnn([image])[0] for image in several]
    assert sum(len(found.scores) for found in alone) >= 3
    order = np.random.default_rng(0).permutation(len(several))
    shuffled = mtcnn([several[n] for n in order])
    assert all(same(found, alone[n]) for n, found in zip(order, shuffled, strict=True))
    halves = mtcnn(several[:2]) + mtcnn(several[2:])
    assert all(map(same, halves, alone))


def test_images_that_go_through_together_show_the_same(mtcnn, several):
    """As on a GPU: padded to one size, of odd and even sides; only rounding differs."""
    for alone, together in zip(mtcnn(several), detector(together=True)(several), strict=True):
        np.testing.assert_allclose(together.boxes_xyxy, alone.boxes_xyxy, atol=0.05)
        np.testing.assert_allclose(together.scores, alone.scores, atol=1e-4)


def test_boxes_lie_within_the_image(mtcnn):
    face = prepared("fc_mon_pierre.png", 320)
    (whole,) = mtcnn([face])
    x1, y1, x2, y2 = whole.boxes_xyxy[0].astype(int)
    close = face[y1 + (y2 - y1) // 8 : y2, x1 : x2 - (x2 - x1) // 8].copy()  # cut through the face
    for found in detector(scores_min=(0.5, 0.3, 0.1))([close]):
        assert len(found.scores)
        assert (found.boxes_xyxy >= 0).all()
        assert (found.boxes_xyxy[:, 2] <= close.shape[1] - 1).all()
        assert (found.boxes_xyxy[:, 3] <= close.shape[0] - 1).all()


def test_types_and_order(mtcnn, several):
    for found in mtcnn(several):
        assert [column.dtype for column in found] == [np.float32, np.float32, np.int64]
        assert found.boxes_xyxy.shape == (len(found.scores), 4)
        assert (np.diff(found.scores) <= 0).all()
    assert isinstance(mtcnn, Detector)
    assert mtcnn.class_names == ("face",)


@pytest.mark.parametrize("together", [False, True])
def test_nothing_to_see(together):
    images = [np.zeros((*size, 3), np.uint8) for size in ((1, 1), (20, 400), (21, 21), (64, 64))]
    found = detector(together=together)(images)
    assert [len(one.scores) for one in found] == [0, 0, 0, 0]
    assert detector(together=together)([]) == []


def test_an_image_may_be_a_view_that_cannot_be_written(mtcnn):
    pixels = prepared("fc_mon_pierre.png", 320)
    turned = np.ascontiguousarray(pixels[:, ::-1])[:, ::-1]
    turned.setflags(write=False)
    assert same(mtcnn([turned])[0], mtcnn([pixels])[0])


def test_large_faces_only(mtcnn):
    """The reference finds nothing at all with any size over about 28: its pyramid goes on below the window's size."""
    pixels = prepared("fc_mon_pierre.png", 320)
    (found,) = detector(min_face_px=40)([pixels])
    assert len(found.scores) == len(mtcnn([pixels])[0].scores) == 1


@pytest.mark.parametrize("min_face_px", [12, 20, 33, 50])
@pytest.mark.parametrize("size", [(640, 480), (21, 640), (37, 37), (12, 12), (1, 1)])
def test_every_level_of_the_pyramid_holds_a_window(size, min_face_px):
    scales = pyramid(size, min_face_px, 0.709)
    assert all(int(min(size) * scale) >= 12 for scale in scales)
    assert scales[:1] in ([], [12 / min_face_px])


def test_settings_out_of_range_are_refused():
    with pytest.raises(ValueError, match="min_face_px: expected at least 12, got 11"):
        detector(min_face_px=11)
    with pytest.raises(ValueError, match="scale_factor: expected more than 0 and less than 1, got 1"):
        detector(scale_factor=1)
