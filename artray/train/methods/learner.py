"""What a training knows of a retrieval method that is learned at once, without epochs.

A vocabulary of visual words by k-means is such a method, and so is the whitening of another method's embeddings. What
is learned in epochs, as a variational autoencoder is, is a :class:`artray.train.loop.Loop`.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, Protocol

import torch
from torch import Tensor

from artray.errors import ConfigError
from artray.models import cards, registry
from artray.models.cards import Card
from artray.retrieve import embedder, visual_words, vocabulary, whitened
from artray.train.methods.profile import VisualWordsConfig, WhiteningConfig
from artray.train.transforms import Image


class Learner(Protocol):
    """A method that is learned at once; it looks at the pictures as often as it likes."""

    role: str
    """Of its card's file of weights."""

    def check(self, settings: Any) -> None:
        """Find out before any picture is read what can be.

        Raises:
            ConfigError: settings that nothing can be learned with.
        """

    def learn(self, pictures: Sequence[Image], settings: Any, device: str = "cpu") -> Mapping[str, Tensor]:
        """What the method needs to embed pictures, as its card's file of weights has it.

        Args:
            pictures: uint8[H, W, 3] RGB each, N of them in an order by lot, of the training part; each is read when it
                is asked for, so ``pictures[:n]`` is a sample that costs no more than it is.
            settings: the profile's section ``method``.
            device: where networks run, if there are any.

        Raises:
            ConfigError: too few pictures to learn from, or settings that do not go together.
        """

    def described(self, settings: Any, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
        """What the card says of it: architecture, settings, embedding_dim and metric; more where there is more."""


class VisualWords:
    """A vocabulary by k-means. Source: report, Image Retrieval, section 5.2."""

    role = visual_words.ROLE

    def check(self, settings: VisualWordsConfig) -> None:
        """See :meth:`Learner.check`; the settings say it all."""

    def learn(
        self,
        pictures: Sequence[Image],
        settings: VisualWordsConfig,
        device: str = "cpu",  # noqa: ARG002 - words are found on the processor
    ) -> dict[str, Tensor]:
        """See :meth:`Learner.learn`."""
        words, idf = vocabulary.learn(pictures, settings), None
        if settings.weighting == "tfidf":
            idf = vocabulary.inverse_frequencies(pictures, words, settings.regions)
        return {name: torch.from_numpy(array) for name, array in vocabulary.arrays(words, idf).items()}

    def described(self, settings: VisualWordsConfig, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
        """See :meth:`Learner.described`."""
        kept = visual_words.Settings(weighting=settings.weighting, **settings.regions.model_dump())
        return {
            "architecture": "visual_words",
            "settings": kept.model_dump(mode="json"),
            "embedding_dim": len(tensors[vocabulary.WORDS]),
            "metric": "chi_square",
        }


class Whitened:
    """Another method's embeddings, whitened. Source: Jegou and Chum (2012)."""

    role = whitened.ROLE

    def check(self, settings: WhiteningConfig) -> None:
        """See :meth:`Learner.check`."""
        width = _embedder_card(settings).embedding_dim or 0
        whitened.check_axes(width, settings.dim)
        if settings.sample <= (axes := settings.dim or width):
            raise ConfigError(
                f"method.sample: expected more than {axes:,} pictures for as many axes, got {settings.sample:,}; "
                "raise it, or set method.dim"
            )

    def learn(self, pictures: Sequence[Image], settings: WhiteningConfig, device: str = "cpu") -> dict[str, Tensor]:
        """See :meth:`Learner.learn`."""
        method = embedder.build(_embedder_card(settings), device)
        sample = whitened.sampled(pictures, method, settings.sample)
        found = whitened.learned(sample, settings.dim, settings.shrinkage)
        return {name: torch.from_numpy(array) for name, array in whitened.arrays(found).items()}

    def described(self, settings: WhiteningConfig, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
        """See :meth:`Learner.described`."""
        card = _embedder_card(settings)
        kept = whitened.Settings(card=settings.card, fingerprint=card.fingerprint())
        return {
            "architecture": "whitened",
            "settings": kept.model_dump(mode="json"),
            "embedding_dim": len(tensors[whitened.COMPONENTS]),
            "metric": "cosine",
            "licence": f"that of your pictures, and of {card.name}",
            "source": f"whitening by artray of what {card.name} says",
        }


def _embedder_card(settings: WhiteningConfig) -> Card:
    """The card whose embeddings are whitened.

    Raises:
        ConfigError: it is none, or yields no embedding.
    """
    try:
        card = cards.load(settings.card)
        cards.check_embedder(card)
        registry.check_architecture(card)
    except ConfigError as error:
        raise ConfigError(f"method.card: {error}") from error
    return card


LEARNERS: Final[Mapping[str, Learner]] = MappingProxyType({"visual_words": VisualWords(), "whitening": Whitened()})
"""Name of the section ``method`` to what learns it; names that are not here are learned in epochs."""
