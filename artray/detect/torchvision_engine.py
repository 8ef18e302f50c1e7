"""torchvision's detectors (Faster R-CNN, RetinaNet, SSDLite, FCOS) behind one call.

A model is built without weights and then loaded from tensors: published COCO weights or anybody's fine-tuned ones.
Two things are easily lost that way, and are put back here: torchvision freezes the backbone's batch norms of some of
its models only when it loads weights itself, and it pads images of a batch to the largest of them, which changes what
is found in the smaller ones.
"""

import inspect
import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models import detection
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.models.detection.ssd import SSD
from torchvision.ops.feature_pyramid_network import LastLevelP6P7
from torchvision.ops.misc import FrozenBatchNorm2d

from artray.config import parse
from artray.detect import detectron2_inputs, detectron2_twin, detectron2_weights, layers
from artray.detect.detector import Image
from artray.detect.found import Found
from artray.detect.own_classes import BySize, Labels
from artray.errors import ConfigError
from artray.models import registry, weights
from artray.models.cards import Card


class Trait(NamedTuple):
    """What torchvision's constructors do not say of themselves."""

    network: type[nn.Module]  # whose arguments the constructor takes too
    score_setting: str  # the name that this has for the lowest score that it keeps
    frozen_eps: float | None  # of the frozen batch norms that its published weights were trained with; None: not frozen


ARCHITECTURES: Final = MappingProxyType(
    {
        "fasterrcnn_resnet50_fpn": Trait(detection.FasterRCNN, "box_score_thresh", 0.0),
        "fasterrcnn_resnet50_fpn_v2": Trait(detection.FasterRCNN, "box_score_thresh", None),
        "fasterrcnn_mobilenet_v3_large_fpn": Trait(detection.FasterRCNN, "box_score_thresh", 1e-5),
        "fasterrcnn_mobilenet_v3_large_320_fpn": Trait(detection.FasterRCNN, "box_score_thresh", 1e-5),
        "retinanet_resnet50_fpn": Trait(detection.RetinaNet, "score_thresh", 0.0),
        "retinanet_resnet50_fpn_v2": Trait(detection.RetinaNet, "score_thresh", None),
        "fcos_resnet50_fpn": Trait(detection.FCOS, "score_thresh", 1e-5),
        "ssdlite320_mobilenet_v3_large": Trait(SSD, "score_thresh", None),
        "fasterrcnn_resnet101_fpn": Trait(detection.FasterRCNN, "box_score_thresh", 0.0),
        "fasterrcnn_resnext101_32x8d_fpn": Trait(detection.FasterRCNN, "box_score_thresh", 0.0),
        "retinanet_resnet101_fpn": Trait(detection.RetinaNet, "score_thresh", 0.0),
    }
)
"""Constructors of torchvision.models.detection, by name, and others of its parts: :data:`BACKBONES`."""

BACKBONES: Final = MappingProxyType(
    {
        "fasterrcnn_resnet101_fpn": "resnet101",
        "fasterrcnn_resnext101_32x8d_fpn": "resnext101_32x8d",
        "retinanet_resnet101_fpn": "resnet101",
    }
)
"""Detectors that torchvision has no constructor for. Source: report, Object Detection, section 4.1 and Table 4."""


class Torchvision(BySize):
    """A torchvision detector that answers in artray's classes.

    Args:
        model: one of torchvision's detectors, as :func:`build` makes it.
        classes: what the model's ids mean, from 0 on.
        labels: what each of ``classes`` is called in artray.
        device: where it runs, "cpu" or "cuda".

    Raises:
        ConfigError: a class is not in ``labels``, or a label not in the taxonomy.
    """

    def __init__(self, model: nn.Module, classes: Sequence[str], labels: Labels, device: str = "cpu") -> None:
        super().__init__(classes, labels, device)
        self._model: Any = model.to(self._device).eval()

    def _padded_hw(self, image: Image) -> tuple[int, int]:
        return padded_size(self._model.transform, *image.shape[:2])

    def _together(self, images: Sequence[Image]) -> list[Found]:
        """At most the constructor's ``detections_per_img`` boxes of each."""
        outputs = self._model([_tensor(image, self._device) for image in images])
        return [
            self.called(*(output[name].cpu().numpy() for name in ("boxes", "scores", "labels"))) for output in outputs
        ]

    def look(self, names: Sequence[str]) -> layers.Look:
        """What modules of the network make of images, by name (``backbone.fpn.layer_blocks.3``).

        Images are looked at one by one, by the backbone alone where all the modules are in it.

        Raises:
            ConfigError: it has no such module.
        """
        watched = layers.modules(self._model, names)
        return lambda images: [self._look(watched, image) for image in images]

    def _look(self, watched: Mapping[str, nn.Module], image: Image) -> layers.Told:
        with torch.inference_mode(), layers.watched(watched) as outputs:
            given = [_tensor(image, self._device)]
            shown, _ = self._model.transform(given)
            within = all(name.startswith("backbone.") for name in watched)
            self._model.backbone(shown.tensors) if within else self._model(given)
        (height, width), (padded_height, padded_width) = shown.image_sizes[0], shown.tensors.shape[2:]
        return layers.told(outputs, 0, 1, (0.0, 0.0, width / padded_width, height / padded_height))


def _tensor(image: Image, device: torch.device) -> Tensor:
    """float32[3, H, W] in [0, 1]; a copy, as batches are read-only views."""
    return torch.from_numpy(image.astype(np.float32)).to(device).permute(2, 0, 1).contiguous().div_(255)


def padded_size(transform: Any, height_px: int, width_px: int) -> tuple[int, int]:
    """The size at which the network sees an image: resized, and padded on the right and at the bottom.

    Args:
        transform: a detector's ``transform``.
        height_px: the image's height.
        width_px: the image's width.

    Returns:
        Height and width in pixels.

    Source: torchvision.models.detection.transform.GeneralizedRCNNTransform.
    """
    if isinstance(transform, detectron2_twin.Transform):
        height, width = transform.resized_hw(height_px, width_px)
    elif transform.fixed_size is not None:
        height, width = transform.fixed_size[1], transform.fixed_size[0]
    else:
        sides = (height_px, width_px)
        scale = min(transform.min_size[-1] / min(sides), transform.max_size / max(sides))
        height, width = (math.floor(side * scale) for side in sides)
    return detectron2_inputs.padded_hw(height, width, transform.size_divisible)


def build(
    architecture: str,
    num_classes: int,
    tensors: Mapping[str, Tensor],
    score_min: float,
    settings: Mapping[str, Any] = MappingProxyType({}),
) -> nn.Module:
    """One of torchvision's detectors with the given weights, on the CPU, in evaluation mode.

    Args:
        architecture: one of :data:`ARCHITECTURES`.
        num_classes: ids that the model tells apart, the background among them.
        tensors: the state dict of such a model.
        score_min: boxes must score at least this, in [0, 1].
        settings: the constructor's own further arguments (min_size, box_nms_thresh, ...), and ``frozen_eps``: of the
            backbone's frozen batch norms if the weights were trained with other ones than torchvision's published
            (null: they were not frozen). With ``from: detectron2`` the weights are detectron2's, and the others are
            those of :class:`artray.detect.detectron2_twin.Settings`.

    Raises:
        ConfigError: an unknown architecture or setting, or weights that do not fit; names the first that differs.
    """
    if architecture not in ARCHITECTURES:
        raise ConfigError(f"architecture: expected one of {', '.join(ARCHITECTURES)}, got {architecture!r}")
    if "from" in settings:
        return _of_detectron2(architecture, num_classes, tensors, score_min, settings)
    if detectron2_weights.is_detectron2(tensors):
        raise ConfigError("weights: expected torchvision's, got detectron2's: say so with settings: {from: detectron2}")
    model = unlearned(architecture, num_classes, score_min, settings)
    load(model, tensors)
    return model.eval()


def unlearned(
    architecture: str, num_classes: int, score_min: float, settings: Mapping[str, Any] = MappingProxyType({})
) -> nn.Module:
    """One of torchvision's detectors with random weights, on the CPU; arguments are those of :func:`build`.

    Raises:
        ConfigError: an unknown setting.
    """
    trait, arguments = ARCHITECTURES[architecture], dict(settings)
    frozen_eps = arguments.pop("frozen_eps", trait.frozen_eps)
    # torchvision keeps scores above its threshold: the next number below keeps those at score_min too
    arguments[trait.score_setting] = float(np.nextafter(np.float32(score_min), np.float32(-1)))
    taken = inspect.signature(trait.network.__init__).parameters
    unknown = next((name for name in arguments if name not in taken), None)
    if unknown is not None:  # torchvision would take it and do nothing
        raise ConfigError(f"settings: expected arguments of torchvision's {trait.network.__name__}, got {unknown!r}")
    try:
        model = _constructed(architecture, num_classes, arguments)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"settings: torchvision's {architecture} refuses them: {error}") from error
    if frozen_eps is not None:
        freeze_norms(model.get_submodule("backbone"), frozen_eps)
    return model


def _of_detectron2(
    architecture: str, num_classes: int, tensors: Mapping[str, Tensor], score_min: float, settings: Mapping[str, Any]
) -> nn.Module:
    """The detector that finds what detectron2's finds with these weights."""
    if settings["from"] != "detectron2":
        raise ConfigError(f"settings.from: expected detectron2, got {settings['from']!r}")
    if architecture not in detectron2_twin.ZOO:
        raise ConfigError(
            f"architecture: expected one of {', '.join(detectron2_twin.ZOO)} for weights from detectron2, "
            f"got {architecture!r}"
        )
    others = {name: value for name, value in settings.items() if name != "from"}
    converted, family = detectron2_weights.convert(tensors), detectron2_weights.family_of(tensors)
    if (family == "retinanet") != (ARCHITECTURES[architecture].network is detection.RetinaNet):
        raise ConfigError(f"weights: expected those of {architecture}, got those of a {family}")
    model = detectron2_twin.construct(
        architecture, num_classes, score_min, parse(detectron2_twin.Settings, others, where="settings")
    )
    load(model, converted)
    return model.eval()


def _constructed(architecture: str, num_classes: int, arguments: Mapping[str, Any]) -> nn.Module:
    """A detector with random weights, its batch norms not frozen."""
    if architecture in BACKBONES:
        network = ARCHITECTURES[architecture].network
        levels = {"returned_layers": [2, 3, 4], "extra_blocks": LastLevelP6P7(256, 256)}
        backbone = resnet_fpn_backbone(
            backbone_name=BACKBONES[architecture],
            weights=None,
            norm_layer=nn.BatchNorm2d,
            trainable_layers=5,
            **(levels if network is detection.RetinaNet else {}),
        )
        return network(backbone, num_classes=num_classes, **arguments)
    construct = getattr(detection, architecture)
    model: nn.Module = construct(weights=None, weights_backbone=None, num_classes=num_classes, **arguments)
    return model


def freeze_norms(module: nn.Module, eps: float) -> None:
    """Replace every batch norm below ``module`` by a frozen one, as torchvision does when it loads weights itself.

    Source: torchvision.models.detection: ``norm_layer = FrozenBatchNorm2d if is_trained``, ``overwrite_eps``.
    """
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, FrozenBatchNorm2d(child.num_features, eps))
        else:
            freeze_norms(child, eps)


def load(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Load a state dict, all of it; only the batch norms' counters of training steps may lack or be left over.

    Raises:
        ConfigError: names the first tensor that lacks, has another shape, or is not the model's.
    """
    expected, given = _weights_of(model.state_dict()), _weights_of(tensors)
    for name, tensor in expected.items():
        if name not in given:
            raise ConfigError(f"weights: expected a tensor {name}, got none; are they this architecture's?")
        shape, got = tuple(tensor.shape), tuple(given[name].shape)
        if shape != got:
            raise ConfigError(f"weights: {name}: expected shape {shape}, got {got}; does the number of classes agree?")
    extra = next((name for name in given if name not in expected), None)
    if extra is not None:
        raise ConfigError(
            f"weights: expected {len(expected)} tensors, got {extra} besides; are they this architecture's?"
        )
    model.load_state_dict(given, strict=False)


def _weights_of(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict without counters of training steps, which frozen batch norms have not and evaluation never reads."""
    return {name: tensor for name, tensor in tensors.items() if not name.endswith("num_batches_tracked")}


def from_card(card: Card, device: str) -> Torchvision:
    """The detector that a card describes; its weights have the role ``model``.

    Raises:
        ConfigError: the card lacks its weights or classes, or they do not fit.
        TransientError: its weights cannot be reached.
    """
    owner = f"card {card.name}"
    if "model" not in card.weights or not card.classes:
        raise ConfigError(f"{owner}: expected classes, and weights with the role model")
    tensors = weights.read_tensors(weights.fetch(card.weights["model"], owner))
    try:
        model = build(card.architecture, len(card.classes), tensors, card.score_min, card.settings)
        return Torchvision(model, card.classes, card.labels, device)
    except ConfigError as error:
        raise ConfigError(f"{owner}: {error}") from error


for _architecture in ARCHITECTURES:
    registry.register(_architecture)(from_card)
