"""detectron2's detectors, where detectron2 is installed: any YAML of its model zoo, or one of your own.

Nothing of it is imported before a card asks for it. Weights are read by artray, not by detectron2, which would run
what a pickle tells it to; a configuration of the user's own is read as plain YAML, too.
"""

import re
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
import yaml
from pydantic import Field
from torch import Tensor, nn

from artray.config import Section, parse
from artray.detect import detectron2_inputs, detectron2_weights
from artray.detect.detector import Image
from artray.detect.found import Found
from artray.detect.own_classes import NO_OBJECT, BySize, Labels
from artray.detect.torchvision_engine import load
from artray.errors import ConfigError
from artray.models import registry, weights
from artray.models.cards import Card

REMEDY: Final = (
    "install it as https://detectron2.readthedocs.io/en/latest/tutorials/install.html says, or run its Faster R-CNNs "
    "and RetinaNets by torchvision: architecture: fasterrcnn_resnet50_fpn, settings: {from: detectron2}"
)

NO_BOXES: Final = ("ProposalNetwork", "SemanticSegmentor")
"""Networks of detectron2's that find no objects."""


class Settings(Section):
    """``settings`` of a ``detectron2`` card.

    Args:
        config: a YAML of detectron2's model zoo, as ``COCO-Detection/faster_rcnn_R_50_FPN_3x.yaml``; none where the
            card has a file of its own, with the role ``config``.
        options: what to change in it, by detectron2's names, as ``INPUT.MIN_SIZE_TEST: 640``. The number of classes
            and the least score are the card's.
    """

    config: str | None = Field(None, min_length=1)
    options: dict[str, Any] = Field(default_factory=dict)


class Detectron2(BySize):
    """A detectron2 model that answers in artray's classes, as detectron2's DefaultPredictor shows it pictures.

    Args:
        model: one of detectron2's, that answers with ``instances``.
        classes: what the model's ids mean, from 0 on, without a background.
        labels: what each of ``classes`` is called in artray.
        device: where the model is, "cpu" or "cuda".
        min_size: of a picture's shorter side, pixels; 0: pictures keep their size.
        max_size: of its longer side.
        channels: their order, "BGR" or "RGB".

    Raises:
        ConfigError: a class is not in ``labels``, or a label not in the taxonomy.

    Source: detectron2.engine.DefaultPredictor.
    """

    def __init__(
        self,
        model: nn.Module,
        classes: Sequence[str],
        labels: Labels,
        device: str = "cpu",
        *,
        min_size: int = 800,
        max_size: int = 1333,
        channels: str = "BGR",
    ) -> None:
        super().__init__(classes, labels, device)
        self._model: Any = model.eval()
        self.min_size, self.max_size, self.channels = min_size, max_size, channels

    def _padded_hw(self, image: Image) -> tuple[int, int]:
        return detectron2_inputs.padded_hw(*self._seen_hw(image), max(1, self._model.backbone.size_divisibility))

    def _together(self, images: Sequence[Image]) -> list[Found]:
        return [self._found(answer) for answer in self._model([self._shown(image) for image in images])]

    def _seen_hw(self, image: Image) -> tuple[int, int]:
        height_px, width_px = image.shape[:2]
        return detectron2_inputs.resized_hw(height_px, width_px, self.min_size, self.max_size)

    def _shown(self, image: Image) -> dict[str, Any]:
        """An image as detectron2's models take it: float32[3, H', W'] in [0, 255], and the size that boxes are for."""
        resized = detectron2_inputs.resize(image, *self._seen_hw(image))
        ordered = resized[..., ::-1] if self.channels == "BGR" else resized
        pixels = torch.from_numpy(np.ascontiguousarray(ordered, np.float32).transpose(2, 0, 1))
        return {"image": pixels, "height": image.shape[0], "width": image.shape[1]}

    def _found(self, answer: Mapping[str, Any]) -> Found:
        """The model's answer for one image, in artray's classes."""
        instances = answer["instances"]
        columns = (instances.pred_boxes.tensor, instances.scores, instances.pred_classes)
        return self.called(*(column.cpu().numpy() for column in columns))


def require() -> None:
    """Make sure that detectron2 is installed, and can be imported.

    Raises:
        ConfigError: it is not; says what to do.
    """
    if find_spec("detectron2") is None:
        raise ConfigError(f"architecture detectron2: expected detectron2 to be installed, got none; {REMEDY}")
    try:
        import_module("detectron2.modeling")
    except Exception as error:  # what a library raises that another version of its parts was put beside
        raise ConfigError(f"architecture detectron2: it cannot be imported: {_line(error)}; {REMEDY}") from error


def zoo_file(name: str) -> Path:
    """The file of a YAML of the model zoo; found without its module, which needs setuptools' ``pkg_resources``.

    Raises:
        ConfigError: no such YAML; names those of its folder.
    """
    spec = find_spec("detectron2")
    folder = Path(next(iter(spec.submodule_search_locations or ()))) if spec else Path()
    folder = folder / "model_zoo" / "configs"
    path = folder / name
    if re.fullmatch(r"(\w[\w.-]*/)*\w[\w.-]*\.yaml", name) and path.is_file():
        return path
    known = sorted(str(file.relative_to(folder)) for file in folder.glob("COCO-Detection/*.yaml"))
    raise ConfigError(f"config: expected a YAML of detectron2's model zoo, as {', '.join(known)}, got {name!r}")


def own_file(path: Path) -> Path:
    """A configuration of the user's own, if it is plain and whole.

    Raises:
        ConfigError: it is no YAML, or one that builds upon another or would run code.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"config {path}: expected plain YAML: {_line(error)}") from error
    if not isinstance(content, Mapping) or "_BASE_" in content:
        raise ConfigError(
            f"config {path}: expected a whole configuration without _BASE_, as detectron2 writes config.yaml beside "
            f"its checkpoints"
        )
    return path


def configuration(
    path: Path, is_own: bool, num_classes: int, score_min: float, options: Mapping[str, Any], device: str
) -> Any:
    """detectron2's configuration (a CfgNode) for a card.

    Args:
        path: of a YAML.
        is_own: whether it is the user's own, rather than detectron2's.
        num_classes: without a background.
        score_min: boxes must score at least this, in [0, 1].
        options: what to change, by detectron2's names.
        device: where the model runs.

    Raises:
        ConfigError: a key or a value that detectron2 does not know.
    """
    from detectron2.config import get_cfg

    cfg = get_cfg()
    # detectron2 keeps scores above its threshold: the next number below keeps those at score_min too
    threshold = float(np.nextafter(np.float32(score_min), np.float32(-1)))
    try:
        # some of detectron2's own have expressions in them, which it has to evaluate
        cfg.merge_from_file(str(path), allow_unsafe=not is_own)
        cfg.merge_from_list([part for pair in options.items() for part in pair])
    except (AssertionError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"config {path.name}: detectron2 refuses it: {_line(error)}") from error
    for section in (cfg.MODEL.ROI_HEADS, cfg.MODEL.RETINANET):
        section.NUM_CLASSES, section.SCORE_THRESH_TEST = num_classes, threshold
    cfg.MODEL.DEVICE, cfg.MODEL.WEIGHTS = device, ""
    if cfg.MODEL.META_ARCHITECTURE in NO_BOXES:
        raise ConfigError(f"config {path.name}: expected a detector of objects, got a {cfg.MODEL.META_ARCHITECTURE}")
    if cfg.MODEL.LOAD_PROPOSALS:
        raise ConfigError(f"config {path.name}: expected a detector that needs no regions from elsewhere")
    if cfg.INPUT.FORMAT not in ("BGR", "RGB"):
        raise ConfigError(f"config {path.name}: INPUT.FORMAT: expected BGR or RGB, got {cfg.INPUT.FORMAT!r}")
    return cfg


def _line(error: Exception) -> str:
    """What an error says, in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def build(cfg: Any, tensors: Mapping[str, Tensor]) -> nn.Module:
    """The model of a configuration with the given weights, on its device, in evaluation mode.

    Raises:
        ConfigError: a part that detectron2 does not know, or weights that do not fit; names the first that differs.
    """
    from detectron2.modeling import build_model

    try:
        model: nn.Module = build_model(cfg)
    except (AssertionError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"config: detectron2 cannot build it: {_line(error)}") from error
    load(model, detectron2_weights.weights_of(tensors))
    if cfg.MODEL.META_ARCHITECTURE == "GeneralizedRCNN":  # masks and key points are made of boxes that are found
        heads: Any = model.roi_heads
        heads.mask_on = heads.keypoint_on = False
    return model.eval()


@registry.register("detectron2")
def from_card(card: Card, device: str) -> Detectron2:
    """The detector that a card describes; its weights have the role ``model``, a configuration of its own ``config``.

    Raises:
        ConfigError: detectron2 is not installed, or the card lacks something, or it does not fit.
        TransientError: its weights cannot be reached.
    """
    owner = f"card {card.name}"
    if "model" not in card.weights or not card.classes:
        raise ConfigError(f"{owner}: expected classes, and weights with the role model")
    settings = parse(Settings, card.settings, where=f"{owner}: settings")
    if (settings.config is None) == ("config" not in card.weights):
        raise ConfigError(f"{owner}: expected either settings.config or a file with the role config")
    classes = card.classes[1:] if card.classes[0] == NO_OBJECT[0] else card.classes  # which it does not count
    try:
        require()
        path = zoo_file(settings.config) if settings.config else own_file(weights.fetch(card.weights["config"], owner))
        cfg = configuration(path, settings.config is None, len(classes), card.score_min, settings.options, device)
        model = build(cfg, weights.read_tensors(weights.fetch(card.weights["model"], owner)))
        shown = {"min_size": cfg.INPUT.MIN_SIZE_TEST, "max_size": cfg.INPUT.MAX_SIZE_TEST, "channels": cfg.INPUT.FORMAT}
        return Detectron2(model, classes, card.labels, device, **shown)
    except ConfigError as error:
        raise ConfigError(f"{owner}: {error}") from error
