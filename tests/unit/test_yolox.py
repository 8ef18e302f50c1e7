"""YOLOX-nano: the published weights give what ONNX Runtime gives, and a small one learns rectangles."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.ops import box_iou

from artray.detect import letterbox, yolox, yolox_engine, yolox_weights
from artray.detect.assign import Truth, together
from artray.detect.detection_loss import Weights, detection_loss
from artray.errors import ConfigError
from tests.yolox_files import blocks, folded, node, random_network, tensor, write_onnx

SHARED = Path(__file__).parents[3] / "shared" / "data"
ONNX = SHARED / "weights" / "yolox_nano.onnx"


pytestmark = pytest.mark.usefixtures("one_thread")


def test_size_and_shapes() -> None:
    network = yolox.YoloxNano(80).eval()
    # 0.91 million, as published
    assert sum(parameter.numel() for parameter in network.parameters()) == 912_159
    with torch.inference_mode():
        levels = network(torch.zeros(2, 3, 64, 96))
    assert [tuple(level.shape) for level in levels] == [(2, 85, 8, 12), (2, 85, 4, 6), (2, 85, 2, 3)]
    decoded = yolox.decode(levels)
    assert decoded.boxes_xyxy.shape == (2, 96 + 24 + 6, 4)
    assert decoded.class_scores.shape == (2, 126, 80)
    # a new network scores nothing high
    assert float(decoded.objectness.mean()) < 0.05


def test_sides_must_be_multiples_of_the_coarsest_cell() -> None:
    with pytest.raises(ValueError, match=r"expected sides that are multiples of 32, got \(1, 3, 64, 65\)"):
        yolox.YoloxNano(1)(torch.zeros(1, 3, 64, 65))


def test_boxes_of_hand_made_outputs() -> None:
    levels = [torch.zeros(1, 6, side, side) for side in (4, 2, 1)]
    # 16 px a cell, row 1, column 0: half a cell right of its corner at (0, 16), one cell down; twice and once as large
    levels[1][0, :, 1, 0] = torch.tensor([0.5, 1.0, np.log(2), 0.0, 0.0, 100.0])
    decoded = yolox.decode(levels)
    cell = 16 + 2
    assert decoded.boxes_xyxy[0, cell].tolist() == pytest.approx([8 - 16, 32 - 8, 8 + 16, 32 + 8])
    assert float(decoded.objectness[0, cell]) == 0.5
    assert float(decoded.class_scores[0, cell, 0]) == 1
    levels[1][0, 2] = 1e6
    assert yolox.decode(levels).boxes_xyxy.isfinite().all(), "a diverging width stays finite"


@pytest.mark.skipif(not ONNX.exists(), reason="the published weights are not here")
def test_published_weights_give_what_onnx_runtime_gives() -> None:
    runtime = pytest.importorskip("onnxruntime")
    import cv2

    session = runtime.InferenceSession(str(ONNX))
    network = yolox_engine.build(80, yolox_weights.from_onnx(ONNX)).double()
    files = sorted((SHARED / "art").glob("*.webp"))[::900]
    assert files
    for file in files:
        picture = cv2.imread(str(file))
        assert picture is not None
        canvas = letterbox.letterbox(picture[..., ::-1].astype(np.uint8), (416, 416)).canvas
        rgb = torch.from_numpy(canvas).permute(2, 0, 1)[None]
        expected = session.run(None, {"images": rgb.flip(1).float().numpy()})[0]
        with torch.inference_mode():
            levels = network(rgb.double())
        raw, decoded = yolox.gather(levels), yolox.decode(levels)
        # in float64, as the float32 of either library is that far from it: 1e-4 is what rounding leaves
        assert np.abs(decoded.objectness.numpy() - expected[..., 4]).max() < 1e-4
        assert np.abs(decoded.class_scores.numpy() - expected[..., 5:]).max() < 1e-4
        assert np.abs(raw.offsets.numpy() - expected[..., :4]).max() < 3e-4


@pytest.mark.skipif(not ONNX.exists(), reason="the published weights are not here")
def test_published_weights_find_a_person_in_rgb() -> None:
    import cv2

    picture = cv2.imread(str(SHARED / "art" / "13119-angelus.webp"))
    assert picture is not None
    rgb = picture[..., ::-1].astype(np.uint8)
    names = [f"class {number}" for number in range(80)]
    labels = {name: "persons (others)" if number == 0 else None for number, name in enumerate(names)}
    network = yolox_engine.build(80, yolox_weights.from_onnx(ONNX))
    found = yolox_engine.Yolox(network, names, labels, score_min=0.4)([rgb])[0]
    assert len(found.scores) == 2, "Millet's Angelus: a man and a woman"
    assert np.allclose(found.boxes_xyxy, [[102, 61, 182, 321], [255, 96, 350, 335]], atol=2)


def test_a_file_of_folded_norms_gives_the_same_network(tmp_path: Path) -> None:
    network, images = random_network(3), blocks(1, 64, seed=1)
    loaded = yolox_engine.build(3, yolox_engine.read(folded(network, tmp_path / "a.onnx")))
    with torch.inference_mode():
        for ours, expected in zip(loaded(images), network(images), strict=True):
            assert torch.allclose(ours, expected, atol=1e-3, rtol=1e-3)


def test_a_file_of_another_network(tmp_path: Path) -> None:
    few = write_onnx(tmp_path / "few.onnx", tensor("w", torch.ones(1)), node("Conv", "x", "w", "w"))
    with pytest.raises(ConfigError, match="expected 113 convolutions of YOLOX-nano, got 1"):
        yolox_weights.from_onnx(few)
    with pytest.raises(ConfigError, match=r"trunk.stem.conv: expected \(16, 12, 3, 3\), got \(8, 12, 3, 3\)"):
        yolox_weights.from_onnx(folded(random_network(3, channels=8), tmp_path / "small.onnx"))


def test_calibrated_norms_are_the_same_function_and_nearly_so_in_training(tmp_path: Path) -> None:
    tensors = yolox_weights.from_onnx(folded(random_network(3), tmp_path / "a.onnx"))
    images = blocks(8, 128, seed=1).double()
    plain = yolox_engine.build(3, tensors).double()
    calibrated = copy.deepcopy(plain).train()
    yolox_weights.calibrate(calibrated, images.split(4))
    assert calibrated.training, "is left as it was"
    with torch.no_grad():
        expected = yolox.gather(plain(images)).objectness
        in_training = [yolox.gather(copy.deepcopy(net).train()(images)).objectness for net in (calibrated, plain)]
        assert torch.allclose(yolox.gather(calibrated.eval()(images)).objectness, expected)
    error, error_before = (float((got - expected).abs().mean()) for got in in_training)
    assert error < 0.01, "on the very pictures that it was calibrated with"
    assert error_before > 10 * error, "what it is good for"


def test_nothing_to_calibrate_with() -> None:
    with pytest.raises(ValueError, match="expected at least one picture"):
        yolox_weights.calibrate(yolox.YoloxNano(1, channels=4), [])


def test_other_classes_start_from_those_that_are_like_them() -> None:
    tensors = random_network(3).state_dict()
    moved = yolox_weights.transfer(tensors, [[2], [0, 1], []])
    yolox_engine.build(3, moved)
    for name, old in tensors.items():
        if ".classes." not in name:
            assert moved[name] is old
            continue
        assert moved[name][0].equal(old[2])
        assert moved[name][1].allclose((old[0] + old[1]) / 2)
        # without a like one it scores 0.01 everywhere
        start = moved[name][2].sigmoid() if name.endswith("bias") else moved[name][2]
        assert start.allclose(torch.tensor(0.01 if name.endswith("bias") else 0.0))
    assert yolox_weights.transfer(tensors, [[0]] * 5)["heads.0.classes.bias"].shape == (5,)


def rectangles() -> tuple[Tensor, list[Truth]]:
    """Four pictures of 128 px: a red and a blue rectangle each, of two classes."""
    rng = np.random.default_rng(5)
    images = torch.full((4, 3, 128, 128), 114.0)
    truths = []
    for image in images:
        boxes = []
        for left, colour in ((4, 0), (68, 2)):  # one in each half
            x, y = left + int(rng.integers(0, 12)), int(rng.integers(4, 70))
            width, height = (int(side) for side in rng.integers(28, 44, 2))
            image[:, y : y + height, x : x + width] = 0
            image[colour, y : y + height, x : x + width] = 255
            boxes.append([x, y, x + width, y + height])
        known = torch.ones(2, dtype=torch.bool)
        truths.append(Truth(torch.tensor(boxes, dtype=torch.float32), torch.tensor([0, 1]), known, known))
    return images, truths


def test_a_small_network_learns_rectangles_by_heart() -> None:
    torch.manual_seed(0)
    images, truths = rectangles()
    network = yolox.YoloxNano(2, channels=8).train()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 0.1  # the published one takes longer than this to forget where it began
    optimiser = torch.optim.Adam(network.parameters(), lr=5e-3)
    told = []
    for _ in range(80):
        loss = detection_loss(network(images), together(truths)).total(Weights(l1=1.0))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        told.append(float(loss.detach()))
    assert told[-1] < told[0] / 4
    with torch.inference_mode():
        decoded = yolox.decode(network.eval()(images))
    scores = decoded.class_scores * decoded.objectness[..., None]
    for image, truth in enumerate(truths):
        for class_id, box in zip(truth.class_ids, truth.boxes_xyxy, strict=True):
            best = scores[image, :, class_id].argmax()
            assert float(box_iou(decoded.boxes_xyxy[image, best][None], box[None])) > 0.6
            assert float(scores[image, best, class_id]) > 2 * float(scores[image, best, 1 - class_id])
