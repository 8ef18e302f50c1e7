"""Which pictures an epoch of a detector's training shows, in which order; the same for all workers."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from artray.detect import repeats
from artray.train.detectors.labels import Labels
from artray.train.detectors.profile import BalanceBoxes
from artray.train.works import Ints

Floats = npt.NDArray[np.float64]


def factors(labels: Labels, train: Ints, cfg: BalanceBoxes) -> Floats:
    """How often each picture is shown in an epoch, on average: float64[M].

    Args:
        labels: of all N pictures.
        train: int64[M]: those that are learned from.
        cfg: repeat factors, times the set's weight; of a picture without a box, times ``empty``.
    """
    places, class_ids = labels.ids(train)
    found = repeats.factors(len(train), places, class_ids, cfg.repeat_threshold)
    weights = np.array([cfg.weights.get(labels.sources[row], 1.0) for row in train])
    empty = np.bincount(places, minlength=len(train)) == 0
    return np.asarray(found * weights * np.where(empty, cfg.empty, 1.0), np.float64)


def least(shown: Floats) -> int:
    """How many pictures an epoch has at least, but for one in a thousand million.

    What a factor is above a whole number comes by lot: six standard deviations below the mean, and no fewer than the
    whole numbers' sum.

    >>> least(np.array([1.0, 2.0])), least(np.full(200, 0.5)), least(np.full(3, 0.5))
    (3, 57, 0)
    """
    whole = np.floor(shown)
    lots = shown - whole
    by_lot = lots.sum() - 6 * np.sqrt((lots * (1 - lots)).sum())
    return int(whole.sum() + max(0.0, by_lot))


def epoch(shown: Floats, train: Ints, seed: int, number: int) -> Ints:
    """An epoch's pictures int64[K], which depend on the seed and the epoch's number alone.

    Args:
        shown: float64[M] of :func:`factors`.
        train: int64[M].
        seed: of the training.
        number: of the epoch, from 0.
    """
    return train[repeats.epoch(shown, np.random.default_rng([seed, number]))]


def counts(labels: Labels, parts: Mapping[str, Ints], shown: Floats) -> dict[str, dict[str, int]]:
    """Per class its boxes in each part, and in an epoch on average as ``epoch``."""
    told: dict[str, dict[str, int]] = {name: {} for name in labels.class_names}
    for part, rows in parts.items():
        places, class_ids = labels.ids(rows)
        number = np.bincount(class_ids, minlength=len(told))
        for name, value in zip(labels.class_names, number.tolist(), strict=True):
            told[name][part] = value
        if part == "train":
            mean = np.bincount(class_ids, weights=shown[places], minlength=len(told))
            for name, value in zip(labels.class_names, mean.tolist(), strict=True):
                told[name]["epoch"] = round(value)
    return told
