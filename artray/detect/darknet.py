"""Networks of Darknet's own files: made of what a ``.cfg`` says, filled from ``.weights``.

What they answer is read by :mod:`artray.detect.darknet_region`.

Source: ``src/parser.c`` and the layers of github.com/pjreddie/darknet at f6afaab.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Final, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from artray.detect.darknet_cfg import BEFORE_CLASSES, COLOURS, Cfg, Section
from artray.errors import ConfigError

EPS: Final = 1e-6
"""What Darknet adds to the standard deviation, where others add it to the variance."""

SLOPE: Final = 0.1
"""Of "leaky" below 0."""

SEEN_BYTES: Final = MappingProxyType({True: 8, False: 4})
"""How long the number of pictures seen in training is, in files of version 0.2 or later, and before."""

Shape: TypeAlias = tuple[int, int, int]
"""Channels, height and width."""


class MaxPool(nn.Module):
    """The largest of each window, which may reach beyond the right and lower edges: ``padding`` cells in all.

    Of an odd padding the smaller half is to the left and above: with size 2 and stride 1 the output is as large as
    the input.
    """

    def __init__(self, size: int, stride: int, padding: int) -> None:
        super().__init__()
        self.size, self.stride, self.padding = size, stride, padding

    def output(self, length: int) -> int:
        """How many windows a side of this length has."""
        return (length + self.padding - self.size) // self.stride + 1

    def forward(self, maps: Tensor) -> Tensor:
        """float[N, C, H, W] to float[N, C, output(H), output(W)]."""
        before = self.padding // 2
        right, below = (
            (self.output(length) - 1) * self.stride + self.size - before - length
            for length in (maps.shape[3], maps.shape[2])
        )
        padded = functional.pad(maps, (before, right, before, below), value=-torch.inf)
        return functional.max_pool2d(padded, self.size, self.stride)


class Reorg(nn.Module):
    """Four cells become one of four times the channels, in Darknet's order.

    That order is not what it seems to have been meant for: the map is taken for one of a quarter of its channels and
    twice its width and height, because Darknet goes over the output with the measures of the input.
    """

    def forward(self, maps: Tensor) -> Tensor:
        """float[N, C, H, W] to float[N, 4 C, H / 2, W / 2]; H and W are even, C is a multiple of 4."""
        count, channels, height, width = maps.shape
        cells = maps.reshape(count, channels // 4, height, 2, width, 2)
        return cells.permute(0, 3, 5, 1, 2, 4).reshape(count, channels * 4, height // 2, width // 2)


class Route(nn.Module):
    """What earlier layers made, their channels one after the other."""

    def __init__(self, sources: Sequence[int]) -> None:
        super().__init__()
        self.sources = tuple(sources)

    def forward(self, *maps: Tensor) -> Tensor:
        """float[N, C_i, H, W] each to float[N, sum of C_i, H, W]."""
        return torch.cat(maps, dim=1)


class Network(nn.Module):
    """The layers of a ``.cfg`` before the region layer; batch norms are to be folded into the convolutions.

    Args:
        cfg: what it is made of.
        size_wh: width and height of its input in pixels, at which its layers must fit together.

    Raises:
        ConfigError: they do not; names section and line.
    """

    def __init__(self, cfg: Cfg, size_wh: tuple[int, int]) -> None:
        super().__init__()
        shapes: list[Shape] = []
        self.layers = nn.ModuleList()
        shape: Shape = (COLOURS, size_wh[1], size_wh[0])
        for section in cfg.sections:
            layer, shape = LAYERS[section.kind](section, shape, shapes)
            if min(shape) < 1:
                raise ConfigError(f"[{section.kind}] in line {section.line}: expected a larger input, got {size_wh}")
            self.layers.append(layer)
            shapes.append(shape)
        self.normalised = tuple(section.number("batch_normalize", 0) != 0 for section in _convolutional(cfg.sections))
        self.shape = shape
        expected = len(cfg.region.anchors_wh) * (BEFORE_CLASSES + cfg.region.num_classes)
        if shape[0] != expected:
            raise ConfigError(f"[region]: expected {expected} channels before it (num * (5 + classes)), got {shape[0]}")
        self._routed = {at for layer in self.layers if isinstance(layer, Route) for at in layer.sources}

    def forward(self, pixels: Tensor) -> Tensor:
        """What the region layer gets, float[N, A * (5 + C), H, W], of float[N, 3, height, width] RGB in [0, 1]."""
        kept: dict[int, Tensor] = {}
        for index, layer in enumerate(self.layers):
            pixels = layer(*(kept[at] for at in layer.sources)) if isinstance(layer, Route) else layer(pixels)
            if index in self._routed:
                kept[index] = pixels
        return pixels

    def convolutions(self) -> list[nn.Conv2d]:
        """Its convolutions, the first first."""
        return [module for module in self.modules() if isinstance(module, nn.Conv2d)]


def _convolutional(all_sections: Sequence[Section]) -> list[Section]:
    return [section for section in all_sections if section.kind == "convolutional"]


def _convolution(section: Section, shape: Shape, _: Sequence[Shape]) -> tuple[nn.Module, Shape]:
    filters, size = section.number("filters", 1, least=1), section.number("size", 1, least=1)
    stride = section.number("stride", 1, least=1)
    padding = size // 2 if section.number("pad", 0) else section.number("padding", 0)
    activation = section.text("activation", "logistic")
    if activation not in ("leaky", "linear"):
        raise section.wrong("activation", "leaky or linear")
    conv = nn.Conv2d(shape[0], filters, size, stride, padding)
    height, width = ((side + 2 * padding - size) // stride + 1 for side in shape[1:])
    layer = nn.Sequential(conv, nn.LeakyReLU(SLOPE)) if activation == "leaky" else conv
    return layer, (filters, height, width)


def _max_pool(section: Section, shape: Shape, _: Sequence[Shape]) -> tuple[nn.Module, Shape]:
    stride = section.number("stride", 1, least=1)
    size = section.number("size", stride, least=1)
    padding = section.number("padding", size - 1)
    if padding > 2 * (size - 1):  # the larger half of it is to the right and below
        raise section.wrong("padding", f"at most {2 * (size - 1)}, so that no window lies beyond the map")
    layer = MaxPool(size, stride, padding)
    return layer, (shape[0], layer.output(shape[1]), layer.output(shape[2]))


def _reorg(section: Section, shape: Shape, _: Sequence[Shape]) -> tuple[nn.Module, Shape]:
    if section.number("stride", 1) != 2:
        raise section.wrong("stride", "2")
    channels, height, width = shape
    if channels % 4 or height % 2 or width % 2:
        raise ConfigError(
            f"[reorg] in line {section.line}: expected a multiple of 4 channels and even sides before it, got "
            f"{channels} channels, {width} x {height}"
        )
    return Reorg(), (channels * 4, height // 2, width // 2)


def _route(section: Section, _: Shape, shapes: Sequence[Shape]) -> tuple[nn.Module, Shape]:
    here = len(shapes)
    try:
        given = [int(layer) for layer in section.text("layers").split(",")]
    except ValueError:
        given = []
    sources = [layer + here if layer < 0 else layer for layer in given]
    if not sources or not all(0 <= layer < here for layer in sources):
        raise section.wrong("layers", f"numbers of layers above it, which is the {here}th from 0 on")
    sides = {shapes[layer][1:] for layer in sources}
    if len(sides) > 1:
        raise section.wrong("layers", "layers of one width and height")
    return Route(sources), (sum(shapes[layer][0] for layer in sources), *sides.pop())


Made: TypeAlias = Callable[[Section, Shape, Sequence[Shape]], tuple[nn.Module, Shape]]
"""From a section, the shape before it and those of all layers above, to the layer and the shape that it makes."""

LAYERS: Final[Mapping[str, Made]] = MappingProxyType(
    {"convolutional": _convolution, "maxpool": _max_pool, "reorg": _reorg, "route": _route}
)


def load_weights(network: Network, path: Path) -> None:
    """Fill a network from a ``.weights`` file; batch norms are folded into their convolutions.

    Raises:
        ConfigError: it cannot be read, is shorter or longer than the network is large, or has numbers that are none.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"weights {path}: cannot be read ({error.strerror})") from error
    header = header_bytes(content)
    convolutions = list(zip(network.convolutions(), network.normalised, strict=True))
    expected = sum(conv.weight.numel() + conv.out_channels * (4 if norm else 1) for conv, norm in convolutions)
    if len(content) != header + 4 * expected:
        raise ConfigError(
            f"weights {path}: expected {header + 4 * expected:,} bytes ({expected:,} numbers after {header} bytes), "
            f"got {len(content):,}; is it of another .cfg, or damaged?"
        )
    numbers = np.frombuffer(content, "<f4", offset=header)
    for index, (conv, is_normalised) in enumerate(convolutions):
        numbers = _fill(conv, numbers, is_normalised)
        if not (torch.isfinite(conv.weight).all() and torch.isfinite(conv.bias).all()):  # type: ignore[arg-type]
            raise ConfigError(f"weights {path}: convolution {index}: expected finite numbers, got others")


def header_bytes(content: bytes) -> int:
    """How long a file's header is: version, and how many pictures were seen in training.

    >>> header_bytes(np.array([0, 1, 0, 0], "<i4").tobytes()), header_bytes(np.array([0, 2, 0, 0, 0], "<i4").tobytes())
    (16, 20)
    """
    major, minor, _ = np.frombuffer(content.ljust(12, b"\0")[:12], "<i4").tolist()
    return 12 + SEEN_BYTES[major * 10 + minor >= 2 and major < 1000 and minor < 1000]


def _fill(conv: nn.Conv2d, numbers: NDArray[np.float32], is_normalised: bool) -> NDArray[np.float32]:
    """Give a convolution its numbers, the first of those given; returns the others."""
    filters, size = conv.out_channels, conv.weight.numel()
    rows = 4 if is_normalised else 1
    table = numbers[: rows * filters].reshape(rows, filters).astype(np.float64)
    weight = numbers[rows * filters :][:size].reshape(conv.weight.shape).astype(np.float64)
    bias = table[0]
    if is_normalised:
        with np.errstate(invalid="ignore"):  # a negative variance: refused after this as no number
            scale = table[1] / (np.sqrt(table[3]) + EPS)
        weight, bias = weight * scale[:, None, None, None], bias - table[2] * scale
    with torch.no_grad():
        conv.weight.copy_(torch.from_numpy(weight))
        conv.bias.copy_(torch.from_numpy(bias))  # type: ignore[union-attr]
    return numbers[rows * filters + size :]
