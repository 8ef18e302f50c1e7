"""Judge predictions over imbalanced classes: all from confusion matrices, so that resampling them is cheap."""

from collections.abc import Hashable, Sequence
from typing import Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

Counts: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]

OVERALL: Final = ("micro_f1", "macro_f1", "accuracy", "mcc")
"""The metrics that are one number for all classes."""

BINS: Final = 15
RESAMPLES: Final = 2_000


class Metrics(NamedTuple):
    """What a confusion matrix says; with K matrices instead of one, every field has a leading axis K."""

    f1: Floats  # [C] in [0, 1]: per class; 0 where it has neither truths nor predictions
    precision: Floats  # [C] in [0, 1], likewise
    recall: Floats  # [C] in [0, 1], likewise
    micro_f1: Floats  # in [0, 1]; of single labels it is the accuracy
    macro_f1: Floats  # in [0, 1]: the mean of f1
    accuracy: Floats  # in [0, 1]
    mcc: Floats  # in [-1, 1]; 0 where truths or predictions are all of one class


class Interval(NamedTuple):
    """A value and where 95 % of its resamples lie."""

    value: float
    low: float
    high: float


def confusion(truth: npt.ArrayLike, predicted: npt.ArrayLike, classes: int) -> Counts:
    """How often each class was taken for each.

    Args:
        truth: int[N] in [0, classes).
        predicted: likewise.
        classes: C.

    Returns:
        int64[C, C]: rows are the truth, columns the prediction.

    Raises:
        ValueError: lengths differ, or a class is out of range.

    >>> confusion([0, 0, 1], [0, 1, 1], 2).tolist()
    [[1, 1], [0, 1]]
    """
    rows, columns = np.asarray(truth, np.int64), np.asarray(predicted, np.int64)
    if rows.shape != columns.shape or rows.ndim != 1:
        raise ValueError(f"truth and predicted: expected int[N] each, got {rows.shape} and {columns.shape}")
    if len(rows) and not (0 <= min(rows.min(), columns.min()) <= max(rows.max(), columns.max()) < classes):
        raise ValueError(f"truth and predicted: expected classes in [0, {classes})")
    return np.bincount(rows * classes + columns, minlength=classes * classes).reshape(classes, classes)


def metrics(matrix: npt.ArrayLike) -> Metrics:
    """All metrics of a confusion matrix [C, C], or of K of them [K, C, C] at once.

    The report's worked example (its section 4.1; TP 18, TN 1, FP 3, FN 2) has an F1 of 0.88, one of 0.29 with the
    classes exchanged, and an MCC of 0.17. Its formula (1) of the MCC has a plus in the numerator, which would give
    0.34: the right sign is the minus of Matthews (1975), used here in the form for C classes of Gorodkin (2004).

    >>> told = metrics([[18, 2], [3, 1]])
    >>> told.f1.round(2).tolist(), float(told.mcc.round(2))
    ([0.88, 0.29], 0.17)
    """
    table = np.asarray(matrix, np.float64)
    hits = np.diagonal(table, axis1=-2, axis2=-1)
    truths, predictions, total = table.sum(axis=-1), table.sum(axis=-2), table.sum(axis=(-2, -1))
    right = hits.sum(axis=-1)
    covariance = right * total - (truths * predictions).sum(axis=-1)
    spread = (total**2 - (truths**2).sum(axis=-1)) * (total**2 - (predictions**2).sum(axis=-1))
    f1 = _ratio(2 * hits, truths + predictions)
    accuracy = _ratio(right, total)
    return Metrics(
        f1=f1,
        precision=_ratio(hits, predictions),
        recall=_ratio(hits, truths),
        micro_f1=accuracy,
        macro_f1=f1.mean(axis=-1),
        accuracy=accuracy,
        mcc=_ratio(covariance, np.sqrt(spread)),
    )


def _ratio(above: Floats, below: Floats) -> Floats:
    """``above / below``, and 0 where ``below`` is 0."""
    return np.divide(above, below, out=np.zeros(np.broadcast(above, below).shape), where=below > 0)


def named(told: Metrics, class_names: Sequence[str]) -> dict[str, float]:
    """The metrics of one matrix by name: ``f1 CLASS`` for every class, ``micro_f1``, ``macro_f1``, ``mcc``, ..."""
    per_class = {f"f1 {name}": float(value) for name, value in zip(class_names, told.f1, strict=True)}
    return per_class | {name: float(getattr(told, name)) for name in OVERALL}


def bootstrap(
    truth: npt.ArrayLike,
    predicted: npt.ArrayLike,
    class_names: Sequence[str],
    groups: Sequence[Hashable] | None = None,
    resamples: int = RESAMPLES,
) -> dict[str, Interval]:
    """Every metric of :func:`named` with its 95 % interval: percentiles over resampled groups, always the same.

    Args:
        truth: int[N], N >= 1.
        predicted: int[N].
        class_names: C of them.
        groups: what is drawn together, such as the artists of the N works; None draws single works. Works of one artist
            are alike: drawn one by one they give intervals that are too narrow.
        resamples: how many; 0 leaves every interval empty.

    Raises:
        ValueError: as of :func:`confusion`, or nothing to judge.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), the percentile interval.
    """
    rows, columns, classes = np.asarray(truth, np.int64), np.asarray(predicted, np.int64), len(class_names)
    whole = confusion(rows, columns, classes)
    if not len(rows):
        raise ValueError("bootstrap: expected at least one prediction, got none")
    names: dict[Hashable, int] = {}
    ids = np.array([names.setdefault(group, len(names)) for group in (groups or range(len(rows)))])
    cells = np.bincount(ids * classes**2 + rows * classes + columns, minlength=len(names) * classes**2)
    values = named(metrics(whole), class_names)
    if not resamples:
        return {name: Interval(value, value, value) for name, value in values.items()}
    draws = np.random.default_rng(0).multinomial(len(names), [1 / len(names)] * len(names), size=resamples)
    told = metrics((draws @ cells.reshape(len(names), -1)).reshape(-1, classes, classes))
    drawn = {f"f1 {name}": told.f1[:, index] for index, name in enumerate(class_names)}
    drawn |= {name: getattr(told, name) for name in OVERALL}
    return {name: Interval(values[name], *map(float, np.percentile(drawn[name], [2.5, 97.5]))) for name in values}


def calibration_error(scores: npt.ArrayLike, truth: npt.ArrayLike, bins: int = BINS) -> float:
    """Expected calibration error in [0, 1]: how far confidence and accuracy lie apart, on average.

    Args:
        scores: float[N, C], rows sum to 1.
        truth: int[N].
        bins: of equal width over the confidence (the highest score).

    Source: Guo et al., On Calibration of Modern Neural Networks (2017), equation 3.

    >>> calibration_error([[0.8, 0.2]] * 5, [0, 0, 0, 0, 1])
    0.0
    """
    table, rows = np.asarray(scores, np.float64), np.asarray(truth, np.int64)
    if not len(table):
        return 0.0
    confidence, right = table.max(axis=1), table.argmax(axis=1) == rows
    bin_ids = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = np.bincount(bin_ids, weights=right - confidence, minlength=bins)
    return round(float(np.abs(gaps).sum() / len(table)), 12)


def loss(logits: Floats, truth: Counts) -> float:
    """Mean negative log-likelihood of int[N] ``truth`` under float[N, C] ``logits``; >= 0."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    likelihoods = shifted[np.arange(len(truth)), truth] - np.log(np.exp(shifted).sum(axis=1))
    return float(-likelihoods.mean())


def entropy(scores: npt.ArrayLike) -> Floats:
    """How undecided each row of float[N, C] is, in [0, 1]: 0 where one class has all, 1 where all have the same.

    >>> entropy([[1.0, 0.0], [0.5, 0.5]]).tolist()
    [0.0, 1.0]
    """
    table = np.asarray(scores, np.float64)
    logs = np.log(np.where(table > 0, table, 1.0))
    relative: Floats = np.abs((table * logs).sum(axis=1)) / np.log(table.shape[1])
    return relative
