"""Verify a card: its weights have their hash, load, and run on a picture."""

import time
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from artray.errors import ConfigError, TransientError
from artray.models import registry, weights
from artray.models.cards import Card

HEIGHT_PX, WIDTH_PX = 240, 320


class Verified(NamedTuple):
    """What became of a card."""

    ok: bool | None  # None: its weights cannot be reached, so nothing was found out
    detail: str  # one line
    seconds: float


def verify(card: Card, device: str = "cpu") -> Verified:
    """Fetch a card's weights, compare their hashes, build its model and run it on a generated picture.

    What cannot be reached, or is still to be trained by the user, is no failure: ``ok`` is None. Whatever else goes
    wrong is reported, never raised.
    """
    start = time.perf_counter()
    ok, detail = _outcome(card, device)
    return Verified(ok, detail, time.perf_counter() - start)


def picture() -> NDArray[np.uint8]:
    """A picture of slopes and edges uint8[240, 320, 3], always the same."""
    y, x = np.mgrid[:HEIGHT_PX, :WIDTH_PX]
    disc = 120 * ((x - 160) ** 2 + (y - 110) ** 2 < 70**2)
    return np.stack([(x + y) % 256, (x * 2) % 256, disc + y // 2], axis=-1).astype(np.uint8)


def _outcome(card: Card, device: str) -> tuple[bool | None, str]:
    if to_train := [file.uri for file in card.weights.values() if file.uri.startswith("train://")]:
        return None, f"not reachable: to be trained by you: a {to_train[0].removeprefix('train://')} model"
    try:
        for file in card.weights.values():
            weights.fetch(file, owner=f"card {card.name}")
        model = registry.build(card, device)
        return True, _said(card, model([picture()]))
    except TransientError as error:
        return None, f"not reachable: {error}"
    except ConfigError as error:
        return False, str(error)
    except Exception as error:  # noqa: BLE001 - a model may raise anything, and that is what is asked
        return False, f"card {card.name}: {type(error).__name__}: {' '.join(str(error).split())[:200]}"


def _said(card: Card, answer: Any) -> str:
    """What the model answered, in a few words.

    Raises:
        ValueError: an answer that cannot be right.
    """
    if card.task == "detect":
        return f"{len(answer[0].scores)} objects in a generated picture"
    if card.task == "retrieve":
        return _embedded(card, answer)
    if not np.isclose(np.linalg.norm(answer.embeddings[0]), 1, atol=1e-4):
        raise ValueError("embedding: expected unit norm")
    heads = ", ".join(f"{name} of {scores.shape[1]} classes" for name, scores in answer.scores.items())
    return f"embedding of {answer.embeddings.shape[1]}{', ' if heads else ''}{heads}"


def _embedded(card: Card, answer: NDArray[np.float32]) -> str:
    """What a retrieval method answered.

    Raises:
        ValueError: an embedding of another length than the card says, or with values that are no numbers.
    """
    if answer.shape != (1, card.embedding_dim) or not np.isfinite(answer).all():
        raise ValueError(f"embedding: expected {card.embedding_dim} finite values, got {answer.shape}")
    return f"embedding of {answer.shape[1]}, compared by {card.metric}"
