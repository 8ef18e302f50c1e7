"""detectron2's weights under the names that torchvision's detectors have for them.

Faster R-CNN and RetinaNet with a feature pyramid on ResNets have the same layers in both libraries. What differs in how
they are used, and cannot be seen in the weights, is made equal in :mod:`artray.detect.detectron2_twin`.
"""

import re
from collections.abc import Mapping
from typing import Final, Literal, TypeAlias

import torch
from torch import Tensor

from artray.errors import ConfigError

Family: TypeAlias = Literal["faster_rcnn", "retinanet"]

OWN: Final = re.compile(r"pixel_(mean|std)|(.+\.)?anchor_generator\.cell_anchors\.\d+|.+\.num_batches_tracked")
"""What checkpoints may have besides weights: the configuration says it anew, or nobody reads it."""

NAMES: Final[tuple[tuple[str, str], ...]] = (
    (r"backbone\.bottom_up\.stem\.conv1\.norm\.(\w+)", r"backbone.body.bn1.\1"),
    (r"backbone\.bottom_up\.stem\.conv1\.weight", r"backbone.body.conv1.weight"),
    (r"backbone\.bottom_up\.(res\d\.\d+)\.conv(\d)\.norm\.(\w+)", r"backbone.body.\1.bn\2.\3"),
    (r"backbone\.bottom_up\.(res\d\.\d+)\.conv(\d)\.weight", r"backbone.body.\1.conv\2.weight"),
    (r"backbone\.bottom_up\.(res\d\.\d+)\.shortcut\.norm\.(\w+)", r"backbone.body.\1.downsample.1.\2"),
    (r"backbone\.bottom_up\.(res\d\.\d+)\.shortcut\.weight", r"backbone.body.\1.downsample.0.weight"),
    (r"backbone\.fpn_lateral(\d)\.(weight|bias)", r"backbone.fpn.inner_blocks.\1.0.\2"),
    (r"backbone\.fpn_output(\d)\.(weight|bias)", r"backbone.fpn.layer_blocks.\1.0.\2"),
    (r"backbone\.top_block\.(p\d)\.(weight|bias)", r"backbone.fpn.extra_blocks.\1.\2"),
    (r"proposal_generator\.rpn_head\.conv\.(weight|bias)", r"rpn.head.conv.0.0.\1"),
    (r"proposal_generator\.rpn_head\.objectness_logits\.(weight|bias)", r"rpn.head.cls_logits.\1"),
    (r"proposal_generator\.rpn_head\.anchor_deltas\.(weight|bias)", r"rpn.head.bbox_pred.\1"),
    (r"roi_heads\.box_head\.fc1\.(weight|bias)", r"roi_heads.box_head.fc6.\1"),
    (r"roi_heads\.box_head\.fc2\.(weight|bias)", r"roi_heads.box_head.fc7.\1"),
    (r"roi_heads\.box_predictor\.(cls_score|bbox_pred)\.(weight|bias)", r"roi_heads.box_predictor.\1.\2"),
    (r"head\.cls_subnet\.(\d)\.(weight|bias)", r"head.classification_head.conv.\1.0.\2"),
    (r"head\.bbox_subnet\.(\d)\.(weight|bias)", r"head.regression_head.conv.\1.0.\2"),
    (r"head\.cls_score\.(weight|bias)", r"head.classification_head.cls_logits.\1"),
    (r"head\.bbox_pred\.(weight|bias)", r"head.regression_head.bbox_reg.\1"),
)
"""detectron2's names, and torchvision's but for the numbers of layers: those are :func:`_renumbered`."""


def is_detectron2(tensors: Mapping[str, Tensor]) -> bool:
    """Whether a state dict is one of detectron2's detectors on a ResNet."""
    return any(name.startswith("backbone.bottom_up.") for name in tensors)


def family_of(tensors: Mapping[str, Tensor]) -> Family:
    """Which detector a state dict of detectron2's is of."""
    return "retinanet" if any(name.startswith("head.") for name in tensors) else "faster_rcnn"


def weights_of(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A checkpoint's weights, without what else older versions of detectron2 put there."""
    return {name: tensor for name, tensor in tensors.items() if not OWN.fullmatch(name)}


def convert(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict of the torchvision detector that finds the same as detectron2's.

    Layers get torchvision's names. A Faster R-CNN's classes get its order, the background first instead of last, and
    the background boxes, which nobody reads. Weights themselves stay as they are: the first layer takes channels in
    the order and on the scale that it was trained with. A RetinaNet's classes have no background in either.

    Args:
        tensors: a state dict of detectron2's GeneralizedRCNN with a feature pyramid, or of its RetinaNet.

    Returns:
        That of :func:`artray.detect.detectron2_twin.construct`; tensors that change nothing are shared.

    Raises:
        ConfigError: another architecture's weights; names the first tensor that has no counterpart.

    Source: detectron2.modeling and torchvision.models.detection, compared.

    >>> sorted(convert({"head.cls_score.bias": torch.zeros(9), "backbone.fpn_lateral3.bias": torch.zeros(256)}))
    ['backbone.fpn.inner_blocks.0.0.bias', 'head.classification_head.cls_logits.bias']
    """
    given = weights_of(tensors)
    family = family_of(given)
    converted = {_renamed(name, family): tensor for name, tensor in given.items()}
    for name in [name for name in converted if name.startswith("roi_heads.box_predictor.")]:
        converted[name] = _reordered(name, converted[name])
    return _with_statistics(converted)


def _renamed(name: str, family: Family) -> str:
    """The name that torchvision has for one of detectron2's tensors."""
    for pattern, replacement in NAMES:
        if re.fullmatch(pattern, name):
            return _renumbered(re.sub(pattern, replacement, name), family)
    raise ConfigError(
        f"weights: expected a Faster R-CNN or RetinaNet with a feature pyramid on a ResNet, got {name}, which "
        f"torchvision's have not; run it by detectron2 itself (architecture: detectron2)"
    )


def _renumbered(name: str, family: Family) -> str:
    """The name with torchvision's numbers: stages from 1 on, levels and convolutions from 0 on.

    detectron2 numbers stages and levels by their stride's logarithm, and a RetinaNet's pyramid begins at 3; in its
    heads every other layer is an activation.
    """
    lowest = 3 if family == "retinanet" else 2
    name = re.sub(r"\.res(\d)\.", lambda found: f".layer{int(found[1]) - 1}.", name)
    name = re.sub(r"_blocks\.(\d)\.", lambda found: f"_blocks.{int(found[1]) - lowest}.", name)
    return re.sub(r"_head\.conv\.(\d)\.", lambda found: f"_head.conv.{int(found[1]) // 2}.", name)


def _reordered(name: str, tensor: Tensor) -> Tensor:
    """A box predictor's rows with the background's first: 1 row a class of scores, 4 of boxes."""
    if ".cls_score." in name:
        return torch.cat([tensor[-1:], tensor[:-1]])
    if len(tensor) == 4:
        raise ConfigError(
            "weights: expected boxes of each class, got one for all classes (CLS_AGNOSTIC_BBOX_REG), which torchvision "
            "has not; run them by detectron2 itself (architecture: detectron2)"
        )
    return torch.cat([torch.zeros_like(tensor[:4]), tensor])


def _with_statistics(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """With the mean 0 and the variance 1 where batch norms have none, as in weights that came from Caffe2."""
    full = dict(tensors)
    for name, tensor in tensors.items():
        norm, _, kind = name.rpartition(".")
        if kind == "weight" and re.search(r"\.(bn\d|downsample\.1)$", norm):
            full.setdefault(f"{norm}.running_mean", torch.zeros_like(tensor))
            full.setdefault(f"{norm}.running_var", torch.ones_like(tensor))
    return full
