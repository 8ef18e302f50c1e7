"""The co-occurrence filter: which features of a picture lie near each other, pooled into one matrix D x D.

A trunk's activations A[h, w, D] go through a convolution over a window, which gives their co-occurrences C[h, w, D];
bilinear pooling makes of both the sum over places of the outer products A C^T. Works are ranked by the squared
Frobenius distance of these matrices, which is the squared Euclidean one of their values in a row.

Source: report, Image Retrieval, sections 4.4 and 5.4; Forcen et al., Co-occurrence of deep convolutional features for
image search (2020), arXiv 2003.13827, and their implementation's definition of a co-occurrence.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from artray.classify.inputs import Image, to_input
from artray.config import parse
from artray.errors import ConfigError
from artray.models import registry, trunks, weights
from artray.models.cards import Card
from artray.retrieve import compact
from artray.retrieve.compact import Doubles, Floats, Pca
from artray.retrieve.settings import CooccurrenceConfig, Settings

STAGE: Final = MappingProxyType({"last": trunks.STAGES, "second_last": trunks.STAGES - 1})

PROBE_PX: Final = 64
"""A picture of this size tells how many channels a stage has."""

BATCH: Final = 16
"""Images per forward pass on a GPU."""


def bilinear(activations: Tensor, cooccurrences: Tensor) -> Tensor:
    """float[N, D, D]: the sum over places of the outer products of A and C, rows of A's channels.

    Args:
        activations: A, float[N, D, h, w].
        cooccurrences: C, likewise.

    Source: report, Image Retrieval, Equation 1.
    """
    return torch.einsum("nahw,nchw->nac", activations, cooccurrences)


def squared_frobenius(first: Tensor, second: Tensor) -> Tensor:
    """float[N] >= 0: the sum of the squared differences of two matrices float[N, D, D].

    Source: report, Image Retrieval, Equation 2. The report sorts by it in descending order, and means ascending: 0 is
    the distance of equal descriptors.
    """
    return (first - second).square().sum(dim=(-2, -1))


def mask(activations: Tensor, threshold: str) -> Tensor:
    """bool[N, D, h, w]: which activations can co-occur: those above their image's mean, or all.

    Args:
        activations: float[N, D, h, w].
        threshold: ``mean`` or ``none``.
    """
    if threshold == "none":
        return torch.ones_like(activations, dtype=torch.bool)
    return activations > activations.mean(dim=(1, 2, 3), keepdim=True)


def cooccurrences(activations: Tensor, weight: Tensor, threshold: str = "mean") -> Tensor:
    """C, float[N, D, h, w]: activations near each other, added up by a filter; 0 where there is none to begin with.

    Args:
        activations: A, float[N, D, h, w].
        weight: float[D, D, r, r], r odd: how much the second channel counts for the first, by where it is in the
            window; beyond the border there is nothing.
        threshold: ``mean`` or ``none``; see :func:`mask`.
    """
    active = mask(activations, threshold)
    return functional.conv2d(activations * active, weight, padding=weight.shape[-1] // 2) * active


def initial(channels: int, window: int, kind: str) -> Tensor:
    """The untrained filter float32[D, D, r, r].

    Args:
        channels: D, at least 2.
        window: r, odd.
        kind: ``identity`` (1 for the channel itself, 0 for others) or ``direct`` (the mean over all others and over the
            window); see artray.retrieve.settings.CooccurrenceConfig.

    >>> initial(3, 1, "direct")[..., 0, 0]
    tensor([[0.0000, 0.5000, 0.5000],
            [0.5000, 0.0000, 0.5000],
            [0.5000, 0.5000, 0.0000]])
    """
    own = torch.eye(channels)
    between = own if kind == "identity" else (1 - own) / ((channels - 1) * window**2)
    return between[:, :, None, None].repeat(1, 1, window, window)


class Cooccurrences(nn.Module):
    """A trunk up to a stage, and the filter: pictures to descriptors.

    A classifier is trained with it as its trunk: heads see the bilinear pooled descriptor, for that is what is
    compared. (Of C pooled by its mean alone, the filter would be one more linear layer and learn nothing of what lies
    near what.)

    Args:
        architecture: of the trunk.
        trunk: with its weights; nothing behind the stage is ever run.
        cfg: stage, threshold and filter.

    Raises:
        ConfigError: the trunk has no five stages.
    """

    def __init__(self, architecture: str, trunk: nn.Module, cfg: CooccurrenceConfig) -> None:
        super().__init__()
        self.trunk, self.threshold = trunk, cfg.threshold
        self.end = trunks.stage_end(architecture, STAGE[cfg.stage])
        with torch.inference_mode():
            probe = trunks.until(trunk.eval(), self.end, torch.zeros(1, 3, PROBE_PX, PROBE_PX))
        self.channels = probe.shape[1]
        self.filter = nn.Parameter(initial(self.channels, cfg.window, cfg.filter))

    @property
    def dim(self) -> int:
        """D x D, the length of a descriptor."""
        return self.channels**2

    def freeze_beyond(self) -> None:
        """Keep what is behind the stage out of a training, which does not run it."""
        for name in trunks.beyond(self.trunk, self.end):
            self.trunk.get_parameter(name).requires_grad_(False)

    def pair(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """A and C, float[N, D, h, w] each, of pictures float[N, 3, S, S]."""
        activations = trunks.until(self.trunk, self.end, pictures)
        return activations, cooccurrences(activations, self.filter, self.threshold)

    def forward(self, pictures: Tensor) -> Tensor:
        """float[N, D * D]: Equation 1, divided by the numbers of places and channels.

        That is one number for all pictures, so ranks do not know it; distances come near 1, where similarities are
        told apart by their digits.
        """
        activations, found = self.pair(pictures)
        return bilinear(activations, found).flatten(1) / activations[0].numel()

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """What a card's files of weights hold, by their roles."""
        return {"trunk": dict(self.trunk.state_dict()), "filter": {"weight": self.filter.detach()}}


@registry.register("cooccurrence", task="retrieve")
class CooccurrenceEmbedder:
    """A card's trunk and filter: images to descriptors, in full or made short.

    On a CPU images go through one at a time: an image's embedding does not depend on its neighbours bit for bit.

    Args:
        card: ``settings`` are artray.retrieve.settings.Settings; weights ``trunk``, where it was trained ``filter``
            (a tensor ``weight``), with ``compact: pca`` ``pca`` (``mean`` and ``components``).
        device: "cpu", "cuda" or "cuda:N".

    Raises:
        ConfigError: settings or weights that do not fit each other or the card.
        TransientError: weights cannot be reached.
    """

    def __init__(self, card: Card, device: str) -> None:
        self.settings = parse(Settings, card.settings, where=f"card {card.name}: settings")
        if card.input is None or "trunk" not in card.weights:
            raise ConfigError(f"card {card.name}: expected input and weights of a trunk, got {[*card.weights]}")
        self.spec, self.device, self.dim = card.input, torch.device(device), card.embedding_dim or 0
        self.batch_size = 1 if self.device.type == "cpu" else BATCH
        trunk = trunks.fuse(trunks.load(self.settings.trunk, _tensors(card, "trunk")))
        module = Cooccurrences(self.settings.trunk, trunk, self.settings)
        if "filter" in card.weights:
            _take(module, _tensors(card, "filter"), card.name)
        self._module: Any = module.eval().to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._pca = _pca(card, module.dim) if self.settings.compact == "pca" else None
        self._sketch = compact.sketch(module.channels, self.dim, self.settings.seed)
        if self.settings.compact == "full" and self.dim != module.dim:
            raise ConfigError(f"card {card.name}: embedding_dim: expected {module.dim}, got {self.dim}")

    def __call__(self, images: Sequence[Image]) -> Floats:
        """float32[N, K] of N images uint8[H, W, 3] RGB of any sizes; N may be 0.

        Raises:
            ValueError: an image is not uint8[H, W, 3], or its descriptor is not finite or, where it is to have unit
                norm, all zero.
        """
        found = np.zeros((len(images), self.dim), np.float32)
        for start in range(0, len(images), self.batch_size):
            for row, embedding in enumerate(self._embedded(images[start : start + self.batch_size]), start):
                found[row] = embedding
        if not np.isfinite(found).all():
            raise ValueError("embedding: expected a descriptor of finite values")
        return found

    def _embedded(self, images: Sequence[Image]) -> list[Doubles]:
        """The embeddings of at most ``batch_size`` images."""
        squares = torch.from_numpy(np.stack([to_input(image, self.spec) for image in images]))
        with torch.inference_mode():
            pairs = self._module.pair(squares.to(self.device).permute(0, 3, 1, 2))
        shaped = [part.flatten(2).transpose(1, 2).double().cpu().numpy() for part in pairs]
        return [self._compacted(*pair) for pair in zip(*shaped, strict=True)]

    def _compacted(self, activations: Doubles, found: Doubles) -> Doubles:
        """float64[K], of A and C float64[places, D]."""
        if self.settings.compact == "tensor_sketch":
            return self._normalised(compact.tensor_sketch(activations, found, self._sketch) / activations.size)
        descriptor = self._normalised((activations.T @ found).ravel() / activations.size)
        if self._pca is None:
            return descriptor
        projected = compact.project(self._pca, descriptor)
        return compact.unit(projected) if self.settings.unit else projected

    def _normalised(self, row: Doubles) -> Doubles:
        """By the card's power, and to unit norm where it says so."""
        row = row if self.settings.power == 1 else compact.powered(row, self.settings.power)
        return compact.unit(row) if self.settings.unit else row


def learn_pca(card: Card, images: Iterable[Sequence[Image]], dim: int, device: str = "cpu") -> dict[str, Tensor]:
    """What the weights ``pca`` of a card hold: the principal components of a sample's descriptors.

    Args:
        card: of architecture ``cooccurrence`` and ``compact: full``, with the ``power`` and ``unit`` that the other
            card is to have.
        images: batches of a sample; all of its N x D x D values are in memory at a time.
        dim: how many components, less than there are images.
        device: "cpu", "cuda" or "cuda:N".

    Raises:
        ConfigError: the card's descriptors are not full, or it cannot be built.
        ValueError: the sample is too small.
    """
    embedder = registry.build(card, device)
    if not isinstance(embedder, CooccurrenceEmbedder) or embedder.settings.compact != "full":
        raise ConfigError(f"card {card.name}: expected architecture cooccurrence with settings.compact full")
    pca = compact.learn(np.concatenate([embedder(batch) for batch in images]), dim)
    return {name: torch.from_numpy(values) for name, values in pca._asdict().items()}


def _tensors(card: Card, role: str) -> dict[str, Tensor]:
    return weights.read_tensors(_fetched(card, role))


def _fetched(card: Card, role: str) -> Path:
    if role not in card.weights:
        raise ConfigError(f"card {card.name}: weights: expected {role}, got {[*card.weights]}")
    return weights.fetch(card.weights[role], owner=f"card {card.name}")


def _take(module: Cooccurrences, tensors: dict[str, Tensor], name: str) -> None:
    """Give the module a trained filter."""
    weight = tensors.get("weight")
    if weight is None or weight.shape != module.filter.shape:
        got = "none" if weight is None else [*weight.shape]
        raise ConfigError(f"card {name}: filter: expected a tensor weight {[*module.filter.shape]}, got {got}")
    with torch.no_grad():
        module.filter.copy_(weight)


def _pca(card: Card, dim: int) -> Pca:
    """The card's components."""
    arrays: dict[str, NDArray[np.float32]] = weights.read_arrays(_fetched(card, "pca"))
    found = Pca(*(arrays.get(name, np.zeros(0, np.float32)) for name in Pca._fields))
    if found.mean.shape != (dim,) or found.components.shape != (card.embedding_dim, dim):
        raise ConfigError(
            f"card {card.name}: pca: expected mean [{dim}] and components [{card.embedding_dim}, {dim}], got "
            f"{[*found.mean.shape]} and {[*found.components.shape]}"
        )
    return found
