"""The detect stage: boxes of several detectors in pixels of the original, and one bad image costs itself alone."""

import hashlib
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchvision.models import detection

from artray import schema
from artray.config import DetectConfig
from artray.detect import stage
from artray.detect.detector import Detector
from artray.detect.found import Found, nothing
from artray.detect.mtcnn import Mtcnn
from artray.errors import ConfigError, InvariantError, RowError, TransientError
from artray.models import registry
from artray.models.cards import Card

POISON = 13
"""Images whose first pixel is this make the brittle detector raise."""


class Bright:
    """Finds the rectangle of white pixels, as a ship of score 0.5; and for every shade above 200 a fainter cat."""

    class_names = ("ship", "cat")

    def __call__(self, images: Sequence[Any]) -> list[Found]:
        return [self._found(image[..., 0]) for image in images]

    def _found(self, grey: Any) -> Found:
        boxes, scores, ids = [], [], []
        for value in np.unique(grey[grey > 200]):
            rows, columns = np.nonzero(grey == value)
            boxes.append([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
            scores.append(value / 510)
            ids.append(0 if value == 255 else 1)
        return Found(np.array(boxes, np.float32).reshape(-1, 4), np.array(scores, np.float32), np.array(ids, np.int64))


class Brittle(Bright):
    """Like Bright, but raises what it is told to if any image of the call is poisoned."""

    def __init__(self, error: Exception) -> None:
        self.error, self.calls = error, 0

    def __call__(self, images: Sequence[Any]) -> list[Found]:
        self.calls += 1
        if any(image[0, 0, 0] == POISON for image in images):
            raise self.error
        return super().__call__(images)


class Forgetful(Bright):
    def __call__(self, images: Sequence[Any]) -> list[Found]:
        return [nothing()] * (len(images) - 1)


class Undecided(Bright):
    """Scores of dull images are no numbers."""

    def _found(self, grey: Any) -> Found:
        found = super()._found(grey)
        return found if grey[0, 0] != POISON else found._replace(scores=found.scores * np.float32("nan"))


BRITTLE = "RuntimeError: expected a picture"
MADE: dict[str, Callable[[], Detector]] = {
    "stand-in-bright": Bright,
    "stand-in-brittle": lambda: Brittle(RuntimeError("expected a picture\nand much advice that helps nobody")),
    "stand-in-picky": lambda: Brittle(RowError("model_failed", "too dull")),
    "stand-in-lost": lambda: Brittle(torch.AcceleratorError("CUDA error: unspecified launch failure")),
    "stand-in-forgetful": Forgetful,
    "stand-in-undecided": Undecided,
}
for _name, _make in MADE.items():
    registry.register(_name)(lambda card, device, make=_make: make())


pytestmark = pytest.mark.usefixtures("one_thread")


def write_card(folder: Path, name: str, text: str) -> str:
    (folder / f"{name}.yaml").write_text(f"name: {name}\nlicence: none\nsource: test\n{text}")
    return str(folder / f"{name}.yaml")


@pytest.fixture
def card(tmp_path: Path) -> Callable[[str], str]:
    """A card's path, for one of the stand-ins."""
    return lambda kind: write_card(tmp_path, kind, f"task: detect\nyields: [objects]\narchitecture: stand-in-{kind}\n")


def picture(height: int, width: int, first: int = 0, **boxes: tuple[int, int, int, int]) -> Any:
    """Black, with rectangles of a shade: v255=(x1, y1, x2, y2)."""
    image = np.zeros((height, width, 3), np.uint8)
    image[0, 0] = first
    for name, (x1, y1, x2, y2) in boxes.items():
        image[y1:y2, x1:x2] = int(name[1:])
    image.flags.writeable = False
    return image


def batch(*pixels: Any, scale: float = 1) -> dict[str, list[Any]]:
    """Decoded rows; the originals are ``scale`` times as large. None: a row with an error."""
    return {
        "image_id": [f"{index}.jpg" for index in range(len(pixels))],
        "pixels": list(pixels),
        "width_px": [None if image is None else round(image.shape[1] * scale) for image in pixels],
        "height_px": [None if image is None else round(image.shape[0] * scale) for image in pixels],
        "error": ["corrupt" if image is None else "" for image in pixels],
        "error_detail": ["broken" if image is None else "" for image in pixels],
    }


def rows_of(result: dict[str, list[Any]]) -> list[dict[str, Any]]:
    columns = ("image_id", "objects", "error", "error_detail")
    return sorted(
        (dict(zip(columns, row, strict=True)) for row in zip(*(result[name] for name in columns), strict=True)),
        key=lambda row: row["image_id"],
    )


def test_boxes_are_in_pixels_of_the_original(card: Callable[[str], str]) -> None:
    # decoded at 40 x 20, the original is 2.5 times as large
    result = stage.Detect(DetectConfig(cards=(card("bright"),)))(batch(picture(20, 40, v255=(4, 2, 10, 8)), scale=2.5))
    assert result["objects"] == [
        [
            {
                "class_name": "ship",
                "category": "structures",
                "score": 0.5,
                "x1_px": 10.0,
                "y1_px": 5.0,
                "x2_px": 25.0,
                "y2_px": 20.0,
                "source": "bright",
            }
        ]
    ]


def test_sides_are_scaled_each_by_its_own_ratio() -> None:
    # 3 x 2 decoded of 10 x 5: 10/3 across, 5/2 down, in float32
    placed = stage.place(found([1, 1, 2, 2]), (2, 3), (10, 5))
    assert placed.boxes_xyxy.dtype == np.float32
    assert placed.boxes_xyxy.tolist() == [[np.float32(10 / 3), 2.5, np.float32(20 / 3), 5.0]]


def found(*boxes: Sequence[float], scores: Sequence[float] | None = None) -> Found:
    return Found(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(scores or [0.5] * len(boxes), np.float32),
        np.zeros(len(boxes), np.int64),
    )


def test_boxes_are_clipped_and_those_without_area_left_out() -> None:
    nan = float("nan")
    boxes = found([-3, -3, 5, 5], [8, 8, 12, 12], [10, 0, 12, 5], [4, 4, 4, 8], [nan, 0, 1, 1])
    assert stage.place(boxes, (10, 10), (10, 10)).boxes_xyxy.tolist() == [[0, 0, 5, 5], [8, 8, 10, 10]]
    assert len(stage.place(found([0, 0, 1, 1], scores=[nan]), (10, 10), (10, 10)).scores) == 0


def test_scores_fall_and_equal_ones_keep_their_order() -> None:
    boxes = found([0, 0, 1, 1], [0, 0, 2, 2], [0, 0, 3, 3], scores=[0.1, 0.7, 0.1])
    assert stage.place(boxes, (10, 10), (10, 10)).boxes_xyxy[:, 2].tolist() == [2, 1, 3]


def test_cards_follow_each_other_and_each_is_sorted(card: Callable[[str], str]) -> None:
    cards = (card("brittle"), card("bright"))
    objects = stage.Detect(DetectConfig(cards=cards))(batch(picture(9, 9, v220=(5, 5, 7, 7), v255=(1, 1, 3, 3))))[
        "objects"
    ]
    assert [(o["source"], o["class_name"]) for o in objects[0]] == [
        ("brittle", "ship"),
        ("brittle", "cat"),
        ("bright", "ship"),
        ("bright", "cat"),
    ]


def test_scores_that_are_no_numbers_fail_their_image_alone(card: Callable[[str], str]) -> None:
    dull = picture(9, 9, POISON, v255=(1, 1, 3, 3))
    found = stage.Detect(DetectConfig(cards=(card("undecided"),)))(batch(dull, picture(9, 9, v255=(1, 1, 3, 3))))
    assert found["error"] == ["model_failed", ""]
    assert found["error_detail"][0] == "undecided: 1 of 1 scores are no numbers"
    assert [len(objects or []) for objects in found["objects"]] == [0, 1]


def test_several_detectors_are_fused_in_pixels_of_the_original(card: Callable[[str], str]) -> None:
    cards = (card("brittle"), card("bright"))
    cfg = DetectConfig.model_validate({"cards": cards, "fuse": {"method": "wbf"}})
    given = batch(picture(10, 20, v255=(2, 2, 12, 6))) | {"width_px": [200], "height_px": [100]}
    (objects,) = stage.Detect(cfg)(given)["objects"]
    assert [(o["class_name"], o["score"], o["source"]) for o in objects] == [("ship", 0.5, "brittle")]
    assert [objects[0][edge] for edge in ("x1_px", "y1_px", "x2_px", "y2_px")] == [20, 20, 120, 60]


def test_rows_with_an_error_get_none_and_empty_images_an_empty_list(card: Callable[[str], str]) -> None:
    given = batch(None, picture(9, 9))
    result = stage.Detect(DetectConfig(cards=(card("bright"),)))(given)
    assert result["objects"] == [None, []]
    assert {name: result[name] for name in given} == given


def test_a_batch_without_rows_or_without_good_ones(card: Callable[[str], str]) -> None:
    detect = stage.Detect(DetectConfig(cards=(card("bright"),)))
    assert detect(batch())["objects"] == []
    assert detect(batch(None))["objects"] == [None]
    typed = schema.table(detect(batch(None)), schema.DETECTED)
    assert typed.schema == schema.DETECTED, "of the declared type without any value"


def test_numbers_survive_arrow_exactly(card: Callable[[str], str]) -> None:
    result = stage.Detect(DetectConfig(cards=(card("bright"),)))(batch(picture(7, 7, v233=(1, 1, 3, 3)), scale=10 / 3))
    assert schema.batch(schema.table(result, schema.DETECTED))["objects"] == result["objects"]


@pytest.mark.parametrize(("kind", "detail"), [("brittle", BRITTLE), ("picky", "too dull")])
def test_the_guilty_row_alone_fails(kind: str, detail: str, card: Callable[[str], str]) -> None:
    good, bad = picture(9, 9, v255=(1, 1, 3, 3)), picture(9, 9, first=POISON, v255=(1, 1, 3, 3))
    detect = stage.Detect(DetectConfig(cards=(card("bright"), card(kind)), batch_size=8))
    result = detect(batch(good, bad, None, good))
    assert result["error"] == ["", "model_failed", "corrupt", ""]
    assert result["error_detail"] == ["", f"{kind}: {detail}", "broken", ""]
    assert result["objects"][1] is None, "not even what the first detector found"
    assert result["pixels"][1] is None
    assert result["objects"][0] == result["objects"][3] == detect(batch(good))["objects"][0]


def test_a_failed_row_is_shown_to_no_further_detector(card: Callable[[str], str]) -> None:
    detect = stage.Detect(DetectConfig(cards=(card("brittle"), card("picky"))))
    result = detect(batch(picture(9, 9, first=POISON)))
    assert result["error_detail"] == [f"brittle: {BRITTLE}"]


def test_a_detector_that_skips_an_image_stops_the_job(card: Callable[[str], str]) -> None:
    with pytest.raises(InvariantError, match="expected 2 answers, got 1"):
        stage.Detect(DetectConfig(cards=(card("forgetful"),)))(batch(picture(5, 5), picture(5, 5)))


def test_a_lost_device_is_no_images_fault(card: Callable[[str], str]) -> None:
    with pytest.raises(TransientError, match=r"device is lost .*unspecified launch failure.*run again"):
        stage.Detect(DetectConfig(cards=(card("lost"),)))(batch(picture(5, 5, first=POISON)))


def test_batches_go_to_the_detector_in_slices(card: Callable[[str], str]) -> None:
    detect = stage.Detect(DetectConfig(cards=(card("brittle"),), batch_size=2))
    detect(batch(*[picture(5, 5)] * 5))
    brittle = detect.detectors[0][1]
    assert isinstance(brittle, Brittle)
    assert brittle.calls == 3


def test_a_card_of_another_task_is_refused(tmp_path: Path) -> None:
    text = "task: classify\nyields: [mean_rgb]\narchitecture: x\nembedding_dim: 8\n"
    path = write_card(tmp_path, "other", text + "input: {size_px: 32, mean: [0, 0, 0], std: [1, 1, 1]}\n")
    with pytest.raises(ConfigError, match=r"detect\.cards: expected cards of detectors, got 'other'"):
        stage.Detect(DetectConfig(cards=(path,)))


def mtcnn_text() -> str:
    spec = find_spec("mtcnn")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("needs the weights that the package mtcnn ships")
    folder = Path(spec.submodule_search_locations[0]) / "assets" / "weights"
    lines = ["task: detect", "yields: [objects]", "architecture: mtcnn", "weights:"]
    for role in ("pnet", "rnet", "onet"):
        digest = hashlib.sha256((folder / f"{role}.lz4").read_bytes()).hexdigest()
        lines.append(f"  {role}: {{uri: package://mtcnn/assets/weights/{role}.lz4, sha256: {digest}}}")
    return "\n".join(lines) + "\n"


def ssdlite_card(folder: Path) -> str:
    """A real network with random weights, which finds something everywhere."""
    torch.manual_seed(1)
    made = detection.ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=3)
    torch.save(made.state_dict(), folder / "ssdlite.pt")
    digest = hashlib.sha256((folder / "ssdlite.pt").read_bytes()).hexdigest()
    text = f"""
task: detect
yields: [objects]
architecture: ssdlite320_mobilenet_v3_large
weights: {{model: {{uri: ssdlite.pt, sha256: {digest}}}}}
classes: [__background__, person, boat]
labels: {{person: persons (others), boat: ship}}
score_min: 0.33
settings: {{detections_per_img: 20}}
"""
    return write_card(folder, "ssdlite", text)


def test_records_are_the_same_bit_for_bit_however_the_archive_is_cut_and_shuffled(tmp_path: Path) -> None:
    detect = stage.Detect(
        DetectConfig(cards=(ssdlite_card(tmp_path), write_card(tmp_path, "faces", mtcnn_text())), batch_size=3)
    )
    rng = np.random.default_rng(5)
    sizes = [(96, 128), (128, 96), (64, 64), (50, 200), (96, 128), (33, 47)]
    whole = batch(*(rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes), scale=3.7)
    expected = rows_of(detect(whole))
    assert all(row["objects"] for row in expected)
    for order, cut in [([5, 2, 0, 4, 1, 3], 6), ([1, 0, 3, 2, 5, 4], 2), ([0, 1, 2, 3, 4, 5], 1)]:
        parts = [
            detect({name: [column[index] for index in order[start : start + cut]] for name, column in whole.items()})
            for start in range(0, 6, cut)
        ]
        joined = {name: [value for part in parts for value in part[name]] for name in parts[0]}
        assert repr(rows_of(joined)) == repr(expected)


def test_mtcnn_is_built_from_a_card_with_its_settings(tmp_path: Path) -> None:
    path = write_card(tmp_path, "faces", mtcnn_text() + "settings: {min_face_px: 30, scores_min: [0.5, 0.6, 0.9]}\n")
    ((source, mtcnn),) = stage.Detect(DetectConfig(cards=(path,))).detectors
    assert source == "faces"
    assert isinstance(mtcnn, Detector)
    assert isinstance(mtcnn, Mtcnn)
    assert mtcnn.class_names == ("face",)
    assert (mtcnn.min_face_px, mtcnn.scores_min) == (30, (0.5, 0.6, 0.9))


def test_settings_that_mtcnn_does_not_have_are_named(tmp_path: Path) -> None:
    path = write_card(tmp_path, "faces", mtcnn_text() + "settings: {min_face: 30}\n")
    with pytest.raises(ConfigError, match=r"card faces: settings: .*'min_face'"):
        stage.Detect(DetectConfig(cards=(path,)))


def test_mtcnn_needs_its_three_weights() -> None:
    with pytest.raises(ConfigError, match="expected the roles pnet, rnet, onet, got none"):
        stage.build_mtcnn(
            Card(name="f", task="detect", architecture="mtcnn", yields=("objects",), licence="", source=""), "cpu"
        )
