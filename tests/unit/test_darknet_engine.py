"""Darknet's detectors: boxes against loops written out, a known rectangle, and cards."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from artray.detect import darknet, darknet_cfg, darknet_engine, darknet_region, darknet_tree
from artray.detect.darknet_cfg import Region
from artray.detect.detector import Detector
from artray.errors import ConfigError, RowError
from artray.models import registry
from artray.models.cards import Card
from tests.darknet_files import cfg_text, written

pytestmark = pytest.mark.usefixtures("one_thread")

CLASSES = ("person", "bus", "sheep")
LABELS = {"person": "persons (others)", "bus": None, "sheep": "animals (others)"}
TREE = "n1 -1\nn2 -1\nn3 0\nn4 0\nn5 2\n"


def pictures(*sizes_hw: tuple[int, int]) -> list[Any]:
    rng = np.random.default_rng(7)
    made = [rng.integers(0, 256, (height, width, 3), dtype=np.uint8) for height, width in sizes_hw]
    for picture in made:
        picture.flags.writeable = False  # as batches from Ray are
    return made


def card(folder: Path, text: str | None = None, tree: str | None = None, **values: Any) -> Card:
    """A card of a small network of three classes or of five nodes."""
    config, weights = written(folder, text or (cfg_text() if tree is None else cfg_text(5, "tree=a.tree")))
    files = {"model": weights, "config": config}
    if tree is not None:
        files["tree"] = folder / "a.tree"
        files["tree"].write_text(tree)
    named = (
        {"classes": CLASSES, "labels": LABELS} if tree is None else {"labels": {"n1": "fish", "n3": "dog", "n5": None}}
    )
    described = {
        "name": "small",
        "task": "detect",
        "architecture": "darknet",
        "yields": ["objects"],
        "weights": {
            role: {"uri": path.as_uri(), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
            for role, path in files.items()
        },
        "licence": "none",
        "source": "a test",
    }
    return Card.model_validate(described | named | values)


def test_boxes_are_those_of_loops() -> None:
    region = Region(((0.5, 0.75), (1.5, 2.0)), 3, is_softmax=True, is_tree=False)
    maps = np.random.default_rng(0).normal(0, 1.5, (2, 8, 2, 4)).astype(np.float32)
    told = darknet_region.boxes(torch.from_numpy(maps.reshape(16, 2, 4)), region, (128, 64), 0.5)
    expected = []
    for anchor, row, column in np.ndindex(2, 2, 4):
        x, y, w, h, objectness = maps[anchor, :5, row, column].astype(np.float64)
        if 1 / (1 + np.exp(-objectness)) >= 0.5:
            centre = (column + 1 / (1 + np.exp(-x))) * 32, (row + 1 / (1 + np.exp(-y))) * 32
            half = np.exp(w) * region.anchors_wh[anchor][0] * 16, np.exp(h) * region.anchors_wh[anchor][1] * 16
            corners = [centre[0] - half[0], centre[1] - half[1], centre[0] + half[0], centre[1] + half[1]]
            expected.append([*corners, 1 / (1 + np.exp(-objectness)), *maps[anchor, 5:, row, column]])
    assert 0 < len(expected) < 16
    assert np.allclose(np.column_stack((told.boxes_xyxy, told.objectness, told.logits)), expected, rtol=1e-5)


def test_a_box_is_every_class_of_which_it_is_sure_enough() -> None:
    told = darknet_region.Boxes(
        np.eye(2, 4, dtype=np.float32), np.array([0.8, 0.5], np.float32), np.log([[4, 4], [1, 3]])
    )
    exclusive = Region(((1, 1),), 2, is_softmax=True, is_tree=False)
    found = darknet_region.named(told, exclusive, 0.3)
    assert found.class_ids.tolist() == [0, 1, 1]
    assert np.allclose(found.scores, [0.4, 0.4, 0.375])
    assert np.array_equal(found.boxes_xyxy, told.boxes_xyxy[[0, 0, 1]])
    # each by itself: 4 / (1 + 4), 1 / 2 and 3 / 4
    found = darknet_region.named(told, exclusive._replace(is_softmax=False), 0.0)
    assert np.allclose(found.scores, [0.64, 0.64, 0.25, 0.375])
    empty = darknet_region.named(darknet_region.Boxes(*(column[:0] for column in told)), exclusive, 0.0)
    assert empty.boxes_xyxy.shape == (0, 4)


def test_of_a_tree_a_box_is_one_node_and_scores_its_objectness() -> None:
    tree = darknet_tree.parse(TREE.splitlines())
    logits = np.array([[9, 0, 9, 0, 0], [9, 0, 0, 0, 0], [0, 9, 0, 0, 0]], np.float32)
    told = darknet_region.Boxes(np.zeros((3, 4), np.float32), np.array([0.3, 0.9, 0.6], np.float32), logits)
    found = darknet_region.named_by_tree(told, tree, 0.5, compounded=True)
    assert found.class_ids.tolist() == [4, 0, 1]
    assert found.scores is told.objectness


def finder_of_white(score_min: float = 0.5) -> darknet_engine.Darknet:
    """One convolution that says of each 32 x 32 cell whether it is white; its box is the cell."""
    text = (
        "[net]\nwidth=128\nheight=128\nchannels=3\n[convolutional]\nfilters=6\nsize=32\nstride=32\nactivation=linear\n"
    )
    cfg = darknet_cfg.parse(text + "[region]\nanchors=1,1\nclasses=1\nsoftmax=1\n")
    network = darknet.Network(cfg, cfg.size_wh)
    (conv,) = network.convolutions()
    with torch.no_grad():
        conv.weight.zero_()
        conv.bias.copy_(torch.tensor([0.0, 0, 0, 0, -18, 0]))  # type: ignore[union-attr]
        conv.weight[4] = 20 / (3 * 32 * 32)
    settings = darknet_engine.Settings()
    return darknet_engine.Darknet(
        network, cfg.region, (128, 128), ["person"], {"person": "persons (others)"}, settings, score_min=score_min
    )


@pytest.mark.parametrize(
    ("size_wh", "white", "expected"),
    [
        # twice as large on the canvas, below 32 rows of grey: cell (2, 1)
        ((64, 32), (slice(0, 16), slice(32, 48)), [32, 0, 48, 16]),
        # to the right of 32 columns: cell (1, 2)
        ((32, 64), (slice(32, 48), slice(0, 16)), [0, 32, 16, 48]),
        # as large as the canvas
        ((128, 128), (slice(96, 128), slice(0, 32)), [0, 96, 32, 128]),
        # 128 x 63 on the canvas, not 64, and its first row is the 33rd: cell (2, 1) begins above it
        ((126, 63), (slice(0, 32), slice(63, 95)), [63, 0, 94.5, 31.5]),
    ],
)
def test_a_known_rectangle_is_found_in_the_letterbox(
    size_wh: tuple[int, int], white: tuple[slice, slice], expected: list[float]
) -> None:
    picture = np.zeros((size_wh[1], size_wh[0], 3), np.uint8)
    picture[white] = 255
    (found,) = finder_of_white()([picture])
    assert len(found.scores) == 1
    assert np.allclose(found.boxes_xyxy, [expected], atol=0.51 if size_wh[0] == 126 else 1e-4)


def test_a_picture_lies_where_darknet_has_it() -> None:
    """3 x 77 becomes 21 x 544: 544 * 3 / 77 = 21.2, rounded down; (544 - 21) // 2 columns of grey are before it."""
    letter = darknet_engine.shown(np.zeros((77, 3, 3), np.uint8), (544, 544))
    assert letter.canvas.dtype == np.float32
    columns = (letter.canvas[:, :, 0] == 0).all(axis=0).nonzero()[0]
    assert (columns[0], columns[-1] + 1) == (261, 282)
    assert (np.delete(letter.canvas, columns, axis=1) == 0.5).all()
    # 112 x 77: in floating point 77 * (544 / 112) is less than 374
    assert darknet_engine.shown(np.zeros((77, 112, 3), np.uint8), (544, 544)).drawn_wh((112, 77)) == (544, 374)
    assert darknet_engine.shown(np.zeros((1, 999, 3), np.uint8), (64, 64)).drawn_wh((999, 1)) == (64, 1)


def test_resizing_is_darknets() -> None:
    """Its loops: a row's and then a column's two neighbours, the corners in the corners."""
    image = pictures((7, 5))[0]
    width, height = 9, 4
    expected = np.empty((height, width, 3))
    for row, column in np.ndindex(height, width):
        y, x = row * 6 / (height - 1), column * 4 / (width - 1)
        top, left = min(int(y), 5), min(int(x), 3)
        rows = image[top : top + 2, left : left + 2].astype(np.float64) / 255
        across = rows[:, 0] * (1 - (x - left)) + rows[:, 1] * (x - left)
        expected[row, column] = across[0] * (1 - (y - top)) + across[1] * (y - top)
    assert np.allclose(darknet_engine.bilinear(image, width, height), expected, atol=1e-6)


@pytest.mark.parametrize("tree", [None, TREE])
def test_found_is_the_same_bit_for_bit_whatever_is_beside(tmp_path: Path, tree: str | None) -> None:
    finder = registry.build(card(tmp_path, tree=tree, settings={"size_px": 128}))
    assert isinstance(finder, Detector)
    assert finder.size_wh == (128, 128)
    shown = pictures((60, 100), (100, 60), (32, 32), (31, 7))
    together = finder(shown)
    assert sum(len(found.scores) for found in together) > 20
    for picture, found in zip(shown, together, strict=True):
        (alone,) = finder([picture])
        assert all(a.tobytes() == b.tobytes() for a, b in zip(alone, found, strict=True))
        assert [column.dtype.name for column in found] == ["float32", "float32", "int64"]
        assert (np.diff(found.scores) <= 0).all()
        assert (found.boxes_xyxy >= 0).all()
        assert (found.boxes_xyxy <= [picture.shape[1], picture.shape[0]] * 2).all()
    assert finder([]) == []


def test_images_together_as_on_an_accelerator_are_the_same_up_to_rounding(tmp_path: Path) -> None:
    finder, shown = registry.build(card(tmp_path)), pictures((60, 100), (100, 60))
    with torch.inference_mode():
        together = finder._detect(shown)
    for found, alone in zip(together, finder(shown), strict=True):
        assert np.allclose(found.scores, alone.scores, atol=1e-5)


def test_a_card_with_a_tree_calls_nodes_by_their_ancestors(tmp_path: Path) -> None:
    finder = registry.build(card(tmp_path, tree=TREE, settings={"iou_max": 1.0, "compounded": False}))
    assert finder.class_names == ("fish", "dog")
    found = finder(pictures((60, 100)))[0]
    assert {*found.class_ids.tolist()} <= {0, 1}
    certain = registry.build(card(tmp_path, tree=TREE, score_min=0.6, settings={"iou_max": 1.0, "compounded": False}))
    assert certain(pictures((60, 100)))[0].scores.tolist() == [score for score in found.scores.tolist() if score >= 0.6]
    few = registry.build(card(tmp_path, tree=TREE, settings={"iou_max": 1.0, "compounded": False, "found_max": 2}))
    assert few(pictures((60, 100)))[0].scores.tolist() == found.scores[:2].tolist()


@pytest.mark.parametrize(
    ("text", "tree", "values", "message"),
    [
        (None, None, {"weights": {}}, r"card small: expected weights with the roles model .* and config"),
        (None, TREE, {"classes": CLASSES}, "card small: expected either classes or a file with the role tree"),
        (None, None, {"classes": (), "labels": {}}, "card small: expected either classes or a file with the role tree"),
        (None, None, {"classes": CLASSES[:2]}, "card small: classes: expected 3, as the .cfg has it, got 2"),
        (None, "a -1\n", {"labels": {}}, "card small: classes: expected 5, as the .cfg has it, got 1"),
        (None, TREE, {"labels": {"n9": None}}, "card small: labels: expected names of the tree's 5 nodes, got 'n9'"),
        (cfg_text(3, "tree=a"), None, {}, "card small: tree: expected a file, as the .cfg has it, got none"),
        (cfg_text(5), TREE, {}, "card small: tree: expected none, as the .cfg has it, got one"),
        (
            None,
            None,
            {"settings": {"size_px": 100}},
            "card small: settings.*size_px: .*expected a multiple of 32, got 100",
        ),
        (None, None, {"settings": {"iou": 0.5}}, "card small: settings.*iou"),
        (None, None, {"labels": {"person": "dog"}}, "card small: labels: expected an entry for every class"),
    ],
)
def test_a_card_that_does_not_fit(
    tmp_path: Path, text: str | None, tree: str | None, values: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        registry.build(card(tmp_path, text, tree, **values))


def test_an_answer_that_is_no_numbers_is_the_images_failure() -> None:
    finder = finder_of_white(score_min=0.0)
    (conv,) = finder._network.convolutions()
    with torch.no_grad():
        conv.bias[2] = 200  # type: ignore[index]
    with pytest.raises(RowError, match="boxes: expected finite numbers"):
        finder([np.zeros((32, 32, 3), np.uint8)])
    with torch.no_grad():
        conv.bias[2] = torch.nan  # type: ignore[index]
    with pytest.raises(RowError, match="boxes: expected finite numbers"):
        finder([np.zeros((32, 32, 3), np.uint8)])
