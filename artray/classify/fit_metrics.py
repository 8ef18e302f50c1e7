"""Metrics of the bundled heads with their intervals, by scikit-learn (the ``dev`` extra)."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000


def measure(names: Sequence[str], truth: NDArray[np.int64], predicted: NDArray[np.int64]) -> dict[str, float]:
    """F1 per class and over all classes, accuracy, and Matthews' correlation coefficient.

    Args:
        names: of the C classes.
        truth: int64[N] in [0, C), N >= 1.
        predicted: likewise.

    Returns:
        ``f1 NAME`` for every class, ``micro_f1`` (for single labels the accuracy), ``macro_f1``, ``accuracy``, ``mcc``;
        all in [0, 1] but mcc in [-1, 1]; 0 where a class has neither truths nor predictions.
    """
    from sklearn import metrics

    ids = list(range(len(names)))
    per_class = metrics.f1_score(truth, predicted, labels=ids, average=None, zero_division=0)
    return {f"f1 {name}": float(value) for name, value in zip(names, per_class, strict=True)} | {
        "micro_f1": float(metrics.f1_score(truth, predicted, labels=ids, average="micro", zero_division=0)),
        "macro_f1": float(np.mean(per_class)),
        "accuracy": float(metrics.accuracy_score(truth, predicted)),
        "mcc": float(metrics.matthews_corrcoef(truth, predicted)),
    }


def bootstrap(
    names: Sequence[str], truth: NDArray[np.int64], predicted: NDArray[np.int64], resamples: int | None = None
) -> dict[str, dict[str, float]]:
    """Every metric of :func:`measure` with its 95 % interval: percentiles over resampled images, always the same.

    Returns:
        Metric to ``value``, ``low`` and ``high``.
    """
    random = np.random.default_rng(0)
    draws = []
    for _ in range(resamples or RESAMPLES):
        chosen = random.integers(0, len(truth), len(truth))
        draws.append(measure(names, truth[chosen], predicted[chosen]))
    result = {}
    for name, value in measure(names, truth, predicted).items():
        low, high = np.percentile([draw[name] for draw in draws], [2.5, 97.5])
        result[name] = {"value": value, "low": float(low), "high": float(high)}
    return result


def markdown(results: Mapping[str, Any]) -> str:
    """A table of all metrics per task, and a line on the prints."""
    lines = ["| head | metric | test | 95 % interval |", "|---|---|---|---|"]
    for task, result in results.items():
        for name, numbers in result["metrics"].items():
            interval = f"{numbers['low']:.3f} to {numbers['high']:.3f}"
            lines.append(f"| {task} (n = {result['n']}) | {name} | {numbers['value']:.3f} | {interval} |")
    for task, result in results.items():
        lines.append(f"\n{task}: fitted with {result['choice']}")
        if "prints" in result:
            counts = ", ".join(f"{count} as {name}" for name, count in result["prints"].items())
            lines.append(f"Prints, which are neither type, are classified: {counts}.")
    return "\n".join(lines) + "\n"
