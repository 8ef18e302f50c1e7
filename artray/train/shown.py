"""Sections of a training's profile: what an epoch shows of a picture, crops and augmentations."""

from typing import Annotated, Literal, TypeAlias

from pydantic import AfterValidator, Field, model_validator

from artray.config import Section


def _ordered(values: tuple[float, float]) -> tuple[float, float]:
    if values[0] > values[1]:
        raise ValueError(f"expected the smaller number first, got {values[0]:g}, {values[1]:g}")
    return values


def _positive(values: tuple[float, float]) -> tuple[float, float]:
    if values[0] <= 0:
        raise ValueError(f"expected numbers above 0, got {values[0]:g}")
    return _ordered(values)


Fraction: TypeAlias = Annotated[float, Field(ge=0, le=1)]
Range: TypeAlias = Annotated[tuple[float, float], AfterValidator(_ordered)]
"""From a number to one that is not smaller."""

Scale: TypeAlias = Annotated[tuple[float, float], AfterValidator(_positive)]
"""Likewise, both above 0."""


class Flip(Section):
    """Mirrored left to right. Defaults: torchvision's, as in the report's Table 3."""

    name: Literal["horizontal_flip"]
    p: Fraction = 0.5


class Perspective(Section):
    """Seen from aside. Defaults: torchvision's, as in Table 3."""

    name: Literal["perspective"]
    distortion_scale: Fraction = 0.5
    p: Fraction = 0.5


class Rotation(Section):
    """Turned by any angle up to so many degrees. Default: Table 3."""

    name: Literal["rotation"]
    degrees: float = Field(360.0, ge=0, le=360)


class Affine(Section):
    """Turned, moved, scaled and sheared, bicubic. Defaults: Table 3."""

    name: Literal["affine"]
    degrees: Range = (0.0, 40.0)
    translate: tuple[Fraction, Fraction] = (0.0, 0.4)
    scale: Scale = (0.6, 1.4)
    shear: float = Field(0.2, ge=0, le=90)


class ColourJitter(Section):
    """Brightness, contrast, saturation and hue varied. Defaults: Table 3."""

    name: Literal["colour_jitter"]
    brightness: float = Field(0.5, ge=0)
    contrast: float = Field(0.5, ge=0)
    saturation: float = Field(0.5, ge=0)
    hue: float = Field(0.1, ge=0, le=0.5)


class Grey(Section):
    """Without its colours. Table 3 converts every picture (p 1), Table 9 one in ten (torchvision's default)."""

    name: Literal["grey"]
    p: Fraction = 1.0


class Tone(Section):
    """Without its colours, on tinted paper and in a tinted ink, as sepia photographs and chalk drawings are.

    With ``grey`` before it, neither colours nor their absence tell what a work is. Not in the report.

    Args:
        saturation: of paper and ink, at most.
    """

    name: Literal["tone"]
    saturation: Fraction = 0.5
    p: Fraction = 0.2


class Blur(Section):
    """A Gaussian blur; section 4.2 names it without parameters, these are torchvision's for the standard deviation."""

    name: Literal["blur"]
    kernel_px: int = Field(5, ge=3)
    sigma: Scale = (0.1, 2.0)
    p: Fraction = 0.5


class RandAugment(Section):
    """So many of fourteen operations, chosen by lot. Source: Cubuk et al. (2020); not in the report."""

    name: Literal["rand_augment"]
    operations: int = Field(2, ge=1)
    magnitude: int = Field(9, ge=0, le=30)


Augmentation: TypeAlias = Annotated[
    Flip | Perspective | Rotation | Affine | ColourJitter | Grey | Tone | Blur | RandAugment,
    Field(discriminator="name"),
]


class CropConfig(Section):
    """How training cuts a square of the network's input out of a picture.

    Args:
        kind: ``none`` takes the picture as the card does (squashed, centre-cropped or letterboxed); ``centre`` and
            ``random`` cut a square of the input's size out of the picture resized to ``resize_px``;
            ``random_borderless`` does so after 20 pixels were taken off every side; ``random_resized`` cuts a
            rectangle of any size and makes a square of it.
        size_px: the side of the square that is trained on; null for the input's. Smaller than that trains faster, and a
            random_resized crop shows things larger than the pipeline does, which this makes up for. Source: Touvron et
            al., Fixing the train-test resolution discrepancy (2019); not in the report.
        resize_px: the edge that is made so long first; null for the square's side, of random_resized for not at all.
        edge: which one, ``shorter`` or ``longer``. Table 3 says the longer one, to which torchvision's crops do not
            apply without padding: pictures are padded with black then.
        scale: of ``random_resized``, the part of the area that is cut out.
        ratio: of ``random_resized``, width by height of what is cut out.
    """

    kind: Literal["none", "centre", "random", "random_borderless", "random_resized"] = "none"
    size_px: int | None = Field(None, ge=16)
    resize_px: int | None = Field(None, ge=16)
    edge: Literal["shorter", "longer"] = "shorter"
    scale: Scale = (0.08, 1.0)
    ratio: Scale = (3 / 4, 4 / 3)

    @model_validator(mode="after")
    def _consistent(self) -> "CropConfig":
        if self.kind == "random_resized" and self.edge == "longer" and self.resize_px is None:
            raise ValueError("edge: expected resize_px, too, with random_resized, which else resizes nothing first")
        return self
