"""Batch norm over the whole batch, however many workers share it, on GPUs and on CPUs."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

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
        with torch.no_grad():
            mean, variance, count = _statistics(input, self.total)
            self._learn(mean, variance * count / (count - 1).clamp(min=1))
        output: Tensor = _Normalise.apply(
            input, self.weight, self.bias, mean, torch.rsqrt(variance + self.eps), count, self.total
        )
        return output

    def _learn(self, mean: Tensor, variance: Tensor) -> None:
        """Move the running statistics, as torch does."""
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        momentum = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(variance, momentum)


def _statistics(input: Tensor, total: Total) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and variance [C] of all workers' pictures, and how many values that are per channel."""
    size = input.numel() // input.shape[1]
    mean, variance = (each.double() for each in torch.batch_norm_update_stats(input, None, None, 1.0))
    # One exchange for all, as each takes milliseconds; in float64, for the mean's square goes off again.
    sums = total(torch.cat([mean, variance + mean.square(), torch.ones_like(mean[:1])]) * size)
    count = sums[-1:]
    mean, square = (sums[:-1] / count).chunk(2)
    variance = (square - mean.square()).clamp(min=0)
    return mean.to(input.dtype), variance.to(input.dtype), count.to(input.dtype)


class _Normalise(torch.autograd.Function):
    """(input - mean) / deviation * weight + bias, whose gradient knows that mean and deviation are the input's."""

    @staticmethod
    def forward(
        ctx: Any,
        input: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        mean: Tensor,
        inverse: Tensor,
        count: Tensor,
        total: Total,
    ) -> Tensor:
        ctx.save_for_backward(input, weight, mean, inverse, count)
        ctx.total = total
        scale = inverse if weight is None else inverse * weight
        return _affine(input, scale, -mean * scale if bias is None else bias - mean * scale)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        input, weight, mean, inverse, count = ctx.saved_tensors
        gradient, sums_only = gradients[0], [False, True, True]
        _, own_along, own_sum = torch.ops.aten.native_batch_norm_backward(
            gradient, input, weight, None, None, mean, inverse, True, 0.0, sums_only
        )
        sums = ctx.total(torch.cat([own_sum, own_along])) / count  # along: with the normalised input
        whole, along = sums.chunk(2)
        scale = inverse if weight is None else inverse * weight
        slope = -scale * inverse * along
        returned = _affine(input, slope, -scale * whole - slope * mean)
        returned.addcmul_(gradient, scale[:, None, None])
        own = (None, None) if weight is None else (own_along, own_sum)
        return returned, *own, None, None, None, None


def _affine(input: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Scale and shift per channel, in one pass."""
    return functional.batch_norm(input, torch.zeros_like(scale), torch.ones_like(scale), scale, shift, eps=0.0)


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
