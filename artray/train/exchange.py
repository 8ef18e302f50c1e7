"""Workers that share a batch: what they tell each other, and nothing of who started them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch import distributed as dist

from artray.train import losses
from artray.train.losses import Total

Floats: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Exchange:
    """One worker among several.

    Args:
        rank: in [0, workers).
        workers: how many there are.
        total: adds a tensor up over all of them; differentiable.
        gather: what every worker gives, in the order of their ranks, to all of them.
    """

    rank: int
    workers: int
    total: Total
    gather: Callable[[Any], list[Any]]

    def interleaved(self, own: Floats, count: int) -> Floats:
        """float64[count, ...]: every worker found ``own`` of the rows rank, rank + workers, ...; all get the whole."""
        whole = np.zeros((count, *own.shape[1:]))
        for rank, given in enumerate(self.gather(own)):
            whole[rank :: self.workers] = given
        return whole


def alone() -> Exchange:
    """A worker without others."""
    return Exchange(0, 1, losses.alone, lambda given: [given])


def distributed() -> Exchange:
    """This process in torch's default process group; alone where there is none."""
    if not dist.is_available() or not dist.is_initialized() or dist.get_world_size() == 1:
        return alone()
    return Exchange(dist.get_rank(), dist.get_world_size(), _total, _gather)


class _Total(torch.autograd.Function):
    """A sum over workers, whose gradient is the sum of their gradients."""

    @staticmethod
    def forward(ctx: Any, sums: Tensor) -> Tensor:
        del ctx
        summed = sums.clone()
        dist.all_reduce(summed)
        return summed

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        del ctx
        summed = gradients[0].clone()
        dist.all_reduce(summed)
        return summed


def _total(sums: Tensor) -> Tensor:
    result: Tensor = _Total.apply(sums)
    return result


def _gather(given: Any) -> list[Any]:
    received: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(received, given)
    return received
