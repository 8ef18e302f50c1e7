"""Variational autoencoders: a picture's embedding is the mean of its latent, compared by Euclidean distance.

An encoder of five components makes a normal distribution of a picture, a decoder of five makes a picture of a lot drawn
from it. What is lost on the way is weighed against how far the distribution is from N(0, 1):
``L = alpha * L_reconstruction + L_KL`` (Equation 3).

Table 1 of the report is read as follows. Its kernels, paddings and strides are evidently exchanged between (i) and
(ii), (iii): only so do its latents come out.

- (i) 64 x 64 pixels, kernel 3, padding 1, stride 2, filters 16, 32, 64, 128, 256: 256 maps of 2 x 2 are 1,024 values.
  With padding 0 and stride 1, as printed, there would be 54 x 54 positions, of which 1,024 is no multiple.
- (ii), (iii) 280 x 280 pixels, kernel 3, padding 0, stride 1, filters 16, 32, 64, 128, 16: 270 x 270 are the 72,900
  values, of one map. With padding 1 and stride 2 there would be 9 x 9 positions and 72,900 values in 900 maps only.
  That the last component goes "back to the initial filter size of 16", so that the latent stays as large as the
  picture, is printed of (i), whose latent does not.

The report counts a picture's positions (4,096 and 78,400), not their colours; pictures are in colour here, as it finds
colours in the latents (section 7.1). What a component is made of beside its convolution is not told: batch norm and a
leaky ReLU here. So is how a latent of 270 x 270 comes from 16 filters: mean and log-variance are 1 x 1 convolutions.

Source: report, Image Retrieval, sections 4.1 and 5.1, Table 1; Kingma and Welling, Auto-Encoding Variational Bayes
(2014), https://arxiv.org/abs/1312.6114.
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal, NamedTuple, TypeAlias

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from artray.classify.inputs import to_input
from artray.config import Section, parse
from artray.errors import ConfigError
from artray.models import registry, trunks, weights
from artray.models.cards import Card, Input, Resize
from artray.retrieve.embedder import Floats, Image

CHANNELS: Final = 3
BATCH: Final = 16
"""Pictures that go through the network together on an accelerator."""

WHITE: Final = 255.0
"""Networks see pictures in [0, 1], which is what binary cross-entropy takes for chances."""

Reconstruction: TypeAlias = Literal["mse", "bce"]


class VaeSettings(Section):
    """The network; the defaults are those of the report's VAE (i).

    Args:
        filters: of the encoder's components, from the picture on; the decoder's are the same, backwards.
        kernel: side of every component's convolution.
        padding: of each, at every side.
        stride: of each.
        latent_maps: of mean and of log-variance; null for as many as the last component has filters.
    """

    filters: tuple[Annotated[int, Field(ge=1)], ...] = Field((16, 32, 64, 128, 256), min_length=1)
    kernel: int = Field(3, ge=1)
    padding: int = Field(1, ge=0)
    stride: int = Field(2, ge=1)
    latent_maps: int | None = Field(None, ge=1)

    @property
    def maps(self) -> int:
        """How many maps a latent has."""
        return self.latent_maps or self.filters[-1]

    def sides(self, size_px: int) -> tuple[int, ...]:
        """Side of the picture, and of the maps after each of the encoder's components.

        Raises:
            ValueError: a component leaves nothing.

        >>> VaeSettings().sides(64)
        (64, 32, 16, 8, 4, 2)
        >>> VaeSettings(padding=0, stride=1).sides(280)
        (280, 278, 276, 274, 272, 270)
        """
        sides = [size_px]
        for number in range(1, len(self.filters) + 1):
            sides.append((sides[-1] + 2 * self.padding - self.kernel) // self.stride + 1)
            if sides[-1] < 1:
                raise ValueError(f"size_px: expected more than {size_px}, of which component {number} leaves nothing")
        return tuple(sides)

    def skipped(self, size_px: int) -> tuple[int, ...]:
        """How many pixels of a side each component's stride leaves out.

        >>> VaeSettings().skipped(64), VaeSettings().skipped(280)
        ((1, 1, 1, 1, 1), (1, 1, 1, 0, 1))
        """
        return tuple((side + 2 * self.padding - self.kernel) % self.stride for side in self.sides(size_px)[:-1])

    def latent_shape(self, size_px: int) -> tuple[int, int, int]:
        """Maps, height and width of a latent.

        >>> VaeSettings().latent_shape(64)
        (256, 2, 2)
        >>> VaeSettings(filters=(16, 32, 64, 128, 16), padding=0, stride=1, latent_maps=1).latent_shape(280)
        (1, 270, 270)
        """
        side = self.sides(size_px)[-1]
        return self.maps, side, side


class Encoded(NamedTuple):
    """The normal distributions of N pictures, independent in every dimension."""

    mean: Tensor  # float[N, C, h, w]
    log_variance: Tensor  # float[N, C, h, w]


class Passed(NamedTuple):
    """N pictures after the whole network."""

    logits: Tensor  # float[N, 3, S, S]: of the reconstructed pictures' values in [0, 1]
    encoded: Encoded


def _component(convolution: nn.Module, maps: int) -> nn.Sequential:
    """A convolution without bias, which the batch norm has."""
    return nn.Sequential(convolution, nn.BatchNorm2d(maps), nn.LeakyReLU(inplace=True))


class Encoder(nn.Module):
    """Pictures to distributions: a component per filter, then mean and log-variance."""

    def __init__(self, cfg: VaeSettings) -> None:
        super().__init__()
        ends = itertools.pairwise((CHANNELS, *cfg.filters))
        self.components = nn.Sequential(
            *(
                _component(nn.Conv2d(before, after, cfg.kernel, cfg.stride, cfg.padding, bias=False), after)
                for before, after in ends
            )
        )
        self.mean = nn.Conv2d(cfg.filters[-1], cfg.maps, 1)
        self.log_variance = nn.Conv2d(cfg.filters[-1], cfg.maps, 1)

    def forward(self, pictures: Tensor) -> Encoded:
        """Of float[N, 3, S, S] in [0, 1]."""
        features = self.components(pictures)
        return Encoded(self.mean(features), self.log_variance(features))


class Decoder(nn.Module):
    """Latents to pictures: as many components, of which the last makes the picture."""

    def __init__(self, cfg: VaeSettings, size_px: int) -> None:
        super().__init__()
        self.expand = nn.Conv2d(cfg.maps, cfg.filters[-1], 1)
        ends = list(itertools.pairwise((*reversed(cfg.filters), CHANNELS)))
        # where a stride skipped the last pixels of a side, they are added again
        convolutions = [
            nn.ConvTranspose2d(*each, cfg.kernel, cfg.stride, cfg.padding, more, bias=each is ends[-1])
            for each, more in zip(ends, reversed(cfg.skipped(size_px)), strict=True)
        ]
        components = (_component(each, each.out_channels) for each in convolutions[:-1])
        self.components = nn.Sequential(*components, convolutions[-1])

    def forward(self, latents: Tensor) -> Tensor:
        """Logits float[N, 3, S, S] of latents float[N, C, h, w]."""
        logits: Tensor = self.components(self.expand(latents))
        return logits


class Vae(nn.Module):
    """Encoder and decoder.

    Args:
        cfg: the network's settings.
        size_px: S, the pictures' side.

    Raises:
        ValueError: a component leaves nothing of such pictures.
    """

    def __init__(self, cfg: VaeSettings, size_px: int) -> None:
        super().__init__()
        self.cfg, self.size_px, self.latent_shape = cfg, size_px, cfg.latent_shape(size_px)
        self.dim = math.prod(self.latent_shape)
        self.encoder, self.decoder = Encoder(cfg), Decoder(cfg, size_px)

    def forward(self, pictures: Tensor, noise: Tensor) -> Passed:
        """Of float[N, 3, S, S] in [0, 1], with standard normal noise float[N, C, h, w]."""
        encoded = self.encoder(pictures)
        return Passed(self.decoder(sampled(encoded, noise)), encoded)


def sampled(encoded: Encoded, noise: Tensor) -> Tensor:
    """Latents drawn from distributions, so that gradients reach these (section 2.4 of Kingma and Welling).

    Args:
        encoded: the distributions.
        noise: standard normal, float[N, C, h, w].
    """
    return encoded.mean + torch.exp(encoded.log_variance / 2) * noise


def kl_divergence(encoded: Encoded) -> Tensor:
    """Of each picture's distribution from N(0, 1), float[N] in nats, at least 0, summed over all dimensions.

    Source: Kingma and Welling, appendix B: of each dimension (mean^2 + variance - 1 - log variance) / 2.

    >>> kl_divergence(Encoded(torch.tensor([[2.0, 0.0]]), torch.zeros(1, 2))).tolist()
    [2.0]
    """
    mean, log_variance = encoded
    parts = (mean.square() + log_variance.exp() - 1 - log_variance) / 2
    return parts.flatten(1).sum(dim=1)


def squared_error(logits: Tensor, pictures: Tensor) -> Tensor:
    """Mean squared error of each picture, float[N] in [0, 1].

    Args:
        logits: of the reconstructions, float[N, ...].
        pictures: float[N, ...] in [0, 1].
    """
    return (torch.sigmoid(logits) - pictures).square().flatten(1).mean(dim=1)


def cross_entropy(logits: Tensor, pictures: Tensor) -> Tensor:
    """Mean binary cross-entropy of each picture, float[N] in nats; 0 only where all values are 0 or 1, and met.

    Args:
        logits: of the reconstructions, float[N, ...].
        pictures: float[N, ...] in [0, 1].
    """
    losses = functional.binary_cross_entropy_with_logits(logits, pictures, reduction="none")
    return losses.flatten(1).mean(dim=1)


RECONSTRUCTIONS: Final[Mapping[Reconstruction, Callable[[Tensor, Tensor], Tensor]]] = MappingProxyType(
    {"mse": squared_error, "bce": cross_entropy}
)


def picture_input(size_px: int, resize: Resize = "centre_crop") -> Input:
    """How a picture becomes a network's input in [0, 1]. Section 5.1: resized and centre-cropped."""
    return Input(size_px=size_px, mean=(0, 0, 0), std=(WHITE, WHITE, WHITE), resize=resize)


def load(card: Card) -> tuple[Vae, Input]:
    """The network that a card describes, on the CPU, in evaluation mode, and its input.

    Its weights have the role ``model``.

    Raises:
        ConfigError: the card lacks its weights or its input, has a setting that is none, or they do not fit.
        TransientError: its weights cannot be reached.
    """
    owner = f"card {card.name}"
    if set(card.weights) != {"model"} or card.input is None:
        raise ConfigError(f"{owner}: expected an input, and weights of the role model, got {', '.join(card.weights)}")
    if (card.input.mean, card.input.std) != ((0, 0, 0), (WHITE, WHITE, WHITE)):
        raise ConfigError(f"{owner}: input: expected mean 0 and std 255, for values in [0, 1]")
    try:
        vae = Vae(parse(VaeSettings, card.settings, where=f"{owner}: settings"), card.input.size_px)
    except ValueError as error:
        raise ConfigError(f"{owner}: input: {error}") from error
    if vae.dim != card.embedding_dim:
        raise ConfigError(f"{owner}: embedding_dim: expected {vae.dim}, got {card.embedding_dim}")
    try:
        vae.load_state_dict(weights.read_tensors(weights.fetch(card.weights["model"], owner)))
    except RuntimeError as error:
        told = " ".join(str(error).split())[:200]
        raise ConfigError(f"{owner}: weights: expected those of its settings: {told}") from error
    return vae.eval(), card.input


class VaeEmbedder:
    """The mean of a picture's latent. Source: report, section 4.1.

    On a CPU pictures go through the encoder one at a time, so that an embedding does not depend, not by one bit, on the
    other pictures of the call.

    Args:
        vae: on the CPU, in evaluation mode; its encoder is taken over.
        spec: its input.
        device: "cpu", "cuda" or "cuda:N".
    """

    def __init__(self, vae: Vae, spec: Input, device: str = "cpu") -> None:
        self.dim, self.spec, self.device = vae.dim, spec, torch.device(device)
        self._together = 1 if self.device.type == "cpu" else BATCH
        self._encoder: Any = trunks.fuse(vae.encoder).to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def __call__(self, images: Sequence[Image]) -> Floats:
        """float32[N, D] of N images uint8[H, W, 3] RGB of any sizes; N may be 0.

        Raises:
            ValueError: an image is not uint8[H, W, 3], or its embedding is not finite.
        """
        parts = [self._means(images[start : start + self._together]) for start in range(0, len(images), self._together)]
        return np.concatenate([np.zeros((0, self.dim), np.float32), *parts])

    def _means(self, images: Sequence[Image]) -> Floats:
        """The embeddings of some images that go through the encoder together."""
        squares = np.stack([to_input(image, self.spec) for image in images])
        with torch.inference_mode():
            # channels innermost already: the permutation moves nothing
            encoded = self._encoder(torch.from_numpy(squares).to(self.device).permute(0, 3, 1, 2))
            means: Floats = encoded.mean.flatten(1).float().cpu().numpy()
        if not np.isfinite(means).all():
            raise ValueError("embedding: expected a latent that is finite")
        return means


@registry.register("vae", task="retrieve")
def build(card: Card, device: str) -> VaeEmbedder:
    """The method that a card describes.

    Raises:
        ConfigError: see :func:`load`.
        TransientError: its weights cannot be reached.
    """
    return VaeEmbedder(*load(card), device)
