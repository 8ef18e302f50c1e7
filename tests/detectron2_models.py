"""Stand-ins for trained detectron2 models: seeded weights, under detectron2's names and in its files.

Nothing here needs detectron2 but what is given one of its models.
"""

import hashlib
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from artray.models.cards import Card

PICTURES = Path(__file__).parents[1] / "artray" / "archive" / "sample" / "images"
CLASSES = ("__background__", "angel", "mary", "bicycle", "cow", "ship")
LABELS = {"angel": "angel", "mary": "mary", "bicycle": None, "cow": "cow", "ship": "ship"}

STAGES = {
    "fasterrcnn_resnet50_fpn": (3, 4, 6, 3),
    "fasterrcnn_resnet101_fpn": (3, 4, 23, 3),
    "fasterrcnn_resnext101_32x8d_fpn": (3, 4, 23, 3),
    "retinanet_resnet50_fpn": (3, 4, 6, 3),
    "retinanet_resnet101_fpn": (3, 4, 23, 3),
}
"""Blocks in a backbone's stages."""


def picture(name: str) -> np.ndarray:
    """uint8[H, W, 3] RGB of the sample archive; like a batch's, it cannot be written to."""
    image = np.array(Image.open(PICTURES / name).convert("RGB"))
    image.flags.writeable = False
    return image


def shapes(architecture: str, num_classes: int) -> dict[str, tuple[int, ...]]:
    """The names and shapes of one of detectron2's state dicts, as its model zoo has them.

    Args:
        architecture: one of :data:`STAGES`.
        num_classes: without a background.
    """
    is_dense, groups = architecture.startswith("retinanet"), 32 if "resnext" in architecture else 1
    found = convolution("backbone.bottom_up.stem.conv1", 64, 3, 7)
    before = 64
    for stage, blocks in enumerate(STAGES[architecture]):
        inner, outer = (64 * 4 if groups == 32 else 64) * 2**stage, 256 * 2**stage
        for block in range(blocks):
            name = f"backbone.bottom_up.res{stage + 2}.{block}"
            if block == 0:
                found |= convolution(f"{name}.shortcut", outer, before, 1)
            found |= convolution(f"{name}.conv1", inner, before, 1)
            found |= convolution(f"{name}.conv2", inner, inner // groups, 3)
            found |= convolution(f"{name}.conv3", outer, inner, 1)
            before = outer
    for level in (3, 4, 5) if is_dense else (2, 3, 4, 5):
        found |= layer(f"backbone.fpn_lateral{level}", 256, 64 * 2**level, 1, 1)
        found |= layer(f"backbone.fpn_output{level}", 256, 256, 3, 3)
    return found | (dense_head(num_classes) if is_dense else box_heads(num_classes))


def layer(name: str, *shape: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


def convolution(name: str, to: int, of: int, side: int) -> dict[str, tuple[int, ...]]:
    statistics = ("weight", "bias", "running_mean", "running_var")
    return {f"{name}.weight": (to, of, side, side)} | {f"{name}.norm.{key}": (to,) for key in statistics}


def dense_head(num_classes: int) -> dict[str, tuple[int, ...]]:
    found = layer("backbone.top_block.p6", 256, 2048, 3, 3) | layer("backbone.top_block.p7", 256, 256, 3, 3)
    for kind in ("cls", "bbox"):
        for number in (0, 2, 4, 6):
            found |= layer(f"head.{kind}_subnet.{number}", 256, 256, 3, 3)
    return found | layer("head.cls_score", 9 * num_classes, 256, 3, 3) | layer("head.bbox_pred", 36, 256, 3, 3)


def box_heads(num_classes: int) -> dict[str, tuple[int, ...]]:
    return (
        layer("proposal_generator.rpn_head.conv", 256, 256, 3, 3)
        | layer("proposal_generator.rpn_head.objectness_logits", 3, 256, 1, 1)
        | layer("proposal_generator.rpn_head.anchor_deltas", 12, 256, 1, 1)
        | layer("roi_heads.box_head.fc1", 1024, 256 * 7 * 7)
        | layer("roi_heads.box_head.fc2", 1024, 1024)
        | layer("roi_heads.box_predictor.cls_score", num_classes + 1, 1024)
        | layer("roi_heads.box_predictor.bbox_pred", 4 * num_classes, 1024)
    )


def seed(tensors: Mapping[str, Tensor]) -> None:
    """Norms that are not the identity that they start as, and blocks that do not add up to more than a float holds."""
    generator = torch.Generator().manual_seed(5)
    ranges = {
        ".conv3.norm.weight": (0.1, 0.4),
        "norm.weight": (0.5, 1.5),
        "running_mean": (-0.1, 0.1),
        "running_var": (0.5, 1.5),
    }
    for name, tensor in tensors.items():
        for ending, (least, most) in ranges.items():
            if name.endswith(ending):
                tensor.uniform_(least, most, generator=generator)
                break


SPREADS = (
    {
        "proposal_generator.rpn_head.objectness_logits": 3.0,
        "proposal_generator.rpn_head.anchor_deltas": 0.3,
        "head.cls_score": 1.5,
        "head.bbox_pred": 0.5,
    },
    {"roi_heads.box_predictor.cls_score": 2.5, "roi_heads.box_predictor.bbox_pred": 2.0},
)
"""Standard deviations of what layers answer, those first that others depend on."""


def spread(model: nn.Module, look: Callable[[], Any]) -> None:
    """Scale a model's last layers until their answers for what it looks at differ as a trained model's do.

    Random layers answer nearly the same everywhere.
    """
    for deviations in SPREADS:
        for layer, answered in _watched(model, deviations, look):
            layer.get_parameter("weight").data.mul_(deviations[answered[0]] / answered[1])


def _watched(
    model: nn.Module, names: Mapping[str, float], look: Callable[[], Any]
) -> list[tuple[nn.Module, tuple[str, Tensor]]]:
    """Those of the named layers that a model has, and the standard deviation of what they answer."""
    layers = {layer: name for name, layer in model.named_modules() if name in names}
    answers: dict[nn.Module, list[Tensor]] = {layer: [] for layer in layers}

    def note(layer: nn.Module, _: Any, answer: Tensor) -> None:
        answers[layer].append(answer.detach().flatten())

    hooks = [layer.register_forward_hook(note) for layer in layers]
    if layers:
        look()
    for hook in hooks:
        hook.remove()
    return [(layer, (name, torch.cat(answers[layer]).std())) for layer, name in layers.items()]


def as_zoo_file(path: Path, tensors: Mapping[str, Tensor]) -> Path:
    """A file as detectron2's model zoo has them."""
    arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
    path.write_bytes(pickle.dumps({"model": arrays, "__author__": "Detectron2 Model Zoo"}, protocol=4))
    return path


def file_of(path: Path) -> dict[str, str]:
    return {"uri": path.as_uri(), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def card(path: Path, architecture: str, settings: dict[str, Any], score_min: float = 0.2, **more: Any) -> Card:
    """A card of a checkpoint for :data:`CLASSES`."""
    described: dict[str, Any] = {
        "name": "made",
        "task": "detect",
        "architecture": architecture,
        "yields": ("objects",),
        "classes": CLASSES,
        "labels": LABELS,
        "score_min": score_min,
        "settings": settings,
        "weights": {"model": file_of(path)},
        "licence": "none",
        "source": "random",
    }
    return Card(**(described | more))
