"""Batch norm over the whole batch, however many workers share it, on GPUs and on CPUs."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from artray.train.losses import Total


class BatchNorm(nn.BatchNorm2d):
    """Batch norm that adds its sums up over workers; then an activation, if any.

    For CPUs: torch's own synchronised batch norm knows GPUs only. Its state is that of the batch norm that it replaces;
    timm's apply their activation themselves.

    Args:
        norm: what it replaces; its parameters and statistics are taken over, not copied.
        total: adds up over workers.
    """

    def __init__(self, norm: Any, total: Total) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
        self.weight, self.bias = norm.weight, norm.bias
        self.running_mean, self.running_var = norm.running_mean, norm.running_var
        self.num_batches_tracked = norm.num_batches_tracked
        self.total = total
        self.drop, self.act = getattr(norm, "drop", None), getattr(norm, "act", None)

    def forward(self, input: Tensor) -> Tensor:
        """float[N, C, H, W], normalised by mean and variance of all workers' N together while it is trained."""
        output = self._trained(input) if self.training else super().forward(input)
        for layer in (self.drop, self.act):
            output = output if layer is None else layer(output)
        return output

    def _trained(self, input: Tensor) -> Tensor:
        count = torch.tensor([float(input.numel() // input.shape[1])], dtype=input.dtype)
        sums = self.total(torch.cat([input.sum(dim=(0, 2, 3)), count]))
        whole, mean = sums[-1].detach(), sums[:-1] / sums[-1].detach()
        centred = input - mean[:, None, None]
        variance = self.total(centred.square().sum(dim=(0, 2, 3))) / whole
        with torch.no_grad():
            self._learn(mean, variance * whole / (whole - 1).clamp(min=1))
        scale = torch.rsqrt(variance + self.eps) * (1.0 if self.weight is None else self.weight)
        output = centred * scale[:, None, None]
        return output if self.bias is None else output + self.bias[:, None, None]

    def _learn(self, mean: Tensor, variance: Tensor) -> None:
        """Move the running statistics, as torch does."""
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        momentum = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(variance, momentum)


def synchronised(module: nn.Module, total: Total, device: str = "cpu") -> nn.Module:
    """The module with every batch norm over pictures one over all workers' pictures: torch's own on a GPU."""
    if device != "cpu":
        from timm import layers

        convert: Callable[[nn.Module], nn.Module] = layers.convert_sync_batchnorm  # type: ignore[attr-defined]
        return convert(module)
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            module.add_module(name, BatchNorm(child, total))
        else:
            synchronised(child, total)
    return module
