"""Trunks: networks without their last layer, from float32[N, 3, S, S] to pooled features float32[N, D].

They come from timm and torchvision with random weights, and are loaded from a state dict in its publisher's naming,
whose own last layer is left out.
"""

import itertools
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from artray.errors import ConfigError

LITE0_REPEATS: Final = (1, 2, 2, 3, 3, 4, 1)
"""Blocks per stage of EfficientNet-B0 and Lite0 (Tan and Le 2019, Table 1)."""


class Trunk(NamedTuple):
    """One architecture."""

    make: Callable[[], nn.Module]
    dim: int  # length of its pooled features
    rename: Callable[[str], str]  # a published state dict's key to the module's own
    last: tuple[str, ...]  # prefixes of the keys of the layer that is left out


def architectures() -> tuple[str, ...]:
    """The names of the trunks."""
    return tuple(TRUNKS)


def make(architecture: str) -> nn.Module:
    """A trunk with random weights, in evaluation mode.

    Raises:
        ConfigError: no such trunk.
    """
    return _trunk(architecture).make().eval()


def dim(architecture: str) -> int:
    """The length of a trunk's pooled features."""
    return _trunk(architecture).dim


def load(architecture: str, tensors: Mapping[str, Tensor]) -> nn.Module:
    """A trunk with the given weights, in evaluation mode, on the CPU.

    Args:
        architecture: one of :func:`architectures`.
        tensors: a state dict as published, or as ``make(architecture).state_dict()``; with or without a last layer.

    Raises:
        ConfigError: a tensor is missing, is left over or has another shape; names the first.
    """
    trunk = _trunk(architecture)
    module = trunk.make()
    given = {trunk.rename(name): tensor for name, tensor in tensors.items() if not name.startswith(trunk.last)}
    _check(architecture, module.state_dict(), given)
    module.load_state_dict(given, strict=False)
    return module.eval()


def fuse(module: nn.Module) -> nn.Module:
    """Fold every batch norm that directly follows a convolution into it, in place; the module must be in eval mode.

    Both must be neighbours below one parent, as in all trunks here. What timm's batch norms do besides, their
    activation, stays.
    """
    for parent in list(module.modules()):
        names = [name for name, _ in parent.named_children()]
        for first, second in itertools.pairwise(names):
            conv, norm = parent.get_submodule(first), parent.get_submodule(second)
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                parent.add_module(first, fuse_conv_bn_eval(conv, norm))
                activation = getattr(norm, "act", None)
                parent.add_module(second, activation if isinstance(activation, nn.Module) else nn.Identity())
    return module


def _trunk(architecture: str) -> Trunk:
    if architecture not in TRUNKS:
        raise ConfigError(f"architecture: expected one of {', '.join(TRUNKS)}, got {architecture!r}")
    return TRUNKS[architecture]


def _check(architecture: str, expected: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> None:
    """Every tensor but the counters of training steps must be there, and no other one."""
    for name, tensor in expected.items():
        if name.endswith("num_batches_tracked"):
            continue
        if name not in given:
            raise ConfigError(f"weights: expected a tensor {name} of {architecture}, got none")
        if given[name].shape != tensor.shape:
            raise ConfigError(f"weights: {name}: expected {tuple(tensor.shape)}, got {tuple(given[name].shape)}")
    for name in given:
        if name not in expected and not name.endswith("num_batches_tracked"):
            raise ConfigError(f"weights: expected the tensors of {architecture}, got {name} besides")


def _lite0() -> nn.Module:
    import timm

    module: nn.Module = timm.create_model("tf_efficientnet_lite0", pretrained=False, num_classes=0)
    return module


def _lite0_name(name: str) -> str:
    """Names of the efficientnet_lite_pytorch family to timm's; timm's own stay.

    >>> _lite0_name("_blocks.2._project_conv.weight"), _lite0_name("_conv_head.weight")
    ('blocks.1.1.conv_pwl.weight', 'conv_head.weight')
    """
    first, *rest = name.split(".")
    if first != "_blocks":
        top = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2"}
        return ".".join([top.get(first, first), *rest])
    number, layer, *rest = rest
    places = [f"{stage}.{index}" for stage, repeats in enumerate(LITE0_REPEATS) for index in range(repeats)]
    shared = {"_expand_conv": "conv_pw", "_depthwise_conv": "conv_dw"}
    if number == "0":  # the first block has nothing to expand: its projection is the pointwise convolution
        layers = shared | {"_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
    else:
        layers = shared | {"_bn0": "bn1", "_bn1": "bn2", "_project_conv": "conv_pwl", "_bn2": "bn3"}
    return ".".join(["blocks", places[int(number)], layers[layer], *rest])


def _torchvision(name: str, last: str) -> Callable[[], nn.Module]:
    """A constructor of a torchvision classifier without its last layer."""

    def build() -> nn.Module:
        from torchvision import models

        with torch.random.fork_rng(devices=[]):  # random weights that are replaced: leave the caller's generator alone
            module: nn.Module = getattr(models, name)(weights=None)
        setattr(module, last, nn.Identity())
        return module

    return build


def _densenet_name(name: str) -> str:
    """The published files' older names to the module's.

    >>> _densenet_name("features.denseblock1.denselayer1.norm.1.weight")
    'features.denseblock1.denselayer1.norm1.weight'
    """
    return re.sub(r"(denselayer\d+\.(?:norm|conv))\.([12])\.", r"\1\2.", name)


TRUNKS: Final[Mapping[str, Trunk]] = MappingProxyType(
    {
        "efficientnet_lite0": Trunk(_lite0, 1280, _lite0_name, ("_fc.", "classifier.")),
        "resnet18": Trunk(_torchvision("resnet18", "fc"), 512, str, ("fc.",)),
        "resnet34": Trunk(_torchvision("resnet34", "fc"), 512, str, ("fc.",)),
        "resnet50": Trunk(_torchvision("resnet50", "fc"), 2048, str, ("fc.",)),
        "densenet201": Trunk(_torchvision("densenet201", "classifier"), 1920, _densenet_name, ("classifier.",)),
    }
)
