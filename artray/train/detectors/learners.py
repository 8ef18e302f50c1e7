"""Networks that learn to detect: a batch in, its loss out; pictures in, boxes out. One class per architecture."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import torch
from torch import Tensor, nn

from artray.detect import yolox, yolox_engine, yolox_weights
from artray.detect.boxes import nms
from artray.detect.detection_loss import Weights, detection_loss
from artray.detect.found import Found, nothing
from artray.detect.torchvision_engine import label_table
from artray.errors import ConfigError
from artray.models import registry, weights
from artray.models.cards import Card
from artray.taxonomy import coarse, fallback
from artray.train.batch_norm import synchronised
from artray.train.detectors.pictures import Batch
from artray.train.detectors.profile import DetectorProfile, JudgeConfig
from artray.train.exchange import Exchange
from artray.train.loop import DTYPES
from artray.train.losses import Total, alone
from artray.train.optimisers import Group

SIZE_PX: Final = 416
"""Of the canvas, where neither profile nor card say another. Source: Ge et al. 2021, of the nano."""

MEASURED: Final = 64
"""Pictures whose statistics batch norms start from."""


class YoloxLearner(nn.Module):
    """A YOLOX-nano that learns.

    Args:
        network: with random or pretrained weights.
        profile: what of it is trained, and by which loss.
        size_px: side of its canvas.
    """

    def __init__(self, network: yolox.YoloxNano, profile: DetectorProfile, size_px: int) -> None:
        super().__init__()
        self.network, self.size_px = network, size_px
        self.cfg = profile.detector
        self.total: Total = alone
        trunk = network.trunk
        self.frozen: list[nn.Module] = [trunk.stem, trunk.stage2, trunk.stage3, trunk.stage4][: self.cfg.frozen_stages]
        for module in self.frozen:
            module.requires_grad_(False)

    def train(self, mode: bool = True) -> "YoloxLearner":
        """Batch norms that keep their statistics stay as they are in evaluation."""
        super().train(mode)
        kept = [self.network] if self.cfg.norms == "frozen" else self.frozen
        for module in kept:
            for each in module.modules():
                if isinstance(each, nn.BatchNorm2d):
                    each.eval()
        return self

    def groups(self) -> list[Group]:
        """What is trained: what tells classes apart may learn at a rate of its own."""
        own = [each for name, each in self.network.named_parameters() if ".classes." in name]
        rest = [each for each in self.parameters() if each.requires_grad and all(each is not other for other in own)]
        return [Group(rest), Group(own, self.cfg.classes_lr)]

    def forward(self, batch: Batch) -> Tensor:
        """The loss of a batch, a scalar."""
        return self.loss(self.network(self.pictures(batch)), batch)

    def loss(self, levels: Sequence[Tensor], batch: Batch) -> Tensor:
        """The loss of what the network says of a batch."""
        device = levels[0].device
        truths = [truth._replace(**{k: v.to(device) for k, v in truth._asdict().items()}) for truth in batch.truths]
        cfg = self.cfg
        return detection_loss(levels, truths, cfg.box_loss, cfg.background_min, self.total).total(Weights())

    def pictures(self, batch: Batch) -> Tensor:
        """float[n, 3, S, S] on the network's device, channels innermost."""
        like = next(self.network.parameters())
        return batch.canvases.to(like.device, non_blocking=True).permute(0, 3, 1, 2).to(like.dtype)

    def found(self, levels: Sequence[Tensor], cfg: JudgeConfig) -> list[Found]:
        """What the network says as boxes, pixels of the canvas: each cell's best class only."""
        boxes, objectness, class_scores = yolox.decode(levels)
        best, ids = class_scores.max(dim=2)
        scores = best * objectness
        return [_kept(*columns, cfg) for columns in zip(boxes, scores, ids, strict=True)]


def _kept(boxes: Tensor, scores: Tensor, ids: Tensor, cfg: JudgeConfig) -> Found:
    at = (scores >= cfg.score_min).nonzero()[:, 0]
    if not len(at):
        return nothing()
    found = Found(boxes[at].float().cpu().numpy(), scores[at].float().cpu().numpy(), ids[at].cpu().numpy())
    return found.at(nms(*found, cfg.iou_max, cfg.found_max))


def size_px(profile: DetectorProfile, card: Card) -> int:
    """Side of the canvas."""
    return profile.detector.size_px or int(card.settings.get("size_px", SIZE_PX))


def build(profile: DetectorProfile, card: Card, class_names: Sequence[str], exchange: Exchange) -> YoloxLearner:
    """The learner that all workers start from, on its device.

    Raises:
        ConfigError: no detector of this architecture can be trained, or the card's weights cannot be used.
        TransientError: its weights cannot be reached.
    """
    check(card)
    torch.manual_seed(profile.training.seed)
    if profile.detector.random:
        network = yolox.YoloxNano(len(class_names))
    else:
        tensors = yolox_engine.read(weights.fetch(card.weights["model"], owner=f"card {card.name}"))
        network = yolox_engine.build(len(class_names), yolox_weights.transfer(tensors, alike(card, class_names)))
    learner = YoloxLearner(network, profile, size_px(profile, card))
    device = registry.check_device(profile.workers.device)
    learner = learner.to(device=device, dtype=DTYPES[profile.training.precision]).to(memory_format=torch.channels_last)
    if exchange.workers > 1:
        learner.total = exchange.total
        if profile.detector.norms == "trained":
            synchronised(learner, exchange.total, torch.device(device).type)
    return learner


def check(card: Card) -> None:
    """Raises ConfigError where a detector of a card cannot be trained."""
    if card.architecture != "yolox_nano" or "model" not in card.weights:
        raise ConfigError(
            f"detector.card: expected one of the architecture yolox_nano with weights of the role model, got "
            f"{card.name} ({card.architecture})"
        )


def alike(card: Card, class_names: Sequence[str]) -> list[list[int]]:
    """For each class the ids of a card's classes that it starts from: those called so, else those of its "others"."""
    names, ids = label_table(card.classes, card.labels)
    of: dict[str, list[int]] = {}
    for own, at in enumerate(ids.tolist()):
        if at >= 0:
            of.setdefault(names[at], []).append(own)
    return [of.get(name) or of.get(fallback(coarse(name)), []) for name in class_names]


def calibrate(learner: YoloxLearner, batches: Iterator[Batch]) -> None:
    """Give batch norms the statistics of pictures; the function stays the same. See yolox_weights.calibrate."""
    yolox_weights.calibrate(learner.network, (learner.pictures(batch) for batch in batches))


def export(learner: YoloxLearner) -> Mapping[str, Tensor]:
    """The network's weights as a card's file has them: half precision, which its answers do not feel."""
    return {
        name: tensor.half() if tensor.is_floating_point() else tensor
        for name, tensor in learner.network.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
