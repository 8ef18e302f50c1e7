"""Convolutions out of ONNX files, which are written here by hand."""

from pathlib import Path

import pytest
import torch

from artray.errors import ConfigError
from artray.models import onnx_file
from tests.yolox_files import node, tensor, write_onnx


def test_convolutions_come_in_the_order_of_the_graph(tmp_path: Path) -> None:
    first, second = torch.arange(12.0).reshape(2, 6, 1, 1), torch.arange(3.0).reshape(3, 1, 1, 1)
    path = write_onnx(
        tmp_path / "a.onnx",
        node("Conv", "image", "w2", "b2"),
        node("Sigmoid", "x"),
        node("Conv", "x", "w1", "b1"),
        tensor("w1", first),
        tensor("b1", torch.ones(2), packed=True),
        tensor("w2", second, packed=True),
        tensor("b2", torch.full((3,), 300.0)),
        tensor("shape", torch.tensor([1, 2]), kind=7),
    )
    found = onnx_file.convolutions(path)
    assert [weight.tolist() for weight, _ in found] == [second.tolist(), first.tolist()]
    assert [bias.tolist() for _, bias in found] == [[300.0] * 3, [1.0] * 2]


@pytest.mark.parametrize("content", [b"", b"not protocol buffers", b"\x3a\xff\xff\xff\x7f", bytes(1000), b"\xff" * 64])
def test_what_is_no_onnx_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.onnx"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="expected an ONNX file"):
        onnx_file.convolutions(path)


def test_a_convolution_without_bias_or_another_type(tmp_path: Path) -> None:
    weight = tensor("w", torch.ones(1, 1, 1, 1))
    with pytest.raises(ConfigError, match="expected an ONNX file whose convolutions have float32 weights and biases"):
        onnx_file.convolutions(write_onnx(tmp_path / "a.onnx", node("Conv", "x", "w"), weight))
    of_integers = tensor("b", torch.ones(1, dtype=torch.int64), kind=7)
    with pytest.raises(ConfigError, match="expected an ONNX file whose convolutions have float32 weights and biases"):
        onnx_file.convolutions(write_onnx(tmp_path / "a.onnx", node("Conv", "x", "w", "b"), weight, of_integers))
    with pytest.raises(ConfigError, match=r"cannot be read \(No such file"):
        onnx_file.convolutions(tmp_path / "none.onnx")
