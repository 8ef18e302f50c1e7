"""YOLOX as a detector: independent of neighbours, and made from a card."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from artray.detect import yolox_engine
from artray.detect.detector import Detector
from artray.errors import ConfigError
from artray.models import registry
from artray.models.cards import Card
from tests.yolox_files import folded, random_network

CLASSES = ("person", "bicycle", "sheep", "bear")
LABELS = {"person": "persons (others)", "bicycle": None, "sheep": "animals (others)", "bear": "animals (others)"}


pytestmark = pytest.mark.usefixtures("one_thread")


def pictures(*sizes_hw: tuple[int, int]) -> list[Any]:
    rng = np.random.default_rng(7)
    made = []
    for height, width in sizes_hw:
        colours = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        made.append(colours[np.arange(height) * 4 // height][:, np.arange(width) * 4 // width])
    for picture in made:
        picture.flags.writeable = False  # as batches from Ray are
    return made


def detector(**settings: Any) -> yolox_engine.Yolox:
    return yolox_engine.Yolox(random_network(4), CLASSES, LABELS, **{"size_px": 96, "score_min": 0.2} | settings)


def same(a: Any, b: Any) -> bool:
    return all(x.tobytes() == y.tobytes() and x.dtype == y.dtype for x, y in zip(a, b, strict=True))


def test_found_is_the_same_bit_for_bit_whatever_is_beside() -> None:
    finder, shown = detector(), pictures((120, 200), (200, 120), (64, 64), (1, 300), (31, 7))
    together = finder(shown)
    assert sum(len(found.scores) for found in together) > 20
    assert all(same(finder([picture])[0], found) for picture, found in zip(shown, together, strict=True))
    order = [3, 0, 4, 2, 1]
    shuffled = finder([shown[index] for index in order])
    assert all(same(found, together[index]) for index, found in zip(order, shuffled, strict=True))
    assert finder([]) == []


def test_images_together_as_on_an_accelerator_are_the_same_up_to_rounding() -> None:
    finder, shown = detector(), pictures((120, 200), (200, 120), (64, 64))
    with torch.inference_mode():
        together = finder._detect(shown)
    for found, alone in zip(together, finder(shown), strict=True):
        assert np.allclose(found.scores, alone.scores, atol=1e-4)
        assert np.allclose(found.boxes_xyxy[:10], alone.boxes_xyxy[:10], atol=0.05)


def test_found_lies_within_scores_enough_and_has_a_class() -> None:
    finder = detector(score_min=0.3)
    assert isinstance(finder, Detector)
    assert finder.class_names == ("persons (others)", "animals (others)")
    (found,) = finder(pictures((50, 80)))
    assert {*found.class_ids} == {0, 1}
    assert found.scores.min() >= 0.3
    assert (np.diff(found.scores) <= 0).all()
    assert (found.boxes_xyxy >= 0).all()
    assert (found.boxes_xyxy <= np.array([80, 50, 80, 50])).all()
    assert [column.dtype.name for column in found] == ["float32", "float32", "int64"]
    assert len(detector(score_min=0.3, found_max=3)(pictures((50, 80)))[0].scores) == 3
    assert len(detector(score_min=1.0)(pictures((50, 80)))[0].scores) == 0


def test_boxes_that_overlap_go_within_their_class_only(monkeypatch: pytest.MonkeyPatch) -> None:
    finder = detector(size_px=32)
    levels = [torch.full((1, 9, side, side), -20.0) for side in (4, 2, 1)]
    # three cells of one row predict the box that is one cell large about (8, 4)
    for column, (offset, class_id) in enumerate([(1.0, 0), (0.0, 2), (-1.0, 3)]):
        levels[0][0, :5, 0, column] = torch.tensor([offset, 0.5, 0.0, 0.0, 9.0 - column])
        levels[0][0, 5 + class_id, 0, column] = 9.0
    monkeypatch.setattr(finder, "_network", lambda images: levels)
    (found,) = finder([np.zeros((32, 32, 3), np.uint8)])
    # sheep and bear are one class here: the surer of them stays, and the person beside it
    assert found.class_ids.tolist() == [0, 1]
    assert found.boxes_xyxy.tolist() == [[4, 0, 12, 8]] * 2
    # the best class of a cell is the bicycle, which is nothing here
    levels[0][0, 5 + 1, 0, 0] = 12.0
    assert finder([np.zeros((32, 32, 3), np.uint8)])[0].class_ids.tolist() == [1]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size_px": 100}, "size_px: expected a multiple of 32, got 100"),
        ({"size_px": "416"}, "size_px: expected a multiple of 32, got 416"),
        ({"iou_max": 65}, r"iou_max: expected a number in \[0, 1\], got 65"),
        ({"iou_max": "0.5"}, r"iou_max: expected a number"),
        ({"found_max": 0}, "found_max: expected at least 1, got 0"),
    ],
)
def test_settings_out_of_range(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        detector(**settings)


def card(path: Path, **changes: Any) -> Card:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    values: dict[str, Any] = {
        "name": "nano",
        "task": "detect",
        "architecture": "yolox_nano",
        "yields": ("objects",),
        "weights": {"model": {"uri": path.as_uri(), "sha256": digest}},
        "classes": CLASSES,
        "labels": LABELS,
        "score_min": 0.2,
        "settings": {"size_px": 96},
        "licence": "none",
        "source": "this test",
    }
    return Card(**values | changes)


def test_a_card_names_it_with_either_kind_of_file(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    network, shown = random_network(4), pictures((50, 80))
    save_file(network.state_dict(), tmp_path / "a.safetensors")
    expected = detector()(shown)[0]
    found = registry.build(card(tmp_path / "a.safetensors"))(shown)[0]
    assert same(found, expected)
    also = registry.build(card(folded(network, tmp_path / "a.onnx")))(shown)[0]
    assert len(also.scores) == len(expected.scores)
    assert np.allclose(also.boxes_xyxy, expected.boxes_xyxy, atol=0.05)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights": {}}, "card nano: expected classes, and weights with the role model"),
        (
            {"classes": (*CLASSES, "cow"), "labels": LABELS | {"cow": "cow"}},
            "card nano: weights: heads.0.classes.weight",
        ),
        ({"labels": {"person": None}}, "card nano: labels: expected an entry for every class"),
        ({"settings": {"colour": "red"}}, "card nano: settings: .*colour"),
        ({"settings": {"iou_max": 2}}, "card nano: iou_max: expected"),
    ],
)
def test_a_card_that_is_wrong(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = folded(random_network(4), tmp_path / "a.onnx")
    with pytest.raises(ConfigError, match=message):
        registry.build(card(path, **changes))
