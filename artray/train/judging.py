"""Judge a trained network on works that it was not trained on: views put to the vote, intervals, calibration."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from artray.metrics import classification as metrics
from artray.metrics.calibration import Calibration, bias_corrected, softmax, temperature
from artray.train import voting
from artray.train.epochs import Ints
from artray.train.profile import CalibrationKind, Task, TrainProfile
from artray.train.trainer import as_logits

Floats = npt.NDArray[np.float64]


class Judged(NamedTuple):
    """What a network says of M works, one head's."""

    work_ids: list[str]
    parts: list[str]
    groups: list[str]
    truth: Ints  # int64[M]; -1 unknown
    logits: Floats  # float64[M, V, C]
    apart: Mapping[str, Sequence[str | None]] = MappingProxyType({})  # by what else metrics are told apart


def scores(judged: Judged, calibration: Calibration) -> Floats:
    """float64[M, V, C]: probabilities of every view."""
    return softmax(calibration(judged.logits))


def calibration(logits: Floats, truth: Ints, kind: CalibrationKind) -> Calibration:
    """What makes the logits float64[M, C] of validation, as the pipeline shows it, the likeliest; truth -1 is unknown.

    Nothing where validation says nothing: without two classes, or without a mistake, which any confidence would suit.
    """
    known = truth >= 0
    if kind == "none" or len(np.unique(truth[known])) < 2 or (logits[known].argmax(axis=1) == truth[known]).all():
        return Calibration()
    if kind == "bias_corrected":
        return bias_corrected(logits[known], truth[known])
    return Calibration(temperature(logits[known], truth[known]))


def report(judged: Judged, profile: TrainProfile, task: Task, calibration: Calibration) -> dict[str, Any]:
    """Metrics of validation and test as JSON: intervals, calibration before and after, confusion matrix.

    ``apart`` has them once more for the works of each value of ``judged.apart``, such as grey ones and those in colour:
    a network that looks at a shortcut is found out there.
    """
    names = profile.outputs(task)
    made = {"temperature": calibration.temperature, "shift": list(calibration.shift)}
    told: dict[str, Any] = {"classes": list(names), "calibration": made}
    for part in ("val", "test"):
        rows = _known(judged, part)
        entry = _entry(judged, rows, names, calibration, profile.test.resamples)
        if len(rows):
            truth = judged.truth[rows]
            after, before = (scores(judged, by)[rows].mean(axis=1) for by in (calibration, Calibration()))
            entry["calibration_error"] = metrics.calibration_error(after, truth)
            entry["calibration_error_uncalibrated"] = metrics.calibration_error(before, truth)
            entry["apart"] = {
                name: {
                    value: _entry(judged, rows[own == value], names, calibration, profile.test.resamples)
                    for value in sorted({value for value in own.tolist() if value is not None})
                }
                for name, column in judged.apart.items()
                for own in [np.array(column, object)[rows]]
            }
        told[part] = entry
    return told


def _entry(
    judged: Judged, rows: Ints, names: Sequence[str], calibration: Calibration, resamples: int
) -> dict[str, Any]:
    """Counts and metrics of some works; of no works there are no metrics."""
    truth = judged.truth[rows]
    entry: dict[str, Any] = {"works": len(rows), "per_class": np.bincount(truth, minlength=len(names)).tolist()}
    if len(rows):
        predicted = voting.majority(scores(judged, calibration)[rows])
        groups = [judged.groups[row] for row in rows]
        intervals = metrics.bootstrap(truth, predicted, names, groups, resamples)
        entry["metrics"] = {name: interval._asdict() for name, interval in intervals.items()}
        entry["confusion"] = metrics.confusion(truth, predicted, len(names)).tolist()
    return entry


def predictions(judged: Judged, profile: TrainProfile, task: Task, calibration: Calibration) -> pa.Table:
    """A row per work: what it is, what is said of it, and how sure that is.

    ``scores`` are the means over views, in the order of the head's outputs; ``entropy`` in [0, 1] is theirs;
    ``disagreement`` in [0, 1) is the part of the views that say otherwise.
    """
    names = profile.outputs(task)
    found = scores(judged, calibration)
    mean, predicted = found.mean(axis=1), voting.majority(found)
    return pa.table(
        {
            "work_id": pa.array(judged.work_ids, pa.string()),
            "part": pa.array(judged.parts, pa.string()),
            "head": pa.array([task] * len(predicted), pa.string()),
            "truth": pa.array(named(judged.truth, names), pa.string()),
            "predicted": pa.array(named(predicted, names), pa.string()),
            "score": pa.array(mean[np.arange(len(mean)), predicted], pa.float32()),
            "scores": pa.array(mean.tolist(), pa.list_(pa.float32())),
            "entropy": pa.array(metrics.entropy(mean), pa.float32()),
            "disagreement": pa.array(voting.disagreement(found), pa.float32()),
        }
    )


def markdown(name: str, reports: Mapping[Any, dict[str, Any]]) -> str:
    """Every head's report as Markdown: the test, or validation where there is none."""
    lines = [f"# {name}", ""]
    for task, told in reports.items():
        part = "test" if told["test"]["works"] else "val"
        entry, classes = told[part], told["classes"]
        lines += [
            f"## {task}, on {entry['works']:,} works of {part}",
            "",
            "| | value | 95 % interval |",
            "|---|---:|---|",
        ]
        lines += [f"| {metric} | {_shown(found)} |" for metric, found in entry.get("metrics", {}).items()]
        if "calibration_error" in entry:
            before, after = entry["calibration_error_uncalibrated"], entry["calibration_error"]
            lines.append(f"| calibration error | {after:.3f} | {before:.3f} before calibration |")
        lines += ["", *_matrix(entry, classes), *_counts(told.get("counts", {}))]
        for by, values in entry.get("apart", {}).items():
            lines += [
                f"F1 by {by}:",
                "",
                f"| {by} | works | {' | '.join(classes)} | mcc |",
                "|---" * (len(classes) + 3) + "|",
            ]
            for value, found in values.items():
                cells = [f"{_whole(found['metrics'][f'f1 {each}'])}" for each in classes]
                lines.append(
                    f"| {value} | {found['works']:,} | {' | '.join(cells)} | {_whole(found['metrics']['mcc'])} |"
                )
            lines.append("")
    return "\n".join(lines)


def _counts(counts: Mapping[str, Mapping[str, int]]) -> list[str]:
    """How many works of a class there are, before and after balancing."""
    if not counts:
        return []
    rows = [f"| {name} | {' | '.join(map(str, count.values()))} |" for name, count in counts.items()]
    return ["| works | to learn from | shown in an epoch | val | test |", "|---|---:|---:|---:|---:|", *rows, ""]


def _matrix(entry: Mapping[str, Any], classes: Sequence[str]) -> list[str]:
    """The confusion matrix: a row per true class."""
    if "confusion" not in entry:
        return []
    rows = [f"| {name} | {' | '.join(map(str, row))} |" for name, row in zip(classes, entry["confusion"], strict=True)]
    return [f"| is, taken for | {' | '.join(classes)} |", "|---" * (len(classes) + 1) + "|", *rows, ""]


def _shown(found: Mapping[str, float]) -> str:
    return f"{found['value']:.3f} | {found['low']:.3f} to {found['high']:.3f}"


def _whole(found: Mapping[str, float]) -> str:
    return f"{found['value']:.3f} ({found['low']:.3f} to {found['high']:.3f})"


def named(ids: Ints, names: Sequence[str]) -> list[str | None]:
    """Class names of ids; None for those that are unknown."""
    return [names[class_id] if class_id >= 0 else None for class_id in ids.tolist()]


def viewed(logits: Floats, views: int) -> Floats:
    """float64[M, V, C] of float64[M * V, K]."""
    table = as_logits(logits)
    return table.reshape(-1, views, table.shape[1])


def _known(judged: Judged, part: str) -> Ints:
    """The rows of a part that have a label."""
    return np.flatnonzero((np.array(judged.parts) == part) & (judged.truth >= 0))
