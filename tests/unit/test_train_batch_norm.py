"""Batch norm over the whole batch: torch's numbers, however it is shared."""

import pytest
import torch
from timm.layers import BatchNormAct2d
from torch import nn

from artray.train.batch_norm import BatchNorm, synchronised
from artray.train.losses import alone


@pytest.mark.parametrize("momentum", [0.1, None])
def test_alone_it_is_torchs(momentum: float | None) -> None:
    torch.manual_seed(0)
    theirs = nn.BatchNorm2d(5, momentum=momentum).double()
    theirs.weight.data.uniform_(0.5, 2)
    theirs.bias.data.uniform_(-1, 1)
    ours = BatchNorm(nn.BatchNorm2d(5, momentum=momentum).double(), alone)
    ours.load_state_dict(theirs.state_dict())
    for _ in range(3):
        first = torch.randn(4, 5, 6, 7, dtype=torch.float64, requires_grad=True)
        second = first.detach().clone().requires_grad_()
        expected, got = theirs(first), ours(second)
        assert torch.allclose(got, expected)
        weights = torch.randn_like(expected)
        (expected * weights).sum().backward()
        (got * weights).sum().backward()
        assert torch.allclose(second.grad, first.grad)
    for name, tensor in theirs.state_dict().items():
        assert torch.allclose(ours.state_dict()[name], tensor), name
    assert torch.allclose(ours.weight.grad, theirs.weight.grad)
    assert torch.allclose(ours.eval()(first), theirs.eval()(first))


def test_timms_keep_their_activation_and_names_stay() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.bn = nn.Conv2d(3, 4, 1), BatchNormAct2d(4)
            self.inner = nn.Sequential(nn.BatchNorm2d(4), nn.ReLU())

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.inner(self.bn(self.conv(images)))

    module = Two()
    images = torch.randn(2, 3, 8, 8)
    expected = module.train()(images)
    names = set(module.state_dict())
    module.inner[0].reset_running_stats()
    made = synchronised(module, alone)
    assert set(made.state_dict()) == names
    assert sum(isinstance(part, BatchNorm) for part in made.modules()) == 2
    assert torch.allclose(made(images), expected, atol=1e-5)
    assert (made.bn(made.conv(images)) >= 0).all()


def test_one_value_is_its_own_mean() -> None:
    norm = BatchNorm(nn.BatchNorm2d(3), lambda sums: 2 * sums)  # another worker has the same
    images = torch.randn(1, 3, 1, 1, requires_grad=True)
    norm(images).sum().backward()
    assert torch.allclose(norm.running_mean, 0.1 * images[0, :, 0, 0])
    assert torch.isfinite(images.grad).all()
