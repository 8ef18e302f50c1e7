"""What an anchor-free detector's predictions are worth, as a number to be made smaller.

First every cell is told what to learn (:func:`assigned`, without gradient), then four sums over a batch are made of it
(:func:`losses`), each divided by the batch's number of cells that learn an object.
"""

from collections.abc import Sequence
from typing import Final, Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

from artray.detect import yolox
from artray.detect.assign import TINY, BatchTruth, assign, background_weights, ignored
from artray.detect.yolox import Grid, Raw
from artray.train.losses import Total, alone

BoxLoss: TypeAlias = Literal["iou", "giou"]

SIDE_MIN: Final = 1e-6
"""Of an object, in cells: keeps its logarithm finite."""


class Weights(NamedTuple):
    """Of the parts of a loss. Source: Ge et al. 2021: boxes count five times; L1 for the last epochs only, as 1."""

    box: float = 5.0
    objectness: float = 1.0
    classes: float = 1.0
    l1: float = 0.0


class Losses(NamedTuple):
    """Scalars >= 0, each per cell that learns an object."""

    box: Tensor
    """1 - IoU squared, or 1 - GIoU, in [0, 1] or [0, 2]."""
    objectness: Tensor
    """Binary cross-entropy over all cells."""
    classes: Tensor
    """Binary cross-entropy over the classes that an image's source tells apart; the truth is the box's IoU."""
    l1: Tensor
    """Absolute differences of offsets, in cells and logarithms."""

    def total(self, weights: Weights = Weights()) -> Tensor:  # noqa: B008 - a tuple of numbers
        """The weighted sum, a scalar."""
        parts = [weight * part for weight, part in zip(weights, self, strict=True) if weight]
        return torch.stack(parts).sum()


class Targets(NamedTuple):
    """What the cells of N images are to learn; P of them an object. Nothing here has a gradient."""

    image_ids: Tensor
    """int64[P]."""
    cell_ids: Tensor
    """int64[P]."""
    boxes_xyxy: Tensor
    """float[P, 4], pixels of the input."""
    class_ids: Tensor
    """int64[P]."""
    ious: Tensor
    """float[P] in [0, 1], of the predicted box when it was assigned."""
    counted: Tensor
    """bool[P, C], the classes that the box's source tells apart, and its own."""
    objectness_weights: Tensor
    """float[N, A] in [0, 1], 1 where a cell learns an object."""


def detection_loss(
    levels: Sequence[Tensor],
    truth: BatchTruth,
    box: BoxLoss = "iou",
    background_min: float = 0.0,
    total: Total = alone,
) -> Losses:
    """The losses of a batch.

    Args:
        levels: float[N, 5 + C, h, w] each, as the network gives them.
        truth: of the N images, on their device.
        box: which loss boxes have.
        background_min: what a cell without object counts at least where not all classes were labelled, in [0, 1].
        total: adds up over workers.

    Raises:
        ValueError: the truth is of another number of images or classes.
    """
    raw, cells = yolox.gather(levels), yolox.grid(levels)
    return losses(raw, cells, assigned(raw, cells, truth, background_min), box, total)


@torch.no_grad()
def assigned(raw: Raw, cells: Grid, truth: BatchTruth, background_min: float = 0.0) -> Targets:
    """What every cell is to learn: see :func:`artray.detect.assign.assign` and ``background_weights``.

    Raises:
        ValueError: the truth is of another number of images or classes.
    """
    images, _, classes = raw.classes.shape
    if truth.labelled.shape != (images, classes):
        got = "{} of {}".format(*truth.labelled.shape)
        raise ValueError(f"truth: expected {images} images of {classes} classes, got {got}")
    predicted = yolox.boxes(raw.offsets, cells)
    known = truth._replace(boxes_xyxy=truth.boxes_xyxy.to(predicted), ignored_xyxy=truth.ignored_xyxy.to(predicted))
    weights = background_weights(raw.classes, known.labelled, background_min) * ~ignored(predicted, known)
    found = assign(predicted, raw.objectness, raw.classes, cells, known)
    image_ids, cell_ids = (found.truth_ids >= 0).nonzero(as_tuple=True)
    owners = found.truth_ids[image_ids, cell_ids]
    class_ids = known.class_ids[owners]
    counted = known.told[image_ids].scatter(1, class_ids[:, None], True)
    weights[image_ids, cell_ids] = 1
    ious = found.ious[image_ids, cell_ids]
    return Targets(image_ids, cell_ids, known.boxes_xyxy[owners], class_ids, ious, counted, weights)


def losses(raw: Raw, cells: Grid, targets: Targets, box: BoxLoss = "iou", total: Total = alone) -> Losses:
    """The losses of predictions whose targets are given; 0 but for objectness where no cell learns an object.

    Args:
        raw: of N images and A cells.
        cells: the A cells.
        targets: of the same images.
        box: which loss boxes have.
        total: adds up over workers, so that the losses and their gradients are those of the whole batch.

    Source: Ge et al. 2021; class truths that are IoUs: Li et al. 2020, https://arxiv.org/abs/2006.04388.
    """
    at = (targets.image_ids, targets.cell_ids)
    own = Grid(cells.corners_xy[targets.cell_ids], cells.strides[targets.cell_ids])
    offsets = raw.offsets[at]
    objects = torch.zeros_like(raw.objectness).index_put(at, torch.ones_like(targets.ious))
    fits = functional.one_hot(targets.class_ids, raw.classes.shape[-1]) * targets.ious[:, None]
    sums = [
        box_losses(yolox.boxes(offsets, own), targets.boxes_xyxy, box).sum(),
        (_cross_entropy(raw.objectness, objects) * targets.objectness_weights).sum(),
        (_cross_entropy(raw.classes[at], fits.to(raw.classes)) * targets.counted).sum(),
        (offsets - offsets_of(targets.boxes_xyxy, own)).abs().sum(),
        raw.objectness.new_tensor(len(targets.ious)),
    ]
    *parts, positives = total(torch.stack(sums)).unbind()
    return Losses(*(part / positives.clamp(min=1) for part in parts))


def _cross_entropy(logits: Tensor, truth: Tensor) -> Tensor:
    """Binary, each by itself."""
    return functional.binary_cross_entropy_with_logits(logits, truth, reduction="none")


def box_losses(predicted: Tensor, truth: Tensor, kind: BoxLoss = "iou") -> Tensor:
    """How badly each box fits, float[P].

    Args:
        predicted: float[P, 4] xyxy, pixels.
        truth: likewise.
        kind: ``iou``: 1 - IoU squared, in [0, 1], without gradient where boxes do not overlap; ``giou``: 1 - GIoU, in
            [0, 2], which pulls such boxes together.

    Source: Rezatofighi et al. 2019, https://arxiv.org/abs/1902.09630, for GIoU.

    Side by side, the hull twice what they cover together is 0:

    >>> a, b = torch.tensor([[0.0, 0, 2, 2]]), torch.tensor([[1.0, 0, 3, 2]])
    >>> box_losses(a, b).item(), box_losses(a, b, "giou").item()
    (0.8888888955116272, 0.6666666269302368)
    """
    shared = _area(torch.maximum(predicted[:, :2], truth[:, :2]), torch.minimum(predicted[:, 2:], truth[:, 2:]))
    union = (_area(predicted[:, :2], predicted[:, 2:]) + _area(truth[:, :2], truth[:, 2:]) - shared).clamp(min=TINY)
    iou = shared / union
    if kind == "iou":
        return 1 - iou.square()
    hull = _area(torch.minimum(predicted[:, :2], truth[:, :2]), torch.maximum(predicted[:, 2:], truth[:, 2:]))
    return 1 - iou + (hull - union) / hull.clamp(min=TINY)


def _area(low: Tensor, high: Tensor) -> Tensor:
    """Of boxes between corners float[P, 2], 0 where they are the wrong way round: float[P]."""
    return (high - low).clamp(min=0).prod(dim=1)


def offsets_of(boxes_xyxy: Tensor, cells: Grid) -> Tensor:
    """The offsets float[P, 4] from which :func:`artray.detect.yolox.boxes` makes boxes float[P, 4]; its inverse.

    >>> cell = Grid(torch.tensor([[8.0, 0.0]]), torch.tensor([8.0]))
    >>> offsets_of(torch.tensor([[4.0, -4.0, 12.0, 4.0]]), cell).tolist()
    [[0.0, 0.0, 0.0, 0.0]]
    """
    strides = cells.strides[:, None]
    low, high = boxes_xyxy[:, :2], boxes_xyxy[:, 2:]
    sides = ((high - low) / strides).clamp(min=SIDE_MIN)
    return torch.cat([((low + high) / 2 - cells.corners_xy) / strides, sides.log()], dim=1)
