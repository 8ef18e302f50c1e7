"""What another method says, whitened: what most pictures have in common is taken off, and every axis counts alike.

Source: Jegou and Chum (2012), Negative evidences and co-occurences in image retrieval: the case for using PCA and
whitening; see artray.retrieve.whitening. Not in the report but for the components of Forcen et al. (section 4.4).
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import numpy as np
from pydantic import Field

from artray.config import Section, parse
from artray.errors import ConfigError, RowError
from artray.models import cards, registry, weights
from artray.models.attempt import attempt
from artray.models.cards import Card
from artray.retrieve import embedder
from artray.retrieve.embedder import Floats, Image, ImageEmbedder
from artray.retrieve.whitening import Whitening, learn_whitening, whiten

ROLE: Final = "whitening"
MEAN: Final = "mean"
COMPONENTS: Final = "components"
"""The file of weights, and its arrays."""

BATCH: Final = 32
"""So many pictures are in memory at once while a whitening is learned."""

MAX_DIM: Final = 8_192
"""Longer embeddings are not whitened: finding their axes takes memory by the square of it, and time by the cube."""


class Settings(Section):
    """What is whitened: ``settings`` of a ``whitened`` card.

    Args:
        card: name or file of a card that yields an embedding.
        fingerprint: of the card as it was: axes that were learned of one model are none of another's.
    """

    card: str
    fingerprint: str | None = Field(None, pattern=r"^[0-9a-f]{12}$")


class Whitened:
    """A method and the whitening of what it says.

    Args:
        method: that yields embeddings of D values.
        whitening: with K components of D values.
    """

    def __init__(self, method: ImageEmbedder, whitening: Whitening) -> None:
        self.method, self.whitening, self.dim = method, whitening, len(whitening.components)

    def __call__(self, images: Sequence[Image]) -> Floats:
        """float32[N, K], of any norm: only the direction counts; all zero of a picture that is the sample's mean.

        Args:
            images: N of uint8[H, W, 3] RGB, of any sizes; N may be 0.

        Raises:
            ValueError: as of the method that is whitened.
        """
        found = np.empty((len(images), self.dim), np.float32)
        for row, said in zip(found, self.method(images), strict=True):
            row[:] = whiten(said[None], self.whitening, scaled=False)[0]  # alone: the same bits whatever is beside it
        return found


def sampled(pictures: Sequence[Image], method: ImageEmbedder, most: int) -> Floats:
    """Embeddings float32[N, D] of the first pictures, which are read some at a time; those without one are left out.

    Args:
        pictures: uint8[H, W, 3] RGB each, in an order by lot; a slice of them is read when it is asked for.
        method: whose embeddings.
        most: so many pictures are looked at, at most.

    Raises:
        ConfigError: none has one; says why the last has not.
        TransientError: the method's device is lost.
    """
    rows, why = list[Floats](), "there are none"
    for part in _parts(pictures, most):
        for found in attempt(lambda images: list(method(images)), part):
            if isinstance(found, RowError):
                why = str(found)
            else:
                rows.append(found)
    if not rows:
        raise ConfigError(f"pictures: expected some that have an embedding, got none: {why}")
    return np.stack(rows)


def _parts(pictures: Sequence[Image], most: int) -> Iterator[Sequence[Image]]:
    for start in range(0, min(most, len(pictures)), BATCH):
        yield pictures[start : min(start + BATCH, most)]


def learned(sample: Floats, dim: int | None, shrinkage: float) -> Whitening:
    """The whitening of a sample float32[N, D] along ``dim`` axes, or along all of its D.

    N embeddings vary along N - 1 axes at most; all further ones would be of no picture.

    Raises:
        ConfigError: the sample is too small for these axes, does not vary along them, or is too wide.
    """
    count, width = sample.shape
    axes = width if dim is None else dim
    check_axes(width, dim)
    if count <= axes:
        raise ConfigError(
            f"pictures: expected at least {axes + 1:,} with an embedding for {axes:,} axes, got {count:,}; give more "
            f"pictures (and raise method.sample), or set method.dim to {max(count - 1, 1):,} or less"
        )
    try:
        return learn_whitening(sample, dim, shrinkage)
    except ValueError as error:
        raise ConfigError(f"whitening: {error}; give other pictures, or set another method.dim") from error


def check_axes(width: int, dim: int | None) -> None:
    """Make sure that embeddings of ``width`` values can be whitened along ``dim`` axes.

    Raises:
        ConfigError: they are too long, or have fewer axes.
    """
    if width > MAX_DIM:
        raise ConfigError(f"method.card: expected embeddings of at most {MAX_DIM:,} values, got {width:,}")
    if dim is not None and dim > width:
        raise ConfigError(f"method.dim: expected at most {width:,}, the embedding's length, got {dim:,}")


def arrays(whitening: Whitening) -> dict[str, Floats]:
    """What a card's weights ``whitening`` hold: ``safetensors.numpy.save_file`` writes it."""
    # safetensors writes memory as it lies
    return {MEAN: whitening.mean, COMPONENTS: np.ascontiguousarray(whitening.components)}


@registry.register("whitened", task="retrieve")
def from_card(card: Card, device: str) -> Whitened:
    """The method that a card describes; its weights have the role ``whitening``: ``mean`` and ``components``.

    Raises:
        ConfigError: an unknown setting or card, one that has changed, another metric than cosine, or weights that do
            not fit it.
        TransientError: weights cannot be reached.
    """
    owner = f"card {card.name}"
    settings = parse(Settings, card.settings, where=f"{owner}: settings")
    if set(card.weights) != {ROLE} or card.metric != "cosine":
        raise ConfigError(
            f"{owner}: expected weights of the role {ROLE} and metric: cosine, got "
            f"{', '.join(card.weights) or 'none'} and {card.metric}"
        )
    inner = _inner(settings, owner)
    said = weights.read_arrays(weights.fetch(card.weights[ROLE], owner))
    whitening = _whitening(card, inner, said)
    try:
        return Whitened(embedder.build(inner, device), whitening)
    except ConfigError as error:
        raise ConfigError(f"{owner}: {error}") from error


def _inner(settings: Settings, owner: str) -> Card:
    """The card whose embeddings are whitened, if it is still the one that they were learned of."""
    try:
        inner = cards.load(settings.card)
        cards.check_embedder(inner)
    except ConfigError as error:
        raise ConfigError(f"{owner}: settings: {error}") from error
    remedy = "the axes of one model are none of another: learn them anew, under another name"
    cards.check_unchanged(inner, settings.fingerprint, f"{owner}: settings", remedy)
    return inner


def _whitening(card: Card, inner: Card, said: Mapping[str, Floats]) -> Whitening:
    """The card's whitening, if it is one of the other card's embeddings."""
    axes, width = card.embedding_dim, inner.embedding_dim
    mean, components = (said.get(name, np.zeros(0, np.float32)) for name in (MEAN, COMPONENTS))
    finite = np.isfinite(mean).all() and np.isfinite(components).all()
    if mean.shape != (width,) or components.shape != (axes, width) or not finite:
        raise ConfigError(
            f"card {card.name}: weights: expected finite {MEAN} [{width}] and {COMPONENTS} [{axes}, {width}], as the "
            f"embedding_dim of {inner.name} and of this card are, got {list(mean.shape)} and {list(components.shape)}"
        )
    return Whitening(mean, components)
