"""What a training knows of a retrieval method that is learned at once, without epochs.

A vocabulary of visual words by k-means is such a method; so is whitening by the principal components of another
method's embeddings. What is learned in epochs, as a variational autoencoder is, is a :class:`artray.train.loop.Loop`.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, Protocol

from torch import Tensor

from artray.train.transforms import Image


class Learner(Protocol):
    """A method that is learned at once; it looks at the pictures as often as it likes."""

    def learn(self, pictures: Sequence[Image], settings: Any) -> Mapping[str, Tensor]:
        """What the method needs to embed pictures, as its card's file of weights (role ``model``) has it.

        Args:
            pictures: uint8[H, W, 3] RGB each, N of them in an order by lot, of the training part; each is read when it
                is asked for, so ``pictures[:n]`` is a sample that costs no more than it is.
            settings: the profile's section ``method``.

        Raises:
            ConfigError: too few pictures to learn from, or settings that do not go together.
        """

    def described(self, settings: Any, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
        """What the card says of it: architecture, settings, embedding_dim and metric; input where it has one."""


LEARNERS: Final[Mapping[str, Learner]] = MappingProxyType({})
"""Name of the section ``method`` to what learns it; names that are not here are learned in epochs."""
