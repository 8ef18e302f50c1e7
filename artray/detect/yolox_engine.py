"""YOLOX-nano as a detector: pictures of any size in, boxes in artray's classes out."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from artray.detect import layers, letterbox, yolox, yolox_weights
from artray.detect.boxes import nms
from artray.detect.detector import Image
from artray.detect.found import Found, nothing
from artray.detect.own_classes import Labels, OwnClasses, together
from artray.detect.torchvision_engine import load
from artray.errors import ConfigError
from artray.models import registry, trunks, weights
from artray.models.cards import Card

UNREACHED: Final = 2.0
"""More than any score."""

BATCH: Final = 16
"""Images that go through the network together on an accelerator."""


class Yolox(OwnClasses):
    """A YOLOX-nano that answers in artray's classes.

    On a CPU each image goes through the network by itself, so that what is found in it cannot depend, not by one bit,
    on the images beside it.

    Args:
        network: is taken over: batch norms are folded into its convolutions.
        classes: what the network's classes mean, from 0 on.
        labels: what each of ``classes`` is called in artray; several may be called the same.
        device: where it runs, "cpu" or "cuda".
        size_px: side of the canvas on which the network sees an image, a multiple of 32.
        score_min: boxes must score at least this, in [0, 1].
        class_score_min: likewise, of classes of artray's for which this is more.
        iou_max: a box goes if it overlaps a better one of the same class more, in [0, 1].
        found_max: of each image, at least 1; the best stay.

    Raises:
        ConfigError: a class is not in ``labels``, a label not in the taxonomy, or a number out of its range.

    Source: Ge et al. 2021; the published ``iou_max`` is 0.65 for evaluation on COCO.
    """

    def __init__(
        self,
        network: yolox.YoloxNano,
        classes: Sequence[str],
        labels: Labels,
        device: str = "cpu",
        *,
        size_px: int = 416,
        score_min: float = 0.3,
        class_score_min: Mapping[str, float] = MappingProxyType({}),
        iou_max: float = 0.65,
        found_max: int = 100,
    ) -> None:
        if type(size_px) is not int or size_px < yolox.STEP_PX or size_px % yolox.STEP_PX:
            raise ConfigError(f"size_px: expected a multiple of {yolox.STEP_PX}, got {size_px}")
        if isinstance(iou_max, bool) or not isinstance(iou_max, int | float) or not 0 <= iou_max <= 1:
            raise ConfigError(f"iou_max: expected a number in [0, 1], got {iou_max}")
        if type(found_max) is not int or found_max < 1:
            raise ConfigError(f"found_max: expected at least 1, got {found_max}")
        super().__init__(classes, labels)
        self._device = torch.device(device)
        self._ids = torch.from_numpy(self._class_ids).to(self._device)
        self._scores_min = self._least(score_min, class_score_min)
        self._network = trunks.fuse(network.eval()).to(self._device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.size_px, self.score_min, self.iou_max, self.found_max = size_px, score_min, iou_max, found_max

    def _least(self, score_min: float, class_score_min: Mapping[str, float]) -> Tensor:
        """The least score per class, and last of what is of none (-1), float[C + 1].

        Raises:
            ConfigError: a class that it cannot find, or a number that is no score.
        """
        for name, score in class_score_min.items():
            if name not in self._class_names:
                raise ConfigError(f"class_score_min: expected classes of {', '.join(self._class_names)}, got {name!r}")
            if isinstance(score, bool) or not isinstance(score, int | float) or not 0 <= score <= 1:
                raise ConfigError(f"class_score_min: {name}: expected a number in [0, 1], got {score!r}")
        least = [max(score_min, class_score_min.get(name, 0.0)) for name in self._class_names]
        return torch.tensor([*least, UNREACHED], device=self._device)

    def __call__(self, images: Sequence[Image]) -> list[Found]:
        """What each image shows, in descending order of score, at most ``found_max`` boxes.

        Args:
            images: uint8[H, W, 3] RGB, of any sizes.

        Returns:
            boxes_xyxy in pixels of each image, within it; each cell's best class only, and none where that maps to
            nothing.
        """
        with torch.inference_mode():
            return [found for some in together(images, self._device, BATCH) for found in self._detect(some)]

    def look(self, names: Sequence[str]) -> layers.Look:
        """What modules of the network make of images, by name, such as ``neck.out_coarse``.

        Raises:
            ConfigError: it has no such module.
        """
        watched = layers.modules(self._network, names)
        return lambda images: [
            told for some in together(images, self._device, BATCH) for told in self._look(watched, some)
        ]

    def _look(self, watched: Mapping[str, nn.Module], images: Sequence[Image]) -> list[layers.Told]:
        """What modules make of images that go through the network together."""
        letters, canvases = self._shown(images)
        with torch.inference_mode(), layers.watched(watched) as outputs:
            self._network(canvases)
        covered = [
            letter.covered((image.shape[1], image.shape[0])) for letter, image in zip(letters, images, strict=True)
        ]
        return [layers.told(outputs, n, len(images), part) for n, part in enumerate(covered)]

    def _shown(self, images: Sequence[Image]) -> tuple[list[letterbox.Letter], Tensor]:
        """Images on their canvases, and these as the network takes them, float[N, 3, S, S]."""
        letters = [letterbox.letterbox(image, (self.size_px, self.size_px)) for image in images]
        canvases = torch.from_numpy(np.stack([letter.canvas for letter in letters])).to(self._device)
        # channels innermost already: the permutation moves nothing
        return letters, canvases.permute(0, 3, 1, 2).float()

    def _detect(self, images: Sequence[Image]) -> list[Found]:
        """What images show that go through the network together."""
        letters, canvases = self._shown(images)
        boxes, scores, own_ids = yolox.best(yolox.decode(self._network(canvases)))
        class_ids = self._ids[own_ids]
        return [self._found(boxes[n], scores[n], class_ids[n], letter, images[n]) for n, letter in enumerate(letters)]

    def _found(self, boxes: Tensor, scores: Tensor, class_ids: Tensor, letter: letterbox.Letter, image: Image) -> Found:
        """One image's cells (float[A, 4] px of the canvas, float[A], int64[A]) as boxes of the image."""
        at = (scores >= self._scores_min[class_ids]).nonzero()[:, 0]
        if not len(at):
            return nothing()
        found = Found(*(column[at].cpu().numpy() for column in (boxes, scores, class_ids)))
        found = found.at(nms(*found, self.iou_max, self.found_max))
        return found._replace(boxes_xyxy=letter.to_image(found.boxes_xyxy, (image.shape[1], image.shape[0])))


def build(num_classes: int, tensors: Mapping[str, Tensor]) -> yolox.YoloxNano:
    """The network with the given weights, on the CPU, in evaluation mode.

    Args:
        num_classes: that it tells apart.
        tensors: a state dict of a :class:`artray.detect.yolox.YoloxNano`.

    Raises:
        ConfigError: weights that do not fit; names the first that differs.
    """
    network = yolox.YoloxNano(num_classes)
    load(network, tensors)
    return network.eval()


def read(path: Path) -> dict[str, Tensor]:
    """A state dict from a published ``.onnx`` file, or from one that was written of it.

    Raises:
        ConfigError: another kind of file, or a damaged one.
    """
    return yolox_weights.from_onnx(path) if path.suffix == ".onnx" else weights.read_tensors(path)


@registry.register("yolox_nano")
def from_card(card: Card, device: str) -> Yolox:
    """The detector that a card describes; its weights have the role ``model``.

    Raises:
        ConfigError: the card lacks its weights or classes, has a setting that is none, or they do not fit.
        TransientError: its weights cannot be reached.
    """
    owner = f"card {card.name}"
    if "model" not in card.weights or not card.classes:
        raise ConfigError(f"{owner}: expected classes, and weights with the role model")
    tensors = read(weights.fetch(card.weights["model"], owner))
    settings: dict[str, Any] = dict(card.settings)
    try:
        network = build(len(card.classes), tensors)
        return Yolox(network, card.classes, card.labels, device, score_min=card.score_min, **settings)
    except (ConfigError, TypeError) as error:
        raise ConfigError(f"{owner}: {'' if isinstance(error, ConfigError) else 'settings: '}{error}") from error
