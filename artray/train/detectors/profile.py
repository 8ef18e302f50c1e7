"""What a detector's training is made with: one YAML profile, told from a classifier's by its section ``detector``.

Sections in comments are those of the report's chapter Object Detection.
"""

from typing import Annotated, Final, Literal, TypeAlias

from pydantic import Field, field_validator, model_validator

from artray.config import Section
from artray.detect.artify import ARTIFY, GREY
from artray.detect.composite import Pasting
from artray.detect.datasets.sources import BoxSource
from artray.taxonomy import CATEGORY, coarse
from artray.train.profile import check_titles
from artray.train.settings import EpochsConfig, OptimiserConfig, WorkersConfig
from artray.train.shown import Fraction, Scale

LANDFORMS: Final = "landforms"

Positive: TypeAlias = Annotated[float, Field(gt=0)]


class BoxData(Section):
    """Which pictures are learned from and judged on.

    Args:
        sources: the sets of labelled boxes; of a picture in several of them, the first set's boxes count.
        val: the part of the pictures that validation takes where a set does not say, by hash of the picture.
        test: likewise for the test.
        short_side_px: the cache keeps pictures with a shorter side of so many pixels.
        cache: a folder for these, which all workers should reach; null for the user's cache.
        near_bits: pictures whose perceptual hashes differ in at most so many of 64 bits show one work, which is never
            on two sides of a split; null trusts what the sets say of duplicates.
        mirrored: sets that hold mirror images of their own pictures, which are compared mirrored as well.
        imagenet_landforms: whether boxes of landforms count of sets with ImageNet's labels: the report left them out
            (4.1), for photographs of landforms taught its detectors to see them everywhere in art.
    """

    sources: tuple[BoxSource, ...] = Field(min_length=1)
    val: Fraction = 0.15
    test: Fraction = 0.15
    short_side_px: int = Field(480, ge=32)
    cache: str | None = None
    near_bits: int | None = Field(8, ge=0, le=16)
    mirrored: tuple[str, ...] = ()
    imagenet_landforms: bool = False

    def learned(self) -> tuple[BoxSource, ...]:
        """The sources with those labels that are learned from.

        Raises:
            ConfigError: a table of labels is not there, or has classes that the taxonomy does not have.
        """
        if self.imagenet_landforms:
            return self.sources
        return tuple(each.without(LANDFORMS) if each.labels == "imagenet" else each for each in self.sources)

    @model_validator(mode="after")
    def _consistent(self) -> "BoxData":
        if self.val + self.test >= 1:
            raise ValueError(f"val and test: expected less than 1 together, got {self.val + self.test:g}")
        names = [source.title for source in self.sources]
        check_titles(names)
        if unknown := next((name for name in self.mirrored if name not in names), None):
            raise ValueError(f"mirrored: expected names of sources ({', '.join(names)}), got {unknown!r}")
        return self


class DetectorConfig(Section):
    """What is fine-tuned.

    Args:
        card: the detector that it starts from, with its weights; its classes that are called like new ones are kept.
        random: start from random weights instead.
        size_px: side of the canvas on which the network sees a picture, if not the card's.
        frozen_stages: so many of the trunk's stages are left as they are, from the picture's side on.
        norms: whether batch norms take the statistics of batches (``trained``) or keep theirs (``frozen``): small
            batches and folded weights are better off with their own.
        classes_lr: the learning rate of the layer that tells classes apart, in multiples of the others'.
        background_min: where a set has boxes of some classes only, whatever else is there counts as background this
            much, in [0, 1]: 0 denies nothing that was not looked for, 1 everything.
        box_loss: ``iou`` or ``giou``.
    """

    card: str = "yolox-nano-coco"
    random: bool = False
    size_px: int | None = Field(None, ge=32, le=2048, multiple_of=32)
    frozen_stages: int = Field(0, ge=0, le=4)
    norms: Literal["trained", "frozen"] = "frozen"
    classes_lr: float = Field(1.0, gt=0)
    background_min: Fraction = 0.0
    box_loss: Literal["iou", "giou"] = "iou"


class BalanceBoxes(Section):
    """How often an epoch shows which pictures.

    Args:
        repeat_threshold: repeat factor sampling: classes that fewer than this share of the pictures show are shown more
            often; 0 for none. Table 4: 0.06, 0.2 and 0.4. See artray.detect.repeats.
        weights: how often the pictures of a set are shown, where that is not once.
        empty: how often a picture is shown that has no box.
    """

    repeat_threshold: Fraction = 0.0
    weights: dict[str, Positive] = Field(default_factory=dict)
    empty: float = Field(1.0, ge=0)


class PasteConfig(Section):
    """Cut-outs pasted on pictures, for classes that have too few boxes. See artray.detect.composite; not in the report.

    Args:
        cutouts: a CSV table (file, class) beside which the cut-outs lie, pictures with alpha.
        labels: what its classes are called here, a source of artray.detect.labels.
        p: how often a picture gets some.
        most: from one to so many of them, every number as often; classes are drawn evenly.
        side_share: an object's longer side as a part of the picture's shorter one, least and greatest.
        tone: how far an object takes the tone of what it covers, in [0, 1].
    """

    cutouts: str
    labels: str = "cutouts"
    p: Fraction = 0.3
    most: int = Field(3, ge=1, le=20)
    side_share: Scale = (0.1, 0.7)
    tone: Fraction = 0.5

    def pasting(self) -> Pasting:
        """As the compositor takes it; it gives every object a box that is seen at all."""
        return Pasting(side_share=self.side_share, tone=self.tone, seen_min=0.0)


class AugmentBoxes(Section):
    """What is shown of a picture.

    Args:
        mirrored: how often it is mirrored left to right.
        cropped: how often a part of it is shown.
        crop_share: the part's sides, of the picture's.
        canvas_share: the picture's longer side, of the canvas's.
        seen_min: an object of which the part shows less is neither learned nor denied.
        toned: how often brightness, contrast and colours are changed.
        artify: how often it is made to look like an artwork. Table 3: 0.2. See artray.detect.artify.
        greyscale: how often it is made grey. Table 3: 0.8.
        paste: cut-outs; null for none.
    """

    mirrored: Fraction = 0.5
    cropped: Fraction = 0.5
    crop_share: Scale = (0.4, 1.0)
    canvas_share: Scale = (0.5, 1.0)
    seen_min: Fraction = 0.35
    toned: Fraction = 0.5
    artify: Fraction = ARTIFY
    greyscale: Fraction = GREY
    paste: PasteConfig | None = None

    @field_validator("crop_share", "canvas_share")
    @classmethod
    def _shares(cls, share: tuple[float, float]) -> tuple[float, float]:
        if share[1] > 1:
            raise ValueError(f"expected at most 1, got {share[1]:g}")
        return share


class JudgeConfig(Section):
    """How the best epoch is judged at the end.

    Args:
        score_min: boxes must score at least this to be judged; the card's own is chosen on validation.
        iou_max: a box goes if it overlaps a better one of the same class more.
        found_max: of each picture; the best stay.
        resamples: of the bootstrap that gives the intervals.
    """

    score_min: Fraction = 0.01
    iou_max: Fraction = 0.65
    found_max: int = Field(100, ge=1)
    resamples: int = Field(1_000, ge=0)


class DetectorEpochs(EpochsConfig):
    """How long is trained, and what is kept: as of classifiers, but for the batches' size."""

    batch_size: int = Field(16, ge=1)


class DetectorProfile(Section):
    """Everything a detector's training is made with.

    Args:
        name: of the card that comes out of it.
        classes: of artray's, in the order of the outputs; null for all that the sets have boxes of. Those of one
            category make a category's own detector (section 4.2).
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")
    data: BoxData
    classes: tuple[str, ...] | None = None
    detector: DetectorConfig
    augment: AugmentBoxes = AugmentBoxes()
    balance: BalanceBoxes = BalanceBoxes()
    optimiser: OptimiserConfig = OptimiserConfig()
    training: DetectorEpochs = DetectorEpochs()
    workers: WorkersConfig = WorkersConfig()
    test: JudgeConfig = JudgeConfig()

    @field_validator("classes")
    @classmethod
    def _known(cls, classes: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for name in classes or ():
            coarse(name)
        if classes is not None and (not classes or len(set(classes)) < len(classes)):
            raise ValueError("expected at least one, every one once")
        return classes

    @model_validator(mode="after")
    def _consistent(self) -> "DetectorProfile":
        titles = [source.title for source in self.data.sources]
        if unknown := next((name for name in self.balance.weights if name not in titles), None):
            raise ValueError(f"balance.weights: expected names of sources ({', '.join(titles)}), got {unknown!r}")
        if self.training.mixup:
            raise ValueError("training.mixup: expected 0: boxes are not mixed")
        if self.workers.cuda_graph:
            raise ValueError("workers.cuda_graph: expected false: what a detector does depends on what a picture shows")
        known = ("ap", "ap50", "ap75", *(f"{key} {name}" for name in CATEGORY for key in ("ap", "ap50", "ap75")))
        if self.chosen_by not in known:
            raise ValueError(f"training.choose_by: expected ap, ap50, ap75 or one with a class, got {self.chosen_by!r}")
        if self.classes is not None and self.chosen_class not in ("", *self.classes):
            raise ValueError(f"training.choose_by: expected one of classes, got {self.chosen_class!r}")
        self.workers.check(self.training)
        return self

    @property
    def chosen_by(self) -> str:
        """The metric that chooses the epoch."""
        return self.training.choose_by or "ap50"

    @property
    def chosen_class(self) -> str:
        """The class that it is of; "" for the mean over all."""
        return self.chosen_by.partition(" ")[2]
