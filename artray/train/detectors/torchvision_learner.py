"""torchvision's detectors that learn: Faster R-CNN, RetinaNet, FCOS, with their own losses.

These take every picture for fully labelled: what has no box, be it ignored or of a class that the picture's set did not
look for, is background to them.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

import torch
from torch import Tensor, nn

from artray.detect import torchvision_engine
from artray.detect.found import Found
from artray.detect.own_classes import label_table
from artray.errors import ConfigError
from artray.models import weights
from artray.models.cards import Card
from artray.train.detectors.learner import Learner, alike, still
from artray.train.detectors.pictures import Batch
from artray.train.detectors.profile import DetectorProfile

SIZE_PX: Final = 800
"""Of the canvas, where the profile does not say another: torchvision's, of most of its detectors."""

BACKGROUND: Final = "__background__"

NMS_SETTINGS: Final = MappingProxyType(
    {
        "box_score_thresh": ("box_nms_thresh", "box_detections_per_img"),
        "score_thresh": ("nms_thresh", "detections_per_img"),
    }
)
"""By the name of the threshold: what a detector calls the overlap and the number of its boxes."""


class TorchvisionLearner(Learner):
    """One of torchvision's detectors that learns.

    Args:
        model: as artray.detect.torchvision_engine builds it; its first class is the background.
        settings: that it was built with, but for the least score.
        profile: what of it is trained, and how it is judged.
        size_px: side of its canvas.
    """

    def __init__(self, model: nn.Module, settings: Mapping[str, Any], profile: DetectorProfile, size_px: int) -> None:
        super().__init__(profile, size_px)
        self.model, self.settings = model, dict(settings)

    def stages(self) -> Sequence[nn.Module]:
        """The stem and the first three of a ResNet's stages; others have none."""
        body: Any = getattr(self.model.get_submodule("backbone"), "body", None)
        if not hasattr(body, "layer3"):
            return []
        return nn.ModuleList([body.conv1, body.bn1]), body.layer1, body.layer2, body.layer3

    def forward(self, batch: Batch) -> Tensor:
        """The sum of the detector's losses, their mean over the pictures of all workers."""
        own = self._losses(batch)
        count = own.new_tensor(float(len(batch.drawn_wh)))
        weighted, pictures = self.total(torch.stack([own * count, count])).unbind()
        return weighted / pictures

    def judge(self, batch: Batch) -> tuple[Tensor, list[Found]]:
        """The loss of a batch, and the detector's boxes."""
        self.train()  # torchvision's detectors have losses in training only
        still(self)
        loss = self._losses(batch)
        self.eval()
        bare = [  # as the pipeline shows them: without the canvas's ground
            picture[:, :height, :width]
            for picture, (width, height) in zip(self._pictures(batch), batch.drawn_wh, strict=True)
        ]
        return loss, [_found(output) for output in self.model(bare)]

    def tensors(self) -> dict[str, Tensor]:
        """As torchvision has them."""
        return dict(self.model.state_dict())

    def described(self, class_names: Sequence[str], scores: Mapping[str, float]) -> dict[str, Any]:
        """The classes after the background, one threshold for all, and what it was built with."""
        return {
            "classes": [BACKGROUND, *class_names],
            "labels": {name: name for name in class_names},
            "score_min": min(scores.values()),
            "settings": self.settings,
        }

    def _losses(self, batch: Batch) -> Tensor:
        truth, counts = batch.truth, torch.bincount(batch.truth.image_ids, minlength=len(batch.drawn_wh)).tolist()
        known = truth.moved(next(self.parameters()).device)
        parts = zip(*(torch.split(each, counts) for each in (known.boxes_xyxy, known.class_ids + 1)), strict=True)
        targets = [{"boxes": boxes, "labels": labels} for boxes, labels in parts]
        losses: dict[str, Tensor] = self.model(self._pictures(batch), targets)
        return torch.stack(list(losses.values())).sum()

    def _pictures(self, batch: Batch) -> list[Tensor]:
        """float[3, S, S] in [0, 1] each, on the network's device."""
        like = next(self.parameters())
        canvases = batch.canvases.to(like.device, non_blocking=True).permute(0, 3, 1, 2)
        return list(canvases.to(like.dtype).div_(255))


def _found(output: Mapping[str, Tensor]) -> Found:
    boxes, scores, ids = (output[name].float().cpu().numpy() for name in ("boxes", "scores", "labels"))
    return Found(boxes, scores, ids.astype("int64") - 1)


def build(profile: DetectorProfile, card: Card, class_names: Sequence[str]) -> TorchvisionLearner:
    """The learner that a training starts from: the card's weights, but for what tells classes apart.

    Raises:
        ConfigError: the card's weights cannot be used.
        TransientError: they cannot be reached.
    """
    test, given = profile.test, dict(card.settings)
    size_px = profile.detector.size_px or int(given.get("max_size", SIZE_PX))
    overlap, number = NMS_SETTINGS[torchvision_engine.ARCHITECTURES[card.architecture].score_setting]
    settings = given | {"min_size": size_px, "max_size": size_px, overlap: test.iou_max, number: test.found_max}
    if profile.detector.random:  # norms that nothing has measured yet are not to be frozen
        settings |= {"frozen_eps": None}
    new = torchvision_engine.unlearned(card.architecture, len(class_names) + 1, test.score_min, settings)
    if not profile.detector.random:
        old = weights.read_tensors(weights.fetch(card.weights["model"], owner=f"card {card.name}"))
        names, ids = label_table(card.classes, card.labels)
        other = torchvision_engine.unlearned(card.architecture, len(class_names) + 2, test.score_min, settings)
        shapes = {name: tensor.shape for name, tensor in other.state_dict().items()}
        rows = {name: tensor for name, tensor in new.state_dict().items() if tensor.shape != shapes[name]}
        sources = [[0], *alike(ids.tolist(), names, class_names)]
        torchvision_engine.load(new, dict(old) | transferred(rows, old, len(card.classes), sources))
    return TorchvisionLearner(new, settings, profile, size_px)


def transferred(
    rows: Mapping[str, Tensor], old: Mapping[str, Tensor], old_classes: int, sources: Sequence[Sequence[int]]
) -> dict[str, Tensor]:
    """What tells other classes apart: rows that predict one are the mean of old ones, or stay as they were made.

    Args:
        rows: of the new detector, as it was made: the tensors whose shape depends on the number of classes.
        old: a state dict of the old one.
        old_classes: how many ids the old one has, the background's among them.
        sources: for each new id the old ones that it starts from; none: as it was made.

    Raises:
        ConfigError: the old one has no such tensor, or one of another shape than its classes explain.
    """
    return {name: _rows(name, tensor, old.get(name), old_classes, sources) for name, tensor in rows.items()}


def _rows(name: str, new: Tensor, old: Tensor | None, old_classes: int, sources: Sequence[Sequence[int]]) -> Tensor:
    """Rows of a predictor: per class several of them, or per anchor all classes."""
    each, class_first = new.shape[0] // len(sources), "bbox_pred" in name
    if old is None or old.shape != (each * old_classes, *new.shape[1:]):
        got = "none" if old is None else str(tuple(old.shape))
        raise ConfigError(f"weights: {name}: expected rows of {old_classes} classes, got {got}")
    split = (lambda count: (count, each)) if class_first else (lambda count: (each, count))
    before = old.reshape(*split(old_classes), *old.shape[1:])
    after = new.reshape(*split(len(sources)), *new.shape[1:])
    if not class_first:
        before, after = before.transpose(0, 1), after.transpose(0, 1)
    made = torch.stack(
        [before[[*ids]].mean(dim=0) if len(ids) else own for ids, own in zip(sources, after, strict=True)]
    )
    return (made if class_first else made.transpose(0, 1)).flatten(0, 1)
