"""MTCNN's layers that are not torch's own."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from artray.detect.mtcnn_networks import ColumnsFirst, OutputNet, PRelu, ProposalNet, RefineNet, _halve


def innermost(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1)).to(memory_format=torch.channels_last)


@pytest.mark.parametrize("size", [(4, 6), (5, 6), (4, 7), (5, 7), (1, 1)])
def test_halving_is_max_pooling_that_keeps_odd_edges(size):
    x = innermost(2, 10, *size)
    expected = F.max_pool2d(x, 2, 2, ceil_mode=True)
    assert torch.equal(_halve(x.clone()), expected)


@pytest.mark.parametrize("shape", [(1, 10, 5, 7), (3, 32, 4, 4), (0, 28, 3, 3)])
def test_prelu_is_torchs_own(shape):
    layer, x = PRelu(shape[1]), innermost(*shape)
    slopes = torch.linspace(-1, 1, shape[1])
    layer.weight.data.copy_(slopes)
    assert torch.equal(layer(x), F.prelu(x, slopes))
    assert torch.equal(layer(x.contiguous()), F.prelu(x, slopes)), "whatever the memory order"


def test_dense_layers_read_columns_first_channels_innermost():
    x = torch.arange(8.0).view(1, 2, 2, 2)  # channel, row, column: 0 1 / 2 3 and 4 5 / 6 7
    assert ColumnsFirst()(x).tolist() == [[0, 4, 2, 6, 1, 5, 3, 7]]


@pytest.mark.parametrize("side", range(12, 24))
def test_as_many_windows_as_the_network_gives(side):
    network = ProposalNet().eval()
    offsets, scores = network(torch.zeros(1, 3, side, 12), [(side, 12)])
    assert offsets.shape == (1, ProposalNet.windows(side), 1, 4)
    assert scores.shape == (1, ProposalNet.windows(side), 1)


@pytest.mark.parametrize("network", [RefineNet, OutputNet])
@pytest.mark.parametrize("count", [0, 1, 3])
def test_crops_give_four_offsets_and_a_score(network, count):
    offsets, scores = network()(torch.zeros(count, 3, network.crop_px, network.crop_px))
    assert offsets.shape == (count, 4)
    assert scores.shape == (count,)


def test_networks_have_the_published_number_of_weights():
    # P-Net: 3*3*3*10+10+10 + 3*3*10*16+16+16 + 3*3*16*32+32+32 + 32*6+6
    assert sum(p.numel() for p in ProposalNet().parameters()) == 290 + 1472 + 4672 + 198
