"""What a retrieval method's training is made with: one YAML profile, told from others by its section ``method``.

Sections in comments are those of the report's chapter Image Retrieval.
"""

from typing import Annotated, ClassVar, Final, Literal, TypeAlias

from pydantic import Field, model_validator

from artray.config import Section
from artray.models.cards import Resize
from artray.retrieve.vae import Reconstruction, VaeSettings
from artray.retrieve.vocabulary import VocabularySettings
from artray.train.profile import CLASSES, Source, Task, check_titles
from artray.train.settings import EpochsConfig, OptimiserConfig, WorkersConfig
from artray.train.shown import Augmentation, CropConfig, Fraction

CHOSEN_BY: Final = "negative loss"
"""The metric that chooses the epoch: the least loss over validation."""


class MethodData(Section):
    """Which pictures are learned from; they need no labels.

    Args:
        sources: the sets; pictures in several of them count once. Of a plain folder, ``kind`` is ``folder``.
        val: the part of the pictures that validation takes where a set does not say, by hash of the work.
        test: likewise for the test.
        short_side_px: the cache keeps pictures with a shorter side of so many pixels.
        cache: a folder for these, which all workers should reach; null for the user's cache.
        near_bits: works whose perceptual hashes differ in at most so many of 64 bits are near-duplicates, which are
            never on two sides of a split; null trusts what the sets say of duplicates.
    """

    embeddings: ClassVar[None] = None
    """Of no store: pictures are learned from."""

    sources: tuple[Source, ...] = Field(min_length=1)
    val: Fraction = 0.15
    test: Fraction = 0.15
    short_side_px: int = Field(400, ge=32)
    cache: str | None = None
    near_bits: int | None = Field(8, ge=0, le=16)

    @model_validator(mode="after")
    def _some_left(self) -> "MethodData":
        if self.val + self.test >= 1:
            raise ValueError(f"val and test: expected less than 1 together, got {self.val + self.test:g}")
        check_titles([source.title for source in self.sources])
        return self


class VaeConfig(VaeSettings):
    """A variational autoencoder; the defaults are those of VAE (i). Table 1; see artray.retrieve.vae.

    Args:
        size_px: side of the pictures.
        resize: how a picture becomes a square. Section 5.1: resized and centre-cropped.
        reconstruction: ``mse`` of (i), or ``bce``, binary cross-entropy, of (ii) and (iii); the mean over all values,
            as torch has it.
        reconstruction_weight: alpha, of the reconstruction's loss. (i) 10, (ii) 10,000, (iii) 1.
        kl: whether the divergence is the ``mean`` over the latent's dimensions or their ``sum``. The report does not
            say; beside means over pixels, sums leave latents of (i) and (iii) that say nothing of a picture.
    """

    name: Literal["vae"]
    size_px: int = Field(64, ge=32, le=2048)
    resize: Resize = "centre_crop"
    reconstruction: Reconstruction = "mse"
    reconstruction_weight: float = Field(10.0, gt=0)
    kl: Literal["mean", "sum"] = "mean"

    @model_validator(mode="after")
    def _something_left(self) -> "VaeConfig":
        self.sides(self.size_px)
        return self


class VisualWordsConfig(VocabularySettings):
    """A bag of visual words; the defaults are the report's. Section 5.2; see artray.retrieve.vocabulary.

    Args:
        weighting: ``counts`` of words, as in the report; ``tfidf`` weighs them by how telling they are.
    """

    name: Literal["visual_words"]
    weighting: Literal["counts", "tfidf"] = "counts"


class WhiteningConfig(Section):
    """Another method's embeddings, whitened; see artray.retrieve.whitened. Not in the report.

    Args:
        card: name or file of the card that yields these.
        dim: axes that are kept, those along which the pictures differ most; null for as many as the embedding has
            values, but none along which they do not differ at all.
        shrinkage: how far variances are drawn to their mean: 0, all axes count alike; 1, as they are.
        sample: so many pictures are looked at, at most; more of them than axes.
    """

    name: Literal["whitening"]
    card: str = Field("efficientnet-lite2-art", min_length=1)
    dim: int | None = Field(None, ge=1)
    shrinkage: float = Field(0.1, ge=0, le=1)
    sample: int = Field(20_000, ge=2)


Method: TypeAlias = Annotated[VaeConfig | VisualWordsConfig | WhiteningConfig, Field(discriminator="name")]
"""What can be learned."""


class MethodEpochs(EpochsConfig):
    """How long is trained, and what is kept; the epoch of the least loss over validation is chosen."""

    batch_size: int = Field(64, ge=1)

    @model_validator(mode="after")
    def _no_labels(self) -> "MethodEpochs":
        if self.choose_by is not None:
            raise ValueError(f"choose_by: expected null, for the least loss is chosen, got {self.choose_by!r}")
        if self.mixup:
            raise ValueError(f"mixup: expected 0: pictures are not mixed, got {self.mixup:g}")
        return self


class MethodProfile(Section):
    """Everything a retrieval method's training is made with.

    A variational autoencoder is convolutions alone, so it may be trained on smaller squares than it embeds
    (``crop.size_px``): random crops of the picture in its size show it the same values. Not in the report.

    Args:
        name: of the card that comes out of it.
    """

    heads: ClassVar[tuple[Task, ...]] = ()
    """No labels are learned."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")
    data: MethodData
    method: Method
    crop: CropConfig = CropConfig()
    augment: tuple[Augmentation, ...] = ()
    optimiser: OptimiserConfig = OptimiserConfig(lr=1e-3)
    training: MethodEpochs = MethodEpochs()
    workers: WorkersConfig = WorkersConfig()

    @model_validator(mode="after")
    def _consistent(self) -> "MethodProfile":
        if isinstance(self.method, VaeConfig):
            self._check_crop(self.method)
        else:
            self._check_nothing_of_epochs()
        self.workers.check(self.training)
        if self.workers.cuda_graph:
            raise ValueError("workers.cuda_graph: expected false: only a classifier's passes are recorded")
        return self

    def _check_crop(self, method: VaeConfig) -> None:
        """Raises ValueError where crops are of another kind than whole pictures."""
        side_px = self.crop.size_px or method.size_px
        if method.skipped(side_px) != method.skipped(method.size_px):
            raise ValueError(
                f"crop.size_px: expected a side of which strides leave out what they do of {method.size_px}, "
                f"got {side_px}"
            )

    def _check_nothing_of_epochs(self) -> None:
        """Raises ValueError where something is asked of epochs that are none."""
        for name in ("crop", "augment", "optimiser", "training"):
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name}: expected nothing with method {self.method.name}, which has no epochs")

    @property
    def chosen_by(self) -> str:
        """The metric that chooses the epoch."""
        return CHOSEN_BY

    def known(self, task: str) -> tuple[str, ...]:
        """Labels that a set may have; they are not looked at."""
        return CLASSES[task]
