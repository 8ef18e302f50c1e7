"""Which detectors can be trained, and the one that a training starts from."""

from collections.abc import Callable, Sequence
from types import MappingProxyType
from typing import Final, TypeAlias

import torch

from artray.detect import torchvision_engine
from artray.errors import ConfigError
from artray.models import registry
from artray.models.cards import Card
from artray.train.batch_norm import synchronised
from artray.train.detectors import torchvision_learner, yolox_learner
from artray.train.detectors.learner import Learner
from artray.train.detectors.profile import DetectorProfile
from artray.train.exchange import Exchange
from artray.train.loop import DTYPES

Build: TypeAlias = Callable[[DetectorProfile, Card, Sequence[str]], Learner]

MEASURED: Final = 64
"""Pictures by which detectors get ready."""

LEARNERS: Final[MappingProxyType[str, Build]] = MappingProxyType(
    {"yolox_nano": yolox_learner.build}
    | dict.fromkeys(
        (name for name in torchvision_engine.ARCHITECTURES if not name.startswith("ssd")), torchvision_learner.build
    )
)
"""Architecture to what builds its learner. SSDs are not among them: they see pictures squashed, not on a canvas."""

OWN_KEYS: Final = ("background_min", "box_loss", "classes_lr")
"""Keys of the section ``detector`` that mean something to YOLOX-nano alone."""


def build(profile: DetectorProfile, card: Card, class_names: Sequence[str], exchange: Exchange) -> Learner:
    """The learner that all workers start from, on its device.

    Raises:
        ConfigError: no detector of this architecture can be trained, or the card's weights cannot be used.
        TransientError: its weights cannot be reached.
    """
    check(profile, card)
    torch.manual_seed(profile.training.seed)
    learner = LEARNERS[card.architecture](profile, card, class_names)
    try:
        learner.freeze()
    except ValueError as error:
        raise ConfigError(f"detector.frozen_stages: {error} of {card.architecture}") from error
    device = registry.check_device(profile.workers.device)
    learner = learner.to(device=device, dtype=DTYPES[profile.training.precision]).to(memory_format=torch.channels_last)
    if exchange.workers > 1:
        learner.total = exchange.total
        if profile.detector.norms == "trained":
            synchronised(learner, exchange.total, torch.device(device).type)
    return learner


def check(profile: DetectorProfile, card: Card) -> None:
    """Raises ConfigError where a detector of a card cannot be trained."""
    if card.architecture not in LEARNERS:
        raise ConfigError(
            f"detector.card: expected one whose architecture can be trained ({', '.join(LEARNERS)}), got {card.name} "
            f"({card.architecture})"
        )
    if "model" not in card.weights and not profile.detector.random:
        raise ConfigError(f"detector.card: expected weights of the role model, got none in {card.name}")
    asked = profile.detector.model_fields_set.intersection(OWN_KEYS)
    if asked and card.architecture != "yolox_nano":
        raise ConfigError(f"detector.{min(asked)}: expected only with a card of yolox_nano, got {card.name}")
    if "from" in card.settings:
        raise ConfigError(f"detector.card: {card.name}: weights from {card.settings['from']} cannot be trained on")
