"""Exported detectors: tiny models made here that find a coloured rectangle, and published ones where they are.

The tiny models look for what is bright in their first channel, so a box that comes out in the right place has gone
through letterbox, channel order, normalisation, network, head and back.
"""

import hashlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from artray.config import DetectConfig
from artray.detect import onnx_engine as engine
from artray.detect.found import Found
from artray.detect.stage import Detect
from artray.errors import ConfigError, RowError, TransientError
from artray.models import cards, registry

onnx = pytest.importorskip("onnx", reason="makes the models; in the dev extra")
pytest.importorskip("onnxruntime", reason="in the extra onnx")

CLASSES = ("person", "bus", "bear", "elephant")
LABELS = {"person": "persons (others)", "bus": None, "bear": "animals (others)", "elephant": "animals (others)"}
"""The taxonomy has no bus; bears and elephants are the same to it."""

SIDE = 64


pytestmark = pytest.mark.usefixtures("one_thread")


class Graph:
    """An ONNX graph while it is written."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        name = f"constant{len(self.constants)}"
        self.constants.append(onnx.numpy_helper.from_array(np.array(value, dtype), name))
        return name

    def add(self, kind: str, *inputs: str, **attributes: Any) -> str:
        name = f"{kind}{len(self.nodes)}"
        self.nodes.append(onnx.helper.make_node(kind, inputs, [name], **attributes))
        return name

    def save(self, path: Path, output: str, shape: Any = (1, 3, SIDE, SIDE), **how: Any) -> Path:
        value = onnx.helper.make_tensor_value_info
        graph = onnx.helper.make_graph(
            [*self.nodes, onnx.helper.make_node("Identity", [output], ["output"])],
            "made",
            [value("images", how.pop("dtype", onnx.TensorProto.FLOAT), shape)],
            [value("output", onnx.TensorProto.FLOAT, None)],
            self.constants,
        )
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
        onnx.save(model, path, **how)
        return path


def edges(graph: Graph, bright: str, axis: int) -> tuple[str, str]:
    """First and last bright column (axis 2) or row (axis 1) of float[1, H, W], the latter exclusive: float[1, 1]."""
    line = graph.add("ReduceMax", bright, axes=[3 - axis], keepdims=0)
    first = graph.add("ArgMax", line, axis=1, keepdims=1)
    last = graph.add("ArgMax", line, axis=1, keepdims=1, select_last_index=1)
    first, last = (graph.add("Cast", name, to=onnx.TensorProto.FLOAT) for name in (first, last))
    return first, graph.add("Add", last, graph.constant(1))


def finder(path: Path, head: str, scores: Any = (0, 0, 0.5, 0.75), **how: Any) -> Path:
    """A model whose one box is around what is bright in the first channel; it scores nothing where nothing is.

    In black pictures its score is 0 / 0.
    """
    graph = Graph()
    pixels = graph.add("Cast", "images", to=onnx.TensorProto.FLOAT)
    first_channel = graph.add("Gather", pixels, graph.constant(0, np.int64), axis=1)
    bright = graph.add("Greater", first_channel, graph.constant(how.pop("above", 0.5)))
    bright = graph.add("Cast", bright, to=onnx.TensorProto.FLOAT)
    (x1, x2), (y1, y2) = edges(graph, bright, 2), edges(graph, bright, 1)
    top = graph.add("ReduceMax", pixels, keepdims=0)
    seen = graph.add("ReduceMax", bright, axes=[1, 2], keepdims=0)
    seen = graph.add("Mul", seen, graph.add("Div", top, top))
    found = graph.add("Mul", graph.add("Unsqueeze", seen, graph.constant([1], np.int64)), graph.constant([scores]))
    half = graph.constant(0.5)
    centre = [graph.add("Mul", graph.add("Add", *pair), half) for pair in ((x1, x2), (y1, y2))]
    size = [graph.add("Sub", *pair) for pair in ((x2, x1), (y2, y1))]
    if head == "end2end":
        best = graph.add("ReduceMax", found, axes=[1])
        class_id = graph.add("ArgMax", found, axis=1)
        parts = [x1, y1, x2, y2, best, graph.add("Cast", class_id, to=onnx.TensorProto.FLOAT)]
    elif head == "yolov5":
        parts = [*centre, *size, graph.constant([[0.5]]), found]
    else:
        parts = [*centre, *size, found]
    row = graph.add("Concat", *parts, axis=1)
    row = graph.add("Unsqueeze", row, graph.constant([2 if head == "yolov8" else 1], np.int64))
    several = graph.constant([1, 1, 3] if head == "yolov8" else [1, 3, 1], np.int64)
    return graph.save(path, graph.add("Tile", row, several), **how)


def written(folder: Path, model: Path, head: str, settings: Mapping[str, Any] | None = None, **values: Any) -> Path:
    """A card in a file, as a user writes one."""
    card = {
        "name": "made",
        "task": "detect",
        "architecture": f"onnx/{head}",
        "yields": ["objects"],
        "classes": list(CLASSES),
        "labels": LABELS,
        "score_min": 0.25,
        "settings": {"size_wh": [SIDE, SIDE], **(settings or {})},
        "weights": {"model": {"uri": str(model), "sha256": hashlib.sha256(model.read_bytes()).hexdigest()}},
        "licence": "none",
        "source": "made for this test",
    }
    path = folder / "made.yaml"
    path.write_text(yaml.safe_dump(card | values))
    return path


def built(folder: Path, model: Path, head: str, settings: Mapping[str, Any] | None = None, **values: Any) -> Any:
    return registry.build(cards.load(written(folder, model, head, settings, **values)))


def picture(width: int, height: int, box: tuple[int, int, int, int], colour: Any = (255, 0, 0)) -> Any:
    """A rectangle of a colour on dark grey; read-only, as batches from Ray are."""
    image = np.full((height, width, 3), 20, np.uint8)
    image[box[1] : box[3], box[0] : box[2]] = colour
    image.flags.writeable = False
    return image


LANDSCAPE = picture(128, 64, (20, 10, 60, 30))
PORTRAIT = picture(64, 128, (20, 10, 60, 30))


@pytest.mark.parametrize("head", ["yolov5", "yolov8", "end2end"])
@pytest.mark.parametrize("place", ["centre", "corner"])
def test_a_known_rectangle_comes_out(head: str, place: str, tmp_path: Path) -> None:
    model = finder(tmp_path / "made.onnx", head)
    detector = built(tmp_path, model, head, {"place": place})
    assert detector.class_names == ("persons (others)", "animals (others)")
    score = 0.75 * (0.5 if head == "yolov5" else 1)  # v5 multiplies by how sure it is of an object
    times = 3 if head == "end2end" else 1  # the box is there three times; such a head's are all kept
    for found in detector([LANDSCAPE, PORTRAIT]):
        assert found.boxes_xyxy.tolist() == [[20, 10, 60, 30]] * times
        assert found.scores.tolist() == [score] * times
        assert [detector.class_names[class_id] for class_id in found.class_ids] == ["animals (others)"] * times


@pytest.mark.parametrize("size_wh", [(96, 64), (64, 96)])
@pytest.mark.parametrize("shape", [(1, 3, "height", "width"), ("images", 3, None, None)])
def test_inputs_need_be_neither_square_nor_fixed(size_wh: tuple[int, int], shape: Any, tmp_path: Path) -> None:
    model = finder(tmp_path / "made.onnx", "yolov8", shape=shape)
    for resize in ("letterbox", "squash"):
        detector = built(tmp_path, model, "yolov8", {"size_wh": list(size_wh), "resize": resize})
        for image, (right, bottom) in ((picture(192, 64, (0, 0, 96, 32)), (96, 32)), (PORTRAIT, (60, 30))):
            (found,) = detector([image])
            np.testing.assert_allclose(found.boxes_xyxy[0, 2:], [right, bottom], atol=2)


def test_small_images_are_enlarged(tmp_path: Path) -> None:
    detector = built(tmp_path, finder(tmp_path / "made.onnx", "yolov8"), "yolov8")
    (found,) = detector([picture(16, 8, (4, 2, 10, 6))])
    np.testing.assert_allclose(found.boxes_xyxy, [[4, 2, 10, 6]], atol=0.25)


def test_channels_mean_and_std_are_the_cards(tmp_path: Path) -> None:
    model = finder(tmp_path / "made.onnx", "yolov8", above=1.2)
    blue = picture(128, 64, (20, 10, 60, 30), (0, 0, 255))
    settings = {"mean": [5, 0, 0], "std": [200, 1, 1], "channels": "bgr"}  # (255 - 5) / 200 = 1.25
    red_found, blue_found = built(tmp_path, model, "yolov8", settings)([LANDSCAPE, blue])
    assert len(red_found.scores) == 0
    assert blue_found.boxes_xyxy.tolist() == [[20, 10, 60, 30]]
    assert len(built(tmp_path, model, "yolov8", settings | {"mean": [20, 0, 0]})([blue])[0].scores) == 0  # 1.175


def test_the_letterbox_is_filled_with_the_cards_grey(tmp_path: Path) -> None:
    settings = engine.Settings(size_wh=(64, 32), pad=77, std=(1, 1, 1))
    pixels, letter = engine.show(np.zeros((10, 10, 3), np.uint8), settings)
    assert pixels.shape == (3, 32, 64)
    assert letter.offset_xy == (16, 0)
    assert set(np.unique(pixels[:, :, :16])) == set(np.unique(pixels[:, :, 48:])) == {77.0}
    assert not pixels[:, :, 16:48].any()


def test_half_precision_goes_in_where_the_model_wants_it(tmp_path: Path) -> None:
    model = finder(tmp_path / "made.onnx", "yolov8", dtype=onnx.TensorProto.FLOAT16)
    assert built(tmp_path, model, "yolov8")([LANDSCAPE])[0].boxes_xyxy.tolist() == [[20, 10, 60, 30]]


def made(*rows: tuple[list[float], float, int]) -> Found:
    boxes, scores, ids = zip(*rows, strict=True)
    return Found(np.array(boxes, np.float32), np.array(scores, np.float32), np.array(ids, np.int64))


def test_suppression_goes_by_artrays_classes() -> None:
    here, there = [0, 0, 10, 10], [50, 50, 60, 60]
    # a bus, which is nothing here, a bear that is found as an elephant too, a person in the same place
    found = made((here, 0.9, 1), (here, 0.8, 2), (here, 0.7, 3), (here, 0.6, 0), (there, 0.5, 3), (there, 0.2, 0))
    ids = np.array([0, -1, 1, 1])
    kept = engine.select(found, ids, 0.25, engine.Settings(size_wh=(64, 64)), overlapping=True)
    assert kept.class_ids.tolist() == [1, 0, 1]
    np.testing.assert_allclose(kept.scores, [0.8, 0.6, 0.5])
    two = engine.Settings(size_wh=(64, 64), max_boxes=2)
    assert len(engine.select(found, ids, 0.25, two, overlapping=True).scores) == 2
    free = engine.select(found, ids, 0.25, two, overlapping=False)
    np.testing.assert_allclose(free.scores, [0.8, 0.7])
    assert engine.select(found, ids, np.float32(0.8), two, overlapping=False).class_ids.tolist() == [1]


def test_a_score_that_is_no_number_costs_its_image_alone(tmp_path: Path) -> None:
    # the model divides by the brightest value: 0 / 0 in a black picture that no letterbox surrounds
    card = written(tmp_path, finder(tmp_path / "made.onnx", "yolov8"), "yolov8", {"resize": "squash"})
    images = [LANDSCAPE, np.zeros((32, 32, 3), np.uint8), LANDSCAPE]
    with pytest.raises(RowError, match=r"scores: expected numbers in \[0, 1\], got nan"):
        registry.build(cards.load(card))(images)
    sizes = {"width_px": [128, 32, 128], "height_px": [64, 32, 64]}
    batch = {"pixels": images, "error": [""] * 3, "error_detail": [""] * 3, **sizes}
    done = Detect(DetectConfig(cards=(str(card),)))(batch)
    assert done["error"] == ["", "model_failed", ""]
    assert "scores: expected numbers" in done["error_detail"][1]
    assert done["objects"][0] == done["objects"][2]
    assert len(done["objects"][0]) == 1


def test_corners_that_are_no_numbers_count_where_the_score_does() -> None:
    found = made(([0, np.nan, 1, 1], 0.2, 0), ([0, 0, 1, 1], 1.0005, 0))
    assert engine.sound(found, 0.25).scores.tolist() == [np.float32(0.2), 1]
    with pytest.raises(RowError, match="boxes: expected finite numbers"):
        engine.sound(found, 0.1)


@pytest.mark.parametrize("scores", [(0, 0, 0, 1.5), (-2, -2, -2, -1)])
def test_logits_are_refused(scores: Any, tmp_path: Path) -> None:
    detector = built(tmp_path, finder(tmp_path / "made.onnx", "yolov8", scores), "yolov8")
    with pytest.raises(RowError, match=r"expected numbers in \[0, 1\], got .*; is the last layer a sigmoid"):
        detector([LANDSCAPE])


@pytest.mark.parametrize(
    ("head", "settings", "values", "message"),
    [
        ("yolov9", {}, {}, "card made: architecture: expected one of onnx/end2end, "),
        ("yolov5", {}, {}, r"card made: outputs: expected 1 of shape \[1, N, 9\], got 1 of shape \[1, 8, 3\]"),
        ("yolov8", {"extras": 5}, {}, r"expected 1 of shape \[1, 13, N\]"),
        ("yolov8", {"size_wh": [96, 64]}, {}, r"input: expected shape \[1, 3, 64, 96\] .*, got \[1, 3, 64, 64\]"),
        ("yolov8", {"size_wh": [16, 64]}, {}, "card made: settings: size_wh: expected width and height from 32"),
        ("yolov8", {"max_boxes": 0}, {}, "settings: max_boxes: Input should be greater than or equal to 1, got 0"),
        ("yolov8", {"iou_max": 1.5}, {}, "settings: iou_max: Input should be less than or equal to 1"),
        ("yolov8", {"std": [1, 0, 1]}, {}, "settings: std: expected positive numbers"),
        ("yolov8", {"strides": [8, 0]}, {}, "settings: strides: expected positive numbers"),
        ("yolov8", {"sice": 3}, {}, "settings: sice: Extra inputs .*; known keys: size_wh, resize"),
        ("yolov8", {"outputs": ["boxes"]}, {}, "settings.outputs: expected some of output, got 'boxes'"),
        ("yolov8", {}, {"classes": ["a", "b", "c", "d"]}, "labels: expected an entry for every class, got none for"),
        ("yolov8", {}, {"classes": []}, "card made: expected classes, and weights with the role model"),
        (
            "yolov8",
            {},
            {"input": {"size_px": 64, "mean": [0, 0, 0], "std": [1, 1, 1]}},
            "card made: input: expected none, as settings say",
        ),
    ],
)
def test_cards_that_do_not_fit_are_refused(head: str, settings: Any, values: Any, message: str, tmp_path: Path) -> None:
    model = finder(tmp_path / "made.onnx", "yolov8")
    with pytest.raises(ConfigError, match=message):
        built(tmp_path, model, head, settings, **values)


def test_outputs_are_chosen_by_name(tmp_path: Path) -> None:
    model = finder(tmp_path / "made.onnx", "yolov8")
    assert len(built(tmp_path, model, "yolov8", {"outputs": ["output"]})([LANDSCAPE])[0].scores) == 1


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    model = tmp_path / "made.onnx"
    model.write_bytes(b"no model")
    with pytest.raises(ConfigError, match="card made: model: expected an ONNX file with all its weights, got Invalid"):
        built(tmp_path, model, "yolov8")


def test_weights_in_a_second_file_are_refused_as_nobody_verified_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    how = {"save_as_external_data": True, "location": "second.bin", "size_threshold": 0}
    model = finder(tmp_path / "made.onnx", "yolov8", **how)
    assert (tmp_path / "second.bin").exists()
    with pytest.raises(ConfigError, match="expected an ONNX file with all its weights, got Fail"):
        built(tmp_path, model, "yolov8")


def test_without_onnxruntime_it_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = finder(tmp_path / "made.onnx", "yolov8")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(
        ConfigError, match=r"onnxruntime: expected the package, got none; .*pip install 'artray\[onnx\]"
    ):
        built(tmp_path, model, "yolov8")


def test_a_gpu_is_used_with_a_runtime_that_has_it_or_not_at_all(tmp_path: Path) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime knows CUDA")
    model = finder(tmp_path / "made.onnx", "yolov8")
    with pytest.raises(ConfigError, match="expected an ONNX Runtime with CUDAExecutionProvider for 'cuda:0'"):
        engine.open_session(model, "cuda:0")


def test_a_lost_gpu_is_nobodys_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Lost:
        def run(self, *_: Any) -> None:
            raise RuntimeError("CUDA failure 719: unspecified launch failure\n; GPU=0")

    detector = built(tmp_path, finder(tmp_path / "made.onnx", "yolov8"), "yolov8")
    monkeypatch.setattr(detector, "_session", Lost())
    with pytest.raises(TransientError, match=r"the GPU fails \(RuntimeError: CUDA failure 719"):
        detector([LANDSCAPE])


def test_no_images_give_nothing(tmp_path: Path) -> None:
    assert built(tmp_path, finder(tmp_path / "made.onnx", "yolov8"), "yolov8")([]) == []
