"""What is needed of ONNX files, without the package onnx: convolutions read, inner tensors made outputs.

Only as much of protocol buffers as that takes: a message is fields one after the other, each a number (its place in
the schema and how it is stored) and a value.
"""

import difflib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from artray.errors import ConfigError

FLOAT: Final = 1
"""``TensorProto.DataType.FLOAT``."""

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
"""How a protocol buffer stores a value."""

Value: TypeAlias = "int | memoryview"


class Convolution(NamedTuple):
    """One node of the graph."""

    weight: NDArray[np.float32]
    """float32[outputs, inputs / groups, height, width]."""
    bias: NDArray[np.float32]
    """float32[outputs]."""


def convolutions(path: Path) -> list[Convolution]:
    """Every convolution of a file with its weights, in the order in which the graph runs them.

    Raises:
        ConfigError: the file cannot be read, is no ONNX file, or a convolution has no bias or no float32 weights of
            its own.

    Source: onnx.proto of ONNX 1.x: ModelProto.graph = 7; GraphProto.node = 1, .initializer = 5; NodeProto.input = 1,
    .op_type = 4; TensorProto.dims = 1, .data_type = 2, .name = 8, .raw_data = 9.
    """
    try:
        graph = _bytes(memoryview(path.read_bytes()), 7)[0]
        tensors = {name: values for name, values in map(_tensor, _bytes(graph, 5)) if values.size}
        nodes = [_bytes(node, 1) for node in _bytes(graph, 1) if bytes(_bytes(node, 4)[0]) == b"Conv"]
        return [Convolution(tensors[bytes(weight)], tensors[bytes(bias)]) for _, weight, bias in nodes]
    except OSError as error:
        raise ConfigError(f"weights {path}: cannot be read ({error.strerror})") from error
    except (ValueError, IndexError, KeyError) as error:
        raise ConfigError(
            f"weights {path}: expected an ONNX file whose convolutions have float32 weights and biases, got another; "
            f"is it damaged?"
        ) from error


def with_outputs(content: bytes, names: Sequence[str]) -> bytes:
    """A file's content with inner tensors among its graph's outputs.

    Nothing of it is written anew: a message that comes twice counts as one, its lists joined, so a graph of nothing but
    further outputs is put behind. Their types are left for the runtime to infer.

    Raises:
        ConfigError: no node puts out a tensor of a name; names near ones.

    Source: the encoding of protocol buffers ("Last One Wins"); onnx.proto: ModelProto.graph = 7; GraphProto.node = 1,
    .output = 12; NodeProto.output = 2; ValueInfoProto.name = 1.
    """
    if not names:
        return content
    (graph, *_) = _bytes(memoryview(content), 7)
    inner = [bytes(name).decode() for node in _bytes(graph, 1) for name in _bytes(node, 2)]
    there = {bytes(name).decode() for output in _bytes(graph, 12) for name in _bytes(output, 1)}
    for name in names:
        if name not in inner:
            near = ", ".join(difflib.get_close_matches(name, inner, n=5, cutoff=0.3))
            raise ConfigError(f"layers: expected names of the model's {len(inner)} tensors, got {name!r}; near: {near}")
    further = b"".join(_message(12, _message(1, name.encode())) for name in dict.fromkeys(names) if name not in there)
    return content + _message(7, further)


def _message(place: int, value: bytes) -> bytes:
    """A field that is not a number."""
    return _number(place << 3 | BYTES) + _number(len(value)) + value


def _number(value: int) -> bytes:
    """Seven bits a byte, the lowest first."""
    return bytes([value & 127 | 128]) + _number(value >> 7) if value > 127 else bytes([value])


def _tensor(message: memoryview) -> tuple[bytes, NDArray[np.float32]]:
    """A tensor's name and values; empty where it is not of float32 in one piece."""
    fields = list(_fields(message))
    shape = [size for place, value in fields if place == 1 for size in _integers(value)]
    raw = next((value for place, value in fields if place == 9), memoryview(b""))
    name = bytes(_bytes(message, 8)[0])
    if (2, FLOAT) not in fields or isinstance(raw, int) or len(raw) != 4 * int(np.prod(shape)):
        return name, np.empty(0, np.float32)
    return name, np.frombuffer(raw, "<f4").reshape(shape).astype(np.float32)


def _integers(value: Value) -> list[int]:
    """A repeated integer, which may be stored one by one or all together."""
    if isinstance(value, int):
        return [value]
    numbers, at = [], 0
    while at < len(value):
        number, at = _varint(value, at)
        numbers.append(number)
    return numbers


def _bytes(message: memoryview, place: int) -> list[memoryview]:
    """The values of a field that are not numbers: texts, bytes or messages."""
    return [value for number, value in _fields(message) if number == place and not isinstance(value, int)]


def _fields(message: memoryview) -> Iterator[tuple[int, Value]]:
    """Every field of a message: its number and its value."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        kind = key & 7
        if kind == VARINT:
            value, at = _varint(message, at)
            yield key >> 3, value
            continue
        size = {FIXED64: 8, FIXED32: 4}.get(kind)
        if kind == BYTES:
            size, at = _varint(message, at)
        if size is None or at + size > len(message):
            raise ValueError("a field that is cut off or of no known kind")
        yield key >> 3, message[at : at + size]
        at += size


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """A number of seven bits a byte, the lowest first, and where what follows it begins."""
    number, shift = 0, 0
    while True:
        byte = message[at]
        number, shift, at = number | (byte & 127) << shift, shift + 7, at + 1
        if byte < 128:
            return number, at
        if shift > 63:
            raise ValueError("a number of more than 64 bits")
