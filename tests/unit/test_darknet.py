"""Darknet's files: what a ``.cfg`` may say, layers against loops written out, and weights in their order."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from artray.detect import darknet, darknet_cfg
from artray.errors import ConfigError
from tests.darknet_files import cfg_text, numbers, written

pytestmark = pytest.mark.usefixtures("one_thread")

NET = "[net]\nwidth=64\nheight=32\nchannels=3\n"
REGION = "[region]\nanchors=1,1\nclasses=1\nnum=1\nsoftmax=1\n"
CONV = "[convolutional]\nfilters=6\nactivation=linear\n"


def made(text: str) -> darknet.Network:
    cfg = darknet_cfg.parse(text)
    return darknet.Network(cfg, cfg.size_wh)


def filled(text: str, values: Any, folder: Path) -> darknet.Network:
    """A network with these numbers, from a file of a version before 0.2."""
    network = made(text)
    path = folder / "a.weights"
    path.write_bytes(np.array([0, 1, 0, 7], "<i4").tobytes() + np.asarray(values, "<f4").tobytes())
    darknet.load_weights(network, path)
    return network


def test_a_cfg_is_read() -> None:
    cfg = darknet_cfg.parse(cfg_text(more="tree=data/9k.tree\nmap = data/coco9k.map"))
    assert cfg.size_wh == (96, 96)
    assert [section.kind for section in cfg.sections].count("maxpool") == 3
    assert cfg.region == darknet_cfg.Region(((0.5, 0.75), (1.5, 2.0)), 3, is_softmax=True, is_tree=True)
    first = cfg.sections[0]
    assert (first.line, first.number("stride", 1), first.text("activation")) == (10, 2, "leaky")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"line 1: expected a section \[net\] first"),
        ("width=64", "line 1: expected key=value below a"),
        (NET + "nonsense\n", "line 5: expected key=value below a"),
        (
            "[net]\nwidth=64\nheight=64\nchannels=1\n" + CONV + REGION,
            r"\[net\] in line 1: channels: expected 3, got '1'",
        ),
        (NET + "[shortcut]\nfrom=-3\n" + REGION, r"\[shortcut\] in line 5: expected one of convolutional, maxpool"),
        (NET + CONV.replace("linear", "mish") + REGION, r"line 5: activation: expected leaky or linear, got 'mish' in"),
        (NET + "[convolutional]\nfilters=6\n" + REGION, "activation: expected leaky or linear, got none"),
        (NET + CONV + "groups=2\n" + REGION, r"\[convolutional\] in line 5: .* got 'groups' in line 8"),
        (
            NET + CONV.replace("6", "many") + REGION,
            r"filters: expected a whole number, from 1 to 1,000,000, got 'many' in line 6",
        ),
        (NET + CONV.replace("6", "9999999999") + REGION, "filters: expected a whole number, from 1 to 1,000"),
        (NET + CONV, r"\[convolutional\] in line 5: expected a section \[region\] last"),
        (NET + REGION + CONV + REGION, r"\[region\] in line 5: expected nothing after it"),
        (
            NET + CONV + REGION.replace("1,1", "1"),
            r"anchors: expected 1 widths and heights \(num=1\), got '1' in line 9",
        ),
        (NET + CONV + REGION + "coords=5", "coords: expected 4, got '5'"),
        (NET + CONV + REGION + "background=1", r"\[region\] in line 8: .*got 'background' in line 13"),
        (NET + CONV.replace("6", "7") + REGION, r"\[region\]: expected 6 channels before it .*got 7"),
        (
            NET + "[reorg]\nstride=2\n" + CONV + REGION,
            r"\[reorg\] in line 5: expected a multiple of 4 channels .*got 3",
        ),
        (NET + "[reorg]\nstride=3\n" + CONV + REGION, r"\[reorg\] in line 5: stride: expected 2, got '3' in line 6"),
        (
            NET + "[route]\nlayers=-1\n" + CONV + REGION,
            r"\[route\] in line 5: layers: expected numbers of layers above",
        ),
        (NET + CONV + "[route]\nlayers=a\n" + REGION, r"layers: expected numbers of layers above it"),
        (
            NET + CONV + "[maxpool]\nstride=2\n[route]\nlayers=0,1\n" + REGION,
            r"\[route\] in line 10: layers: expected layers of one width and height",
        ),
        (NET + "[maxpool]\nsize=2\npadding=4\n" + CONV + REGION, r"padding: expected at most 2"),
        (NET + "[maxpool]\nsize=3\nstride=1\npadding=5\n" + CONV + REGION, r"padding: expected at most 4"),
        (NET + CONV.replace("6", "6\nsize=99") + REGION, r"\[convolutional\] in line 5: expected a larger input"),
    ],
)
def test_what_is_not_known_is_refused_with_its_line(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        made(text)


def test_a_cfg_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"config .*: cannot be read"):
        darknet_cfg.read_cfg(tmp_path / "none.cfg")
    (tmp_path / "a.cfg").write_text("[net]\nwidth=1")
    with pytest.raises(ConfigError, match=r"config .*a.cfg: \[net\] in line 1: width: expected a whole number, from"):
        darknet_cfg.read_cfg(tmp_path / "a.cfg")


def test_batch_norm_adds_its_epsilon_to_the_deviation(tmp_path: Path) -> None:
    """With a variance of 1e-12, the deviation doubles; added to the variance, the result would be 500 times less."""
    text = NET + CONV.replace("filters", "batch_normalize=1\nfilters") + REGION
    bias, scale, mean = [1, 2, 3, 4, 5, 6], [1, 1, 1, 2, 2, 2], [0, 0, 0.5, 0, 0, 0.5]
    variance = [1e-12, 1, 4, 1e-12, 1, 4]
    weight = np.tile([[1.0, 0, 0], [0, 2.0, 0], [0, 0, 3.0]], (2, 1))
    network = filled(text, [*bias, *scale, *mean, *variance, *weight.ravel()], tmp_path)
    pixels = np.random.default_rng(1).random((3, 32, 64))
    got = network(torch.from_numpy(pixels[None]).float())[0].detach().numpy()
    for row in range(6):
        before = sum(weight[row, channel] * pixels[channel] for channel in range(3))
        expected = (before - mean[row]) / (np.sqrt(variance[row]) + 1e-6) * scale[row] + bias[row]
        assert np.allclose(got[row], expected, rtol=1e-5)


def test_leaky_is_a_tenth_below_nothing(tmp_path: Path) -> None:
    network = filled(NET + CONV.replace("linear", "leaky") + REGION, [1, -1, 0, 0, 0, 0, *[0] * 18], tmp_path)
    got = network(torch.zeros(1, 3, 32, 64))[0, :2, 0, 0]
    assert np.allclose(got.detach(), [1, -0.1])


@pytest.mark.parametrize(
    ("size", "stride", "padding", "length"),
    [(2, 2, 1, 8), (2, 2, 1, 7), (2, 1, 1, 5), (3, 1, 2, 5), (3, 2, 0, 8), (5, 3, 4, 9)],
)
def test_max_pool_as_darknet_goes(size: int, stride: int, padding: int, length: int) -> None:
    maps = np.random.default_rng(length).normal(-5, 1, (2, length, length + 1)).astype(np.float32)
    height, width = ((side + padding - size) // stride + 1 for side in maps.shape[1:])
    expected = np.full((2, height, width), -np.inf, np.float32)
    for channel, row, column, down, across in np.ndindex(2, height, width, size, size):
        y, x = row * stride + down - padding // 2, column * stride + across - padding // 2
        if 0 <= y < maps.shape[1] and 0 <= x < maps.shape[2]:
            expected[channel, row, column] = max(expected[channel, row, column], maps[channel, y, x])
    got = darknet.MaxPool(size, stride, padding)(torch.from_numpy(maps)[None])[0].numpy()
    assert np.array_equal(got, expected)


def test_reorganisation_as_darknet_goes() -> None:
    """Its loops, word for word, over flat memory: the output is gone over with the input's measures."""
    channels, height, width = 8, 4, 6
    flat = np.arange(channels * height * width, dtype=np.float32)
    out = np.empty_like(flat)
    for k, j, i in np.ndindex(channels, height, width):
        part, quarter = divmod(k, channels // 4)
        x, y = i * 2 + part % 2, j * 2 + part // 2
        out[i + width * (j + height * k)] = flat[x + width * 2 * (y + height * 2 * quarter)]
    got = darknet.Reorg()(torch.from_numpy(flat.reshape(1, channels, height, width)))
    assert np.array_equal(got.numpy(), out.reshape(1, channels * 4, height // 2, width // 2))


def test_routes_take_layers_by_number_or_from_themselves(tmp_path: Path) -> None:
    network = made(cfg_text())
    outputs: list[torch.Tensor] = []
    for layer in network.layers:
        layer.register_forward_hook(lambda _, __, output: outputs.append(output))
    answer = network(torch.rand(2, 3, 96, 96))
    assert torch.equal(outputs[6], outputs[3])
    assert torch.equal(outputs[8], torch.cat([outputs[7], outputs[5]], dim=1))
    assert answer.shape == (2, 16, 3, 3)
    assert network.shape == (16, 3, 3)


def test_weights_are_taken_in_their_order(tmp_path: Path) -> None:
    config, path = written(tmp_path, cfg_text())
    cfg = darknet_cfg.read_cfg(config)
    network = darknet.Network(cfg, cfg.size_wh)
    darknet.load_weights(network, path)
    values = numbers(cfg)
    first, last = network.convolutions()[0], network.convolutions()[-1]
    bias, scale, mean, variance = values[:32].reshape(4, 8)
    weight = values[32:248].reshape(8, 3, 3, 3)
    factor = scale / (np.sqrt(variance) + 1e-6)
    assert np.allclose(first.weight.detach(), weight * factor[:, None, None, None], atol=1e-6)
    assert first.bias is not None
    assert np.allclose(first.bias.detach(), bias - mean * factor, atol=1e-6)
    assert np.array_equal(last.weight.detach().numpy().ravel(), values[-last.weight.numel() :])
    assert network.normalised == (True, True, False, False)


def test_weights_of_another_length_are_refused(tmp_path: Path) -> None:
    config, path = written(tmp_path, cfg_text())
    cfg = darknet_cfg.read_cfg(config)
    network, content = darknet.Network(cfg, cfg.size_wh), path.read_bytes()
    expected = f"expected {len(content):,} bytes .* after 20 bytes.*, got"
    for wrong in (content[:-4], content + b"\0\0\0\0"):
        path.write_bytes(wrong)
        with pytest.raises(ConfigError, match=f"{expected} {len(wrong):,}; is it of another"):
            darknet.load_weights(network, path)
    path.write_bytes(b"\0\0")
    with pytest.raises(ConfigError, match=r"after 16 bytes.*, got 2;"):
        darknet.load_weights(network, path)
    with pytest.raises(ConfigError, match=r"none.weights: cannot be read"):
        darknet.load_weights(network, tmp_path / "none.weights")


def test_weights_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    text = NET + CONV.replace("filters", "batch_normalize=1\nfilters") + REGION
    with pytest.raises(ConfigError, match="convolution 0: expected finite numbers"):
        filled(text, [0] * 18 + [-1] * 6 + [1] * 18, tmp_path)  # a negative variance
