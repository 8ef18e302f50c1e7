"""Weights of YOLOX-nano: out of a published ONNX file, for other classes, and made fit to be fine-tuned."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from artray.detect.yolox import EPS, PRIOR_LOGIT, Conv, YoloxNano
from artray.errors import ConfigError
from artray.models import onnx_file


def from_onnx(path: Path) -> dict[str, Tensor]:
    """The state dict of a :class:`YoloxNano` out of a published ONNX file, whose number of classes it has.

    The file's batch norms are folded into its convolutions. Ours become the identity plus the convolution's bias:
    mean 0, variance 1 - eps, weight 1. That is the same function in evaluation only: in training mode, where batch
    norms take the statistics of their batch, next to nothing of it is left. To fine-tune, :func:`calibrate` them, keep
    them in evaluation mode, or both. The file takes BGR; the first convolution's channels are turned, so that ours
    takes RGB.

    Raises:
        ConfigError: the file cannot be read, or is not this network's.
    """
    found = onnx_file.convolutions(path)
    network = YoloxNano(num_classes=1)
    layers = [(name, module) for name, module in network.named_modules() if isinstance(module, nn.Conv2d)]
    if len(found) != len(layers):
        raise ConfigError(f"weights {path}: expected {len(layers)} convolutions of YOLOX-nano, got {len(found)}")
    tensors: dict[str, Tensor] = {}
    for (name, module), (weight, bias) in zip(layers, map(_as_torch, found), strict=True):
        expected = module.weight.shape[1:] if name.endswith(".classes") else module.weight.shape
        if weight.shape[-len(expected) :] != expected or weight.ndim != 4 or bias.shape != weight.shape[:1]:
            raise ConfigError(f"weights {path}: {name}: expected {tuple(expected)}, got {tuple(weight.shape)}")
        tensors[f"{name}.weight"] = weight
        tensors |= {f"{name}.bias": bias} if module.bias is not None else _identity(name, bias)
    first = tensors["trunk.stem.conv.weight"]
    tensors["trunk.stem.conv.weight"] = first.reshape(len(first), 4, 3, *first.shape[2:]).flip(2).flatten(1, 2)
    return tensors


def _as_torch(found: onnx_file.Convolution) -> tuple[Tensor, Tensor]:
    """Weight and bias."""
    return torch.from_numpy(found.weight), torch.from_numpy(found.bias)


def _identity(name: str, bias: Tensor) -> dict[str, Tensor]:
    """The batch norm after a convolution, which adds its bias and does nothing else."""
    norm, one = f"{name.removesuffix('.conv')}.bn", torch.ones_like(bias)
    return {
        f"{norm}.weight": one,
        f"{norm}.bias": bias,
        f"{norm}.running_mean": torch.zeros_like(bias),
        f"{norm}.running_var": one - EPS,
    }


def transfer(tensors: Mapping[str, Tensor], sources: Sequence[Sequence[int]]) -> dict[str, Tensor]:
    """A state dict for other classes: what predicts classes is taken from the old ones that are like the new ones.

    Args:
        tensors: a state dict of a :class:`YoloxNano`; is not changed.
        sources: for each new class the ids of old ones, whose mean it starts from; without any it starts from
            weights 0 and the score 0.01 everywhere.

    Returns:
        Likewise, for ``len(sources)`` classes; tensors that change nothing are shared.
    """
    return {
        name: _mixed(tensor, sources, name.endswith("bias")) if ".classes." in name else tensor
        for name, tensor in tensors.items()
    }


def _mixed(tensor: Tensor, sources: Sequence[Sequence[int]], is_bias: bool) -> Tensor:
    """Rows of a class predictor, each the mean of old ones."""
    new = torch.full_like(tensor[0], PRIOR_LOGIT if is_bias else 0.0)
    return torch.stack([tensor[list(ids)].mean(dim=0) if len(ids) else new for ids in sources])


@torch.no_grad()
def calibrate(network: nn.Module, batches: Iterable[Tensor]) -> None:
    """Give batch norms the statistics of pictures, and weights and biases that make up for it, in place.

    In evaluation the network stays the function that it was; in training, where a batch norm takes the statistics of
    its batch, it now is about the same one. Weights whose batch norms were folded need this before they are fine-tuned.

    Args:
        network: of :class:`Conv` layers.
        batches: float[N, 3, H, W] each, as the network takes them; some dozens of pictures in all.

    Raises:
        ValueError: no batch, or a batch of no picture.
    """
    layers = [module for module in network.modules() if isinstance(module, Conv)]
    sums = {layer: torch.zeros(3, layer.bn.num_features, dtype=torch.float64) for layer in layers}

    def add(layer: Conv, output: Tensor) -> None:
        values = output.double().transpose(0, 1).flatten(1).cpu()
        sums[layer] += torch.stack(
            [values.sum(1), values.square().sum(1), torch.full_like(values[:, 0], len(values[0]))]
        )

    hooks = [
        layer.conv.register_forward_hook(lambda _, __, output, layer=layer: add(layer, output)) for layer in layers
    ]
    training = network.training
    try:
        network.eval()
        for images in batches:
            network(images)
    finally:
        network.train(training)
        for hook in hooks:
            hook.remove()
    for layer in layers:
        _adopt(layer.bn, sums[layer])


def _adopt(norm: nn.BatchNorm2d, sums: Tensor) -> None:
    """Statistics float64[3, C] (sum, sum of squares, count) for a batch norm, which stays the function that it was."""
    if not bool((sums[2] > 0).all()):
        raise ValueError("batches: expected at least one picture, got none")
    old_mean, old_var = norm.get_buffer("running_mean"), norm.get_buffer("running_var")
    mean = (sums[0] / sums[2]).to(norm.weight)
    var = (sums[1] / sums[2] - (sums[0] / sums[2]).square()).clamp(min=0).to(norm.weight)
    slope = norm.weight / (old_var + norm.eps).sqrt()
    norm.bias.add_(slope * (mean - old_mean))
    norm.weight.copy_(slope * (var + norm.eps).sqrt())
    old_mean.copy_(mean)
    old_var.copy_(var)
