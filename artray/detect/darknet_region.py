"""What Darknet's region layer finds: of a network's last map, boxes with their objectness and classes.

Source: ``src/region_layer.c`` of github.com/pjreddie/darknet at f6afaab; Redmon and Farhadi 2017,
https://arxiv.org/abs/1612.08242.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from artray.detect import darknet_tree
from artray.detect.darknet_cfg import BEFORE_CLASSES, COORDINATES, Region
from artray.detect.darknet_tree import Tree
from artray.detect.found import Found
from artray.metrics.calibration import softmax


class Boxes(NamedTuple):
    """M boxes of a map: anchor by anchor, in each row by row of its cells."""

    boxes_xyxy: NDArray[np.float32]
    """float32[M, 4], pixels of the canvas; may reach beyond it."""
    objectness: NDArray[np.float32]
    """float32[M] in [0, 1]."""
    logits: NDArray[np.float32]
    """float32[M, C]."""


def boxes(output: Tensor, region: Region, size_wh: tuple[int, int], objectness_min: float) -> Boxes:
    """The boxes of one image that may show something.

    Args:
        output: float[A * (5 + C), H, W]: of A anchors x, y, w, h, objectness and C classes, before any activation.
        region: the layer.
        size_wh: of the canvas, pixels.
        objectness_min: boxes must have at least this; what is no number has not.
    """
    height, width = output.shape[1:]
    maps = output.reshape(len(region.anchors_wh), BEFORE_CLASSES + region.num_classes, height * width)
    objectness = maps[:, COORDINATES].sigmoid()
    anchor, cell = (objectness >= objectness_min).nonzero(as_tuple=True)
    numbers = maps[anchor, :, cell]
    corner_cells = torch.stack((cell % width, cell.div(width, rounding_mode="floor")), dim=1)
    cell_px = torch.tensor((size_wh[0] / width, size_wh[1] / height), device=output.device)
    anchors_px = torch.tensor(region.anchors_wh, device=output.device) * cell_px
    sides = numbers[:, 2:COORDINATES].exp() * anchors_px[anchor]
    centres = (numbers[:, :2].sigmoid() + corner_cells) * cell_px
    corners = torch.cat((centres - sides / 2, centres + sides / 2), dim=1)
    columns = (corners, objectness[anchor, cell], numbers[:, BEFORE_CLASSES:])
    return Boxes(*(column.cpu().numpy() for column in columns))


def named(told: Boxes, region: Region, score_min: float) -> Found:
    """What boxes show: a box is each class of which it is sure enough.

    Args:
        told: the boxes.
        region: the layer.
        score_min: objectness times the class' probability must be at least this.
    """
    shares = softmax(told.logits) if region.is_softmax else _logistic(told.logits)
    scores = told.objectness[:, None] * shares
    at, class_ids = (scores >= score_min).nonzero()
    return Found(told.boxes_xyxy[at], scores[at, class_ids], class_ids)


def named_by_tree(told: Boxes, tree: Tree, tree_score_min: float, *, compounded: bool) -> Found:
    """What boxes show: each is one node of a tree, as special a one as it is sure of; the score is its objectness.

    Args:
        told: the boxes.
        tree: the nodes, which are the classes.
        tree_score_min: how sure it must be, as in :func:`artray.detect.darknet_tree.top`.
        compounded: likewise.
    """
    shares = darknet_tree.probabilities(told.logits, tree)
    return Found(
        told.boxes_xyxy, told.objectness, darknet_tree.top(shares, tree, tree_score_min, compounded=compounded)
    )


def _logistic(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    shares: NDArray[np.float32] = torch.from_numpy(logits).sigmoid().numpy()
    return shares
