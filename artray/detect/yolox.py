"""YOLOX-nano in torch: an anchor-free detector of 0.9 million weights.

Pictures go in as float[N, 3, H, W] RGB, 0..255, H and W multiples of 32, the picture in the upper left of a ground of
114 (:mod:`artray.detect.letterbox`). Out come raw outputs on three grids, of 8, 16 and 32 px a cell; every cell
predicts one box. :func:`decode` makes boxes and scores of them, :mod:`artray.detect.detection_loss` a loss; weights
come from :mod:`artray.detect.yolox_weights`.

Source: Ge et al. 2021, https://arxiv.org/abs/2107.08430 (decoupled head, no anchors, SimOTA), on the CSPDarknet of
Bochkovskiy et al. 2020 with the depthwise convolutions of its smallest variant; the order of layers is that of the
published ONNX file.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Final, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

STRIDES: Final = (8, 16, 32)
"""Pixels a cell, of each level."""

STEP_PX: Final = STRIDES[-1]
"""A picture's sides are multiples of this."""

CHANNELS: Final = 16
"""Of the first convolution of the published nano; all widths are multiples of it."""

EPS: Final = 1e-3
MOMENTUM: Final = 0.03
"""Of the batch norms, as published."""

PRIOR_LOGIT: Final = math.log(0.01 / 0.99)
"""A new head scores everything 0.01. Source: Lin et al. 2017, https://arxiv.org/abs/1708.02002, section 4.1."""

LOG_SIDE_MAX: Final = 8.0
"""A box is at most e to this cells wide, far more than any picture: keeps a diverging prediction finite."""


class Conv(nn.Module):
    """A convolution that keeps the resolution, or divides it by its stride; batch norm, SiLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, (kernel - 1) // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=EPS, momentum=MOMENTUM)
        self.act = nn.SiLU(inplace=True)

    def forward(self, input: Tensor) -> Tensor:
        """float[N, inputs, H, W] to float[N, outputs, H / stride, W / stride]."""
        output: Tensor = self.act(self.bn(self.conv(input)))
        return output


def separable(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """A 3 x 3 convolution of each channel by itself, then a 1 x 1 one of all together."""
    return nn.Sequential(Conv(inputs, inputs, 3, stride, groups=inputs), Conv(inputs, outputs, 1))


class Bottleneck(nn.Module):
    """A 1 x 1 and a separable convolution, added to their input if ``residual``."""

    def __init__(self, channels: int, residual: bool) -> None:
        super().__init__()
        self.layers = nn.Sequential(Conv(channels, channels, 1), separable(channels, channels))
        self.residual = residual

    def forward(self, input: Tensor) -> Tensor:
        """float[N, channels, H, W], likewise."""
        output: Tensor = self.layers(input)
        return output + input if self.residual else output


class CrossStage(nn.Module):
    """Half of the channels through bottlenecks, the other half past them, then together.

    Source: Wang et al. 2019, CSPNet, https://arxiv.org/abs/1911.11929.
    """

    def __init__(self, inputs: int, outputs: int, depth: int = 1, residual: bool = False) -> None:
        super().__init__()
        half = outputs // 2
        self.through, self.past = Conv(inputs, half, 1), Conv(inputs, half, 1)
        self.blocks = nn.Sequential(*(Bottleneck(half, residual) for _ in range(depth)))
        self.together = Conv(2 * half, outputs, 1)

    def forward(self, input: Tensor) -> Tensor:
        """float[N, inputs, H, W] to float[N, outputs, H, W]."""
        output: Tensor = self.together(torch.cat([self.blocks(self.through(input)), self.past(input)], dim=1))
        return output


class PyramidPool(nn.Module):
    """The maxima around every cell, within 5, 9 and 13 cells, beside the cell itself.

    Source: He et al. 2014, https://arxiv.org/abs/1406.4729; a maximum within 5 of one within 5 is one within 9.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.narrow = Conv(channels, channels // 2, 1)
        self.pool = nn.MaxPool2d(5, stride=1, padding=2)
        self.wide = Conv(channels * 2, channels, 1)

    def forward(self, input: Tensor) -> Tensor:
        """float[N, channels, H, W], likewise."""
        looks = [self.narrow(input)]
        for _ in range(3):
            looks.append(self.pool(looks[-1]))
        output: Tensor = self.wide(torch.cat(looks, dim=1))
        return output


class Trunk(nn.Module):
    """CSPDarknet: features at 8, 16 and 32 px a cell."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        c2, c4, c8, c16 = (channels * factor for factor in (2, 4, 8, 16))
        self.stem = Conv(12, channels, 3)
        self.stage2 = nn.Sequential(separable(channels, c2, stride=2), CrossStage(c2, c2, 1, residual=True))
        self.stage3 = nn.Sequential(separable(c2, c4, stride=2), CrossStage(c4, c4, 3, residual=True))
        self.stage4 = nn.Sequential(separable(c4, c8, stride=2), CrossStage(c8, c8, 3, residual=True))
        self.stage5 = nn.Sequential(separable(c8, c16, stride=2), PyramidPool(c16), CrossStage(c16, c16))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """float[N, 3, H, W] to three of float[N, channels * 4, 8 and 16, H / stride, W / stride]."""
        # every second column and row by itself: half the resolution, nothing lost; column after column, as published
        quarters = [images[..., y::2, x::2] for x, y in itertools.product((0, 1), repeat=2)]
        fine = self.stage3(self.stage2(self.stem(torch.cat(quarters, dim=1))))
        middle = self.stage4(fine)
        return fine, middle, self.stage5(middle)


class Neck(nn.Module):
    """Features told to each other: from coarse to fine, and back.

    Source: Liu et al. 2018, PANet, https://arxiv.org/abs/1803.01534.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        c4, c8, c16 = (channels * factor for factor in (4, 8, 16))
        self.narrow_coarse, self.merge_middle = Conv(c16, c8, 1), CrossStage(c16, c8)
        self.narrow_middle, self.merge_fine = Conv(c8, c4, 1), CrossStage(c8, c4)
        self.down_fine, self.out_middle = separable(c4, c4, stride=2), CrossStage(c8, c8)
        self.down_middle, self.out_coarse = separable(c8, c8, stride=2), CrossStage(c16, c16)

    def forward(self, fine: Tensor, middle: Tensor, coarse: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The trunk's features to as many of the same shapes."""
        coarse = self.narrow_coarse(coarse)
        middle = self.narrow_middle(self.merge_middle(torch.cat([_doubled(coarse), middle], dim=1)))
        fine = self.merge_fine(torch.cat([_doubled(middle), fine], dim=1))
        middle = self.out_middle(torch.cat([self.down_fine(fine), middle], dim=1))
        coarse = self.out_coarse(torch.cat([self.down_middle(middle), coarse], dim=1))
        return fine, middle, coarse


def _doubled(features: Tensor) -> Tensor:
    """float[N, C, H, W] to float[N, C, 2 H, 2 W], every cell four times."""
    return functional.interpolate(features, scale_factor=2.0, mode="nearest")


class Head(nn.Module):
    """One level's predictions: classes on one tower, boxes and objectness on another."""

    def __init__(self, inputs: int, channels: int, num_classes: int) -> None:
        super().__init__()
        self.stem = Conv(inputs, channels, 1)
        self.class_tower = nn.Sequential(separable(channels, channels), separable(channels, channels))
        self.classes = nn.Conv2d(channels, num_classes, 1)
        self.box_tower = nn.Sequential(separable(channels, channels), separable(channels, channels))
        self.box = nn.Conv2d(channels, 4, 1)
        self.objectness = nn.Conv2d(channels, 1, 1)
        for bias in (self.classes.bias, self.objectness.bias):
            if bias is not None:
                nn.init.constant_(bias, PRIOR_LOGIT)

    def forward(self, features: Tensor) -> Tensor:
        """float[N, inputs, h, w] to float[N, 5 + C, h, w]: offsets, objectness and classes, as logits."""
        shared = self.stem(features)
        boxes = self.box_tower(shared)
        return torch.cat([self.box(boxes), self.objectness(boxes), self.classes(self.class_tower(shared))], dim=1)


class YoloxNano(nn.Module):
    """The network.

    Args:
        num_classes: C, at least 1.
        channels: of the first convolution; less than the published 16 makes a smaller network.
    """

    def __init__(self, num_classes: int, channels: int = CHANNELS) -> None:
        super().__init__()
        # registered in the order in which they run, here and below: yolox_weights.from_onnx depends on it
        self.trunk, self.neck = Trunk(channels), Neck(channels)
        self.heads = nn.ModuleList(Head(channels * factor, channels * 4, num_classes) for factor in (4, 8, 16))

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Raw outputs of each level, float[N, 5 + C, H / stride, W / stride]: offsets x, y, log width, log height in
        cells, then logits of objectness and of the classes.

        Args:
            images: float[N, 3, H, W] RGB, 0..255.

        Raises:
            ValueError: a side is not a multiple of 32 px.
        """
        if images.shape[2] % STEP_PX or images.shape[3] % STEP_PX:
            raise ValueError(f"images: expected sides that are multiples of {STEP_PX}, got {tuple(images.shape)}")
        features = self.neck(*self.trunk(images))
        return tuple(head(level) for head, level in zip(self.heads, features, strict=True))


class Grid(NamedTuple):
    """Where the A cells of all levels lie, level after level, row after row."""

    corners_xy: Tensor
    """float[A, 2], the upper left of each cell in pixels of the input."""
    strides: Tensor
    """float[A], the side of each cell in pixels."""


class Raw(NamedTuple):
    """Raw outputs of all levels in one; at least float32."""

    offsets: Tensor
    """float[N, A, 4]: x and y from the cell's corner, log width, log height, in cells."""
    objectness: Tensor
    """float[N, A], logits."""
    classes: Tensor
    """float[N, A, C], logits."""


class Decoded(NamedTuple):
    """What every cell says of an image."""

    boxes_xyxy: Tensor
    """float[N, A, 4], pixels of the input; may reach beyond it."""
    objectness: Tensor
    """float[N, A] in [0, 1]: how sure it is that the box is an object."""
    class_scores: Tensor
    """float[N, A, C] in [0, 1], if it is an object: how sure of the class, times how well the box fits it."""


def gather(levels: Sequence[Tensor]) -> Raw:
    """The levels' outputs side by side, A = the sum of their cells.

    Args:
        levels: float[N, 5 + C, h, w] each, as the network gives them.
    """
    rows = torch.cat([level.flatten(2) for level in levels], dim=2).transpose(1, 2)
    rows = rows.to(torch.promote_types(rows.dtype, torch.float32))
    return Raw(rows[..., :4], rows[..., 4], rows[..., 5:])


def grid(levels: Sequence[Tensor]) -> Grid:
    """The cells of outputs as the network gives them, on their device.

    >>> cells = grid([torch.zeros(1, 6, 1, 2), torch.zeros(1, 6, 1, 1), torch.zeros(1, 6, 1, 1)])
    >>> cells.corners_xy.tolist(), cells.strides.tolist()
    ([[0.0, 0.0], [8.0, 0.0], [0.0, 0.0], [0.0, 0.0]], [8.0, 8.0, 16.0, 32.0])
    """
    corners, strides = [], []
    for level, stride in zip(levels, STRIDES, strict=True):
        height, width = level.shape[2:]
        y, x = torch.meshgrid(
            torch.arange(height, device=level.device), torch.arange(width, device=level.device), indexing="ij"
        )
        corners.append(torch.stack([x, y], dim=-1).reshape(-1, 2) * float(stride))
        strides.append(torch.full((height * width,), float(stride), device=level.device))
    return Grid(torch.cat(corners), torch.cat(strides))


def boxes(offsets: Tensor, cells: Grid) -> Tensor:
    """Boxes xyxy in pixels of the input, float[..., A, 4], of offsets float[..., A, 4] from their cells.

    >>> boxes(torch.zeros(1, 4), Grid(torch.tensor([[8.0, 0.0]]), torch.tensor([8.0]))).tolist()
    [[4.0, -4.0, 12.0, 4.0]]
    """
    strides = cells.strides[:, None]
    centres = offsets[..., :2] * strides + cells.corners_xy
    half = offsets[..., 2:].clamp(max=LOG_SIDE_MAX).exp() * strides / 2
    return torch.cat([centres - half, centres + half], dim=-1)


def decode(levels: Sequence[Tensor]) -> Decoded:
    """Boxes, objectness and class scores of every cell; a box's score for a class is the product of the two.

    Args:
        levels: float[N, 5 + C, h, w] each, as the network gives them.
    """
    raw = gather(levels)
    return Decoded(boxes(raw.offsets, grid(levels)), raw.objectness.sigmoid(), raw.classes.sigmoid())


class Best(NamedTuple):
    """Every cell's best class."""

    boxes_xyxy: Tensor
    """float[N, A, 4], pixels of the input."""
    scores: Tensor
    """float[N, A] in [0, 1]."""
    class_ids: Tensor
    """int64[N, A]."""


def best(told: Decoded) -> Best:
    """Of what every cell says, its best class and the score of that."""
    scores, class_ids = told.class_scores.max(dim=2)
    return Best(told.boxes_xyxy, scores * told.objectness, class_ids)
