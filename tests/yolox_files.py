"""YOLOX networks with random weights, and ONNX files written without the package onnx."""

import copy
import struct
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from artray.detect import yolox
from artray.models import trunks


def blocks(count: int, side_px: int, seed: int) -> Tensor:
    """Pictures float32[count, 3, side, side] of 4 x 4 coloured blocks: to a network, noise looks all alike."""
    colours = torch.rand(count, 3, 4, 4, generator=torch.Generator().manual_seed(seed)) * 255
    return functional.interpolate(colours, (side_px, side_px))


def random_network(num_classes: int, channels: int = 16) -> yolox.YoloxNano:
    """One whose norms keep what is random alive down to the heads, whose scores spread about 1/2."""
    torch.manual_seed(3)
    network = yolox.YoloxNano(num_classes, channels).train()
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        network(blocks(8, 128, seed=2))
        for name, tensor in network.heads.state_dict().items():
            if name.endswith(("classes.weight", "objectness.weight")):
                tensor.mul_(2)
            elif name.endswith(("classes.bias", "objectness.bias")):
                tensor.zero_()
    for norm in norms:
        norm.momentum = yolox.MOMENTUM
    return network.eval()


def varint(number: int) -> bytes:
    return bytes([number & 127 | 128]) + varint(number >> 7) if number > 127 else bytes([number])


def field(place: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return varint(place << 3) + varint(value)
    return varint(place << 3 | 2) + varint(len(value)) + value


def tensor(name: str, values: Tensor, packed: bool = False, kind: int = 1) -> bytes:
    sizes = field(1, b"".join(map(varint, values.shape))) if packed else b"".join(field(1, n) for n in values.shape)
    return field(5, sizes + field(2, kind) + field(8, name.encode()) + field(9, values.numpy().tobytes()))


def node(kind: str, *inputs: str) -> bytes:
    return field(1, b"".join(field(1, name.encode()) for name in inputs) + field(4, kind.encode()))


def write_onnx(path: Path, *graph: bytes) -> Path:
    # a version and two fields of fixed size besides, which a reader must step over
    fixed = varint(99 << 3 | 1) + struct.pack("<d", 1.5) + varint(98 << 3 | 5) + struct.pack("<f", 1.5)
    path.write_bytes(field(1, 8) + fixed + field(7, b"".join(graph)))
    return path


def folded(network: yolox.YoloxNano, path: Path) -> Path:
    """The network as an ONNX file with its norms folded, which takes BGR: what the published one is."""
    network = trunks.fuse(copy.deepcopy(network))
    graph = []
    for number, layer in enumerate(module for module in network.modules() if isinstance(module, nn.Conv2d)):
        assert layer.bias is not None
        weight = layer.weight.detach()
        if number == 0:
            weight = weight.reshape(-1, 4, 3, 3, 3).flip(2).reshape(weight.shape)
        graph += [
            tensor(f"w{number}", weight),
            tensor(f"b{number}", layer.bias.detach()),
            node("Conv", "x", f"w{number}", f"b{number}"),
        ]
    return write_onnx(path, *graph)
