"""What a training knows of a detector: a batch in, its loss out; pictures in, boxes out."""

import abc
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from artray.detect.found import Found
from artray.taxonomy import coarse, fallback
from artray.train.detectors.pictures import Batch
from artray.train.detectors.profile import DetectorProfile
from artray.train.losses import Total, alone
from artray.train.optimisers import Group, trained


class Learner(nn.Module, abc.ABC):
    """A detector that learns.

    Args:
        profile: what of it is trained, and how it is judged.
        size_px: side of the canvas on which it sees pictures.
    """

    def __init__(self, profile: DetectorProfile, size_px: int) -> None:
        super().__init__()
        self.cfg, self.test, self.size_px = profile.detector, profile.test, size_px
        self.total: Total = alone
        """Adds up over workers."""

    @abc.abstractmethod
    def stages(self) -> Sequence[nn.Module]:
        """The trunk's stages that can be left as they are, from the picture's side on."""

    @abc.abstractmethod
    def forward(self, batch: Batch) -> Tensor:
        """The loss of a batch, a scalar, that of all workers together."""

    @abc.abstractmethod
    def judge(self, batch: Batch) -> tuple[Tensor, list[Found]]:
        """The loss of a batch, of this worker alone, and what is found in its pictures, pixels of the canvas."""

    @abc.abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """The weights as a card's file has them."""

    @abc.abstractmethod
    def described(self, class_names: Sequence[str], scores: Mapping[str, float]) -> dict[str, Any]:
        """What a card says of it: classes, labels, score_min and settings.

        Args:
            class_names: that it tells apart.
            scores: of each, from which on its boxes should be kept.
        """

    def groups(self) -> list[Group]:
        """What is trained, at which rates."""
        return trained(self)

    def calibrate(self, batches: Iterable[Batch]) -> None:
        """Get ready to be fine-tuned, with the help of some pictures; what it finds stays the same."""

    def freeze(self) -> None:
        """Leave the profile's stages as they are.

        Raises:
            ValueError: it has not so many.
        """
        if self.cfg.frozen_stages > len(self.stages()):
            raise ValueError(f"expected at most {len(self.stages())}, got {self.cfg.frozen_stages}")
        for module in self.stages()[: self.cfg.frozen_stages]:
            module.requires_grad_(False)

    def train(self, mode: bool = True) -> "Learner":
        """Batch norms that keep their statistics stay as they are in evaluation."""
        super().train(mode)
        for module in [self] if self.cfg.norms == "frozen" else self.stages()[: self.cfg.frozen_stages]:
            still(module)
        return self


def still(module: nn.Module) -> None:
    """Let batch norms, synchronised ones too, use the statistics that they have."""
    for each in module.modules():
        if isinstance(each, nn.modules.batchnorm._BatchNorm):
            each.eval()


def alike(classes: Sequence[int], names: Sequence[str], wanted: Sequence[str]) -> list[list[int]]:
    """For each wanted class the ids of old ones that it starts from: those called so, else those of its "others".

    Args:
        classes: what each old id is, an index of ``names``; -1 for nothing.
        names: of the classes that the old ids become.
        wanted: the new classes.

    >>> alike([0, 1, -1, 1], ["persons (others)", "dog"], ["dog", "angel", "ship"])
    [[1, 3], [0], []]
    """
    of: dict[str, list[int]] = {}
    for own, at in enumerate(classes):
        if at >= 0:
            of.setdefault(names[at], []).append(own)
    return [of.get(name) or of.get(fallback(coarse(name)), []) for name in wanted]
