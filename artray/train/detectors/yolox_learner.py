"""YOLOX-nano as a detector that learns: SimOTA, and losses that deny only what a picture's set can deny."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from torch import Tensor, nn

from artray.detect import yolox, yolox_engine, yolox_weights
from artray.detect.boxes import nms
from artray.detect.detection_loss import detection_loss
from artray.detect.found import Found, nothing
from artray.detect.own_classes import label_table
from artray.models import weights
from artray.models.cards import Card
from artray.train.detectors.learner import Learner, alike
from artray.train.detectors.pictures import Batch
from artray.train.detectors.profile import DetectorProfile, JudgeConfig
from artray.train.losses import Total, alone
from artray.train.optimisers import Group

SIZE_PX: Final = 416
"""Of the canvas, where neither profile nor card say another. Source: Ge et al. 2021, of the nano."""


class YoloxLearner(Learner):
    """A YOLOX-nano that learns.

    Args:
        network: with random or pretrained weights.
        profile: what of it is trained, and by which loss.
        size_px: side of its canvas.
    """

    def __init__(self, network: yolox.YoloxNano, profile: DetectorProfile, size_px: int) -> None:
        super().__init__(profile, size_px)
        self.network = network

    def stages(self) -> Sequence[nn.Module]:
        """The stem, and all stages but the last, which is the first to see the whole picture."""
        trunk = self.network.trunk
        return trunk.stem, trunk.stage2, trunk.stage3, trunk.stage4

    def groups(self) -> list[Group]:
        """What tells classes apart may learn at a rate of its own."""
        own = [each for name, each in self.network.named_parameters() if ".classes." in name]
        rest = [each for each in self.parameters() if each.requires_grad and all(each is not other for other in own)]
        return [Group(rest), Group(own, self.cfg.classes_lr)]

    def forward(self, batch: Batch) -> Tensor:
        """The loss of a batch."""
        return self._loss(self.network(self._pictures(batch)), batch, self.total)

    def judge(self, batch: Batch) -> tuple[Tensor, list[Found]]:
        """The loss of a batch, and each cell's best class where it scores enough."""
        levels = self.network(self._pictures(batch))
        columns = zip(*yolox.best(yolox.decode(levels)), strict=True)
        return self._loss(levels, batch, alone), [_kept(*each, self.test) for each in columns]

    def calibrate(self, batches: Iterable[Batch]) -> None:
        """Batch norms get the statistics of pictures: see yolox_weights.calibrate."""
        yolox_weights.calibrate(self.network, (self._pictures(batch) for batch in batches))

    def tensors(self) -> dict[str, Tensor]:
        """In half precision, which its answers do not feel."""
        return {
            name: tensor.half() if tensor.is_floating_point() else tensor
            for name, tensor in self.network.state_dict().items()
            if not name.endswith("num_batches_tracked")
        }

    def described(self, class_names: Sequence[str], scores: Mapping[str, float]) -> dict[str, Any]:
        """Classes with a threshold each."""
        least = min(scores.values())
        above = {name: score for name, score in scores.items() if score > least}
        return {
            "classes": list(class_names),
            "labels": {name: name for name in class_names},
            "score_min": least,
            "settings": {
                "size_px": self.size_px,
                "iou_max": self.test.iou_max,
                "found_max": self.test.found_max,
                "class_score_min": above,
            },
        }

    def _loss(self, levels: Sequence[Tensor], batch: Batch, total: Total) -> Tensor:
        truth, cfg = batch.truth.moved(levels[0].device), self.cfg
        return detection_loss(levels, truth, cfg.box_loss, cfg.background_min, total).total()

    def _pictures(self, batch: Batch) -> Tensor:
        """float[n, 3, S, S] on the network's device, channels innermost."""
        like = next(self.network.parameters())
        return batch.canvases.to(like.device, non_blocking=True).permute(0, 3, 1, 2).to(like.dtype)


def _kept(boxes: Tensor, scores: Tensor, ids: Tensor, cfg: JudgeConfig) -> Found:
    at = (scores >= cfg.score_min).nonzero()[:, 0]
    if not len(at):
        return nothing()
    found = Found(boxes[at].float().cpu().numpy(), scores[at].float().cpu().numpy(), ids[at].cpu().numpy())
    return found.at(nms(*found, cfg.iou_max, cfg.found_max))


def build(profile: DetectorProfile, card: Card, class_names: Sequence[str]) -> YoloxLearner:
    """The learner that a training starts from.

    Raises:
        ConfigError: the card's weights cannot be used.
        TransientError: they cannot be reached.
    """
    if profile.detector.random:
        network = yolox.YoloxNano(len(class_names))
    else:
        tensors = yolox_engine.read(weights.fetch(card.weights["model"], owner=f"card {card.name}"))
        names, ids = label_table(card.classes, card.labels)
        started = yolox_weights.transfer(tensors, alike(ids.tolist(), names, class_names))
        network = yolox_engine.build(len(class_names), started)
    return YoloxLearner(network, profile, profile.detector.size_px or int(card.settings.get("size_px", SIZE_PX)))
