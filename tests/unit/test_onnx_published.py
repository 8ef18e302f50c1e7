"""Published detectors through ONNX Runtime, on pictures of the sample archive: cards as a user would write them.

The files are not artray's to ship; these tests run where they lie beside the repository.
"""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from artray.archive.sample import works
from artray.detect import onnx_engine as engine
from artray.detect import onnx_heads as heads
from artray.detect.boxes import pairwise_iou
from artray.detect.found import Found
from artray.models import cards, registry
from artray.models.cards import Card

pytest.importorskip("onnxruntime", reason="in the extra onnx")

WEIGHTS = Path(__file__).parents[3] / "shared" / "data" / "weights"

PUBLISHED: dict[str, dict[str, Any]] = {
    "yolox-nano": {
        "architecture": "onnx/yolox",
        "file": "yolox_nano.onnx",
        "sha256": "e8af074932d4ed7e232278e3055cefcdea3edf178874a3694ae292649fb464dd",
        "settings": {"size_wh": [416, 416]},
        "score_min": 0.3,
        "licence": "Apache-2.0",
        "source": "Megvii-BaseDetection/YOLOX",
    },
    "nanodet-m": {
        "architecture": "onnx/nanodet",
        "file": "nanodet_m.onnx",
        "sha256": "4b82da9944b88577175ee23a459dce2e26e6e4be573def65b1055dc2d9720186",
        "settings": {"size_wh": [416, 416]},
        "score_min": 0.35,
        "licence": "Apache-2.0",
        "source": "RangiLyu/nanodet",
    },
    "yunet": {
        "architecture": "onnx/yunet",
        "file": "yunet_n_dynamic.onnx",
        "sha256": "104ee26c71d5c270ce79a6b3dced91c91013260d29a6bf18f9296c5b8c4c2b12",
        "settings": {"size_wh": [640, 640]},
        "score_min": 0.6,
        "licence": "see yunet.LICENSE",
        "source": "ShiqiYu/libfacedetection.train",
    },
    "ultraface": {
        "architecture": "onnx/ultraface",
        "file": "version-RFB-320.onnx",
        "sha256": "34cd7e60aeff28744c657de7a3dc64e872d506741de66987f3426f2b79f88017",
        "settings": {"size_wh": [320, 240]},
        "score_min": 0.7,
        "licence": "MIT",
        "source": "Linzaer/Ultra-Light-Fast-Generic-Face-Detector-1MB",
    },
}

FACES = ("yunet", "ultraface")
SEATED, WALKING = "fc_mon_charles.png", "gc_det_van_gogh_painter_on_his_way.jpg"


def there(*names: str) -> Any:
    """Skips a test where the files of these models are not."""
    missing = [name for name in names if not (WEIGHTS / PUBLISHED[name]["file"]).is_file()]
    return pytest.mark.skipif(bool(missing), reason=f"weights of {', '.join(missing)} are not here")


@pytest.fixture(scope="module", autouse=True)
def _once(one_thread: None) -> Iterator[None]:
    """Detectors are made once for the module, in one thread."""
    yield
    detector.cache_clear()


def card(name: str) -> Card:
    values = dict(PUBLISHED[name])
    coco = cards.load("ssdlite-mobilenet-coco")  # which has the classes' names, and gaps in their numbering
    classes = ("face",) if name in FACES else tuple(label for label in coco.classes if label in coco.labels)
    weights = {"model": {"uri": (WEIGHTS / values.pop("file")).as_uri(), "sha256": values.pop("sha256")}}
    labels = {"face": "face"} if name in FACES else coco.labels
    return Card(
        name=name, task="detect", yields=("objects",), classes=classes, labels=labels, weights=weights, **values
    )


@cache
def detector(name: str) -> engine.Onnx:
    made: engine.Onnx = registry.build(card(name))
    return made


def sample(name: str) -> Any:
    (work,) = (work for work in works.shipped() if work.file == name)
    return np.ascontiguousarray(cv2.imread(str(work.path))[..., ::-1])


def best(found: Found, class_names: tuple[str, ...], class_name: str) -> Any:
    """The box that scores highest in a class, float32[1, 4]."""
    return found.at(found.class_ids == class_names.index(class_name)).boxes_xyxy[:1]


@pytest.mark.parametrize("name", [pytest.param(name, marks=there(name)) for name in PUBLISHED])
def test_found_is_the_same_bit_for_bit_whatever_is_beside(name: str) -> None:
    shown = [sample(SEATED), sample(WALKING), sample("wp22_ducks.jpg")]
    together = detector(name)(shown)
    assert sum(len(found.scores) for found in together) > 0
    anew = registry.build(card(name))
    for image, found in zip(reversed(shown), reversed(together), strict=True):
        (alone,) = anew([image])
        assert [column.tobytes() for column in alone] == [column.tobytes() for column in found]
        assert (np.diff(found.scores) <= 0).all()
        height, width = image.shape[:2]
        assert ((found.boxes_xyxy >= 0) & (found.boxes_xyxy <= [width, height, width, height])).all()


@there("yolox-nano", "nanodet-m")
def test_two_networks_find_the_same_painter() -> None:
    # on his way to Tarascon, seen by eye from (165, 150) to (300, 367)
    for name in ("yolox-nano", "nanodet-m"):
        (found,) = detector(name)([sample(WALKING)])
        person = best(found, detector(name).class_names, "persons (others)")
        assert pairwise_iou(person, np.array([[165, 150, 300, 367]]))[0, 0] > 0.8


@there("yunet", "ultraface")
def test_three_networks_find_the_same_face() -> None:
    (known,) = registry.build(cards.load("mtcnn"))([sample(SEATED)])
    assert len(known.scores) == 1
    for name in FACES:
        (found,) = detector(name)([sample(SEATED)])
        assert pairwise_iou(known.boxes_xyxy, found.boxes_xyxy).tolist() == [[pytest.approx(0.85, abs=0.15)]]


@there("yunet")
@pytest.mark.parametrize("name", ["fc_ui_military.png", "fc_mon_elizabeth.png"])
def test_yunet_finds_what_opencv_finds_with_it(name: str) -> None:
    settings = engine.settings_of(heads.get("yunet"), PUBLISHED["yunet"]["settings"])
    pixels, letter = engine.show(sample(name), settings)
    model = str(WEIGHTS / PUBLISHED["yunet"]["file"])
    theirs = cv2.FaceDetectorYN.create(model, "", settings.size_wh, 0.6, settings.iou_max, 5000)
    _, rows = theirs.detect(np.ascontiguousarray(pixels.transpose(1, 2, 0).astype(np.uint8)))
    expected = np.concatenate([rows[:, :2], rows[:, :2] + rows[:, 2:4]], axis=1)
    (ours,) = detector("yunet")([sample(name)])
    assert len(ours.scores) > 1
    np.testing.assert_allclose(ours.scores, rows[:, 14], atol=1e-4)
    np.testing.assert_allclose(ours.boxes_xyxy * np.array(letter.scale_xy * 2), expected, atol=0.05)
