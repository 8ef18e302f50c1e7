"""torchvision's detectors: loaded like torchvision loads them, and independent of their neighbours.

Weights cannot be downloaded in tests, so real networks are given random ones. Where torchvision's own loading is the
reference, its download is replaced by the same random tensors and everything else in it runs.
"""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.models import WeightsEnum, detection
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops.misc import FrozenBatchNorm2d

from artray.detect import own_classes
from artray.detect import torchvision_engine as engine
from artray.detect.found import Found
from artray.errors import ConfigError
from artray.models import cards, registry
from artray.models.cards import Card
from artray.taxonomy import CATEGORY

SSDLITE = "ssdlite320_mobilenet_v3_large"
COCO_CARDS = ("fasterrcnn-resnet50-coco", "retinanet-resnet50-coco", "ssdlite-mobilenet-coco")
CLASSES = ("__background__", "person", "bicycle", "boat", "sheep")
LABELS = {"person": "persons (others)", "bicycle": None, "boat": "ship", "sheep": "animals (others)"}
SMALL = {"min_size": 64, "max_size": 96}


pytestmark = pytest.mark.usefixtures("one_thread")


def images(*sizes_hw: tuple[int, int]) -> list[Any]:
    rng = np.random.default_rng(7)
    made = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes_hw]
    for image in made:
        image.flags.writeable = False  # as batches from Ray are
    return made


def tensors_of(images: list[Any]) -> list[Tensor]:
    return [torch.from_numpy(image.copy()).permute(2, 0, 1).to(torch.float32) / 255 for image in images]


def random_state(architecture: str, num_classes: int, **settings: Any) -> dict[str, Tensor]:
    """The tensors of a network with random weights, whose norms are not the identity that they start as."""
    torch.manual_seed(3)
    made = engine._constructed(architecture, num_classes, settings)
    state = made.state_dict()
    for name, tensor in state.items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 1.5)
        elif name.endswith("running_mean"):
            tensor.uniform_(-0.1, 0.1)
        elif architecture == SSDLITE and "head" in name and tensor.ndim == 4:
            tensor.mul_(8)  # else all classes score alike, and hardly any box above the least score
    return state


def same(a: Found, b: Found) -> bool:
    columns = ("boxes_xyxy", "scores", "class_ids")
    pairs = [(getattr(a, name), getattr(b, name)) for name in columns]
    return all(x.tobytes() == y.tobytes() and x.dtype == y.dtype for x, y in pairs)


@pytest.fixture(scope="module")
def ssdlite_state() -> dict[str, Tensor]:
    return random_state(SSDLITE, len(CLASSES))


@pytest.fixture(scope="module")
def ssdlite(ssdlite_state: dict[str, Tensor]) -> engine.Torchvision:
    return engine.Torchvision(engine.build(SSDLITE, len(CLASSES), ssdlite_state, 0.1), CLASSES, LABELS)


def test_ssdlite_finds_what_plain_torchvision_finds(
    ssdlite: engine.Torchvision, ssdlite_state: dict[str, Tensor]
) -> None:
    plain = detection.ssdlite320_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=len(CLASSES), score_thresh=0.1
    ).eval()
    plain.load_state_dict(ssdlite_state)
    shown = images((240, 320))
    with torch.inference_mode():
        expected = plain(tensors_of(shown))[0]
    kept = expected["labels"] != CLASSES.index("bicycle")
    assert 0 < int(kept.sum()) < len(kept), "some boxes must map to a class, and some to nothing"
    found = ssdlite(shown)[0]
    assert np.array_equal(found.boxes_xyxy, expected["boxes"][kept].numpy())
    assert np.array_equal(found.scores, expected["scores"][kept].numpy())
    names = [ssdlite.class_names[class_id] for class_id in found.class_ids]
    assert names == [LABELS[CLASSES[label]] for label in expected["labels"][kept]]


@pytest.mark.parametrize(
    "architecture", ["fasterrcnn_resnet50_fpn", "retinanet_resnet50_fpn", "fasterrcnn_mobilenet_v3_large_320_fpn"]
)
def test_published_weights_run_as_torchvision_itself_runs_them(
    architecture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # its frozen norms have another epsilon when it loads them itself; random weights give it something to show
    state = random_state(architecture, 91)
    monkeypatch.setattr(WeightsEnum, "get_state_dict", lambda self, *_, **__: state)
    settings = SMALL | ({"rpn_post_nms_top_n_test": 50} if "rcnn" in architecture else {})
    threshold = engine.ARCHITECTURES[architecture].score_setting
    own = getattr(detection, architecture)(weights="COCO_V1", **settings, **{threshold: -1e-45}).eval()
    ours = engine.build(architecture, 91, state, 0.0, settings)
    shown = tensors_of(images((60, 80)))
    with torch.inference_mode():
        expected, got = own(shown)[0], ours(shown)[0]
    assert len(expected["scores"]) > 0
    assert {key: value.tolist() for key, value in got.items()} == {k: v.tolist() for k, v in expected.items()}


@pytest.mark.parametrize("architecture", engine.ARCHITECTURES)
def test_every_architecture_is_registered(architecture: str) -> None:
    assert architecture in registry.architectures("detect")


@pytest.mark.parametrize(
    ("architecture", "groups"), [("fasterrcnn_resnet101_fpn", 1), ("fasterrcnn_resnext101_32x8d_fpn", 32)]
)
def test_larger_backbones_are_those_of_the_reports_table_4(architecture: str, groups: int) -> None:
    with torch.device("meta"):
        model: Any = engine._constructed(architecture, 23, {"min_size": 320})
    body = model.backbone.body
    assert [len(body[f"layer{stage}"]) for stage in (1, 2, 3, 4)] == [3, 4, 23, 3]
    assert body["layer1"][0].conv2.groups == groups
    assert body["layer1"][0].conv2.out_channels == (256 if groups == 32 else 64)  # 32 groups of 8
    assert model.roi_heads.box_predictor.cls_score.out_features == 23


def test_a_larger_backbone_finds_something() -> None:
    name = "fasterrcnn_resnet101_fpn"
    state = random_state(name, len(CLASSES))
    for key, tensor in state.items():
        if key.endswith("bn3.weight"):
            tensor.zero_()  # else 33 random blocks add up to more than a float holds
    model = engine.build(name, len(CLASSES), state, 0.0, SMALL | {"rpn_post_nms_top_n_test": 20})
    assert any(isinstance(module, FrozenBatchNorm2d) for module in model.modules())
    found = engine.Torchvision(model, CLASSES, LABELS)(images((60, 80)))[0]
    assert len(found.scores) > 0


def test_v2_norms_are_not_frozen_and_v1_ones_are() -> None:
    def frozen(architecture: str) -> bool:
        model = engine.build(architecture, 2, random_state(architecture, 2), 0.5)
        return any(isinstance(module, FrozenBatchNorm2d) for module in model.modules())

    assert frozen("fasterrcnn_mobilenet_v3_large_fpn")
    assert not frozen("retinanet_resnet50_fpn_v2")


def test_found_is_the_same_bit_for_bit_whatever_is_beside(ssdlite: engine.Torchvision) -> None:
    shown = images((120, 200), (200, 120), (64, 64), (1, 300), (31, 7))
    together = ssdlite(shown)
    assert all(same(ssdlite([image])[0], found) for image, found in zip(shown, together, strict=True))
    order = [3, 0, 4, 2, 1]
    shuffled = ssdlite([shown[index] for index in order])
    assert all(same(found, together[index]) for index, found in zip(order, shuffled, strict=True))


def test_groups_of_an_accelerator_find_the_same_up_to_rounding(
    ssdlite: engine.Torchvision, ssdlite_state: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = images((120, 200), (64, 64), (120, 200))
    expected = ssdlite(shown)
    monkeypatch.setattr(ssdlite, "_groups", lambda images: [[0, 2], [1]])
    for found, alone in zip(ssdlite(shown), expected, strict=True):
        np.testing.assert_allclose(found.scores, alone.scores, atol=1e-5)


def test_no_images_give_nothing(ssdlite: engine.Torchvision) -> None:
    assert ssdlite([]) == []


def test_faster_rcnn_is_loaded_from_a_cards_file(tmp_path: Path) -> None:
    architecture = "fasterrcnn_resnet50_fpn"
    state = random_state(architecture, len(CLASSES))
    torch.save(state, tmp_path / "made.pt")
    card = Card(
        name="made",
        task="detect",
        architecture=architecture,
        yields=("objects",),
        classes=CLASSES,
        labels=LABELS,
        score_min=0.0,
        settings=SMALL | {"rpn_post_nms_top_n_test": 20, "frozen_eps": None},
        weights={"model": file_of(tmp_path / "made.pt")},
        licence="none",
        source="random",
    )
    shown = images((48, 64))
    found = registry.build(card, "cpu")(shown)[0]
    plain = detection.fasterrcnn_resnet50_fpn(
        weights=None,
        weights_backbone=None,
        num_classes=len(CLASSES),
        rpn_post_nms_top_n_test=20,
        box_score_thresh=-1e-45,
        **SMALL,
    ).eval()
    plain.load_state_dict(state)
    with torch.inference_mode():
        expected = plain(tensors_of(shown))[0]
    kept = expected["labels"] != CLASSES.index("bicycle")
    assert len(found.scores) > 0
    assert np.array_equal(found.boxes_xyxy, expected["boxes"][kept].numpy())


def file_of(path: Path) -> dict[str, str]:
    return {"uri": path.as_uri(), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_card_of_the_users_own_names_a_file_beside_it(
    suffix: str, ssdlite: engine.Torchvision, ssdlite_state: dict[str, Tensor], tmp_path: Path
) -> None:
    path = tmp_path / f"own{suffix}"
    if suffix == ".pt":
        torch.save({"state_dict": ssdlite_state, "epoch": torch.tensor(3)}, path)
    else:
        from safetensors.torch import save_file

        save_file(ssdlite_state, path)
    (tmp_path / "own.yaml").write_text(
        f"""
name: own
task: detect
architecture: {SSDLITE}
yields: [objects]
weights: {{model: {{uri: {path.name}, sha256: {file_of(path)["sha256"]}}}}}
score_min: 0.1
classes: [{", ".join(CLASSES)}]
labels: {{person: persons (others), bicycle: null, boat: ship, sheep: animals (others)}}
licence: mine
source: me
"""
    )
    shown = images((100, 100))
    assert same(registry.build(cards.load(tmp_path / "own.yaml"))(shown)[0], ssdlite(shown)[0])


@pytest.mark.parametrize("name", COCO_CARDS)
def test_shipped_cards_name_all_ids_of_coco_and_forget_none(name: str) -> None:
    card = cards.load(name)
    published = card.weights["model"].uri.removeprefix("torchvision://")
    from torchvision.models import get_weight

    assert list(card.classes) == get_weight(published).meta["categories"], "names and order are torchvision's"
    named = {label for label in card.classes if label not in own_classes.NO_OBJECT}
    assert set(card.labels) == named
    class_names, class_ids = own_classes.label_table(card.classes, card.labels)
    assert set(class_names) <= set(CATEGORY)
    assert class_names[class_ids[1]] == "persons (others)"  # COCO's id of person is 1
    assert class_names[class_ids[21]] == "cow"  # and of cow 21
    assert card.architecture in engine.ARCHITECTURES


def test_labels_must_cover_every_class_and_name_nothing_else() -> None:
    with pytest.raises(ConfigError, match="got none for 'bus'; null drops it"):
        own_classes.label_table(["person", "bus"], {"person": "persons (others)"})
    with pytest.raises(ConfigError, match="expected names of the card's classes, got 'buss'"):
        own_classes.label_table(["bus"], {"bus": None, "buss": None})
    with pytest.raises(ConfigError, match=r"labels\.bus: expected a class of the taxonomy or null, got 'vehicle'"):
        own_classes.label_table(["bus"], {"bus": "vehicle"})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda s: s.pop("backbone.features.0.0.0.weight"),
            "expected a tensor backbone.features.0.0.0.weight, got none",
        ),
        (lambda s: s.update(more=torch.zeros(1)), r"expected \d+ tensors, got more besides"),
        (
            lambda s: s.update({"backbone.features.0.0.0.weight": torch.zeros(3)}),
            r"backbone.features.0.0.0.weight: expected shape \(16, 3, 3, 3\), got \(3,\)",
        ),
    ],
)
def test_weights_that_do_not_fit_are_refused_by_name(
    change: Any, message: str, ssdlite_state: dict[str, Tensor]
) -> None:
    state = dict(ssdlite_state)
    change(state)
    with pytest.raises(ConfigError, match=message):
        engine.build(SSDLITE, len(CLASSES), state, 0.1)


def test_counters_of_training_steps_may_lack(ssdlite_state: dict[str, Tensor]) -> None:
    state = {name: tensor for name, tensor in ssdlite_state.items() if not name.endswith("num_batches_tracked")}
    assert len(state) < len(ssdlite_state)
    engine.build(SSDLITE, len(CLASSES), state, 0.1)


def test_another_number_of_classes_names_the_first_tensor(ssdlite_state: dict[str, Tensor]) -> None:
    with pytest.raises(ConfigError, match=r"head.*expected shape.*does the number of classes agree"):
        engine.build(SSDLITE, 91, ssdlite_state, 0.1)


def test_unknown_architectures_and_settings_are_named(ssdlite_state: dict[str, Tensor]) -> None:
    with pytest.raises(ConfigError, match=r"architecture: expected one of fasterrcnn_resnet50_fpn, .*, got 'yolo'"):
        engine.build("yolo", 2, ssdlite_state, 0.1)
    with pytest.raises(ConfigError, match="settings: expected arguments of torchvision's SSD, got 'max_sice'"):
        engine.build(SSDLITE, 2, ssdlite_state, 0.1, {"max_sice": 3})


def test_score_min_itself_is_kept(ssdlite_state: dict[str, Tensor]) -> None:
    shown = images((120, 120))
    every = engine.Torchvision(engine.build(SSDLITE, len(CLASSES), ssdlite_state, 0.0), CLASSES, LABELS)(shown)[0]
    least = float(np.sort(every.scores)[len(every.scores) // 2])
    some = engine.Torchvision(engine.build(SSDLITE, len(CLASSES), ssdlite_state, least), CLASSES, LABELS)(shown)[0]
    assert some.scores.min() == np.float32(least)


@pytest.mark.parametrize("fixed", [None, (320, 320)])
def test_padded_size_is_that_of_torchvisions_transform(fixed: tuple[int, int] | None) -> None:
    transform = GeneralizedRCNNTransform(80, 133, [0.5] * 3, [0.5] * 3, fixed_size=fixed)
    rng = np.random.default_rng(0)
    for height, width in [(3, 300), (300, 3), *rng.integers(8, 200, (60, 2)).tolist()]:
        batch, _ = transform([torch.zeros(3, height, width)])
        assert engine.padded_size(transform, height, width) == tuple(batch.tensors.shape[-2:])
