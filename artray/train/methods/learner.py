"""What a training knows of a retrieval method that is learned at once, without epochs.

A vocabulary of visual words by k-means is such a method; so would be principal components of another method's
embeddings. What is learned in epochs, as a variational autoencoder is, is a :class:`artray.train.loop.Loop`.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, Protocol

import torch
from torch import Tensor

from artray.retrieve import visual_words, vocabulary
from artray.train.methods.profile import VisualWordsConfig
from artray.train.transforms import Image


class Learner(Protocol):
    """A method that is learned at once; it looks at the pictures as often as it likes."""

    role: str
    """Of its card's file of weights."""

    def learn(self, pictures: Sequence[Image], settings: Any) -> Mapping[str, Tensor]:
        """What the method needs to embed pictures, as its card's file of weights has it.

        Args:
            pictures: uint8[H, W, 3] RGB each, N of them in an order by lot, of the training part; each is read when it
                is asked for, so ``pictures[:n]`` is a sample that costs no more than it is.
            settings: the profile's section ``method``.

        Raises:
            ConfigError: too few pictures to learn from, or settings that do not go together.
        """

    def described(self, settings: Any, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
        """What the card says of it: architecture, settings, embedding_dim and metric; input where it has one."""


class VisualWords:
    """A vocabulary by k-means. Source: report, Image Retrieval, section 5.2."""

    role = visual_words.ROLE

    def learn(self, pictures: Sequence[Image], settings: VisualWordsConfig) -> dict[str, Tensor]:
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


LEARNERS: Final[Mapping[str, Learner]] = MappingProxyType({"visual_words": VisualWords()})
"""Name of the section ``method`` to what learns it; names that are not here are learned in epochs."""
