"""What a training tells while it runs: a line per epoch, TensorBoard's events, and curves to look at."""

import io
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from artray.location import Location
from artray.train.loop import Result, best_of

INK, COLOURS = "#444444", ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Of Okabe and Ito (2008), which colour-blind people can tell apart."""

ALWAYS = ("ap", "ap50", "reconstruction", "kl")
"""Metrics that have a curve whatever they are."""


def lines(history: Sequence[Result]) -> bytes:
    """One JSON document a line, an epoch each."""
    return "".join(f"{json.dumps(result._asdict())}\n" for result in history).encode()


def tell(folder: Location, history: Sequence[Result], last: bool) -> None:
    """Write metrics.jsonl and TensorBoard's events; at the end the curves, too. Each is written as a whole."""
    (folder / "metrics.jsonl").write_bytes(lines(history))
    (folder / "tensorboard" / "events.out.tfevents.artray").write_bytes(events(history))
    if last:
        (folder / "curves.png").write_bytes(curves(history))


def events(history: Sequence[Result]) -> bytes:
    """A TensorBoard file of all epochs."""
    from tensorboardX import SummaryWriter

    with tempfile.TemporaryDirectory() as folder:
        with SummaryWriter(folder) as writer:
            for result in history:
                for name, value in scalars(result).items():
                    writer.add_scalar(name, value, result.epoch)
        return b"".join(path.read_bytes() for path in Path(folder).iterdir())


def scalars(result: Result) -> dict[str, float]:
    """An epoch's numbers by the names that TensorBoard groups them by."""
    own = {"loss/train": result.loss, "loss/val": result.val_loss, "lr": result.lr, "images_per_s": result.images_per_s}
    return own | {f"val/{name.replace(' ', '_')}": value for name, value in result.metrics.items()}


def curves(history: Sequence[Result]) -> bytes:
    """A PNG: losses on the left, the metrics of validation on the right, the best epoch marked."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    epochs = [result.epoch for result in history]
    _draw(left, epochs, {"train": [r.loss for r in history], "val": [r.val_loss for r in history]}, "loss")
    names = drawn(history[0].metrics) if history else []
    _draw(right, epochs, {name: [r.metrics[name] for r in history] for name in names}, "validation")
    best = best_of(history)
    if best:
        for axes in (left, right):
            axes.axvline(best.epoch, color=INK, linestyle=":", linewidth=1)
        right.set_title(f"best: epoch {best.epoch}", fontsize=9, color=INK)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


def drawn(metrics: Mapping[str, float]) -> list[str]:
    """The metrics that are worth a curve: F1 per class, its mean and MCC; of detectors AP, and AP@.5 per class.

    >>> drawn({"type f1 drawing": 0.5, "type accuracy": 0.6, "type mcc": 0.2})
    ['type f1 drawing', 'type mcc']
    >>> drawn({"ap": 0.2, "ap50": 0.4, "ap75": 0.1, "ap dog": 0.2, "ap50 dog": 0.4, "ap50 cat": -1.0})
    ['ap', 'ap50', 'ap50 dog']
    >>> drawn({"reconstruction": 0.5, "kl": 0.1, "negative loss": -0.6})
    ['reconstruction', 'kl']
    """
    per_class = [name for name in metrics if " f1 " in name]
    means = [name for name in metrics if name.endswith(("macro_f1", "mcc"))]
    found = [name for name, value in metrics.items() if name in ALWAYS or (name.startswith("ap50 ") and value >= 0)]
    return [*per_class, *means, *found]


def _draw(axes: Any, epochs: Sequence[int], series: dict[str, list[float]], label: str) -> None:
    for number, (name, values) in enumerate(series.items()):
        style = ("-", "--", ":")[number // len(COLOURS) % 3]
        axes.plot(epochs, values, style, color=COLOURS[number % len(COLOURS)], label=name, marker=".")
    axes.set_xlabel("epoch")
    axes.set_ylabel(label)
    axes.spines[["top", "right"]].set_visible(False)
    if series:
        axes.legend(fontsize=8, frameon=False)
