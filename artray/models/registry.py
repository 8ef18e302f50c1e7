"""The one registry: architecture names to the functions that build a model from its card."""

from collections.abc import Callable
from importlib import import_module
from typing import Any, Final, TypeAlias, TypeVar

from artray.errors import ConfigError
from artray.models.cards import Card

Builder: TypeAlias = Callable[[Card, str], Any]
"""From a card and a device ("cpu", "cuda", "cuda:1") to a model of the card's task."""

B = TypeVar("B", bound=Builder)

MODULES: Final = {
    "classify": "artray.classify.model",
    "detect": "artray.detect.stage",
    "retrieve": "artray.retrieve.stage",
}
"""Task to the module whose import registers its architectures; imported when first needed, so no import is a cycle."""

_BUILDERS: Final[dict[tuple[str, str], Builder]] = {}


def register(architecture: str, task: str = "detect") -> Callable[[B], B]:
    """Decorate the function that builds an architecture.

    Raises:
        ValueError: the name is taken.
    """

    def keep(builder: B) -> B:
        key = (task, architecture)
        if key in _BUILDERS:
            raise ValueError(f"architecture: expected a name that is not registered for {task}, got {architecture!r}")
        _BUILDERS[key] = builder
        return builder

    return keep


def architectures(task: str) -> tuple[str, ...]:
    """The names that can be built for a task, sorted."""
    if task not in MODULES:
        raise ConfigError(f"task: expected one of {', '.join(MODULES)}, got {task!r}")
    import_module(MODULES[task])
    return tuple(sorted(name for of, name in _BUILDERS if of == task))


def build(card: Card, device: str = "cpu") -> Any:
    """The card's model, with its weights, on a device.

    Raises:
        ConfigError: an unknown architecture, a device that is not there, or weights that are not the card's.
        TransientError: its weights cannot be reached.
    """
    check_architecture(card)
    return _BUILDERS[card.task, _family(card.architecture)](card, check_device(device))


def check_architecture(card: Card) -> None:
    """Make sure that a card names an architecture that can be built.

    Raises:
        ConfigError: it does not; names those that can.
    """
    names = architectures(card.task)
    if _family(card.architecture) not in names:
        raise ConfigError(
            f"card {card.name}: architecture: expected one of {', '.join(names)}, got {card.architecture!r}"
        )


def _family(architecture: str) -> str:
    """What is registered for an architecture: itself, or the library before the slash, as in timm/resnet10t."""
    return architecture.partition("/")[0]


def check_device(device: str) -> str:
    """The device, if it can be used: what was asked for is never replaced by something slower.

    Raises:
        ConfigError: it is none of cpu, cuda and cuda:N, or this machine has no such GPU.
    """
    import torch

    kind, _, index = device.partition(":")
    if kind not in ("cpu", "cuda") or not (index.isdecimal() or device == kind):
        raise ConfigError(f"device: expected cpu, cuda or cuda:N, got {device!r}")
    if kind == "cuda" and int(index or 0) >= torch.cuda.device_count():
        found = f"{torch.cuda.device_count()} of them" if torch.cuda.is_available() else "none"
        raise ConfigError(f"device: expected a GPU for {device!r}, found {found}; set device: cpu, or check the driver")
    return device
