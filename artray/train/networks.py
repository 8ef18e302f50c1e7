"""What is trained: a trunk of the registry, and heads on its embedding.

Heads take the embedding at unit norm, for that is what a store keeps: a trained head can be applied to a finished store
without reading one picture. (The report's take the pooled features as they are.)
"""

from collections.abc import Mapping, Sequence
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from artray.metrics.calibration import Calibration
from artray.models import trunks
from artray.models.cards import Input
from artray.retrieve.cooccurrence import Cooccurrences

NORM_MIN: Final = 1e-6

COLOUR: Final = "colour"
"""What the network says of a picture's mean colour, beside its heads."""


class Colour(nn.Module):
    """A picture's mean colour, by linear regression on its embedding; of use while it is trained.

    It begins with mid grey for all pictures. (Random weights on all D values would be worse than that by far, and
    hundreds of steps would go by before they were unlearned.)

    Args:
        dim: D.
        spec: how pixels become the network's input.

    Source: report, Image Retrieval, section 5.4.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, dim: int, spec: Input) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, 3)
        nn.init.zeros_(self.linear.weight)
        nn.init.constant_(self.linear.bias, 0.5)
        for name, values in (("mean", spec.mean), ("std", spec.std)):
            self.register_buffer(name, torch.tensor(values), persistent=False)

    def forward(self, embeddings: Tensor) -> Tensor:
        """Red, green and blue float[N, 3], for the range [0, 1], of embeddings float[N, D] of unit norm."""
        found: Tensor = self.linear(embeddings)
        return found

    def truth(self, images: Tensor) -> Tensor:
        """Their means over the pixels that the network is shown, in [0, 1], of its input float[N, 3, S, S]."""
        return (images.mean(dim=(2, 3)) * self.std + self.mean) / 255


class Network(nn.Module):
    """Pictures, or embeddings of pictures, to a head's logits each.

    Args:
        trunk: pictures float[N, 3, S, S] to pooled features float[N, D]; None where embeddings are given instead.
        dim: D.
        heads: name to the sizes of its layers' outputs, the last of which is K.
        colour: how pixels become inputs, for a regression on the picture's mean colour; None for none.
    """

    def __init__(
        self, trunk: nn.Module | None, dim: int, heads: Mapping[str, Sequence[int]], colour: Input | None = None
    ) -> None:
        super().__init__()
        self.trunk, self.dim = trunk, dim
        self.names = tuple(heads)
        self.heads = nn.ModuleList(head(dim, sizes) for sizes in heads.values())  # torch keeps some names to itself
        self.colour = None if colour is None else Colour(dim, colour)
        # A descriptor's D x D values are as many as those of D channels: a step that changes every weight by the same
        # would else change logits a hundred times as much.
        self.scale = (trunk.channels if isinstance(trunk, Cooccurrences) else dim) ** 0.5

    def forward(self, inputs: Tensor) -> dict[str, Tensor]:
        """Per head float[N, K], of pictures float[N, 3, S, S], or of embeddings float[N, D]; and ``colour`` [N, 3]."""
        features = self.features(inputs)
        found = {name: layers(features) for name, layers in zip(self.names, self.heads, strict=True)}
        return found if self.colour is None else found | {COLOUR: self.colour(features / self.scale)}

    def features(self, inputs: Tensor) -> Tensor:
        """float[N, D]: what heads are given, embeddings of the length of a vector of D ones."""
        pooled = inputs if self.trunk is None else self.trunk(inputs)
        unit: Tensor = functional.normalize(pooled, dim=1, eps=NORM_MIN)
        scaled: Tensor = unit * self.scale
        return scaled


def head(dim: int, sizes: Sequence[int]) -> nn.Sequential:
    """Fully connected layers with ReLU between them."""
    layers: list[nn.Module] = []
    for inputs, outputs in zip((dim, *sizes[:-1]), sizes, strict=True):
        layers += [*([nn.ReLU()] if layers else []), nn.Linear(inputs, outputs)]
    return nn.Sequential(*layers)


def restrict(network: Network, architecture: str, trained: str) -> None:
    """Freeze what is not trained; batch norm never is frozen.

    Args:
        network: with a trunk.
        architecture: of the trunk.
        trained: ``none``, ``head``, ``conv4-5``, ``conv2-5`` or ``all``; see artray.train.profile.NetworkConfig.

    Raises:
        ConfigError: stages are asked for of a trunk that has none.

    Source: report, Image Classification, section 4.2: "In all cases, we do not freeze the weights of batch
    normalization layers".
    """
    descriptor = network.trunk
    trunk = descriptor.trunk if isinstance(descriptor, Cooccurrences) else descriptor
    if trunk is not None and trained != "all":
        _restrict(trunk, architecture, trained)
    if isinstance(descriptor, Cooccurrences):
        descriptor.freeze_beyond()


def _restrict(trunk: nn.Module, architecture: str, trained: str) -> None:
    stages = trunks.stages(architecture, trunk) if trained.startswith("conv") else {}
    first = {"conv4-5": 4, "conv2-5": 2}.get(trained, trunks.STAGES + 1)
    for name, parameter in trunk.named_parameters():
        parameter.requires_grad_(stages.get(name, 0) >= first)
    for module in trunk.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            for parameter in module.parameters(recurse=False):
                parameter.requires_grad_(True)


def export(network: Network, calibrations: Mapping[str, Calibration]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The tensors of a classifier's two files of weights, float32: its trunk's and its heads'.

    Args:
        network: what was trained.
        calibrations: what becomes of a head's logits; nothing where it has none.

    Returns:
        The trunk's, empty where there is none, and the heads': ``NAME.LAYER.weight`` and ``.bias``, for embeddings of
        unit norm. A head of one logit has two outputs there, the first of which is always 0.
    """
    trunk = (
        {name: _kept(tensor) for name, tensor in network.trunk.state_dict().items()}
        if network.trunk is not None
        else {}
    )
    heads: dict[str, Tensor] = {}
    for name, layers in zip(network.names, network.heads, strict=True):
        linear = [layer for layer in layers.children() if isinstance(layer, nn.Linear)]
        for number, layer in enumerate(linear):
            weight, bias = layer.weight.detach().double(), layer.bias.detach().double()
            if number == 0:
                weight = weight * network.scale
            if number == len(linear) - 1:
                made = calibrations.get(name, Calibration())
                weight, bias = weight / made.temperature, bias / made.temperature
                if len(weight) == 1:
                    weight, bias = (
                        torch.cat([torch.zeros_like(weight), weight]),
                        torch.cat([torch.zeros_like(bias), bias]),
                    )
                bias = bias + torch.tensor(made.shift or [0.0], dtype=bias.dtype, device=bias.device)
            heads |= {f"{name}.{number}.weight": _kept(weight), f"{name}.{number}.bias": _kept(bias)}
    return trunk, heads


def export_descriptor(descriptor: Cooccurrences) -> dict[str, dict[str, Tensor]]:
    """Likewise the tensors of a card of co-occurrences, by the roles of its files; heads are not among them."""
    return {
        role: {name: _kept(tensor) for name, tensor in tensors.items()}
        for role, tensors in descriptor.tensors().items()
    }


def _kept(tensor: Tensor) -> Tensor:
    kept = tensor.detach().cpu().contiguous()
    return kept.float() if kept.is_floating_point() else kept
