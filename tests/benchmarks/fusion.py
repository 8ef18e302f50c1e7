"""``python -m tests.benchmarks.fusion``: fusing the boxes of an ensemble, artray against ensemble-boxes.

Both fuse the same boxes: every image shows a dozen things, which the members find in their own ways. artray gets all
images in one call; ensemble-boxes gets some of them, one by one as it wants them, already cut into lists in [0, 1]
(which is not timed), and its time is scaled to all. They run in turn in every round; a ratio is the median of the
rounds' own. Before that, their boxes, scores and classes are compared image by image on those that both fuse.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ensemble_boxes
import numpy as np

from artray.detect.fusion import Fused, Options, fuse
from artray.detect.proposals import Proposals, proposals

WANTED = 20
SIDE_PX = 1000
THINGS = 12
"""That an image shows."""

CLASSES_PER_GROUP = 4
IOU = 0.4

Lists = tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]
"""Boxes, scores and groups of one image, one array per member."""

METHODS: dict[str, Callable[..., Any]] = {
    "wbf": lambda *lists: ensemble_boxes.weighted_boxes_fusion(*lists, iou_thr=IOU),
    "nmw": lambda *lists: ensemble_boxes.non_maximum_weighted(*lists, iou_thr=IOU),
    "soft_nms_linear": lambda *lists: ensemble_boxes.soft_nms(*lists, method=1, iou_thr=IOU),
    "soft_nms_gaussian": lambda *lists: ensemble_boxes.soft_nms(*lists, method=2, iou_thr=IOU),
    "nms": lambda *lists: ensemble_boxes.nms(*lists, iou_thr=IOU),
}
"""Method to what ensemble-boxes calls it."""


def scene(told: argparse.Namespace) -> Proposals:
    """Things anywhere; members find them a little beside where they are, and now and then as something else."""
    rng = np.random.default_rng(0)
    middle, size = rng.random((told.images, THINGS, 2)), rng.uniform(0.05, 0.4, (told.images, THINGS, 2))
    things = np.concatenate([middle - size / 2, middle + size / 2], axis=2)
    image = np.arange(told.images)[:, None]
    which = rng.integers(0, THINGS, (told.images, told.boxes))
    near = (things[image, which] + rng.normal(0, 0.02, (*which.shape, 4))).clip(0.01, 0.99)
    low, high = np.minimum(near[..., :2], near[..., 2:]) - 0.001, np.maximum(near[..., :2], near[..., 2:]) + 0.001
    classes = rng.integers(0, told.groups * CLASSES_PER_GROUP, (told.images, THINGS))[image, which]
    lost = rng.random(which.shape) < 0.2
    classes = np.where(lost, rng.integers(0, told.groups * CLASSES_PER_GROUP, which.shape), classes).ravel()
    return proposals(
        np.repeat(np.arange(told.images), told.boxes),
        np.tile(np.arange(told.boxes) % told.members, told.images),
        np.concatenate([low, high], axis=2).reshape(-1, 4) * SIDE_PX,
        rng.random(which.size),
        classes,
        classes // CLASSES_PER_GROUP,
    )


def lists(found: Proposals, told: argparse.Namespace) -> Iterator[Lists]:
    """The first images, as ensemble-boxes wants them."""
    for image in range(told.theirs):
        here = slice(image * told.boxes, (image + 1) * told.boxes)
        some = [np.flatnonzero(found.members[here] == member) + here.start for member in range(told.members)]
        yield (
            [found.boxes_xyxy[rows] / SIDE_PX for rows in some],
            [found.scores[rows] for rows in some],
            [found.groups[rows] for rows in some],
        )


def seconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def differing(fused: Fused, theirs: list[Any]) -> int:
    """Images of which one number or more differs by more than 1e-5."""
    return sum(not same(fused, image, result) for image, result in enumerate(theirs))


def same(fused: Fused, image: int, result: Any) -> bool:
    here = fused.image_ids == image
    ours = ordered(fused.boxes_xyxy[here] / SIDE_PX, fused.scores[here], fused.groups[here])
    theirs = ordered(*map(np.asarray, result))
    return ours.shape == theirs.shape and np.allclose(ours, theirs, atol=1e-5, rtol=0)


def ordered(boxes: np.ndarray, scores: np.ndarray, groups: np.ndarray) -> np.ndarray:
    return np.column_stack([groups, scores, boxes])[np.lexsort((-scores, groups))]


def contest(method: str, found: Proposals, some: list[Lists], told: argparse.Namespace) -> dict[str, Any]:
    """Seconds for all images, of either, and their ratios."""
    options, rival = Options(members=told.members, iou_match=IOU), METHODS[method]
    different = differing(fuse(method, found, options), [rival(*one) for one in some])  # type: ignore[arg-type]
    ours, theirs = [], []
    for _ in range(told.rounds):
        ours.append(seconds(lambda: fuse(method, found, options)))  # type: ignore[arg-type]
        theirs.append(seconds(lambda: [rival(*one) for one in some]) * told.images / told.theirs)
        sys.stderr.write(f"{method}: {ours[-1]:.2f} s, ensemble-boxes {theirs[-1]:.2f} s\n")
    ratio = statistics.median(b / a for a, b in zip(ours, theirs, strict=True))
    return {"ours": ours, "theirs": theirs, "ratio": ratio, "differing": different}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.fusion")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--boxes", type=int, default=100, help="per image, of all members together")
    parser.add_argument("--members", type=int, default=4)
    parser.add_argument("--groups", type=int, default=6, help="categories; boxes of different ones are not fused")
    parser.add_argument("--theirs", type=int, default=500, help="images that ensemble-boxes is given")
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    told = parser.parse_args()
    told.theirs = min(told.theirs, told.images)
    warnings.simplefilter("ignore")
    found = scene(told)
    some = list(lists(found, told))
    results = {method: contest(method, found, some, told) for method in told.methods}
    if told.json:
        told.json.write_text(json.dumps(results, indent=1), encoding="utf-8")
    sys.stdout.write(page(results, told))


def page(results: dict[str, Any], told: argparse.Namespace) -> str:
    """The results as Markdown."""
    rows = []
    for method, result in results.items():
        ours, theirs = (statistics.median(result[name]) for name in ("ours", "theirs"))
        met = "met" if result["ratio"] >= WANTED else "missed"
        rows.append(
            f"| {method} | {ours:.2f} | {theirs:.1f} | {result['ratio']:.1f} | {WANTED}: {met} "
            f"| {result['differing']} of {told.theirs} |"
        )
    return "\n".join(
        [
            f"{told.images:,} images of {told.boxes} boxes from {told.members} members in {told.groups} groups, IoU "
            f"{IOU}; {told.rounds} rounds; ensemble-boxes on {told.theirs} images, scaled to all. {os.cpu_count()} "
            f"processor cores, Python {platform.python_version()}, NumPy {np.__version__}.",
            "",
            "| method | artray, s | ensemble-boxes, s | times as fast | wanted | images that differ |",
            "|---|---:|---:|---:|---:|---:|",
            *rows,
            "",
        ]
    )


if __name__ == "__main__":
    main()
