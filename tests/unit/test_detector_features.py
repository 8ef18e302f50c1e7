"""Features of detectors: the layers of every engine, pooled by hand, and the card that names detectors."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import nn

from artray.detect import layers, torchvision_engine, yolox_engine
from artray.errors import ConfigError
from artray.models import cards, onnx_file, registry, verify
from artray.models.cards import Card
from artray.retrieve.detector_features import DetectorFeatures, Source, pooled
from tests.yolox_files import random_network

ART = "yolox-nano-art"
LABELS = {"person": "persons (others)", "sheep": "animals (others)"}

pytestmark = pytest.mark.usefixtures("one_thread")


def pictures(*sizes_hw: tuple[int, int]) -> list[Any]:
    rng = np.random.default_rng(7)
    made = []
    for height, width in sizes_hw:
        blocks = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        made.append(blocks[np.arange(height) * 4 // height][:, np.arange(width) * 4 // width])
    for picture in made:
        picture.flags.writeable = False  # as batches from Ray are
    return made


def yolox_detector() -> yolox_engine.Yolox:
    return yolox_engine.Yolox(random_network(2), ("person", "sheep"), LABELS, size_px=96)


def test_cells_that_the_picture_covers() -> None:
    output = np.arange(32, dtype=np.float32).reshape(1, 2, 4, 4)
    assert layers.cells(output, 0, 1).shape == (16, 2)
    # the upper half, and of the columns one and a half
    assert layers.cells(output, 0, 1, (0, 0, 0.375, 0.5)).tolist() == [[0, 16], [1, 17], [4, 20], [5, 21]]
    assert layers.cells(output, 0, 1, (0.5, 0.5, 0.5, 0.5)).tolist() == [[10, 26]], "a cell at least"
    assert layers.cells(output, 0, 1, (1, 1, 1, 1)).tolist() == [[15, 31]]


def test_rows_of_regions_and_of_images() -> None:
    regions = np.arange(12, dtype=np.float32).reshape(2, 3, 2)
    assert layers.cells(regions, 1, 2).tolist() == [[6, 7], [8, 9], [10, 11]]
    assert layers.cells(regions[0], 0, 1).tolist() == [[0, 1], [2, 3], [4, 5]], "of one image: its regions"
    assert layers.cells(regions[0], 2, 3).tolist() == [[4, 5]], "of three: a row of each"
    with pytest.raises(ConfigError, match=r"a map for each of 2 images, got \(3, 2\)"):
        layers.cells(regions[0], 0, 2)
    with pytest.raises(ConfigError, match="expected an output with a row or a map"):
        layers.cells(np.zeros(3, np.float32), 0, 1)


def test_outputs_are_taken_down_before_what_follows_writes_into_them() -> None:
    network = nn.Sequential(nn.Identity(), nn.ReLU(inplace=True))
    with layers.watched(layers.modules(network, ["0", "1"])) as outputs:
        network(torch.tensor([[-1.0, 2.0]]))
    assert outputs["0"][0].tolist() == [[-1, 2]]
    assert outputs["1"][0].tolist() == [[0, 2]]
    network(torch.ones(1, 2))
    assert len(outputs["0"]) == 1, "outside the context nothing is"


def test_a_layer_on_several_levels_has_the_cells_of_all() -> None:
    layer = nn.Identity()
    with layers.watched({"it": layer}) as outputs:
        layer(torch.ones(1, 3, 2, 2))
        layer(torch.zeros(1, 3, 1, 1))
    assert layers.told(outputs, 0, 1)["it"].tolist() == [[1, 1, 1]] * 4 + [[0, 0, 0]]
    with layers.watched({"it": layer}) as outputs:
        layer(torch.ones(1, 3, 2, 2))
        layer(torch.zeros(1, 5, 1, 1))
    with pytest.raises(ConfigError, match="layers: it: expected as many channels on every level"):
        layers.told(outputs, 0, 1)


def test_layers_that_are_none() -> None:
    with pytest.raises(
        ConfigError, match=r"expected names of the model.s .*, got .neck\.out_coarze.; near: neck\.out_coarse"
    ):
        yolox_detector().look(["neck.out_coarze"])
    with pytest.raises(ConfigError, match="layers: neck: expected one tensor, got tuple; name one within"):
        DetectorFeatures([Source(yolox_detector().look(["neck"]), ["neck"], "mean")])
    with pytest.raises(ConfigError, match="expected names of the model"):
        yolox_detector().look([""])


def test_pooling_by_hand() -> None:
    told = {"a": np.array([[1, 2], [5, 6]], np.float32), "b": np.zeros((0, 3), np.float32)}
    assert pooled(told, ["a"], "mean").tolist() == pytest.approx([0.6, 0.8])
    assert pooled(told, ["a"], "max").tolist() == pytest.approx([5 / 61**0.5, 6 / 61**0.5])
    assert pooled(told, ["b", "a"], "mean").tolist() == pytest.approx([0, 0, 0, 0.6, 0.8]), "no region says nothing"
    assert not pooled(told, ["b"], "max").any()
    # each layer weighs as much, whatever its size
    both = pooled(told | {"c": np.array([[1000.0, 0]], np.float32)}, ["a", "c"], "mean")
    assert both.tolist() == pytest.approx([0.6 / 2**0.5, 0.8 / 2**0.5, 1 / 2**0.5, 0])


def test_yolox_layers_are_what_its_modules_put_out() -> None:
    detector, (square, wide) = yolox_detector(), pictures((96, 96), (48, 96))
    told = detector.look(["trunk.stage5", "heads.0.classes"])([square, wide])
    with torch.inference_mode():
        images = torch.from_numpy(square.copy()).permute(2, 0, 1)[None].float()
        expected = detector._network.trunk(images)[2]
    np.testing.assert_allclose(told[0]["trunk.stage5"], expected[0].flatten(1).T, rtol=1e-4, atol=1e-4)
    assert told[0]["heads.0.classes"].shape == (144, 2)
    # of a canvas of 3 x 3 cells the wide picture covers one and a half rows, of one of 12 x 12 six
    assert told[1]["trunk.stage5"].shape == (6, 256)
    assert told[1]["heads.0.classes"].shape == (72, 2)


def test_what_is_found_is_the_same_after_a_look() -> None:
    detector, (shown,) = yolox_detector(), pictures((80, 60))
    before = detector([shown])[0]
    detector.look(["neck.out_coarse"])([shown])
    after = detector([shown])[0]
    assert all(one.tobytes() == two.tobytes() for one, two in zip(before, after, strict=True))


def test_torchvision_layers_of_the_backbone_and_of_the_heads() -> None:
    torch.manual_seed(0)
    settings = {"min_size": 64, "max_size": 96}
    network = torchvision_engine.unlearned("fasterrcnn_mobilenet_v3_large_320_fpn", 2, 0.05, settings)
    detector = torchvision_engine.Torchvision(network.eval(), ("__background__", "person"), {"person": None})
    shown = pictures((64, 80))
    told = detector.look(["backbone.body.0", "backbone.fpn.layer_blocks.0"])(shown)[0]
    with torch.inference_mode():
        images = torch.from_numpy(shown[0].copy()).permute(2, 0, 1).float() / 255
        given, _ = network.transform([images])
        expected = network.backbone.body["0"](given.tensors)
    # padded from 64 x 80 to 64 x 96, so to 40 of 48 columns
    assert given.tensors.shape[2:] == (64, 96)
    assert told["backbone.body.0"].shape == (32 * 40, 16)
    np.testing.assert_allclose(told["backbone.body.0"], expected[0, :, :, :40].flatten(1).T, atol=1e-5)
    assert told["backbone.fpn.layer_blocks.0"].shape[1] == 256
    regions = detector.look(["roi_heads.box_head.fc7"])(shown)[0]["roi_heads.box_head.fc7"]
    assert regions.shape[1] == 1024
    assert len(regions) >= 1


def exported(path: Path) -> Path:
    """A model in ONNX whose inner tensor ``inner`` is twice the red, and half the red and half the green."""
    onnx = pytest.importorskip("onnx", reason="makes the model; in the dev extra")
    pytest.importorskip("onnxruntime", reason="in the extra onnx")
    value, floats = onnx.helper.make_tensor_value_info, onnx.TensorProto.FLOAT
    weight = np.array([[2, 0, 0], [0.5, 0.5, 0]], np.float32).reshape(2, 3, 1, 1)
    boxes = np.zeros((1, 1, 6), np.float32)
    constants = [onnx.numpy_helper.from_array(weight, "weight"), onnx.numpy_helper.from_array(boxes, "boxes")]
    nodes = [
        onnx.helper.make_node("Conv", ["images", "weight"], ["inner"]),
        onnx.helper.make_node("ReduceMin", ["inner"], ["least"], keepdims=0),
        onnx.helper.make_node("Add", ["least", "boxes"], ["output"]),
    ]
    graph = onnx.helper.make_graph(
        nodes, "made", [value("images", floats, (1, 3, 64, 64))], [value("output", floats, None)], constants
    )
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def onnx_card(folder: Path) -> Card:
    model = exported(folder / "made.onnx")
    values = {
        **{"name": "made", "task": "detect", "architecture": "onnx/end2end", "yields": ["objects"]},
        **{"classes": ["person"], "labels": {"person": None}, "licence": "none", "source": "made for this test"},
        "settings": {"size_wh": [64, 64], "place": "centre", "pad": 0},
        "weights": {"model": {"uri": str(model), "sha256": hashlib.sha256(model.read_bytes()).hexdigest()}},
    }
    path = folder / "made.yaml"
    path.write_text(yaml.safe_dump(values))
    return cards.load(path)


def test_inner_tensors_of_an_onnx_file(tmp_path: Path) -> None:
    detector = registry.build(onnx_card(tmp_path))
    shown = np.full((32, 64, 3), 255, np.uint8)
    shown[:, :, 1] = 0
    told = detector.look(["inner", "output"])([shown])[0]
    # in the middle half of the canvas; what is beside it, and black, is left out
    assert told["inner"].shape == (32 * 64, 2)
    np.testing.assert_allclose(told["inner"], np.tile([2, 0.5], (32 * 64, 1)), atol=1e-6)
    assert told["output"].shape == (1, 6)
    with pytest.raises(ConfigError, match="expected names of the model's 3 tensors, got 'innner'; near: inner"):
        detector.look(["innner"])


def test_further_outputs_are_read_by_the_package_onnx(tmp_path: Path) -> None:
    content = exported(tmp_path / "made.onnx").read_bytes()
    onnx = pytest.importorskip("onnx")
    model = onnx.load_model_from_string(onnx_file.with_outputs(content, ["inner", "output", "inner"]))
    assert [output.name for output in model.graph.output] == ["output", "inner"]
    assert len(model.graph.node) == 3
    assert onnx_file.with_outputs(content, []) == content


def described(folder: Path, *detectors: dict[str, Any], **changes: Any) -> Card:
    values = {
        **{"name": "own", "task": "retrieve", "architecture": "detector_features", "yields": ["embedding"]},
        **{"settings": {"detectors": list(detectors)}, "embedding_dim": 256, "licence": "none", "source": "this test"},
    }
    path = folder / "own.yaml"
    path.write_text(yaml.safe_dump(values | changes))
    return cards.load(path)


def art(**changes: Any) -> dict[str, Any]:
    mark = cards.load(ART).fingerprint()
    return {"card": ART, "fingerprint": mark, "layers": ["neck.out_coarse"]} | changes


def test_the_shipped_card() -> None:
    card = cards.load("detector-features")
    assert verify.verify(card).detail == f"embedding of {card.embedding_dim}, compared by cosine"
    method, shown = registry.build(card), pictures((200, 120), (64, 300), (31, 7))
    together = method(shown)
    assert together.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-6)
    for at, picture in enumerate(shown):
        assert method([picture])[0].tobytes() == together[at].tobytes(), "whatever is beside"
    assert method([]).shape == (0, card.embedding_dim)
    with pytest.raises(ValueError, match=r"image: expected uint8\[H, W, 3\]"):
        method([np.zeros((4, 4), np.uint8)])


def test_every_detector_weighs_as_much(tmp_path: Path) -> None:
    other = onnx_card(tmp_path)
    second = {"card": str(tmp_path / "made.yaml"), "fingerprint": other.fingerprint(), "layers": ["inner"]}
    method = registry.build(described(tmp_path, art(), second, embedding_dim=258))
    found = method(pictures((100, 80)))[0]
    assert np.linalg.norm(found[:256]) == pytest.approx(0.5**0.5, abs=1e-5)
    assert np.linalg.norm(found[256:]) == pytest.approx(0.5**0.5, abs=1e-5)


@pytest.mark.parametrize(
    ("detector", "changes", "message"),
    [
        ({"fingerprint": None}, {}, f"card own: detectors: {ART}: fingerprint: expected [0-9a-f]{{12}}, .* got None"),
        ({"fingerprint": "0" * 12}, {}, "features of one detector are none of another"),
        ({"layers": ["neck.none"]}, {}, "card own: layers: expected names .* got 'neck.none'; near: neck"),
        ({"layers": []}, {}, r"card own: settings: detectors\.0\.layers"),
        ({"pool": "sum"}, {}, r"card own: settings: detectors\.0\.pool"),
        ({"card": "efficientnet-lite2-art"}, {}, "expected cards of detectors, got 'efficientnet-lite2-art' of task"),
        ({}, {"embedding_dim": 255}, "card own: embedding_dim: expected 256, got 255"),
        ({}, {"metric": "euclidean"}, "and metric: cosine, got euclidean"),
    ],
)
def test_a_wrong_card(tmp_path: Path, detector: dict[str, Any], changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        registry.build(described(tmp_path, art(**detector), **changes))


def test_a_detector_whose_layers_cannot_be_read(tmp_path: Path) -> None:
    faces = {"card": "mtcnn", "fingerprint": cards.load("mtcnn").fingerprint(), "layers": ["pnet"]}
    with pytest.raises(ConfigError, match="detectors: mtcnn: expected one whose layers can be read, got mtcnn"):
        registry.build(described(tmp_path, faces))
    with pytest.raises(ConfigError, match="settings: detectors: "):
        registry.build(described(tmp_path))


def test_features_that_are_no_numbers_are_refused() -> None:
    def look(images: Any) -> list[layers.Told]:
        return [{"it": np.array([[np.nan if image.any() else 1]], np.float32)} for image in images]

    method = DetectorFeatures([Source(look, ["it"], "mean")])
    with pytest.raises(ValueError, match="embedding: expected features that are finite and not all zero"):
        method(pictures((8, 8)))
