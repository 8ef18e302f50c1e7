"""Which images an epoch shows, in which order, and which worker takes which: numbers only.

An epoch's order depends on seed and epoch alone, never on how many workers share it, so a run gives the same batches on
one worker and on many, and a resumed one the same as one that was never interrupted.
"""

from collections.abc import Callable, Iterator
from types import MappingProxyType
from typing import Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

Ints: TypeAlias = npt.NDArray[np.int64]
Flags: TypeAlias = npt.NDArray[np.bool_]
Floats: TypeAlias = npt.NDArray[np.float64]
Rule: TypeAlias = Callable[[Ints, np.random.Generator], Ints]
"""From class ids int64[N] to the indices int64[M] of an epoch, in random order."""


def unbalanced(class_ids: Ints, random: np.random.Generator) -> Ints:
    """Every image once."""
    return random.permutation(len(class_ids))


def oversampled(class_ids: Ints, random: np.random.Generator) -> Ints:
    """Every class as often as the largest one: each image as many whole times as that takes, the rest by lot.

    Source: report, Image Classification, section 4.2 (random oversampling).
    """
    members = _members(class_ids)
    most = max(map(len, members), default=0)
    chosen = []
    for indices in members:
        whole, rest = divmod(most, len(indices))
        chosen += [np.tile(indices, whole), random.choice(indices, rest, replace=False)]
    return _shuffled(chosen, random)


def undersampled(class_ids: Ints, random: np.random.Generator) -> Ints:
    """Every class as often as the smallest one: a new choice each epoch, no image twice.

    Source: report, section 4.2 (random undersampling).
    """
    members = _members(class_ids)
    least = min(map(len, members), default=0)
    return _shuffled([random.choice(indices, least, replace=False) for indices in members], random)


def imbalanced(class_ids: Ints, random: np.random.Generator) -> Ints:
    """As many draws as images, with replacement, each class with the same chance: some repeat, some are left out.

    Source: report, section 4.3; github.com/ufoym/imbalanced-dataset-sampler (weight 1 / count of the class).
    """
    members = _members(class_ids)
    if not members:
        return np.empty(0, np.int64)
    known = np.concatenate(members)
    weights = np.concatenate([np.full(len(indices), 1 / len(indices)) for indices in members])
    return random.choice(known, len(known), replace=True, p=weights / weights.sum())


RULES: Final = MappingProxyType(
    {
        "none": unbalanced,
        "oversample": oversampled,
        "undersample": undersampled,
        "imbalanced": imbalanced,
    }
)


def order(class_ids: npt.ArrayLike, rule: str, seed: int, epoch: int) -> Ints:
    """The indices of an epoch.

    Args:
        class_ids: int[N].
        rule: one of :data:`RULES`.
        seed: of the run.
        epoch: from 0.

    Returns:
        int64[M]; M is N but for over- and undersampling.
    """
    return RULES[rule](np.asarray(class_ids, np.int64), np.random.default_rng([seed, epoch]))


def converted(class_ids: npt.ArrayLike, source: int, part: float, seed: int, epoch: int) -> Flags:
    """Which images of an epoch are shown as another class's: every one of class ``source`` with the same chance.

    Args:
        class_ids: int[N].
        source: the class that is converted.
        part: the chance, in [0, 1].
        seed: of the run.
        epoch: from 0.

    Returns:
        bool[N].

    Source: report, section 4.2 and Table 6, paintings converted to drawings.
    """
    ids = np.asarray(class_ids, np.int64)
    return np.asarray((np.random.default_rng([seed, epoch, 1]).random(len(ids)) < part) & (ids == source))


class Mix(NamedTuple):
    """What each position of an epoch is mixed with."""

    positions: Ints  # int64[M], each once
    parts: Floats  # float64[M] in [0, 1]: of the picture itself


def mixed(count: int, alpha: float, seed: int, epoch: int) -> Mix:
    """Partners and parts of mixup, by a Beta(alpha, alpha) distribution.

    Source: Zhang et al., mixup (2018).
    """
    random = np.random.default_rng([seed, epoch, 2])
    return Mix(random.permutation(count), random.beta(alpha, alpha, count))


class Share(NamedTuple):
    """A worker's part of a batch."""

    positions: Ints  # int64[n]: where in the epoch
    indices: Ints  # int64[n]: which images


def batches(indices: Ints, batch_size: int, rank: int = 0, workers: int = 1) -> Iterator[Share]:
    """A worker's parts of the batches of an epoch.

    Batches are of nearly equal size, at most ``batch_size``, so that none is too small to be shared or normalised.

    Args:
        indices: int64[M] of the epoch, in order.
        batch_size: of all workers together.
        rank: of this worker, in [0, workers).
        workers: how many share a batch.

    Raises:
        ValueError: a batch has fewer images than there are workers.

    >>> [(share.positions.tolist(), share.indices.tolist()) for share in batches(np.arange(5) + 10, 3, 0, 2)]
    [([0, 1], [10, 11]), ([3], [13])]
    """
    for positions in np.array_split(np.arange(len(indices)), -(-len(indices) // batch_size)) if len(indices) else ():
        if len(positions) < workers:
            raise ValueError(f"batch: expected at least an image for each of {workers} workers, got {len(positions)}")
        part = np.array_split(positions, workers)[rank]
        yield Share(part, indices[part])


def in_order(count: int, batch_size: int) -> list[list[int]]:
    """The numbers up to ``count`` in batches, the last of which may be smaller.

    >>> in_order(5, 2)
    [[0, 1], [2, 3], [4]]
    """
    return [list(range(start, min(start + batch_size, count))) for start in range(0, count, batch_size)]


def _members(class_ids: Ints) -> list[Ints]:
    """The indices of each class that has any; those of no class (-1) are in none."""
    return [np.flatnonzero(class_ids == class_id) for class_id in np.unique(class_ids[class_ids >= 0])]


def _shuffled(chosen: list[Ints], random: np.random.Generator) -> Ints:
    return random.permutation(np.concatenate(chosen)) if chosen else np.empty(0, np.int64)
