"""Inception-ResNet v1 in torch, without its last layers: float[N, 3, S, S] to pooled features float[N, 1792].

For portraits, with weights trained on faces (VGGFace2). Names are those of facenet-pytorch, so its weights load.

Source: Szegedy et al., Inception-v4, Inception-ResNet and the Impact of Residual Connections (2016), as David
Sandberg's facenet has it, which the weights are from.
"""

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor, nn

DIM: Final = 1792
STAGES: Final = ("conv2d_2b", "conv2d_4a", "repeat_1", "repeat_2", "block8")
LAST: Final = ("last_linear.", "last_bn.", "logits.")

Shape = int | tuple[int, int]


class Conv(nn.Module):
    """A convolution, batch norm, ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: Shape, stride: int = 1, padding: Shape = 0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=1e-3)
        self.relu = nn.ReLU()

    def forward(self, input: Tensor) -> Tensor:
        """float[N, inputs, H, W] to float[N, outputs, h, w]."""
        output: Tensor = self.relu(self.bn(self.conv(input)))
        return output


class Residual(nn.Module):
    """Branches side by side, put together by a 1 x 1 convolution, scaled and added to the input.

    Args:
        branches: each a convolution or several, one after the other; they keep the resolution.
        inside: how many channels they have together.
        channels: of input and output.
        scale: of what is added.
        rectified: whether a ReLU comes last.
    """

    def __init__(
        self, branches: Sequence[nn.Module], inside: int, channels: int, scale: float, rectified: bool = True
    ) -> None:
        super().__init__()
        for number, branch in enumerate(branches):
            self.add_module(f"branch{number}", branch)
        self.names = [f"branch{number}" for number in range(len(branches))]
        self.conv2d = nn.Conv2d(inside, channels, 1)
        self.scale, self.rectified = scale, rectified

    def forward(self, input: Tensor) -> Tensor:
        """float[N, channels, H, W], likewise."""
        together = torch.cat([self.get_submodule(name)(input) for name in self.names], dim=1)
        output: Tensor = input + self.scale * self.conv2d(together)
        return output.relu() if self.rectified else output


class Reduction(nn.Module):
    """Branches that halve the resolution, their channels put together; the last one is a maximum."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        for number, branch in enumerate(branches):
            self.add_module(f"branch{number}", branch)
        self.names = [f"branch{number}" for number in range(len(branches))]

    def forward(self, input: Tensor) -> Tensor:
        """float[N, C, H, W] to float[N, c, (H - 1) // 2, (W - 1) // 2]."""
        return torch.cat([self.get_submodule(name)(input) for name in self.names], dim=1)


def block35() -> Residual:
    """Of 256 channels."""
    first = Conv(256, 32, 1)
    second = nn.Sequential(Conv(256, 32, 1), Conv(32, 32, 3, padding=1))
    third = nn.Sequential(Conv(256, 32, 1), Conv(32, 32, 3, padding=1), Conv(32, 32, 3, padding=1))
    return Residual((first, second, third), 96, 256, 0.17)


def block17() -> Residual:
    """Of 896 channels."""
    second = nn.Sequential(
        Conv(896, 128, 1), Conv(128, 128, (1, 7), padding=(0, 3)), Conv(128, 128, (7, 1), padding=(3, 0))
    )
    return Residual((Conv(896, 128, 1), second), 256, 896, 0.10)


def block8(scale: float = 0.20, rectified: bool = True) -> Residual:
    """Of 1792 channels."""
    second = nn.Sequential(
        Conv(1792, 192, 1), Conv(192, 192, (1, 3), padding=(0, 1)), Conv(192, 192, (3, 1), padding=(1, 0))
    )
    return Residual((Conv(1792, 192, 1), second), 384, 1792, scale, rectified)


class InceptionResnetV1(nn.Module):
    """The trunk."""

    def __init__(self) -> None:
        super().__init__()
        self.conv2d_1a = Conv(3, 32, 3, stride=2)
        self.conv2d_2a = Conv(32, 32, 3)
        self.conv2d_2b = Conv(32, 64, 3, padding=1)
        self.maxpool_3a = nn.MaxPool2d(3, stride=2)
        self.conv2d_3b = Conv(64, 80, 1)
        self.conv2d_4a = Conv(80, 192, 3)
        self.conv2d_4b = Conv(192, 256, 3, stride=2)
        self.repeat_1 = nn.Sequential(*(block35() for _ in range(5)))
        self.mixed_6a = Reduction(
            Conv(256, 384, 3, stride=2),
            nn.Sequential(Conv(256, 192, 1), Conv(192, 192, 3, padding=1), Conv(192, 256, 3, stride=2)),
            nn.MaxPool2d(3, stride=2),
        )
        self.repeat_2 = nn.Sequential(*(block17() for _ in range(10)))
        self.mixed_7a = Reduction(
            nn.Sequential(Conv(896, 256, 1), Conv(256, 384, 3, stride=2)),
            nn.Sequential(Conv(896, 256, 1), Conv(256, 256, 3, stride=2)),
            nn.Sequential(Conv(896, 256, 1), Conv(256, 256, 3, padding=1), Conv(256, 256, 3, stride=2)),
            nn.MaxPool2d(3, stride=2),
        )
        self.repeat_3 = nn.Sequential(*(block8() for _ in range(5)))
        self.block8 = block8(scale=1.0, rectified=False)

    def forward(self, images: Tensor) -> Tensor:
        """float[N, 3, S, S], S at least 75, to float[N, 1792]."""
        for layer in self.children():
            images = layer(images)
        return images.mean(dim=(2, 3))
