"""The three networks of MTCNN."""

from collections.abc import Sequence
from typing import Final

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn

FAR_BELOW: Final = -1e9
"""Stands for minus infinity: it loses every maximum, and does not turn into NaN when it is multiplied by zero."""


class PRelu(nn.Module):
    """PReLU with a slope per channel, of float32[N, C, H, W] in memory order N, H, W, C.

    torch's own is several times slower on a CPU where C is no multiple of the vector's width, so it is shown rows.
    The slopes must not change once it has been used.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels))
        self._row: Tensor | None = None  # the slopes of the widest row so far; a narrower one's are its beginning

    def forward(self, x: Tensor) -> Tensor:
        """float32[N, C, H, W], likewise."""
        n, channels, height, width = x.shape
        rows = x.permute(0, 2, 3, 1).reshape(n * height, width * channels)
        if self._row is None or len(self._row) < width * channels:
            self._row = self.weight.detach().repeat(width)
        slopes = self._row[: width * channels]
        return F.prelu(rows, slopes).view(n, height, width, channels).permute(0, 3, 1, 2)


class ColumnsFirst(nn.Module):
    """Flatten float32[N, C, H, W] to float32[N, W * H * C], the order that the dense layers were trained in."""

    def forward(self, x: Tensor) -> Tensor:
        """float32[N, W * H * C]."""
        return x.permute(0, 3, 2, 1).flatten(1)


class ProposalNet(nn.Module):
    """P-Net: slides a window of 12 px in steps of 2 px over a picture.

    Source: Zhang et al. 2016, "Joint Face Detection and Alignment Using Multitask Cascaded Convolutional Networks",
    https://arxiv.org/abs/1604.02878, as in ``mtcnn.network.pnet``.
    """

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 10, 3), PRelu(10))
        self.second = nn.Sequential(nn.Conv2d(10, 16, 3), PRelu(16), nn.Conv2d(16, 32, 3), PRelu(32))
        self.offsets, self.logits = nn.Conv2d(32, 4, 1), nn.Conv2d(32, 2, 1)

    def forward(self, pictures: Tensor, sizes_hw: Sequence[tuple[int, int]]) -> tuple[Tensor, Tensor]:
        """Offsets and face scores of every window.

        Args:
            pictures: float32[N, 3, H, W], normalised, at least 12 x 12.
            sizes_hw: how much of each picture's top left is picture; the rest is padding.

        Returns:
            float32[N, H', W', 4] offsets in units of 11 px, and float32[N, H', W'] scores in [0, 1], which are 0
            where a window reaches into the padding. H' and W' are :meth:`windows` of H and W.
        """
        x = self.first(pictures)
        padded = [n for n, size in enumerate(sizes_hw) if size != tuple(pictures.shape[2:])]
        for n in padded:  # a maximum at the picture's edge must not see what padding became
            height, width = sizes_hw[n]
            x[n, :, height - 2 :], x[n, :, :, width - 2 :] = FAR_BELOW, FAR_BELOW
        x = self.second(_halve(x))
        scores = _face_scores(self.logits(x))
        for n in padded:
            rows, columns = map(self.windows, sizes_hw[n])
            scores[n, rows:], scores[n, :, columns:] = 0, 0
        return self.offsets(x).permute(0, 2, 3, 1), scores

    @staticmethod
    def windows(side_px: int) -> int:
        """How many windows fit along a side of at least 12 px.

        >>> ProposalNet.windows(12), ProposalNet.windows(13), ProposalNet.windows(14)
        (1, 2, 2)
        """
        return (side_px - 1) // 2 - 4


class RefineNet(nn.Module):
    """R-Net: a second look at crops of 24 px. ``Source: mtcnn.network.rnet``."""

    crop_px: Final = 24

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            *(nn.Conv2d(3, 28, 3), PRelu(28), nn.MaxPool2d(3, 2, ceil_mode=True)),
            *(nn.Conv2d(28, 48, 3), PRelu(48), nn.MaxPool2d(3, 2)),
            *(nn.Conv2d(48, 64, 2), PRelu(64)),
            *(ColumnsFirst(), nn.Linear(576, 128), nn.PReLU(128)),
        )
        self.offsets, self.logits = nn.Linear(128, 4), nn.Linear(128, 2)

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        """Of float32[N, 3, 24, 24]: float32[N, 4] offsets in units of the box's side, float32[N] scores in [0, 1]."""
        x = self.trunk(crops)
        return self.offsets(x), _face_scores(self.logits(x))


class OutputNet(nn.Module):
    """O-Net: the last word on crops of 48 px; its landmarks are left out. ``Source: mtcnn.network.onet``."""

    crop_px: Final = 48

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            *(nn.Conv2d(3, 32, 3), PRelu(32), nn.MaxPool2d(3, 2, ceil_mode=True)),
            *(nn.Conv2d(32, 64, 3), PRelu(64), nn.MaxPool2d(3, 2)),
            *(nn.Conv2d(64, 64, 3), PRelu(64), nn.MaxPool2d(2, 2, ceil_mode=True)),
            *(nn.Conv2d(64, 128, 2), PRelu(128)),
            *(ColumnsFirst(), nn.Linear(1152, 256), nn.PReLU(256)),
        )
        self.offsets, self.logits = nn.Linear(256, 4), nn.Linear(256, 2)

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        """Of float32[N, 3, 48, 48]: float32[N, 4] offsets in units of the box's side, float32[N] scores in [0, 1]."""
        x = self.trunk(crops)
        return self.offsets(x), _face_scores(self.logits(x))


def _face_scores(logits: Tensor) -> Tensor:
    """The second of two classes' probability: float32[N, ...] of float32[N, 2, ...]."""
    return logits.softmax(dim=1)[:, 1]


def _halve(x: Tensor) -> Tensor:
    """The maximum of every 2 x 2, and of what is left of one at an odd edge: float32[N, C, ceil(H / 2), ceil(W / 2)].

    ``x`` is overwritten. Source: TensorFlow's max pooling with padding "same"; by slices and in place, as torch's own
    takes several times as long on one core.
    """
    upper, lower = x[:, :, ::2], x[:, :, 1::2]
    upper[:, :, : lower.shape[2]].clamp_(min=lower)
    left, right = upper[..., ::2], upper[..., 1::2]
    left[..., : right.shape[3]].clamp_(min=right)
    return left.contiguous(memory_format=torch.channels_last)
