"""Training of detectors: what is learned, by one worker or several, resumed, and judged."""

import copy
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from pydantic import BaseModel
from safetensors.torch import save

from artray.detect import torchvision_engine, yolox_engine
from artray.detect.datasets.tables import BOXES, IMAGES
from artray.detect.found import Found
from artray.detect.own_classes import label_table
from artray.errors import ConfigError
from artray.models import cards
from artray.models.cards import Card, Weights
from artray.train.detectors import judging, learners, plan, run
from artray.train.detectors.labels import Boxed, Labels, arrays
from artray.train.detectors.learner import Learner, alike
from artray.train.detectors.profile import BalanceBoxes, BoxData, DetectorProfile
from artray.train.detectors.torchvision_learner import transferred
from artray.train.exchange import alone
from tests.boxes_training import COUNT, NAMES, box, labels, picture, profile, shared, trained, trainer


def close(first: dict[str, Any], second: dict[str, Any], tolerance: float) -> bool:
    """Whether two networks' parameters and statistics are the same."""
    return all(
        torch.allclose(first["network"][name].double(), second["network"][name].double(), rtol=0, atol=tolerance)
        for name in first["network"]
    )


@pytest.mark.parametrize("norms", ["trained", "frozen"])
def test_workers_that_share_batches_come_to_the_same_parameters(norms: str, tmp_path: Path) -> None:
    # plain gradients: Adam would make steps of 1 of what is 0 but for rounding
    cfg = profile(
        detector={"norms": norms},
        optimiser={"name": "sgd", "lr": 0.001, "ema_decay": 0.9, "warmup_batches": 3},
        training={"batch_size": 18},  # of few pictures, statistics at four cells a picture multiply what rounding does
    )
    single = trained(cfg).state()
    assert not close(single, trainer(cfg).state(), 1e-6)
    for state in shared(cfg, 2, tmp_path):
        assert close(state, single, 1e-7)
        for mine, theirs in zip(state["history"], single["history"], strict=True):
            assert mine["metrics"] == pytest.approx(theirs["metrics"])
            assert mine["loss"] == pytest.approx(theirs["loss"], abs=1e-7)


def test_a_training_resumed_in_mid_epoch_is_one_that_was_never_interrupted() -> None:
    cfg = profile(optimiser={"ema_decay": 0.9, "warmup_batches": 4}, training={"epochs": 3, "checkpoint_batches": 2})
    kept: list[dict[str, Any]] = []
    whole = trainer(cfg)
    while not whole.done:
        whole.run_epoch(lambda: kept.append(copy.deepcopy(whole.state())))
    resumed = trainer(cfg)
    resumed.load(kept[1])
    while not resumed.done:
        resumed.run_epoch()
    assert close(resumed.state(), whole.state(), 0.0)
    without_seconds = [result._replace(seconds=0.0) for result in whole.history]
    assert [result._replace(seconds=0.0) for result in resumed.history] == without_seconds


def test_rectangles_are_learned() -> None:
    cfg = profile(
        training={"epochs": 24, "precision": "float32"},
        optimiser={"lr": 0.003, "name": "adamw"},
        augment={"cropped": 0, "toned": 0, "canvas_share": [0.9, 1.0]},
        detector={"norms": "frozen"},
    )
    made = trained(cfg)
    assert made.history[-1].loss < 0.75 * made.history[0].loss
    assert made.history[-1].val_loss < 0.9 * made.history[0].val_loss
    _, found = made.found(made.val)
    assert len(found) == len(made.val)
    for row, each in zip(made.val.tolist(), found, strict=True):
        best = each.boxes_xyxy[each.scores.argmax()]
        centre, wanted = (best[:2] + best[2:]) / 2, np.add(box(row)[:2], box(row)[2:]) / 2
        assert np.abs(centre - wanted).max() < 20


def test_frozen_stages_and_statistics_stay_and_classes_learn_at_a_rate_of_their_own() -> None:
    cfg = profile(detector={"frozen_stages": 2, "norms": "frozen", "classes_lr": 10.0})
    made = trainer(cfg)
    before = copy.deepcopy(made.state()["network"])
    assert [group["lr"] for group in made.optimiser.param_groups] == pytest.approx([0.01, 0.1])
    made.run_epoch()
    after = made.state()["network"]
    same = {name for name in before if torch.equal(before[name], after[name])}
    frozen = {name for name in before if name.startswith(("network.trunk.stem", "network.trunk.stage2"))}
    statistics = {name for name in before if "running_" in name or name.endswith("num_batches_tracked")}
    assert frozen | statistics <= same
    assert not {name for name in same - frozen - statistics if ".trunk.stage4" in name}


def test_the_card_finds_what_was_judged() -> None:
    cfg = profile(training={"precision": "float32"}, test={"score_min": 1e-7, "iou_max": 0.5, "found_max": 7})
    made = trained(cfg)
    learner = made.judged
    assert isinstance(learner, Learner)
    told = learner.described(NAMES, {"dog": 2e-7, "cat": 1e-7})
    network = yolox_engine.build(len(NAMES), learner.tensors())
    engine = yolox_engine.Yolox(
        network, told["classes"], told["labels"], score_min=told["score_min"], **told["settings"]
    )
    _, found = made.found(made.val)
    for row, each in zip(made.val.tolist(), found, strict=True):
        again = engine([picture(row)])[0]
        kept = each.at((each.scores >= 2e-7) | (each.class_ids == 1))
        assert 0 < len(again.scores) <= 7
        for box_xyxy, score in zip(kept.boxes_xyxy, kept.scores, strict=True):
            apart = np.abs(again.boxes_xyxy - box_xyxy).max(axis=1) + 1000 * np.abs(again.scores - score)
            assert apart.min() < 0.5


def test_new_classes_start_from_what_is_like_them() -> None:
    card = cards.load("yolox-nano-coco")
    own = {name: at for at, name in enumerate(card.classes)}
    names, ids = label_table(card.classes, card.labels)
    started = alike(ids.tolist(), names, ["dog", "angel", "fruit", "ruins"])
    assert started == [[own["dog"]], [own["person"]], [own["banana"], own["apple"], own["orange"]], []]


def torchvision_card(architecture: str) -> Card:
    labels = {name: name for name in NAMES}
    given = {"task": "detect", "yields": ("objects",), "licence": "", "source": ""}
    return Card(name="start", architecture=architecture, classes=("__background__", *NAMES), labels=labels, **given)


@pytest.mark.parametrize("architecture", ["fasterrcnn_mobilenet_v3_large_320_fpn", "fcos_resnet50_fpn"])
def test_torchvisions_detectors_learn_and_find_what_they_were_judged_by(architecture: str) -> None:
    cfg = profile(
        training={"precision": "float32"},
        detector={"size_px": 128, "norms": "frozen"},
        test={"score_min": 0.05},
        optimiser={"lr": 1e-4, "name": "sgd"},
    )
    made = trainer(cfg, card=torchvision_card(architecture))
    before = copy.deepcopy(made.state()["network"])
    result = made.run_epoch()
    assert np.isfinite([result.loss, result.val_loss]).all()
    assert any(not torch.equal(before[name], tensor) for name, tensor in made.state()["network"].items())
    learner = made.judged
    assert isinstance(learner, Learner)
    told = learner.described(NAMES, {"dog": 0.05, "cat": 0.06})
    assert told["classes"] == ["__background__", *NAMES]
    model = torchvision_engine.build(architecture, 3, learner.tensors(), told["score_min"], told["settings"])
    engine = torchvision_engine.Torchvision(model, told["classes"], told["labels"])
    _, found = made.found(made.val)
    for row, each in zip(made.val.tolist(), found, strict=True):
        again = engine([picture(row)])[0]  # as the pipeline shows it, resized by torchvision
        assert abs(len(again.scores) - len(each.scores)) <= 2
        if len(again.scores):
            apart = np.abs(again.boxes_xyxy[:, None] - each.boxes_xyxy[None]).max(axis=2).min(axis=1)
            assert (apart < 2).mean() > 0.8  # equal scores, and the last places, go by luck


@pytest.mark.parametrize("class_first", [True, False])
def test_rows_of_a_predictor_are_taken_from_old_classes(class_first: bool) -> None:
    name = "bbox_pred.bias" if class_first else "cls_logits.bias"
    old = {name: torch.arange(6.0)}  # two rows of each of three classes, or three classes of each of two anchors
    made = transferred({name: torch.full((8,), -1.0)}, old, 3, [[0], [2], [1, 2], []])[name]
    rows = made.reshape(4, 2) if class_first else made.reshape(2, 4).T
    expected = [[0, 1], [4, 5], [3, 4], [-1, -1]] if class_first else [[0, 3], [2, 5], [1.5, 4.5], [-1, -1]]
    assert rows.tolist() == expected
    turned = transferred({name: torch.full((6,), -1.0)}, old, 3, [[0], [2], [1]])[name]  # as many, in another order
    assert turned.tolist() == ([0, 1, 4, 5, 2, 3] if class_first else [0, 2, 1, 3, 5, 4])
    for unlike in ({name: torch.zeros(7)}, {}):
        with pytest.raises(ConfigError, match=f"weights: {name}: expected rows of 3 classes, got"):
            transferred({name: torch.zeros(8)}, unlike, 3, [[0], [1], [2], []])


def test_torchvisions_detectors_start_from_a_cards_weights(tmp_path: Path) -> None:
    architecture = "fasterrcnn_mobilenet_v3_large_320_fpn"
    torch.manual_seed(0)
    start = torchvision_engine.unlearned(architecture, 3, 0.05).state_dict()
    file = tmp_path / "start.safetensors"
    file.write_bytes(save({key: tensor.contiguous() for key, tensor in start.items()}))
    uri = {"uri": file.as_uri(), "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
    card = torchvision_card(architecture).model_copy(update={"weights": {"model": Weights(**uri)}})
    cfg = profile(detector={"random": False, "size_px": 128}, training={"precision": "float32"})
    made = learners.build(cfg, card, ("cat", "dog", "ship"), alone()).tensors()
    bias, key = "roi_heads.box_predictor.cls_score.bias", "backbone.fpn.inner_blocks.0.0.weight"
    assert made[bias][:3].tolist() == start[bias][[0, 2, 1]].tolist()
    assert torch.equal(made[key], start[key])


def known(**columns: Any) -> Labels:
    """Two pictures: the first one's set tells angels from persons, the second one's does not."""
    names = ("angel", "persons (others)", "dog")
    boxes = np.array([[0.0, 0, 10, 10]])
    values: dict[str, Any] = {
        "class_names": names,
        "boxed": (
            Boxed(boxes, np.array([0]), np.zeros(1, bool)),
            Boxed(boxes, np.array([1]), np.zeros(1, bool)),
        ),
        "sizes_wh": np.array([[20, 20]] * 2),
        "labelled": np.array([[True, True, False]] * 2),
        "told": np.array([[True, True, True], [False, True, True]]),
        "judged": np.array([[True, True, False], [False, True, False]]),
        "counts_as": np.array([[0, 1, -1], [1, 1, -1]]),
        "sources": ("fine", "broad"),
        "groups": ("a", "b"),
    }
    return Labels(**(values | columns))


def test_a_prediction_counts_as_what_the_pictures_set_would_call_it() -> None:
    angel = Found(np.array([[0, 0, 10, 10]], np.float32), np.array([0.9], np.float32), np.array([0]))
    told = judging.report(known(), np.arange(2), [angel, angel], resamples=10)
    assert {name: each["ap50"] for name, each in told["classes"].items()} == {"angel": 1.0, "persons (others)": 1.0}
    assert told["sets"]["broad"]["classes"]["persons (others)"]["ap50"] == 1.0
    assert told["coarse"]["ap50 persons"] == 1.0
    person = angel._replace(class_ids=np.array([1]))
    told = judging.report(known(), np.arange(2), [person, person], resamples=10)
    assert told["sets"]["fine"]["classes"]["angel"]["ap50"] == 0.0
    assert told["sets"]["broad"]["classes"]["persons (others)"]["ap50"] == 1.0


def test_what_a_set_does_not_label_is_neither_right_nor_wrong() -> None:
    both = Found(
        np.array([[0, 0, 10, 10], [0, 0, 15, 15]], np.float32), np.array([0.5, 0.9], np.float32), np.array([0, 2])
    )
    told = judging.report(known(), np.arange(2), [both, both], resamples=0)
    assert told["figures"]["ap50"] == 1.0
    assert "dog" not in told["classes"]
    assert judging.thresholds(known(), np.arange(2), [both, both]) == {"angel": 0.5, "persons (others)": 0.5}


def test_ignored_boxes_count_neither_way() -> None:
    boxed = (Boxed(np.array([[0.0, 0, 10, 10], [10, 10, 20, 20]]), np.array([0, 0]), np.array([False, True])),) * 2
    found = Found(
        np.array([[0, 0, 10, 10], [10, 10, 20, 20]], np.float32), np.array([0.5, 0.9], np.float32), np.array([0, 0])
    )
    told = judging.report(known(boxed=boxed), np.array([0]), [found], resamples=0)
    assert (told["classes"]["angel"]["boxes"], told["classes"]["angel"]["ap50"]) == (1, 1.0)


def test_boxes_of_an_others_that_is_not_learned_may_be_of_a_class_that_is() -> None:
    row = {"image_id": "a", "label": "x", "crowd": False, "difficult": False}
    sides = {"x1_px": 0.0, "y1_px": 0.0, "x2_px": 5.0, "y2_px": 5.0}
    boxes = pa.Table.from_pylist([row | sides | {"class_name": name} for name in ("persons (others)", "dog")], BOXES)
    image = {"image_id": "a", "source": "s", "uri": "a", "version": "", "width_px": 9, "height_px": 9, "group": "a"}
    images = pa.Table.from_pylist([image | {"labelled": ["persons (others)", "dog"]}], IMAGES)
    made = arrays(images, boxes, ["angel"], {"s": ["persons (others)", "dog"]})
    assert (made.boxed[0].class_ids.tolist(), made.boxed[0].ignored.tolist()) == ([0], [True])
    assert made.labelled.tolist() == [[True]]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"balance": {"weights": {"csv": 0.01}}}, "workers.workers: expected two pictures in an epoch"),
        ({"classes": None, "training": {"choose_by": "ap50 ship"}}, "training.choose_by: expected one of dog, cat"),
    ],
)
def test_an_epoch_that_could_not_be_is_told_before_it_begins(changes: dict[str, Any], expected: str) -> None:
    cfg, there = profile(**changes), labels()
    rows = np.arange(COUNT)
    parts = {"train": rows[6:], "val": rows[:6], "test": rows[:0]}
    with pytest.raises(ConfigError, match=expected):
        run.check(cfg, there, parts, plan.factors(there, parts["train"], cfg.balance))
    nobody = there._replace(judged=np.zeros_like(there.judged))
    with pytest.raises(ConfigError, match=r"data.val: expected boxes of any class to choose the epoch by"):
        run.check(profile(), nobody, parts, plan.factors(there, parts["train"], profile().balance))


def test_an_epoch_shows_sets_as_often_as_they_weigh_and_empty_pictures_less() -> None:
    there = labels()
    nothing = Boxed(np.empty((0, 4)), np.empty(0, np.int64), np.empty(0, bool))
    there = there._replace(
        boxed=tuple(nothing if row % 3 == 0 else each for row, each in enumerate(there.boxed)),
        sources=tuple("heavy" if row >= COUNT // 2 else "light" for row in range(COUNT)),
    )
    rows = np.arange(COUNT)
    factors = plan.factors(there, rows, BalanceBoxes(weights={"heavy": 2.0}, empty=0.5))
    assert factors[:4].tolist() == [0.5, 1.0, 1.0, 0.5]
    assert factors[-3:].tolist() == [1.0, 2.0, 2.0]
    shown = np.concatenate([plan.epoch(factors, rows, 0, number) for number in range(200)])
    assert np.bincount(shown, minlength=COUNT) / 200 == pytest.approx(factors, abs=0.15)
    assert plan.epoch(factors, rows, 0, 3).tolist() == plan.epoch(factors, rows, 0, 3).tolist()
    counted = plan.counts(there, {"train": rows, "val": rows[:2], "test": rows[:0]}, factors)
    assert counted["dog"]["train"] + counted["cat"]["train"] == 16
    assert counted["dog"]["epoch"] + counted["cat"]["epoch"] == 24


def test_every_worker_sees_its_own_part_of_a_batch() -> None:
    made = trainer(profile())
    assert made.exchange == alone() or made.exchange.workers == 1
    shown = made.shown()
    batches = list(shown.batches)
    assert sum(len(batch.drawn_wh) for batch in batches) == shown.images == 18
    assert {tuple(batch.canvases.shape[1:]) for batch in batches} == {(64, 64, 3)}


def keys() -> list[str]:
    """Every key of a profile that is a detector's own."""
    found = list[str]()
    for section, field in DetectorProfile.model_fields.items():
        model = field.annotation
        if section in ("optimiser", "training", "workers", "name"):
            continue
        own = isinstance(model, type) and issubclass(model, BaseModel)
        found += [f"{section}.{key}" for key in model.model_fields] if own else [section]  # type: ignore[union-attr]
    return found


@pytest.mark.parametrize("key", keys())
def test_every_key_is_documented(key: str) -> None:
    assert f"`{key}`" in (Path(__file__).parents[2] / "docs" / "training-detectors.md").read_text()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"classes": ["hound"]}, r"class: expected one of .*, got 'hound'"),
        ({"classes": []}, "expected at least one, every one once"),
        ({"balance": {"weights": {"sea": 2}}}, r"balance.weights: expected names of sources \(csv\), got 'sea'"),
        ({"data": {"sources": [{"path": "a"}], "mirrored": ["sea"]}}, "mirrored: expected names of sources"),
        ({"data": {"sources": [{"path": "a"}, {"path": "b"}]}}, "csv: expected each name once"),
        ({"data": {"sources": [{"path": "a"}], "val": 0.6, "test": 0.4}}, "expected less than 1 together"),
        ({"training": {"choose_by": "accuracy"}}, "training.choose_by: expected ap, ap50, ap75 or one with a class"),
        ({"training": {"choose_by": "ap50 ship"}}, "training.choose_by: expected one of classes, got 'ship'"),
        ({"training": {"mixup": 0.2}}, "training.mixup: expected 0"),
        ({"augment": {"crop_share": [0.5, 1.5]}}, "expected at most 1, got 1.5"),
        ({"detector": {"size_px": 100}}, "multiple of 32"),
        ({"workers": {"workers": 8}}, "expected at least two images for each of 8 workers"),
    ],
)
def test_profiles_that_make_no_sense_are_refused(changes: dict[str, Any], expected: str) -> None:
    with pytest.raises((ValueError, ConfigError), match=expected):
        profile(**changes)


def test_a_card_that_cannot_be_trained_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"detector.card: expected one whose architecture can be trained .* mtcnn"):
        learners.check(profile(), cards.load("mtcnn"))
    with pytest.raises(ConfigError, match=r"detector.box_loss: expected only with a card of yolox_nano, got start"):
        learners.check(profile(detector={"box_loss": "giou"}), torchvision_card("fcos_resnet50_fpn"))
    with pytest.raises(ConfigError, match="expected one whose architecture can be trained"):
        learners.check(profile(), torchvision_card("ssdlite320_mobilenet_v3_large"))
    bare = torchvision_card("fcos_resnet50_fpn")
    with pytest.raises(ConfigError, match="expected weights of the role model, got none in start"):
        learners.check(profile(detector={"random": False}), bare)
    cfg = profile(detector={"frozen_stages": 1}, training={"precision": "float32"})
    with pytest.raises(ConfigError, match=r"detector.frozen_stages: expected at most 0, got 1 of fasterrcnn_mobile"):
        learners.build(cfg, torchvision_card("fasterrcnn_mobilenet_v3_large_320_fpn"), NAMES, alone())


def test_imagenets_landforms_are_learned_only_where_asked_for() -> None:
    sources = [{"kind": "voc", "path": "x", "labels": "imagenet"}, {"kind": "csv", "path": "y"}]
    for asked, alp in ((False, None), (True, "mountains")):
        imagenet, own = BoxData.model_validate({"sources": sources, "imagenet_landforms": asked}).learned()
        assert imagenet.label_map()["alp"] == alp
        assert imagenet.label_map()["tabby"] == "cat"
        assert own.label_map()["mountains"] == "mountains"


def test_landforms_that_do_not_count_are_not_denied_either() -> None:
    source = {"kind": "voc", "path": "x", "labels": "imagenet", "labelled": ["mountains", "cat"]}
    (imagenet,) = BoxData.model_validate({"sources": [source]}).learned()
    assert imagenet.classes(imagenet.label_map()) == ("cat",), "its mountains are in the pictures, without boxes"
    (imagenet,) = BoxData.model_validate({"sources": [source | {"labelled": None}]}).learned()
    assert "mountains" not in imagenet.classes(imagenet.label_map())
