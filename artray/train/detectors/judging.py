"""Judge a trained detector: COCO's figures by set, what each set calls its objects, and thresholds of validation."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from artray.detect.found import Found, joined
from artray.metrics import detection
from artray.metrics.matching import Matches, Predictions, Truths, match
from artray.taxonomy import CATEGORY, coarse
from artray.train.detectors.labels import Labels
from artray.train.works import Ints


def matches(labels: Labels, rows: Ints, found: Sequence[Found]) -> Matches:
    """What is found in some pictures against their boxes.

    A prediction counts as what the picture's set would call it: an angel is a person where the set says no more. Where
    a set does not box every object of a class, predictions of it in its pictures are neither right nor wrong.

    Args:
        labels: of all pictures.
        rows: int64[M].
        found: M, boxes in pixels of the upright originals, class ids of the labels' classes.
    """
    truths, predictions = _columns(labels, rows, found)
    return match(truths, predictions)


def _columns(labels: Labels, rows: Ints, found: Sequence[Found]) -> tuple[Truths, Predictions]:
    classes, boxed = len(labels.class_names), [labels.boxed[row] for row in rows]
    places = np.repeat(np.arange(len(rows)), [len(each.class_ids) for each in boxed])
    ids = np.concatenate([np.empty(0, np.int64), *(each.class_ids for each in boxed)])
    boxes = np.concatenate([np.empty((0, 4)), *(each.boxes_xyxy for each in boxed)])
    crowd = np.concatenate([np.empty(0, bool), *(each.ignored for each in boxed)])
    judged = labels.judged[rows]
    kept = judged[places, ids]
    truths = Truths.of(len(rows), classes, places[kept], ids[kept], boxes[kept], crowd[kept])
    places, (boxes, scores, own) = joined(found)
    called = labels.counts_as[rows][places, own]
    kept = (called >= 0) & judged[places, np.maximum(called, 0)]
    return truths, Predictions.of(places[kept], called[kept], boxes[kept], scores[kept])


def report(labels: Labels, rows: Ints, found: Sequence[Found], resamples: int) -> dict[str, Any]:
    """How a part is judged: all of its sets together, each by itself, fine and coarse, with intervals of AP@.5."""
    told: dict[str, Any] = {"pictures": len(rows)} | _figures(labels, rows, found, resamples)
    told["coarse"] = {name: value for name, value in coarsely(labels, rows, found).items() if _told(name, value)}
    sources = np.array([labels.sources[row] for row in rows], object)
    told["sets"] = {}
    for name in dict.fromkeys(sources.tolist()):
        at = np.flatnonzero(sources == name)
        own = _figures(labels, rows[at], [found[each] for each in at.tolist()], resamples)
        told["sets"][name] = {"pictures": len(at)} | own
    return told


def _figures(labels: Labels, rows: Ints, found: Sequence[Found], resamples: int) -> dict[str, Any]:
    """AP of the classes that have boxes, with their number and the interval of AP@.5."""
    if not len(rows):
        return {"figures": {}, "classes": {}}
    matched = matches(labels, rows, found)
    evaluation = detection.evaluate(matched)
    figures = detection.named(evaluation, labels.class_names)
    groups = [labels.groups[row] for row in rows]
    intervals = detection.bootstrap(matched, labels.class_names, groups, resamples)
    boxes = dict(zip(labels.class_names, evaluation.truths[evaluation.area_names.index("all")].tolist(), strict=True))
    classes = {
        name: {"boxes": boxes[name]}
        | {key: figures[f"{key} {name}"] for key in ("ap", "ap50", "ap75")}
        | {"ap50_low": intervals[f"ap50 {name}"].low, "ap50_high": intervals[f"ap50 {name}"].high}
        for name in labels.class_names
        if boxes[name]
    }
    whole = {key: figures[key] for key in ("ap", "ap50", "ap75", "ar_100")}
    return {"figures": whole, "interval": intervals["ap50"]._asdict(), "classes": classes}


def finely(labels: Labels, rows: Ints, found: Sequence[Found]) -> dict[str, float]:
    """COCO's figures by name, see :func:`artray.metrics.detection.named`."""
    return detection.named(detection.evaluate(matches(labels, rows, found)), labels.class_names)


def coarsely(labels: Labels, rows: Ints, found: Sequence[Found]) -> dict[str, float]:
    """COCO's figures of categories, Table 6; none without pictures."""
    if not len(rows):
        return {}
    truths, predictions = _columns(labels, rows, found)
    broad, said, categories = detection.coarse(truths, predictions, labels.class_names)
    return detection.named(detection.evaluate(match(broad, said)), categories)


def _told(name: str, value: float) -> bool:
    return name.startswith(("ap", "ap50")) and value >= 0


def thresholds(labels: Labels, rows: Ints, found: Sequence[Found]) -> dict[str, float]:
    """The least score of each class that gives the best F1 on validation; classes without a right box have none."""
    best = detection.thresholds(matches(labels, rows, found)).scores
    named = zip(labels.class_names, best.tolist(), strict=True)
    return {name: math.floor(score * 10_000) / 10_000 for name, score in named if not np.isnan(score)}


def markdown(name: str, reports: Mapping[str, Mapping[str, Any]]) -> str:
    """The parts' reports as tables."""
    lines = [f"# {name}", ""]
    for part, told in reports.items():
        tables = {part: told} | {f"{part}, {title}": each for title, each in told["sets"].items()}
        for title, each in tables.items():
            if each["classes"]:
                lines += [f"## {title}: {each['pictures']:,} pictures", "", *_table(each), ""]
    return "\n".join(lines)


def _table(told: Mapping[str, Any]) -> list[str]:
    figures, interval = told["figures"], told["interval"]
    rows = ["| class | boxes | AP@.5 | 95 % interval | AP@[.5:.95] |", "|---|---:|---:|---|---:|"]
    for name in sorted(told["classes"], key=lambda each: (list(CATEGORY).index(each), coarse(each))):
        each = told["classes"][name]
        between = f"{each['ap50_low']:.3f} to {each['ap50_high']:.3f}"
        rows.append(f"| {name} | {each['boxes']:,} | {each['ap50']:.3f} | {between} | {each['ap']:.3f} |")
    boxes = sum(each["boxes"] for each in told["classes"].values())
    between = f"{interval['low']:.3f} to {interval['high']:.3f}"
    return [*rows, f"| mean | {boxes:,} | {figures['ap50']:.3f} | {between} | {figures['ap']:.3f} |"]
