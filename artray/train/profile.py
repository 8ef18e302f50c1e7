"""What a training is made with: one YAML profile, every method of the report a named option of it.

Sections in comments are those of the report's chapter Image Classification.
"""

from collections.abc import Sequence
from typing import Annotated, Final, Literal, TypeAlias

from pydantic import Field, field_validator, model_validator

from artray.config import Section, Views
from artray.models.cards import Resize
from artray.retrieve.settings import CooccurrenceConfig
from artray.taxonomy import GENRES, TYPES
from artray.train.settings import EpochsConfig, OptimiserConfig, WorkersConfig
from artray.train.shown import Augmentation, CropConfig, Fraction

Task: TypeAlias = Literal["type", "genre"]
CalibrationKind: TypeAlias = Literal["none", "temperature", "bias_corrected"]

CLASSES: Final[dict[str, tuple[str, ...]]] = {"type": TYPES, "genre": GENRES}


class Source(Section):
    """One set of works.

    Args:
        kind: how it is read; see artray.train.datasets.READERS.
        path: its folder or file.
        name: what it is called in tables; null for its kind.
        part: ``train``, ``val`` or ``test`` puts all of its works there; null splits them, see :class:`DataConfig`.
        labels: what else its own labels are called here, such as {etching: drawing}; null leaves them out.
        limit: at most so many of its works, chosen by hash.
    """

    kind: str = "csv"
    path: str = Field(min_length=1)
    name: str | None = Field(None, min_length=1)
    part: Literal["train", "val", "test"] | None = None
    labels: dict[str, str | None] = Field(default_factory=dict)
    limit: int | None = Field(None, ge=1)

    @property
    def title(self) -> str:
        """What it is called."""
        return self.name or self.kind


def check_titles(titles: Sequence[str]) -> None:
    """Raises ValueError where two sets have one name."""
    if twice := next((title for title in titles if titles.count(title) > 1), None):
        raise ValueError(f"sources: {twice}: expected each name once; give them names of their own")


class DataConfig(Section):
    """Which works are learned from and judged on.

    Args:
        sources: the sets; works in several of them count once.
        val: the part of the works that validation takes where a set does not say, by hash of the work.
        test: likewise for the test.
        embeddings: a store whose embeddings are learned from in place of pictures; labels name its images. Only heads
            are trained then, and the card that comes out can rehead the store.
        short_side_px: the cache keeps pictures with a shorter side of so many pixels. Section 4.2: 400.
        cache: a folder for these, which all workers should reach; null for the user's cache.
        drawings_from_paintings: the part of the training set's paintings that is shown as drawings, another choice in
            every epoch. Section 4.2 and Table 6: 1/3 and 1/2.
        near_bits: works whose perceptual hashes differ in at most so many of 64 bits are near-duplicates, which are
            never on two sides of a split; null trusts what the sets say of duplicates.
    """

    sources: tuple[Source, ...] = Field(min_length=1)
    val: Fraction = 0.15
    test: Fraction = 0.15
    embeddings: str | None = None
    short_side_px: int = Field(400, ge=32)
    cache: str | None = None
    drawings_from_paintings: Fraction = 0.0
    near_bits: int | None = Field(8, ge=0, le=16)

    @model_validator(mode="after")
    def _some_left(self) -> "DataConfig":
        if self.val + self.test >= 1:
            raise ValueError(f"val and test: expected less than 1 together, got {self.val + self.test:g}")
        check_titles([source.title for source in self.sources])
        return self


class HeadConfig(Section):
    """What is learned of a work, and how.

    Args:
        classes: in the order of the outputs; null for artray's own.
        only: one of the classes, against all others (section 4.3, one-versus-the-rest); null to tell all apart.
        loss: ``cross_entropy`` (binary for two classes, else categorical) or ``f1``. Section 4.2.
        class_weight: exponent of the classes' weights in the loss: 0 for none, 1 to offset imbalance, more than that
            is what the report needed.
        weight: of this head's loss among those of several.
        hidden: sizes of hidden fully connected layers, with ReLU; none for one layer. The report's best model has
            four layers (section 4.2), of sizes that it does not tell.
        calibration: what validation corrects at the end: ``temperature`` how sure the head is, ``bias_corrected`` also
            how often it says which class; or ``none``. See artray.metrics.calibration; not in the report.
    """

    classes: tuple[str, ...] | None = None
    only: str | None = None
    loss: Literal["cross_entropy", "f1"] = "cross_entropy"
    class_weight: float = Field(0.0, ge=0, le=4)
    weight: float = Field(1.0, gt=0)
    hidden: tuple[Annotated[int, Field(ge=1)], ...] = ()
    calibration: CalibrationKind = "temperature"

    @field_validator("classes")
    @classmethod
    def _several(cls, classes: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if classes is not None and (len(classes) < 2 or len(set(classes)) < len(classes)):
            raise ValueError("expected at least two, every one once")
        return classes


class NetworkConfig(Section):
    """What is fine-tuned.

    Args:
        card: whose trunk it starts from, with its weights, input size and normalisation.
        random: start from random weights instead.
        trained: ``none`` (no epochs: heads are fitted to the trunk's features by logistic regression, which is not in
            the report), ``head`` (feature extraction), ``conv4-5`` or ``conv2-5`` (the last two or four stages, and the
            head) or ``all``. But for ``none``, batch norm is trained in every mode. Section 4.2, Table 8.
        interpolate: how much of the way from where it started to the best epoch the trunk is kept at: 1 for all of it.
            Less is better on pictures of another kind; heads are fitted anew then. See artray.train.robust; not in the
            report.
        size_px: the side of the input, if not the card's. Section 4.2: 224 to 400.
        resize: how a picture becomes a square, if not the card's way.
        cooccurrence: heads see the descriptor that this filter makes of the trunk's activations, and the filter is
            trained with them; the card that comes out retrieves, and has no heads. Source: chapter Image Retrieval,
            section 5.4.
    """

    card: str = "efficientnet-lite0-imagenet"
    random: bool = False
    trained: Literal["none", "head", "conv4-5", "conv2-5", "all"] = "conv4-5"
    interpolate: float = Field(1.0, gt=0, le=1)
    size_px: int | None = Field(None, ge=32, le=2048)
    resize: Resize | None = None
    cooccurrence: CooccurrenceConfig | None = None


class ColourConfig(Section):
    """What an embedding learns of colour: a picture's mean red, green and blue, by linear regression.

    Args:
        weight: of the regression's mean squared error, colours in [0, 1]; the heads' losses have the rest. Source:
            chapter Image Retrieval, section 5.4: 0, 1 and 5 %.
    """

    weight: float = Field(0.0, ge=0, lt=1)


class BalanceConfig(Section):
    """How an epoch's images are chosen. Sections 4.2 and 4.3.

    Args:
        rule: ``none``, ``oversample``, ``undersample`` or ``imbalanced`` (ImbalancedDatasetSampler's).
        by: the head whose classes are balanced; null for the first one.
    """

    rule: Literal["none", "oversample", "undersample", "imbalanced"] = "none"
    by: Task | None = None


class TestConfig(Section):
    """How the best epoch is judged at the end.

    Args:
        views: one, flips, five_crop or ten_crop; several are put to the vote. Section 4.2.
        resize_px: what the shorter edge becomes before crops are cut; null for 8/7 of the input's side.
        resamples: of the bootstrap that gives the intervals.
    """

    views: Views = "one"
    resize_px: int | None = Field(None, ge=32)
    resamples: int = Field(2_000, ge=0)


class TrainProfile(Section):
    """Everything a training is made with.

    Args:
        name: of the card that comes out of it.
        yields: what that card yields besides its heads; of several cards in one pipeline only one may yield each.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")
    data: DataConfig
    heads: dict[Task, HeadConfig] = Field(min_length=1)
    colour: ColourConfig = ColourConfig()
    network: NetworkConfig = NetworkConfig()
    crop: CropConfig = CropConfig()
    augment: tuple[Augmentation, ...] = ()
    balance: BalanceConfig = BalanceConfig()
    optimiser: OptimiserConfig = OptimiserConfig()
    training: EpochsConfig = EpochsConfig()
    workers: WorkersConfig = WorkersConfig()
    test: TestConfig = TestConfig()
    yields: tuple[Literal["embedding", "mean_rgb"], ...] = ("embedding", "mean_rgb")

    @model_validator(mode="after")
    def _consistent(self) -> "TrainProfile":
        for task, head in self.heads.items():
            if head.only is not None and head.only not in self.known(task):
                raise ValueError(f"heads.{task}.only: expected one of {', '.join(self.known(task))}, got {head.only!r}")
        if self.balance.by not in (None, *self.heads):
            raise ValueError(f"balance.by: expected one of {', '.join(self.heads)}, got {self.balance.by!r}")
        self.workers.check(self.training)
        fitted = self.network.interpolate < 1 or self.network.trained == "none"
        if fitted and (self.network.random or any(head.hidden for head in self.heads.values())):
            raise ValueError(
                "network: heads without hidden layers are fitted to a trunk that is not random: "
                "expected interpolate 1 and another trained than none"
            )
        if fitted and (self.network.cooccurrence is not None or self.colour.weight):
            raise ValueError(
                "network: a filter (network.cooccurrence) and a regression (colour.weight) are trained in epochs: "
                "expected interpolate 1 and another trained than none"
            )
        choices = self.choices()
        if self.choose_by not in choices:
            raise ValueError(f"training.choose_by: expected one of {', '.join(choices)}, got {self.choose_by!r}")
        if self.data.embeddings is not None:
            self._no_pictures()
        types = self.outputs("type") if "type" in self.heads else ()
        if self.data.drawings_from_paintings and not {"painting", "drawing"} <= {*types}:
            raise ValueError("data.drawings_from_paintings: expected a head type that tells paintings from drawings")
        return self

    def _no_pictures(self) -> None:
        """Raises ValueError where something is asked of pictures that are not read."""
        asked = {
            "network.trained: expected head": self.network.trained != "head",
            "network.random: expected false": self.network.random,
            "crop and augment: expected neither": self.crop != CropConfig() or bool(self.augment),
            "data.drawings_from_paintings: expected 0": self.data.drawings_from_paintings > 0,
            "test.views: expected one": self.test.views != "one",
            "network.interpolate: expected 1": self.network.interpolate < 1,
            "network.cooccurrence: expected none": self.network.cooccurrence is not None,
            "colour.weight: expected 0": self.colour.weight > 0,
            "network.size_px and resize: expected neither": (self.network.size_px, self.network.resize) != (None, None),
        }
        if wrong := next((told for told, is_asked in asked.items() if is_asked), None):
            raise ValueError(f"{wrong} with data.embeddings, for no picture is read")

    def known(self, task: str) -> tuple[str, ...]:
        """The labels that a head learns from."""
        head = self.heads.get(task)  # type: ignore[call-overload]
        return (head.classes if head else None) or CLASSES[task]

    def outputs(self, task: Task) -> tuple[str, ...]:
        """The classes that a head tells apart: with ``only``, that one and the rest."""
        only = self.heads[task].only
        return self.known(task) if only is None else (f"not {only}", only)

    def width(self, task: Task) -> int:
        """How many logits a head has: one for two classes, that of the second."""
        outputs = len(self.outputs(task))
        return 1 if outputs == 2 else outputs

    @property
    def balanced_by(self) -> Task:
        """The head whose classes are balanced, and whose metric chooses the epoch."""
        first: Task = next(iter(self.heads))
        return self.balance.by or first

    @property
    def choose_by(self) -> str:
        """The metric that chooses the epoch."""
        if self.training.choose_by:
            return self.training.choose_by
        classes = self.outputs(self.balanced_by)
        if self.heads[self.balanced_by].only is not None or classes == TYPES:
            return f"f1 {classes[-1]}"
        return "macro_f1"

    @property
    def chosen_by(self) -> str:
        """Likewise, with its head."""
        return f"{self.balanced_by} {self.choose_by}"

    def choices(self) -> tuple[str, ...]:
        """The metrics that an epoch can be chosen by."""
        per_class = (f"f1 {name}" for name in self.outputs(self.balanced_by))
        return (*per_class, "micro_f1", "macro_f1", "accuracy", "mcc")
