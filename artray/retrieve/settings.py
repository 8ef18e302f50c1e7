"""What the co-occurrence filter is, as profiles and cards have it; imports no deep-learning library."""

from typing import Literal

from pydantic import Field, field_validator

from artray.config import Section


class CooccurrenceConfig(Section):
    """The filter between a stage of a trunk and what is made of it; see artray.retrieve.cooccurrence.

    Args:
        stage: whose activations A it sees: those of the trunk's ``last`` stage or of the ``second_last``. Report,
            section 5.4: both were tried.
        window: the side of the window around a place in which activations co-occur; odd. Forcen et al. speak of its
            radius, (window - 1) / 2.
        threshold: activations that are not above an image's ``mean`` do not co-occur; or ``none``. Source: Forcen et
            al.
        filter: what it is before it is trained, or without training. ``identity``: every channel with itself, C is the
            sum of the window's activations, channel by channel. ``direct``: every channel with all others and not with
            itself, C is the mean over these of their means in the window, the untrained filter of Forcen et al.
    """

    stage: Literal["last", "second_last"] = "last"
    window: int = Field(3, ge=1, le=31)
    threshold: Literal["mean", "none"] = "mean"
    filter: Literal["identity", "direct"] = "identity"

    @field_validator("window")
    @classmethod
    def _has_middle(cls, window: int) -> int:
        if window % 2 == 0:
            raise ValueError(f"expected an odd number, got {window}")
        return window


class Settings(CooccurrenceConfig):
    """``settings`` of a card of architecture ``cooccurrence``.

    Args:
        trunk: its architecture; see artray.models.trunks.
        compact: ``full`` keeps all D x D values of the descriptor, ``tensor_sketch`` sketches it in as many as the
            card's embedding_dim, ``pca`` projects it on as many components that were learned.
        seed: of the tensor sketch.
        power: exponent of the descriptor's values, their signs kept: 1 for none, 0.5 for signed roots.
        unit: the descriptor is scaled to unit norm, and so is what ``pca`` makes of it. Source: Forcen et al.: "L2 norm
            followed by PCA and another L2", which the report left out.
    """

    trunk: str = Field(min_length=1)
    compact: Literal["full", "tensor_sketch", "pca"] = "full"
    seed: int = Field(0, ge=0)
    power: float = Field(1.0, gt=0, le=1)
    unit: bool = False
