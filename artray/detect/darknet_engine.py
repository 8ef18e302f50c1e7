"""Darknet's detectors (YOLO9000, YOLOv2) from their own files: pictures in, boxes in artray's classes out."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, field_validator
from torch import Tensor
from torch.nn import functional

from artray.config import Section, parse
from artray.detect import darknet, darknet_cfg, darknet_region, darknet_tree
from artray.detect.boxes import nms
from artray.detect.darknet_cfg import Region
from artray.detect.darknet_tree import Tree
from artray.detect.detector import Image
from artray.detect.found import Found
from artray.detect.letterbox import Letter, letterbox
from artray.detect.own_classes import Labels, OwnClasses, together
from artray.errors import ConfigError, RowError
from artray.models import registry, weights
from artray.models.cards import Card

STEP_PX: Final = 32
"""What the sides of a canvas are multiples of: these networks halve a picture five times."""

GREY: Final = 0.5
"""Of what the picture does not cover, in [0, 1]."""

BATCH: Final = 8
"""Images that go through the network together on an accelerator: of each, YOLO9000's last map has 33 MB."""


class Settings(Section):
    """``settings`` of a ``darknet`` card.

    Args:
        size_px: side of the canvas on which the network sees an image, a multiple of 32; none: as the ``.cfg`` has it.
        iou_max: a box goes if its IoU with a better one of its class is more, in [0, 1]; Darknet's is 0.45.
        found_max: of each image, at most so many boxes; the best stay.
        tree_score_min: how sure of a node of the tree it must be; Darknet's is 0.5.
        compounded: whether that is Darknet's product along the path rather than the paper's, as in
            :func:`artray.detect.darknet_tree.top`.
    """

    size_px: int | None = Field(None, ge=STEP_PX, le=4096)
    iou_max: float = Field(0.45, ge=0, le=1)
    found_max: int = Field(300, ge=1, le=10_000)
    tree_score_min: float = Field(0.5, ge=0, le=1)
    compounded: bool = True

    @field_validator("size_px")
    @classmethod
    def _whole(cls, size_px: int | None) -> int | None:
        if size_px is not None and size_px % STEP_PX:
            raise ValueError(f"expected a multiple of {STEP_PX}, got {size_px}")
        return size_px


class Darknet(OwnClasses):
    """A network of Darknet's that answers in artray's classes.

    On a CPU each image goes through the network by itself, so that what is found in it cannot depend, not by one bit,
    on the images beside it.

    Args:
        network: with its weights.
        region: how its answer is to be read.
        size_wh: of the canvas on which it sees an image: that which the network was made for.
        classes: what its ids mean, from 0 on; of a tree, its nodes.
        labels: what each of ``classes`` is called in artray; several may be called the same.
        settings: which boxes are kept.
        score_min: boxes must score at least this, in [0, 1].
        tree: of the classes, where they are one's nodes.
        device: where it runs, "cpu" or "cuda".

    Raises:
        ConfigError: a class is not in ``labels``, a label not in the taxonomy, or the region layer has another number
            of classes, or a tree where none is given, or none.
    """

    def __init__(
        self,
        network: darknet.Network,
        region: Region,
        size_wh: tuple[int, int],
        classes: Sequence[str],
        labels: Labels,
        settings: Settings,
        *,
        score_min: float,
        tree: Tree | None = None,
        device: str = "cpu",
    ) -> None:
        if region.is_tree != (tree is not None):
            wanted, got = ("a file", "none") if region.is_tree else ("none", "one")
            raise ConfigError(f"tree: expected {wanted}, as the .cfg has it, got {got}")
        if len(classes) != region.num_classes:
            raise ConfigError(f"classes: expected {region.num_classes}, as the .cfg has it, got {len(classes)}")
        super().__init__(classes, labels)
        self._device = torch.device(device)
        self._network = network.eval().to(self._device)
        self._region, self._tree, self._settings = region, tree, settings
        self.size_wh, self.score_min = size_wh, score_min

    def __call__(self, images: Sequence[Image]) -> list[Found]:
        """What each image shows, in descending order of score, at most ``found_max`` boxes.

        Args:
            images: uint8[H, W, 3] RGB, of any sizes.

        Returns:
            boxes_xyxy in pixels of each image, within it; labels that map to nothing are left out.

        Raises:
            RowError: the network's answer is no numbers.
        """
        with torch.inference_mode():
            return [found for some in together(images, self._device, BATCH) for found in self._detect(some)]

    def _detect(self, images: Sequence[Image]) -> list[Found]:
        """What images show that go through the network together."""
        letters = [shown(image, self.size_wh) for image in images]
        canvases = torch.from_numpy(np.stack([letter.canvas for letter in letters])).to(self._device)
        outputs = self._network(canvases.permute(0, 3, 1, 2).contiguous())
        return [self._found(*each) for each in zip(outputs, letters, images, strict=True)]

    def _found(self, output: Tensor, letter: Letter, image: Image) -> Found:
        """What one image shows, of the network's answer float[A * (5 + C), H, W]."""
        told = darknet_region.boxes(output, self._region, self.size_wh, self.score_min)
        if not (torch.isfinite(output).all() and np.isfinite(told.boxes_xyxy).all()):
            raise RowError("model_failed", "boxes: expected finite numbers, got others; are the weights this .cfg's?")
        if self._tree is None:
            own = darknet_region.named(told, self._region, self.score_min)
        else:
            settings = self._settings
            own = darknet_region.named_by_tree(
                told, self._tree, settings.tree_score_min, compounded=settings.compounded
            )
        found = self.called(*own)
        found = found.at(nms(*found, self._settings.iou_max, self._settings.found_max))
        return found._replace(boxes_xyxy=letter.to_image(found.boxes_xyxy, (image.shape[1], image.shape[0])))


def bilinear(image: Image, width: int, height: int) -> NDArray[np.float32]:
    """The image in another size, float32[height, width, 3] in [0, 1], as Darknet has it.

    The corners' pixels stay in the corners, and where the image shrinks most pixels count for nothing: averaging would
    show the network smoother pictures than those that it was trained on.

    Source: ``resize_image`` of Darknet's ``src/image.c``.

    >>> bilinear(np.array([[[0] * 3, [200] * 3, [255] * 3]], np.uint8), 2, 1)[0, :, 0].tolist()
    [0.0, 1.0]
    """
    planes = torch.from_numpy(image.astype(np.float32) / np.float32(255)).permute(2, 0, 1)[None]
    sized = functional.interpolate(planes, size=(height, width), mode="bilinear", align_corners=True)
    return sized[0].permute(1, 2, 0).numpy()


def shown(image: Image, size_wh: tuple[int, int]) -> Letter:
    """A picture on its canvas float32[H, W, 3], RGB in [0, 1], as Darknet shows it to a network."""
    return letterbox(image, size_wh, ground=GREY, centred=True, floor=True, draw=bilinear)


@registry.register("darknet")
def from_card(card: Card, device: str) -> Darknet:
    """The detector that a card describes: files with the roles ``model`` (.weights), ``config`` (.cfg) and ``tree``.

    With a tree a card has ``labels`` of some of its nodes, which those below share, and no ``classes``.

    Raises:
        ConfigError: the card lacks a file, its classes or labels, has a setting that is none, or they do not fit.
        TransientError: its weights cannot be reached.
    """
    owner = f"card {card.name}"
    if not {"model", "config"} <= set(card.weights):
        raise ConfigError(f"{owner}: expected weights with the roles model (.weights) and config (.cfg)")
    settings = parse(Settings, card.settings, where=f"{owner}: settings")
    files = {role: weights.fetch(file, owner) for role, file in card.weights.items()}
    try:
        cfg = darknet_cfg.read_cfg(files["config"])
        tree = darknet_tree.read(files["tree"]) if "tree" in files else None
        classes, labels = _called(card, tree)
        size_wh = cfg.size_wh if settings.size_px is None else (settings.size_px, settings.size_px)
        network = darknet.Network(cfg, size_wh)
        darknet.load_weights(network, files["model"])
        return Darknet(
            network, cfg.region, size_wh, classes, labels, settings, score_min=card.score_min, tree=tree, device=device
        )
    except ConfigError as error:
        raise ConfigError(f"{owner}: {error}") from error


def _called(card: Card, tree: Tree | None) -> tuple[Sequence[str], Labels]:
    """What the network's ids mean, and what each is called in artray.

    Raises:
        ConfigError: classes besides a tree, or neither; labels of no node.
    """
    if (tree is None) != bool(card.classes):
        raise ConfigError("expected either classes or a file with the role tree")
    return (card.classes, card.labels) if tree is None else (tree.ids, darknet_tree.label_nodes(tree, card.labels))
