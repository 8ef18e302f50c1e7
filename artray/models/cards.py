"""Model cards: everything about a model that is not its weights, in one YAML file.

A card is found by its name among those that come with artray and those that the user added, or by its path. Nothing
here imports a deep-learning library: listing cards is instant.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import yaml
from pydantic import Field, field_validator, model_validator

from artray.config import Section, parse, read_yaml
from artray.errors import ConfigError
from artray.taxonomy import CATEGORY

Yield: TypeAlias = Literal["type", "genre", "embedding", "mean_rgb", "objects"]
Resize: TypeAlias = Literal["squash", "centre_crop", "letterbox"]
Rgb: TypeAlias = tuple[float, float, float]
Metric: TypeAlias = Literal["cosine", "euclidean", "chi_square"]
"""How two embeddings of a card are compared; see artray.retrieve.metrics."""

UNHASHED: Final = ("torchvision://", "train://")
"""Weights that need no hash: torchvision's file names carry one, and what is not trained yet cannot have any."""


class Weights(Section):
    """One file of weights: where it is, and what it must be.

    Args:
        uri: ``package://PACKAGE/path``, ``file:///path``, a path relative to the card, ``s3://bucket/key``,
            ``https://...``, ``torchvision://ResNet50_Weights.IMAGENET1K_V2``, or ``train://PROFILE`` for a file that
            only exists once the user has trained it.
        sha256: 64 hexadecimal digits; null only for torchvision:// and train://.
    """

    uri: str = Field(min_length=1)
    sha256: str | None = Field(None, pattern=r"^[0-9a-f]{64}$")

    @model_validator(mode="after")
    def _hashed(self) -> "Weights":
        if self.sha256 is None and not self.uri.startswith(UNHASHED):
            raise ValueError(f"sha256: expected 64 hexadecimal digits for {self.uri}, got none; sha256sum prints them")
        return self


class Input(Section):
    """How an image becomes a network's input: resized to a square, then ``(pixels - mean) / std``.

    Args:
        size_px: the square's side.
        mean: of red, green and blue, on the scale 0..255.
        std: likewise.
        resize: ``squash`` ignores the aspect ratio, ``centre_crop`` cuts the longer side, ``letterbox`` pads the
            shorter one with the mean.
    """

    size_px: int = Field(ge=32, le=2048)
    mean: Rgb
    std: Rgb
    resize: Resize = "squash"

    @field_validator("std")
    @classmethod
    def _positive(cls, std: Rgb) -> Rgb:
        if min(std) <= 0:
            raise ValueError("expected three positive numbers")
        return std


class Card(Section):
    """One model, as its YAML file says.

    Args:
        name: as in a profile's ``cards``; the file is NAME.yaml.
        task: which stage it serves.
        architecture: a name of the registry.
        input: what a classifier's network takes; a detector may do without.
        yields: what it says of an image.
        heads: classes of the type head and of the genre head, in the order of their outputs.
        classes: a detector's own classes, in the order of its ids from 0 on.
        labels: what a detector's class is called in artray's taxonomy; null drops it.
        score_min: boxes must score at least this, in [0, 1].
        settings: what else the architecture takes.
        weights: files by the role that they have in the architecture.
        embedding_dim: length of the embedding; a classifier's is scaled to unit norm.
        metric: how two embeddings are compared.
        licence: of the weights.
        source: who made it, and where it is described.
        training_data: what it was trained on.
        metrics: what was measured, and on what.
        training: of a card that ``artray train`` wrote: its profile, a hash of the data, artray's revision.
        notes: what a user should know.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")
    task: Literal["classify", "detect", "retrieve"]
    architecture: str = Field(min_length=1)
    input: Input | None = None
    yields: tuple[Yield, ...] = Field(min_length=1)
    heads: dict[Literal["type", "genre"], tuple[str, ...]] = Field(default_factory=dict)
    classes: tuple[str, ...] = ()
    labels: dict[str, str | None] = Field(default_factory=dict)
    score_min: float = Field(0.0, ge=0, le=1)
    settings: dict[str, Any] = Field(default_factory=dict)
    weights: dict[str, Weights] = Field(default_factory=dict)
    embedding_dim: int | None = Field(None, ge=1)
    metric: Metric = "cosine"
    licence: str
    source: str
    training_data: str = ""
    metrics: dict[str, Any] = Field(default_factory=dict)
    training: dict[str, Any] = Field(default_factory=dict)
    notes: str = ""

    @field_validator("labels")
    @classmethod
    def _in_taxonomy(cls, labels: dict[str, str | None]) -> dict[str, str | None]:
        for source, target in labels.items():
            if target is not None and target not in CATEGORY:
                raise ValueError(f"{source}: expected a class of the taxonomy ({', '.join(CATEGORY)}) or null")
        return labels

    @model_validator(mode="after")
    def _consistent(self) -> "Card":
        scored = {name for name in self.yields if name in ("type", "genre")}
        if scored != set(self.heads):
            raise self._wrong("heads", f"one for each of {sorted(scored)} in yields, got {sorted(self.heads)}")
        if any(len(set(names)) != len(names) or len(names) < 2 for names in self.heads.values()):
            raise self._wrong("heads", "at least two classes each, every one once")
        if self.yields != ("objects",) if self.task == "detect" else "objects" in self.yields:
            raise self._wrong("yields", "objects of a detector and of nothing else")
        if self.task == "retrieve" and (self.yields != ("embedding",) or self.embedding_dim is None):
            raise self._wrong("yields and embedding_dim", "of a retrieval method embedding, and how long it is")
        if self.task == "classify" and (self.input is None or self.embedding_dim is None):
            raise self._wrong("input and embedding_dim", "both of a classifier")
        return self

    def _wrong(self, key: str, expected: str) -> ConfigError:
        return ConfigError(f"card {self.name}: {key}: expected {expected}")

    def fingerprint(self) -> str:
        """12 hexadecimal digits over what determines the model's answers, and none of its prose."""
        parts = ("task", "architecture", "input", "yields", "heads", "classes", "labels", "score_min", "settings")
        return _digest(self.model_dump(mode="json", include={*parts}) | {"weights": self._hashes()})

    def trunk_key(self) -> str:
        """12 hexadecimal digits over what determines the embedding: cards that agree share a forward pass."""
        trunk = {role: digest for role, digest in self._hashes().items() if role != "heads"}
        return _digest(self.model_dump(mode="json", include={"architecture", "input"}) | {"weights": trunk})

    def _hashes(self) -> dict[str, str]:
        """What each weight file must be: its hash, or the name that stands for it."""
        return {role: weights.sha256 or weights.uri for role, weights in self.weights.items()}


def shipped() -> dict[str, Path]:
    """The cards that come with artray, by name."""
    return _in(Path(__file__).parent / "cards")


def added() -> dict[str, Path]:
    """The cards that the user added, by name."""
    return _in(user_folder())


def known() -> dict[str, Path]:
    """Every card that can be named, shipped ones first."""
    return {**added(), **shipped()}


def user_folder() -> Path:
    """``$XDG_CONFIG_HOME/artray/cards``, by default in ``~/.config``."""
    home = os.environ.get("XDG_CONFIG_HOME")
    return (Path(home) if home else Path.home() / ".config") / "artray" / "cards"


def load(name_or_path: str | Path) -> Card:
    """A card by its name, or from a YAML file.

    Weights given by relative paths are made absolute: they lie relative to the card.

    Raises:
        ConfigError: no such card (names the known ones), or one that is wrong (names the key).
    """
    cards = known()
    path = cards.get(str(name_or_path)) or Path(name_or_path)
    if path.suffix not in (".yaml", ".yml"):
        raise ConfigError(f"card {name_or_path}: expected one of {', '.join(sorted(cards))}, or a YAML file")
    values = read_yaml(path, what="card")
    card = parse(Card, _anchored(values, path.absolute().parent), where=f"card {name_or_path}")
    if path.stem != card.name:
        raise ConfigError(f"card {path}: name: expected that of its file, {path.stem!r}, got {card.name!r}")
    return card


def add(path: str | Path) -> Card:
    """Copy a card to the user's folder, so that profiles can name it; its weights stay where they are.

    Raises:
        ConfigError: it is wrong, its name is taken by a shipped card, or the folder cannot be written.
    """
    card = load(Path(path))
    if card.name in shipped():
        raise ConfigError(f"card {path}: name: expected one that artray does not use itself, got {card.name!r}")
    text = yaml.safe_dump(card.model_dump(mode="json", exclude_defaults=True), sort_keys=False, allow_unicode=True)
    target = user_folder() / f"{card.name}.yaml"
    temporary = target.with_name(f".{card.name}.{os.getpid()}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(target)
    except OSError as error:
        raise ConfigError(f"{target}: cannot be written ({error.strerror})") from error
    return card


def _in(folder: Path) -> dict[str, Path]:
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def _anchored(values: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The card's values with relative weight paths made ``file://`` URIs."""
    weights = values.get("weights")
    if not isinstance(weights, dict):
        return values
    return values | {"weights": {role: _anchored_file(file, folder) for role, file in weights.items()}}


def _anchored_file(file: Any, folder: Path) -> Any:
    uri = file.get("uri") if isinstance(file, dict) else None
    if not isinstance(uri, str) or not uri or re.match(r"[a-z0-9]+://", uri):
        return file
    return file | {"uri": (folder / Path(uri).expanduser()).resolve().as_uri()}


def _digest(values: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]


def check_classifiers(loaded: Iterable[Card]) -> None:
    """Every card must be a classifier, and no two may yield the same.

    Raises:
        ConfigError: names the cards.
    """
    owners: dict[str, str] = {}
    for card in loaded:
        if card.task != "classify":
            raise ConfigError(f"classify.cards: expected cards of task classify, got {card.name} of task {card.task}")
        for name in card.yields:
            if name in owners:
                raise ConfigError(
                    f"classify.cards: expected one card that yields {name}, got {owners[name]} and {card.name}; "
                    f"leave one of them out"
                )
            owners[name] = card.name


def check_detectors(loaded: Iterable[Card]) -> None:
    """Every card must be a detector.

    Raises:
        ConfigError: names the first that is none.
    """
    for card in loaded:
        if card.task != "detect":
            raise ConfigError(f"detect.cards: expected cards of detectors, got {card.name!r}")


def check_unchanged(card: Card, fingerprint: str | None, owner: str, remedy: str) -> None:
    """Raises ConfigError where a card is not the one, by its fingerprint, that ``owner`` was made with."""
    if fingerprint != card.fingerprint():
        raise ConfigError(
            f"{owner}: {card.name}: fingerprint: expected {card.fingerprint()}, as it is, got {fingerprint}; {remedy}"
        )


def check_embedder(card: Card) -> None:
    """The card must make embeddings: a retrieval method, or a classifier that yields them.

    Raises:
        ConfigError: it does not.
    """
    if "embedding" not in card.yields:
        raise ConfigError(
            f"card {card.name}: expected one that yields an embedding, got one of task {card.task} that yields "
            f"{', '.join(card.yields)}; artray models list shows them"
        )
