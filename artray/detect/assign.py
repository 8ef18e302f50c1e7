"""Which cell learns which object: SimOTA, for all images of a batch at once, and which may learn "nothing here".

Data sets name different things. Where a set boxed persons only, a cow in its pictures is no background; where it calls
every saint a person, a person box does not deny a saint. So every image says what its source looked for
(:class:`Truth`), and only what it can deny is denied.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from artray.detect.yolox import Grid

RADIUS: Final = 2.5
"""Cells from an object's centre within which a cell is a candidate, whatever the object's size."""

IOU_WEIGHT: Final = 3.0
"""Of the boxes' part in the cost, beside the classes'."""

CELLS_MAX: Final = 10
"""An object's best so many cells decide how many of them it gets."""

OUTSIDE: Final = 1e4
"""Added to the cost of a cell that is not both within the object and near its centre: more than any cost."""

LOG_MIN: Final = -100.0
"""Of a score, as in torch's binary cross-entropy: keeps costs finite, and below ``OUTSIDE``."""

TINY: Final = 1e-8


class Truth(NamedTuple):
    """What is known of one image: T objects, T may be 0."""

    boxes_xyxy: Tensor
    """float[T, 4], pixels of the input."""
    class_ids: Tensor
    """int64[T], below C."""
    labelled: Tensor
    """bool[C]: classes whose every object has a box, by whatever name; denied where there is none."""
    told: Tensor
    """bool[C]: classes by whose name the image's source would have called a box; denied of boxes of another name.

    Neither holds the other. A set that boxes persons and nothing else has boxes about all saints and angels as well:
    all of these are ``labelled``. It never calls them so, but it calls no cow a person either: persons, and whatever
    is no person, are ``told``.
    """
    ignored_xyxy: Tensor = torch.empty(0, 4)
    """float[K, 4], regions in which nothing is denied: crowds, and objects too hard to make out."""


class BatchTruth(NamedTuple):
    """What is known of N images, side by side: M objects and K regions in all; see :class:`Truth`."""

    boxes_xyxy: Tensor
    """float[M, 4]."""
    class_ids: Tensor
    """int64[M]."""
    image_ids: Tensor
    """int64[M], below N: whose object it is."""
    labelled: Tensor
    """bool[N, C]."""
    told: Tensor
    """bool[N, C]."""
    ignored_xyxy: Tensor
    """float[K, 4]."""
    ignored_ids: Tensor
    """int64[K], below N."""

    def moved(self, device: torch.device) -> "BatchTruth":
        """On a device."""
        return BatchTruth(*(each.to(device, non_blocking=True) for each in self))


def together(truths: Sequence[Truth]) -> BatchTruth:
    """The truths of a batch's images, at least one, in one."""
    boxes, class_ids, labelled, told, regions = zip(*truths, strict=True)
    numbers = torch.arange(len(truths))
    return BatchTruth(
        torch.cat(boxes),
        torch.cat(class_ids),
        numbers.repeat_interleave(torch.tensor([len(each) for each in boxes])),
        torch.stack(labelled),
        torch.stack(told),
        torch.cat(regions),
        numbers.repeat_interleave(torch.tensor([len(each) for each in regions])),
    )


class Assigned(NamedTuple):
    """What each of the A cells of N images is to learn."""

    truth_ids: Tensor
    """int64[N, A], which of the M objects; -1 for background."""
    ious: Tensor
    """float[N, A] in [0, 1], of each cell's predicted box with its object; 0 for background."""


def each_iou(boxes_xyxy: Tensor, others_xyxy: Tensor) -> Tensor:
    """Intersection over union, float[M, A] in [0, 1], of each box float[M, 4] with those of its row, float[M, A, 4].

    It is 0 where both have no area.

    >>> each_iou(torch.tensor([[0.0, 0, 2, 2]]), torch.tensor([[[1.0, 0, 3, 2], [5, 5, 5, 5]]])).tolist()
    [[0.3333333432674408, 0.0]]
    """
    shared = _shared(boxes_xyxy, others_xyxy)
    areas = [(boxes[..., 2:] - boxes[..., :2]).prod(dim=-1) for boxes in (boxes_xyxy[:, None], others_xyxy)]
    return shared / (areas[0] + areas[1] - shared).clamp(min=TINY)


def _shared(boxes_xyxy: Tensor, others_xyxy: Tensor) -> Tensor:
    """The area that each box of float[M, 4] shares with those of its row, float[M, A, 4]: float[M, A]."""
    low = torch.maximum(boxes_xyxy[:, None, :2], others_xyxy[..., :2])
    high = torch.minimum(boxes_xyxy[:, None, 2:], others_xyxy[..., 2:])
    return (high - low).clamp(min=0).prod(dim=-1)


def near(cells: Grid, boxes_xyxy: Tensor) -> tuple[Tensor, Tensor]:
    """Which cells may learn which object, and which of them should if they can: bool[T, A] each.

    A cell may if its centre is within the box or less than 2.5 cells off the box's centre, and should if both.
    """
    centres = cells.corners_xy + cells.strides[:, None] / 2
    low, high = boxes_xyxy[:, None, :2], boxes_xyxy[:, None, 2:]
    inside = ((centres > low) & (centres < high)).all(dim=-1)
    about = ((centres - (low + high) / 2).abs() < RADIUS * cells.strides[:, None]).all(dim=-1)
    return inside | about, inside & about


def class_costs(objectness: Tensor, classes: Tensor, truth: BatchTruth) -> Tensor:
    """Binary cross-entropy of each cell's scores with each object's class, summed over classes: float[M, A].

    A score is the square root of objectness times class score; classes that are not told apart do not count, but for
    those of the image's own objects.

    Args:
        objectness: float[N, A], logits.
        classes: float[N, A, C], logits.
        truth: of the N images, M objects.
    """
    log_score = (functional.logsigmoid(classes) + functional.logsigmoid(objectness)[..., None]) / 2
    log_score = log_score.clamp(min=LOG_MIN)
    log_rest = torch.log1p(-log_score.exp().clamp(max=1 - 1e-6))
    counted = truth.told.index_put(
        (truth.image_ids, truth.class_ids), torch.ones_like(truth.class_ids, dtype=torch.bool)
    )
    denied = -(log_rest * counted[:, None]).sum(dim=-1)  # every class, as if the cell showed none
    return denied[truth.image_ids] + (log_rest - log_score)[truth.image_ids, :, truth.class_ids]


@torch.no_grad()
def assign(boxes_xyxy: Tensor, objectness: Tensor, classes: Tensor, cells: Grid, truth: BatchTruth) -> Assigned:
    """SimOTA: every object gets the cells that predict it at the least cost, as many as predict it well already.

    That many is the sum of its ten best IoUs, at least 1. A cell wanted by several objects goes to the one that it
    costs least, so an object can end up without any; one beyond the picture always does.

    Args:
        boxes_xyxy: float[N, A, 4], what the cells predict, pixels of the input.
        objectness: float[N, A], logits.
        classes: float[N, A, C], logits.
        cells: of these A predictions.
        truth: of the N images.

    Source: Ge et al. 2021, section 2.1 (SimOTA): cost = classes + 3 * (-log IoU), dynamic k from the ten best IoUs.
    """
    count = len(truth.class_ids)
    if not count:
        return Assigned(torch.full_like(objectness, -1, dtype=torch.int64), torch.zeros_like(objectness))
    may, should = near(cells, truth.boxes_xyxy)
    ious = each_iou(truth.boxes_xyxy, boxes_xyxy[truth.image_ids]) * may
    costs = class_costs(objectness, classes, truth) - IOU_WEIGHT * (ious + TINY).log()
    costs = (costs + OUTSIDE * ~should).masked_fill(~may, torch.inf)
    most = min(CELLS_MAX, objectness.shape[1])
    counts = ious.topk(most, dim=1).values.sum(dim=1).long().clamp(min=1)
    least, cheapest = costs.topk(most, dim=1, largest=False)
    wanted = (torch.arange(most, device=costs.device) < counts[:, None]) & least.isfinite()
    owners = torch.zeros_like(may).scatter_(1, cheapest, wanted)
    owner = _cheapest(costs.masked_fill(~owners, torch.inf), truth.image_ids, len(objectness))
    taken = owner < count
    return Assigned(torch.where(taken, owner, -1), ious.gather(0, owner.clamp(max=count - 1)) * taken)


def _cheapest(costs: Tensor, image_ids: Tensor, images: int) -> Tensor:
    """Per image and cell the first of its objects that cost it least: int64[N, A]; M where none costs it finitely.

    Args:
        costs: float[M, A].
        image_ids: int64[M], below N.
        images: N.
    """
    at = image_ids[:, None].expand_as(costs)
    least = costs.new_full((images, costs.shape[1]), torch.inf).scatter_reduce(0, at, costs, "amin")
    numbers = torch.arange(len(costs), device=costs.device)[:, None]
    own = torch.where(costs.isfinite() & (costs == least[image_ids]), numbers, len(costs))
    return own.new_full(least.shape, len(costs)).scatter_reduce(0, at, own, "amin")


@torch.no_grad()
def ignored(boxes_xyxy: Tensor, truth: BatchTruth) -> Tensor:
    """Which predictions lie in a region in which nothing is denied, by half of their area or more: bool[N, A].

    Args:
        boxes_xyxy: float[N, A, 4], what the cells predict.
        truth: of the N images.
    """
    own = boxes_xyxy[truth.ignored_ids]
    areas = (own[..., 2:] - own[..., :2]).prod(dim=-1)
    within = _shared(truth.ignored_xyxy, own) >= 0.5 * areas.clamp(min=TINY)
    counts = torch.zeros(boxes_xyxy.shape[:2], dtype=torch.int64, device=boxes_xyxy.device)
    return counts.index_add(0, truth.ignored_ids, within.long()) > 0


@torch.no_grad()
def background_weights(classes: Tensor, labelled: Tensor, least: float = 0.0) -> Tensor:
    """How much a cell without object counts as background, float[..., A] in [0, 1].

    Objectness is one score for all classes, and "no object here" is not known where only some classes were boxed. What
    is known is that no object of THESE is here. So a cell counts as much as what it shows, were it an object, would be
    one of these by the network's own class scores: the best score of a labelled class over the best of all. It is 1
    everywhere if all classes were labelled, near 1 where a network takes a tree for a person in a picture in which
    every person is boxed, and near 0 on the cow beside. (To drop the background of such pictures altogether would leave
    them positives only, and objectness would rise on everything that looks like them.) By Jensen's inequality the
    weighted loss bounds from above -log(1 - weight * objectness), that of the event which is known.

    Args:
        classes: float[..., A, C], logits.
        labelled: bool[..., C].
        least: a cell counts at least this: 1 takes every picture for fully labelled.
    """
    scores = classes.sigmoid()
    best = scores.amax(dim=-1).clamp(min=TINY)
    return ((scores * labelled.unsqueeze(-2)).amax(dim=-1) / best).clamp(min=least)
