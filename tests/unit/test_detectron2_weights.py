"""detectron2's weights in torchvision's detectors, as far as it can be seen without detectron2."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from artray.detect import detectron2_inputs, detectron2_twin, detectron2_weights, torchvision_engine
from artray.detect.found import Found
from artray.errors import ConfigError
from artray.models import registry
from tests.detectron2_models import CLASSES, STAGES, as_zoo_file, card, file_of, layer, picture, seed, shapes

pytestmark = pytest.mark.usefixtures("one_thread")

R50 = "fasterrcnn_resnet50_fpn"
SMALL = {"from": "detectron2", "min_size": 96, "max_size": 160, "proposals": 50}


def blank(architecture: str, num_classes: int = 5) -> dict[str, Tensor]:
    """A state dict of detectron2's without values."""
    return {name: torch.empty(shape, device="meta") for name, shape in shapes(architecture, num_classes).items()}


def drawn(architecture: str) -> dict[str, Tensor]:
    """A state dict of detectron2's with small random values."""
    generator = torch.Generator().manual_seed(3)
    made = {
        name: torch.randn(shape, generator=generator) / max(1, int(np.prod(shape[1:]))) ** 0.5
        for name, shape in shapes(architecture, len(CLASSES) - 1).items()
    }
    seed(made)
    return made


@pytest.fixture(scope="module")
def tensors() -> dict[str, Tensor]:
    return drawn(R50)


@pytest.fixture(scope="module")
def file(tensors: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tensors as a file of detectron2's model zoo."""
    return as_zoo_file(tmp_path_factory.mktemp("made") / "made.pkl", tensors)


@pytest.mark.parametrize("architecture", STAGES)
def test_every_weight_has_its_place(architecture: str) -> None:
    with torch.device("meta"):
        twin = detectron2_twin.construct(architecture, 6, 0.0, detectron2_twin.Settings())
    expected = torchvision_engine._weights_of(twin.state_dict())
    converted = detectron2_weights.convert(blank(architecture))
    assert {name: tensor.shape for name, tensor in converted.items()} == {
        name: tensor.shape for name, tensor in expected.items()
    }
    assert architecture in detectron2_twin.ZOO
    assert architecture in registry.architectures("detect")


def test_only_the_box_predictor_changes(tensors: dict[str, Tensor]) -> None:
    converted = detectron2_weights.convert(tensors)
    unchanged = {id(tensor) for tensor in tensors.values()} & {id(tensor) for tensor in converted.values()}
    assert len(tensors) == len(converted)
    assert len(converted) - len(unchanged) == 4
    old, new = tensors["roi_heads.box_predictor.cls_score.bias"], converted["roi_heads.box_predictor.cls_score.bias"]
    assert new.tolist() == [old[5], *old[:5]], "the background is torchvision's first class and detectron2's last"
    old, new = tensors["roi_heads.box_predictor.bbox_pred.bias"], converted["roi_heads.box_predictor.bbox_pred.bias"]
    assert new.tolist() == [0, 0, 0, 0, *old], "the background has a box in torchvision, which nobody reads"


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("backbone.bottom_up.stem.conv1.norm.running_var", "backbone.body.bn1.running_var"),
        ("backbone.bottom_up.res2.0.shortcut.norm.bias", "backbone.body.layer1.0.downsample.1.bias"),
        ("backbone.bottom_up.res5.2.conv3.weight", "backbone.body.layer4.2.conv3.weight"),
        ("backbone.fpn_lateral2.weight", "backbone.fpn.inner_blocks.0.0.weight"),
        ("backbone.fpn_output5.bias", "backbone.fpn.layer_blocks.3.0.bias"),
        ("proposal_generator.rpn_head.conv.weight", "rpn.head.conv.0.0.weight"),
        ("roi_heads.box_head.fc2.weight", "roi_heads.box_head.fc7.weight"),
    ],
)
def test_names_of_a_faster_rcnn(theirs: str, ours: str, tensors: dict[str, Tensor]) -> None:
    assert detectron2_weights.convert(tensors)[ours] is tensors[theirs]


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("backbone.fpn_lateral3.weight", "backbone.fpn.inner_blocks.0.0.weight"),
        ("backbone.top_block.p7.bias", "backbone.fpn.extra_blocks.p7.bias"),
        ("head.cls_subnet.6.weight", "head.classification_head.conv.3.0.weight"),
        ("head.bbox_subnet.0.bias", "head.regression_head.conv.0.0.bias"),
        ("head.bbox_pred.weight", "head.regression_head.bbox_reg.weight"),
    ],
)
def test_names_of_a_retinanet(theirs: str, ours: str) -> None:
    given = blank("retinanet_resnet50_fpn")
    assert detectron2_weights.convert(given)[ours] is given[theirs]


def test_what_older_checkpoints_hold_besides_is_left_out(tensors: dict[str, Tensor]) -> None:
    more = {
        "pixel_mean": torch.ones(3, 1, 1),
        "pixel_std": torch.ones(3, 1, 1),
        "proposal_generator.anchor_generator.cell_anchors.0": torch.ones(3, 4),
        "anchor_generator.cell_anchors.4": torch.ones(9, 4),
        "backbone.bottom_up.stem.conv1.norm.num_batches_tracked": torch.tensor(3),
    }
    assert set(detectron2_weights.convert(tensors | more)) == set(detectron2_weights.convert(tensors))


def test_norms_without_statistics_have_mean_0_and_variance_1(tensors: dict[str, Tensor]) -> None:
    bare = {name: tensor for name, tensor in tensors.items() if ".norm.running" not in name}
    converted = detectron2_weights.convert(bare)
    assert set(converted) == set(detectron2_weights.convert(tensors))
    assert converted["backbone.body.layer3.0.downsample.1.running_mean"].tolist() == [0] * 1024
    assert converted["backbone.body.bn1.running_var"].tolist() == [1] * 64


@pytest.mark.parametrize(
    "name",
    [
        "roi_heads.res5.0.conv1.weight",  # without a pyramid: C4, DC5
        "roi_heads.mask_head.mask_fcn1.weight",
        "roi_heads.box_predictor.0.cls_score.weight",  # a cascade
        "roi_heads.box_head.conv1.weight",
        "backbone.bottom_up.res3.0.conv2_offset.weight",  # deformable
        "backbone.fpn_lateral2.norm.weight",  # group norm
        "conv1_w",  # Caffe2's
    ],
)
def test_weights_of_other_architectures_are_refused_by_name(name: str, tensors: dict[str, Tensor]) -> None:
    with pytest.raises(ConfigError, match=rf"feature pyramid on a ResNet, got {name}, .*\(architecture: detectron2\)"):
        detectron2_weights.convert(tensors | {name: torch.ones(1)})


def test_one_box_for_all_classes_is_refused(tensors: dict[str, Tensor]) -> None:
    with pytest.raises(ConfigError, match="expected boxes of each class, got one for all classes"):
        detectron2_weights.convert(tensors | {"roi_heads.box_predictor.bbox_pred.bias": torch.zeros(4)})


@pytest.mark.parametrize(
    ("architecture", "settings", "message"),
    [
        (R50, {}, r"expected torchvision's, got detectron2's: say so with settings: \{from: detectron2\}"),
        (R50, {"from": "mmdetection"}, "settings.from: expected detectron2, got 'mmdetection'"),
        ("fcos_resnet50_fpn", {"from": "detectron2"}, "expected one of fasterrcnn_resnet50_fpn, .* for weights from"),
        (R50, {"from": "detectron2", "min_sice": 3}, "settings: min_sice: .*; known keys: stride_in_1x1, channels"),
        (R50, {"from": "detectron2", "std": [1, 0, 1]}, "settings: std: expected three positive numbers"),
        ("fasterrcnn_resnet101_fpn", {"from": "detectron2"}, "expected a tensor backbone.body.layer3.6.conv1.weight"),
        (
            "retinanet_resnet50_fpn",
            {"from": "detectron2"},
            "expected those of retinanet_resnet50_fpn, got",
        ),
    ],
)
def test_cards_that_cannot_be_are_refused(
    architecture: str, settings: dict[str, Any], message: str, file: Path
) -> None:
    with pytest.raises(ConfigError, match=f"card made: .*{message}"):
        registry.build(card(file, architecture, settings))


def test_a_background_must_be_among_the_classes(file: Path) -> None:
    with pytest.raises(ConfigError, match=r"box_predictor.*does the number of classes agree"):
        registry.build(card(file, R50, SMALL, classes=CLASSES[1:]))


def test_what_is_found_is_the_same_bit_for_bit_whatever_is_beside(file: Path) -> None:
    detector = registry.build(card(file, R50, SMALL, score_min=0.0))
    images = [picture("gc_det_van_gogh_night_cafe.jpg"), np.zeros((7, 90, 3), np.uint8), picture("fc_mon_louis.png")]
    together = detector(images)
    assert sum(len(found.scores) for found in together) > 10
    for image, found in zip(images, together, strict=True):
        alone = detector([image])[0]
        assert all(np.array_equal(a, b) for a, b in zip(alone, found, strict=True))
        assert within(found, image.shape[1], image.shape[0])
    assert detector.class_names == ("angel", "mary", "cow", "ship")


def within(found: Found, width_px: int, height_px: int) -> bool:
    x1, y1, x2, y2 = found.boxes_xyxy.T
    return bool(((x1 >= 0) & (y1 >= 0) & (x2 <= width_px) & (y2 <= height_px) & (x1 < x2) & (y1 < y2)).all())


def test_groups_of_an_accelerator_share_a_padded_size(file: Path) -> None:
    """500 x 634 becomes 96 x 122 (detectron2 rounds), 400 x 525 becomes 96 x 126: both 96 x 128 when padded."""
    detector = registry.build(card(file, R50, SMALL))
    images = [np.zeros((500, 634, 3), np.uint8), np.zeros((634, 500, 3), np.uint8), np.zeros((400, 525, 3), np.uint8)]
    assert detector._groups(images) == [[0], [1], [2]]
    detector._device = torch.device("cuda")  # only how images are grouped depends on it
    assert detector._groups(images) == [[0, 2], [1]]


def test_sizes_are_rounded_as_detectron2_rounds() -> None:
    assert detectron2_inputs.resized_hw(480, 640, 800, 1333) == (800, 1067)  # 1066.7; torchvision has 1066
    assert detectron2_inputs.resized_hw(640, 480, 800, 1333) == (1067, 800)
    assert detectron2_inputs.resized_hw(600, 2000, 800, 1333) == (400, 1333)  # 399.9
    assert detectron2_inputs.resized_hw(600, 2000, 0, 1333) == (600, 2000)
    assert detectron2_inputs.resized_hw(1, 3000, 800, 1333) == (1, 1333)  # where detectron2 fails: it has 0


def test_pictures_are_shown_in_the_networks_order_and_scale() -> None:
    settings = detectron2_twin.Settings(min_size=0, mean=(10, 20, 30), std=(1, 2, 4))
    transform = detectron2_twin.Transform(settings, (1, 2, 4))
    red = torch.zeros(3, 2, 2)
    red[0] = 50 / 255
    shown, _ = transform([red])
    assert shown.image_sizes == [(2, 2)]
    assert shown.tensors[0, :, 0, 0].tolist() == [-10, -10, 5], "blue, green, red"
    assert shown.tensors.shape == (1, 3, 32, 32)
    assert shown.tensors[0, :, 31, 31].tolist() == [0, 0, 0], "what pads is the mean"


def test_anchors_are_not_rounded_and_a_stride_apart() -> None:
    """64 px with ratio 1/2: 64 * sqrt(2) = 90.51 wide and half as high; the second one 8 px to the right."""
    anchors = detectron2_twin.Anchors([(64,)], (8,))
    images = detectron2_twin.ImageList(torch.zeros(1, 3, 24, 40), [(24, 40)])
    made = anchors(images, [torch.zeros(1, 1, 3, 5)])[0]
    assert made.shape == (3 * 5 * 3, 4)
    np.testing.assert_allclose(made[0], [-45.2548, -22.6274, 45.2548, 22.6274], atol=1e-4)
    assert (made[3] - made[0]).tolist() == [8, 0, 8, 0]
    assert (made[15] - made[0]).tolist() == [0, 8, 0, 8]


def test_the_smallest_level_keeps_its_stride_where_sizes_do_not_divide() -> None:
    """5 cells of 32 px become 3 of 64 px; 160 // 3 = 53 is what torchvision takes for the stride."""
    anchors = detectron2_twin.Anchors([(512,)], (64,))
    images = detectron2_twin.ImageList(torch.zeros(1, 3, 32, 160), [(32, 160)])
    made = anchors(images, [torch.zeros(1, 1, 1, 3)])[0]
    assert (made[3] - made[0]).tolist() == [64, 0, 64, 0]


def test_sizes_come_before_ratios_in_a_cell() -> None:
    made = detectron2_twin.Anchors([(32, 64)], (8,)).cell_anchors[0]
    widths = (made[:, 2] - made[:, 0]).tolist()
    np.testing.assert_allclose(widths, [side / ratio**0.5 for side in (32, 64) for ratio in (0.5, 1, 2)], rtol=1e-6)


def test_sure_regions_are_told_apart() -> None:
    """Logits of 20 and 21 are the same score, 1, in single precision; the surer of two that overlap stays."""
    with torch.device("meta"):
        proposals = detectron2_twin.construct(R50, 2, 0.0, detectron2_twin.Settings()).eval().rpn
    boxes = torch.tensor([[[0.0, 0, 10, 10], [0, 0, 10, 9], [20, 0, 20, 5], [-5, 0, 0, 5]]])
    logits = torch.tensor([[20.0, 21.0, 30.0, 30.0]])
    assert logits.sigmoid()[0, 0] == logits.sigmoid()[0, 1]
    kept, scores = proposals.filter_proposals(boxes, logits, [(32, 32)], [4])
    assert kept[0].tolist() == [[0, 0, 10, 9]], "nor do regions without area stay, or beyond the picture"
    assert scores[0].tolist() == [21]


def test_regions_are_pooled_at_the_centres_of_cells() -> None:
    """A slope of 1 per cell, whose values stand for the cells' centres: a region's bins average to their own centres.

    112 px wide and high is level 3 (stride 8): 14 cells, 2 a bin; the first bin's centre lies 1 cell after the region's
    edge at cell 2, so at 3, whose value is 2.5, as cell 0 with value 0 has its centre at 0.5.
    """
    slope = torch.arange(64.0).expand(1, 1, 64, 64)
    features = {str(number): slope if number == 1 else torch.full_like(slope, -1) for number in range(5)}
    pooled = detectron2_twin.Pool()(features, [torch.tensor([[16.0, 16.0, 128.0, 128.0]])], None)
    np.testing.assert_allclose(pooled[0, 0, 0], [2.5 + 2 * bin for bin in range(7)], atol=1e-4)


def test_a_strides_place_changes_and_its_size_does_not() -> None:
    with torch.device("meta"):
        models = [
            detectron2_twin.construct(R50, 2, 0.0, detectron2_twin.Settings(stride_in_1x1=early)).backbone.body
            for early in (True, False)
        ]
    for body, (first, second) in zip(models, [((2, 2), (1, 1)), ((1, 1), (2, 2))], strict=True):
        assert [body[f"layer{stage}"][0].conv1.stride for stage in (1, 2, 3, 4)] == [(1, 1), first, first, first]
        assert [body[f"layer{stage}"][0].conv2.stride for stage in (1, 2, 3, 4)] == [(1, 1), second, second, second]


def test_boxes_are_placed_and_those_without_area_go() -> None:
    transform = detectron2_twin.Transform(detectron2_twin.Settings(), (1, 1, 1))
    found = {
        "boxes": torch.tensor([[10.0, 10.0, 30.0, 30.0], [10.0, 10.0, 10.0, 30.0], [0.0, 0.0, 500.0, 8.0]]),
        "scores": torch.tensor([0.9, 0.8, 0.7]),
        "labels": torch.tensor([1, 2, 3]),
    }
    placed = transform.postprocess([found], [(100, 200)], [(50, 400)])[0]
    assert placed["boxes"].tolist() == [[20, 5, 60, 15], [0, 0, 400, 4]]
    assert placed["labels"].tolist() == [1, 3]


def test_without_detectron2_its_architecture_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "detectron2", None)
    (tmp_path / "any.pkl").write_bytes(b"")
    described = card(tmp_path / "any.pkl", "detectron2", {"config": "COCO-Detection/faster_rcnn_R_50_FPN_3x.yaml"})
    with pytest.raises(ConfigError, match=r"card made: .* expected detectron2 to be installed, got none; install"):
        registry.build(described)


def test_a_detectron2_card_has_one_configuration(tmp_path: Path) -> None:
    (tmp_path / "any.pkl").write_bytes(b"")
    files = {"model": file_of(tmp_path / "any.pkl"), "config": file_of(tmp_path / "any.pkl")}
    for settings, more in [({}, {}), ({"config": "any.yaml"}, {"weights": files})]:
        with pytest.raises(ConfigError, match=r"card made: expected either settings\.config or a file with the role"):
            registry.build(card(tmp_path / "any.pkl", "detectron2", settings, **more))
    with pytest.raises(ConfigError, match=r"card made: settings: trained: .*known keys: config, options"):
        registry.build(card(tmp_path / "any.pkl", "detectron2", {"trained": True}))
    with pytest.raises(ConfigError, match="expected classes, and weights with the role model"):
        registry.build(card(tmp_path / "any.pkl", "detectron2", {}, classes=()))


def test_layers_of_the_table_are_not_forgotten() -> None:
    """Published: R-50's Faster R-CNN of COCO has 295 tensors in detectron2's model zoo."""
    assert len(shapes(R50, 80)) == 295
    assert layer("a", 3, 2) == {"a.weight": (3, 2), "a.bias": (3,)}
