"""detectron2 itself, where it is installed: artray's two ways of running its checkpoints find what it finds.

Trained weights cannot be downloaded in tests. Seeded ones go into the files that detectron2 writes, and
detectron2's DefaultPredictor is the reference, on real pictures.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from artray.detect import detectron2_engine as engine
from artray.detect import detectron2_twin, detectron2_weights
from artray.detect.found import Found
from artray.errors import ConfigError
from artray.models import cards, registry
from artray.models.cards import Card
from tests.detectron2_models import CLASSES, LABELS, as_zoo_file, card, file_of, picture, seed, spread

pytest.importorskip("detectron2", reason="detectron2 is not installed: see its own INSTALL.md")

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.filterwarnings("ignore")]

MIN_SIZE, MAX_SIZE, MAX_BOXES, SCORE_MIN = 240, 400, 500, 0.2
OPTIONS = {"INPUT.MIN_SIZE_TEST": MIN_SIZE, "INPUT.MAX_SIZE_TEST": MAX_SIZE, "TEST.DETECTIONS_PER_IMAGE": MAX_BOXES}
TWIN = {"from": "detectron2", "min_size": MIN_SIZE, "max_size": MAX_SIZE, "max_boxes": MAX_BOXES}
PICTURES = ("gc_det_van_gogh_night_cafe.jpg", "wp_morisot_reading.jpg", "wp22_bird-on-gray.jpg")

R50 = "COCO-Detection/faster_rcnn_R_50_FPN_3x.yaml"
MASKS = "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x.yaml"
RETINA = "COCO-Detection/retinanet_R_50_FPN_3x.yaml"
PAIRS = {
    R50: "fasterrcnn_resnet50_fpn",
    "COCO-Detection/faster_rcnn_R_101_FPN_3x.yaml": "fasterrcnn_resnet101_fpn",
    "COCO-Detection/faster_rcnn_X_101_32x8d_FPN_3x.yaml": "fasterrcnn_resnext101_32x8d_fpn",
    RETINA: "retinanet_resnet50_fpn",
    "COCO-Detection/retinanet_R_101_FPN_3x.yaml": "retinanet_resnet101_fpn",
}
"""YAMLs of the model zoo, and the architecture that is the twin of each."""


class Reference:
    """detectron2's own predictor with seeded weights, and the file of them."""

    def __init__(self, config: str, folder: Path, **options: Any) -> None:
        from detectron2.engine import DefaultPredictor

        cfg = engine.configuration(
            engine.zoo_file(config), False, len(CLASSES) - 1, SCORE_MIN, OPTIONS | options, "cpu"
        )
        torch.manual_seed(0)
        self.predictor = DefaultPredictor(cfg)
        self.model = self.predictor.model
        seed(self.model.state_dict())
        spread(self.model, lambda: self.predictor(bgr(picture(PICTURES[0]))))
        self.file = as_zoo_file(folder / "made.pkl", self.model.state_dict())

    def __call__(self, image: np.ndarray) -> Found:
        """What detectron2 finds, in artray's classes."""
        instances = self.predictor(bgr(image))["instances"]
        ids = instances.pred_classes.numpy()
        known = ids != CLASSES.index("bicycle") - 1
        ids = np.where(ids > CLASSES.index("bicycle") - 1, ids - 1, ids)
        return Found(instances.pred_boxes.tensor.numpy()[known], instances.scores.numpy()[known], ids[known])


def bgr(image: np.ndarray) -> np.ndarray:
    """As OpenCV reads a picture for detectron2."""
    return image[:, :, ::-1]


def same(found: Found, expected: Found) -> None:
    """Not a bit is different."""
    assert len(expected.scores) > 3
    for got, wanted in zip(found, expected, strict=True):
        assert np.array_equal(got, wanted)


def apart(found: Found, expected: Found) -> tuple[float, float]:
    """How far boxes (pixels) and scores are apart at most, if there is one for each: their order is only that of
    scores, of which some differ by rounding alone.
    """
    assert len(found.scores) == len(expected.scores)
    far = np.abs(found.boxes_xyxy[:, None] - expected.boxes_xyxy).max(axis=2)
    far = np.where(found.class_ids[:, None] == expected.class_ids, far, np.inf)
    other = far.argmin(axis=0)
    assert len(set(other.tolist())) == len(other)
    boxes_px, scores = far.min(axis=0).max(), np.abs(found.scores[other] - expected.scores).max()
    assert boxes_px < 1e-3
    assert scores < 1e-5
    return float(boxes_px), float(scores)


@pytest.fixture(scope="module")
def references(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Reference]:
    """Made when they are first asked for."""
    return {}


@pytest.fixture
def reference(
    request: pytest.FixtureRequest, references: dict[str, Reference], tmp_path_factory: pytest.TempPathFactory
) -> Reference:
    config = request.param
    if config not in references:
        references[config] = Reference(config, tmp_path_factory.mktemp("made"))
    return references[config]


def of_card(file: Path, config: str, **options: Any) -> Card:
    return card(file, "detectron2", {"config": config, "options": OPTIONS | options}, SCORE_MIN)


@pytest.mark.parametrize(("reference", "config"), [(R50, R50), (RETINA, RETINA)], indirect=["reference"])
def test_a_card_finds_what_detectron2_itself_finds(reference: Reference, config: str) -> None:
    detector = registry.build(of_card(reference.file, config))
    images = [picture(name) for name in PICTURES]
    for found, image in zip(detector(images), images, strict=True):
        same(found, reference(image))
    assert detector.class_names == ("angel", "mary", "cow", "ship")


def test_masks_are_not_made_and_boxes_stay_the_same(tmp_path: Path) -> None:
    few = {"TEST.DETECTIONS_PER_IMAGE": 20, "MODEL.RPN.POST_NMS_TOPK_TEST": 200}
    reference = Reference(MASKS, tmp_path, **few)
    detector = registry.build(of_card(reference.file, MASKS, **few))
    image = picture(PICTURES[0])
    assert "pred_masks" in reference.predictor(bgr(image))["instances"].get_fields()
    assert "pred_masks" not in detector._model([detector._shown(image)])[0]["instances"].get_fields()
    same(detector([image])[0], reference(image))


@pytest.mark.parametrize(("reference", "architecture"), PAIRS.items(), indirect=["reference"])
def test_a_checkpoint_finds_the_same_by_torchvision(
    reference: Reference, architecture: str, record_property: Any
) -> None:
    detector = registry.build(card(reference.file, architecture, TWIN, SCORE_MIN))
    images = [picture(name) for name in (PICTURES if "50" in architecture else PICTURES[:1])]
    classes: set[int] = set()
    for found, image in zip(detector(images), images, strict=True):
        expected = reference(image)
        assert len(expected.scores) > 10
        classes |= set(expected.class_ids.tolist())
        record_property("apart", apart(found, expected))
    assert len(classes) > 1, "classes must differ, or their order is not tested"


@pytest.mark.parametrize("reference", [R50], indirect=True)
def test_what_a_configuration_changes_is_said_in_settings(reference: Reference, tmp_path: Path) -> None:
    """As in torchvision's own weights: RGB, the stride in the second convolution; other thresholds, too."""
    changed = Reference(
        R50,
        tmp_path,
        **{
            "INPUT.FORMAT": "RGB",
            "MODEL.PIXEL_MEAN": [123.675, 116.280, 103.530],
            "MODEL.PIXEL_STD": [58.395, 57.120, 57.375],
            "MODEL.RESNETS.STRIDE_IN_1X1": False,
            "MODEL.RPN.PRE_NMS_TOPK_TEST": 300,
            "MODEL.RPN.POST_NMS_TOPK_TEST": 200,
            "MODEL.RPN.NMS_THRESH": 0.6,
            "MODEL.ROI_HEADS.NMS_THRESH_TEST": 0.3,
        },
    )
    settings = TWIN | {
        "channels": "rgb",
        "mean": [123.675, 116.280, 103.530],
        "std": [58.395, 57.120, 57.375],
        "stride_in_1x1": False,
        "candidates": 300,
        "proposals": 200,
        "proposals_iou_max": 0.6,
        "iou_max": 0.3,
    }
    image = picture(PICTURES[0])
    found = registry.build(card(changed.file, PAIRS[R50], settings, SCORE_MIN))([image])[0]
    apart(found, changed(image))
    assert len(found.scores) != len(reference(image).scores)


@pytest.mark.parametrize("reference", [R50], indirect=True)
def test_a_training_s_own_files_are_read(reference: Reference, tmp_path: Path) -> None:
    """A checkpoint with optimizer and schedule, and the configuration beside it, as detectron2 writes them."""
    from detectron2.checkpoint import DetectionCheckpointer
    from detectron2.solver import build_lr_scheduler, build_optimizer

    cfg = reference.predictor.cfg
    optimizer = build_optimizer(cfg, reference.model)
    scheduler = build_lr_scheduler(cfg, optimizer)
    saver = DetectionCheckpointer(reference.model, str(tmp_path), optimizer=optimizer, scheduler=scheduler)
    saver.save("model_final", iteration=3)
    (tmp_path / "config.yaml").write_text(cfg.dump())
    own = card(
        tmp_path / "model_final.pth",
        "detectron2",
        {},
        SCORE_MIN,
        weights={"model": file_of(tmp_path / "model_final.pth"), "config": file_of(tmp_path / "config.yaml")},
    )
    image = picture(PICTURES[0])
    expected = reference(image)
    for described in (own, card(tmp_path / "model_final.pth", PAIRS[R50], TWIN, SCORE_MIN)):
        apart(registry.build(described)([image])[0], expected)


@pytest.mark.parametrize("reference", [R50], indirect=True)
def test_groups_of_an_accelerator_find_the_same_up_to_rounding(
    reference: Reference, monkeypatch: pytest.MonkeyPatch
) -> None:
    detector = registry.build(of_card(reference.file, R50))
    images = [picture(PICTURES[0]), picture(PICTURES[2]), picture(PICTURES[0])]
    expected = detector(images)
    monkeypatch.setattr(detector, "_device", torch.device("cuda"))  # only how images are grouped depends on it
    assert detector._groups(images) == [[0, 2], [1]]
    for found, alone in zip(detector(images), expected, strict=True):
        np.testing.assert_allclose(found.scores, alone.scores, atol=1e-4)


@pytest.mark.parametrize("reference", [R50], indirect=True)
def test_no_images_give_nothing(reference: Reference) -> None:
    assert registry.build(of_card(reference.file, R50))([]) == []


TABLE_4 = {
    "COCO-Detection/faster_rcnn_X_101_32x8d_FPN_3x.yaml": ("wbf-resnext101",),
    "COCO-Detection/faster_rcnn_R_101_FPN_3x.yaml": tuple(f"wbf-resnet101-{member}" for member in "abcd"),
    R50: ("wbf-resnet50-a", "wbf-resnet50-b"),
}


@pytest.mark.parametrize(("config", "names"), TABLE_4.items())
def test_members_of_the_reports_table_4_fit_both(config: str, names: tuple[str, ...]) -> None:
    """Shipped cards say both ways, and detectron2's weights for their classes have torchvision's names and shapes."""
    from detectron2.modeling import build_model

    for member in map(cards.load, names):
        assert config in member.notes
        assert member.architecture == PAIRS[config]
    cfg = engine.configuration(engine.zoo_file(config), False, len(member.classes) - 1, 0.5, {}, "cpu")
    converted = detectron2_weights.convert(build_model(cfg).state_dict())
    with torch.device("meta"):
        twin = detectron2_twin.construct(
            member.architecture, len(member.classes), member.score_min, detectron2_twin.Settings()
        )
    expected = {key: tensor.shape for key, tensor in twin.state_dict().items() if not key.endswith("_tracked")}
    assert {key: tensor.shape for key, tensor in converted.items()} == expected


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            "COCO-Detection/faster_rcnn_R_50.yaml",
            r"expected a YAML of detectron2's model zoo, as COCO-Detection/fast.*got",
        ),
        ("COCO-Detection/retinanet_R_50_FPN_1x.py", "expected a YAML of detectron2's model zoo"),
        ("../configs/COCO-Detection/faster_rcnn_R_50_FPN_3x.yaml", "expected a YAML of detectron2's model zoo"),
        ("COCO-Detection/rpn_R_50_FPN_1x.yaml", "expected a detector of objects, got a ProposalNetwork"),
        ("COCO-Detection/fast_rcnn_R_50_FPN_1x.yaml", "expected a detector that needs no regions from elsewhere"),
    ],
)
def test_configurations_that_cannot_be_are_refused(config: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "any.pkl").write_bytes(b"")
    with pytest.raises(ConfigError, match=f"card made: config.*{message}"):
        registry.build(of_card(tmp_path / "any.pkl", config))


@pytest.mark.parametrize("reference", [R50], indirect=True)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"INPUT.MIN_SICE_TEST": 3}, r"detectron2 refuses it: .*INPUT\.MIN_SICE_TEST"),
        ({"INPUT.MIN_SIZE_TEST": "wide"}, "detectron2 refuses it: ValueError: Type mismatch"),
        ({"MODEL.BACKBONE.NAME": "NoBackbone"}, "detectron2 cannot build it: .*NoBackbone"),
        ({"INPUT.FORMAT": "L"}, "INPUT.FORMAT: expected BGR or RGB, got 'L'"),
    ],
)
def test_options_that_cannot_be_are_refused(reference: Reference, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"card made: config.*{message}"):
        registry.build(of_card(reference.file, R50, **options))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("_BASE_: Base.yaml", "expected a whole configuration without _BASE_"),
        ("just text", "expected a whole configuration"),
        ("a: !!python/object/apply:os.getcwd []", "expected plain YAML"),
        ("MODEL: {NOTHING: 3}\nVERSION: 2", "detectron2 refuses it"),
    ],
)
def test_own_configurations_that_are_not_plain_are_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(text)
    (tmp_path / "any.pkl").write_bytes(b"")
    files = {"model": file_of(tmp_path / "any.pkl"), "config": file_of(tmp_path / "own.yaml")}
    with pytest.raises(ConfigError, match=message):
        registry.build(card(tmp_path / "any.pkl", "detectron2", {}, weights=files))


@pytest.mark.parametrize("reference", [R50], indirect=True)
def test_another_number_of_classes_names_the_first_tensor(reference: Reference) -> None:
    more = of_card(reference.file, R50).model_copy(
        update={"classes": (*CLASSES, "dog"), "labels": LABELS | {"dog": "dog"}}
    )
    with pytest.raises(ConfigError, match=r"box_predictor.*expected shape.*does the number of classes agree"):
        registry.build(more)
