"""What a variational autoencoder keeps of a picture, and what its latent's axes mean: pictures to be looked at.

Source: report, Image Retrieval, section 7.1, Figures 7 (reconstructions) and 8 (a walk through the latent).
"""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import torch
from torch import Tensor

from artray.classify.inputs import resize, square, to_input
from artray.errors import ConfigError
from artray.models.cards import Card, Input
from artray.retrieve import vae as networks
from artray.retrieve.embedder import Image
from artray.retrieve.vae import WHITE, Vae
from artray.store.sheet import CELL_PX, COLUMNS, Cell

STEPS: Final = tuple(np.linspace(0, 2.7, 2 * COLUMNS).round(1).tolist())
"""How far a walk goes, in standard deviations of N(0, 1): two rows of a sheet."""


class Autoencoder:
    """A network that codes and decodes pictures.

    Args:
        vae: in evaluation mode, on the CPU.
        spec: its input.
    """

    def __init__(self, vae: Vae, spec: Input) -> None:
        self.vae, self.spec = vae, spec

    @classmethod
    def of(cls, card: Card) -> "Autoencoder":
        """That of a card.

        Raises:
            ConfigError: the card is not of the architecture vae, or its weights are not its own.
            TransientError: they cannot be reached.
        """
        if card.architecture != "vae":
            raise ConfigError(f"card {card.name}: architecture: expected vae, got {card.architecture}")
        return cls(*networks.load(card))

    def encode(self, image: Image) -> Tensor:
        """The mean of a picture's latent, float32[1, C, h, w], of uint8[H, W, 3]."""
        picture = torch.from_numpy(to_input(image, self.spec)).permute(2, 0, 1)[None]
        with torch.no_grad():
            mean: Tensor = self.vae.encoder(picture).mean
        return mean

    def decode(self, latent: Tensor) -> Image:
        """uint8[S, S, 3] of a latent float32[1, C, h, w]."""
        with torch.no_grad():
            values = torch.sigmoid(self.vae.decoder(latent))[0].permute(1, 2, 0) * WHITE
        picture: Image = values.round().to(torch.uint8).numpy()
        return picture


def reconstructions(models: Mapping[str, Autoencoder], images: Sequence[Image]) -> list[Cell]:
    """Pictures, and below them what each network makes of the mean of their latents. Source: Figure 7.

    Args:
        models: by the names that the rows get.
        images: uint8[H, W, 3] each; as many as a sheet has columns, further ones are left out.

    Returns:
        Cells of artray.store.sheet: a row of pictures as the first network sees them, and one per network.
    """
    shown = images[:COLUMNS]
    first = next(iter(models.values()), None)
    rows = [("input", [image if first is None else square(image, first.spec) for image in shown])]
    rows += [(name, [model.decode(model.encode(image)) for image in shown]) for name, model in models.items()]
    empty = [Cell(None, ("", ""))] * (COLUMNS - len(shown))
    return [cell for name, row in rows for cell in [*(_cell(picture, name) for picture in row), *empty]]


def walk(model: Autoencoder, image: Image, steps: Sequence[float] = STEPS, axis: int | None = None) -> list[Cell]:
    """What becomes of a picture while its latent grows. Source: section 7.1 and Figure 8.

    Args:
        model: the network.
        image: uint8[H, W, 3], where the walk begins.
        steps: what is added to the latent's mean, in standard deviations of N(0, 1).
        axis: the dimension that it is added to, in [0, D); None adds it to all, as the report did.

    Returns:
        Cells of artray.store.sheet, one per step.

    Raises:
        ConfigError: no such dimension.
    """
    direction = _direction(model.vae, axis)
    start, name = model.encode(image), "all dimensions" if axis is None else f"dimension {axis}"
    return [_cell(model.decode(start + step * direction), name, f"{step:+g}") for step in steps]


def widest_axis(model: Autoencoder, images: Sequence[Image]) -> int:
    """The dimension of the latent whose mean differs most among pictures: the one that says most of them.

    Raises:
        ValueError: no picture is given.
    """
    if not len(images):
        raise ValueError("images: expected at least one, got none")
    means = torch.cat([model.encode(image).flatten(1) for image in images])
    return int(means.var(dim=0, correction=0).argmax())


def _direction(vae: Vae, axis: int | None) -> Tensor:
    """float32[1, C, h, w]: 1 in each dimension that grows, else 0."""
    if axis is None:
        return torch.ones(1, *vae.latent_shape)
    if not 0 <= axis < vae.dim:
        raise ConfigError(f"axis: expected a dimension in [0, {vae.dim}), got {axis}")
    direction = torch.zeros(vae.dim)
    direction[axis] = 1
    return direction.reshape(1, *vae.latent_shape)


def _cell(picture: Image, upper: str, lower: str = "") -> Cell:
    """A picture that fills its cell, however small it is."""
    side = max(picture.shape[:2])
    scale = max(1.0, CELL_PX / side)
    height, width = (round(scale * each) for each in picture.shape[:2])
    return Cell(resize(picture, width, height), (upper, lower))
