"""``python -m tests.benchmarks.ensembles``: what several detectors find together, by every way of fusing them.

Every detector looks at every picture once; what it found is kept in a file and fused in all ways. Judged as detectors
are by ``artray train``: a box counts as what the picture's set would call it.

    python -m tests.benchmarks.ensembles --source people-art.yaml --cards yolox-nano-art,yolox-nano-coco --out DIR

The source is one of a training's ``data.sources``; only its pictures of ``--part`` are looked at.
"""

import argparse
import json
import pickle
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
import yaml

from artray.config import ArchiveConfig, DecodeConfig, FuseConfig, ViewsConfig
from artray.detect import stage
from artray.detect.datasets import reading, splitting
from artray.detect.datasets.sources import BoxSource
from artray.detect.datasets.tables import Labelled
from artray.detect.ensemble import CLASSES, Ensemble, Member
from artray.detect.found import Found, nothing
from artray.detect.views import SeveralViews
from artray.models import cards, registry
from artray.pipeline.decode import Decode
from artray.train.detectors import judging
from artray.train.detectors import labels as known
from tests.benchmarks import machine

BATCH = 16
SIDE_PX = 640
SCORE_MIN = 0.01
"""Members are asked for all that they believe this much: average precision needs the unsure ones."""

RULES = {
    "nested": ("flower", "fruit", "produce (others)", "ship"),
    "oversized": ("building",),
    "specific_iou": 0.7,
}
"""Those of the report, sections 4.1 and 4.3."""


def ways(names: Sequence[str]) -> Iterator[tuple[str, list[int], FuseConfig]]:
    """What is compared: its title, the members that take part, and how they are fused."""
    for at, name in enumerate(names):
        yield name, [at], FuseConfig()
        yield f"{name}, rules", [at], FuseConfig(**RULES)
    everybody = list(range(len(names)))
    if len(names) < 2:
        return
    for by in ("category", "class"):
        for method in ("nms", "soft_nms_linear", "soft_nms_gaussian", "nmw", "wbf", "consensus"):
            yield f"all, {method} by {by}", everybody, FuseConfig(method=method, by=by)
    yield "all, wbf by category, IoU 0.55", everybody, FuseConfig(method="wbf", iou_match=0.55)
    yield "all, wbf by class, IoU 0.6", everybody, FuseConfig(method="wbf", by="class", iou_match=0.6)
    yield "all, wbf by category, rules", everybody, FuseConfig(method="wbf", **RULES)
    yield "all, each_then_all", everybody, FuseConfig(method="each_then_all")


def looked(found: Labelled, card_name: str, mirrored: bool, kept: Path) -> tuple[tuple[str, ...], list[Found]]:
    """What a card's detector finds in every picture, and in its mirror image if asked; kept for the next time.

    Boxes are in pixels of the original.
    """
    if kept.exists():
        names, answers = pickle.loads(kept.read_bytes())
        return names, answers
    card = cards.load(card_name).model_copy(update={"score_min": SCORE_MIN})
    settings = {name: value for name, value in card.settings.items() if name != "class_score_min"}
    built = registry.build(card.model_copy(update={"settings": settings}), "cpu")
    detector = SeveralViews(built, ViewsConfig(mirrored=True)) if mirrored else built
    answers = []
    with Decode(DecodeConfig(max_side_px=SIDE_PX), ArchiveConfig().max_file_bytes) as decode:
        for batch in found.images.select(["uri", "version"]).to_batches(max_chunksize=BATCH):
            seen = decode(batch.to_pydict())
            sizes = zip(seen["width_px"], seen["height_px"], strict=True)
            for pixels, size in zip(seen["pixels"], sizes, strict=True):
                answers.append(
                    nothing() if pixels is None else stage.place(detector([pixels])[0], pixels.shape[:2], size)
                )
            print(f"{card_name}: {len(answers):,} of {found.images.num_rows:,}", end="\r", flush=True)
    print()
    kept.write_bytes(pickle.dumps((detector.class_names, answers)))
    return detector.class_names, answers


def main() -> None:
    """Compare, and write ensembles.json and ensembles.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", required=True, help="a YAML file with a set of labelled boxes")
    parser.add_argument("--cards", required=True, help="detectors, with commas between")
    parser.add_argument("--part", default="test")
    parser.add_argument("--mirrored", action="store_true", help="every detector looks at mirror images, too")
    parser.add_argument("--resamples", type=int, default=200)
    parser.add_argument("--out", type=Path, required=True)
    told = parser.parse_args()
    torch.set_num_threads(1)
    told.out.mkdir(parents=True, exist_ok=True)
    source = BoxSource.model_validate(yaml.safe_load(Path(told.source).read_text()))
    found = splitting.part(reading.read(source), told.part)
    names = told.cards.split(",")
    ending = f"{'-mirrored' if told.mirrored else ''}.pickle"
    seen = [looked(found, name, told.mirrored, told.out / f"{Path(name).stem}{ending}") for name in names]
    used = {source.title: sorted({name for name in source.label_map().classes.values() if name})}
    labels = known.arrays(found.images, found.boxes, CLASSES, used)
    sizes = [tuple(each) for each in labels.sizes_wh.tolist()]
    rows, lines = np.arange(found.images.num_rows), list[dict[str, object]]()
    for title, at, cfg in ways([Path(name).stem for name in names]):
        ensemble = Ensemble(cfg, [Member(names[each], seen[each][0]) for each in at])
        merged = ensemble([seen[each][1] for each in at], sizes)
        report = judging.report(labels, rows, [each.found for each in merged], told.resamples)
        boxes = sum(len(each.found.scores) for each in merged)
        lines.append({"way": title, "boxes": boxes, **report["figures"], "interval": report["interval"]})
        print(f"{title}: AP@.5 {report['figures']['ap50']:.3f}, AP {report['figures']['ap']:.3f}", flush=True)
    made = {"source": source.title, "pictures": len(rows), "machine": machine.describe(), "lines": lines}
    (told.out / "ensembles.json").write_text(json.dumps(made, indent=2))
    table = ["| way | AP@.5 | 95 % | AP@[.5:.95] |", "|---|---:|---|---:|"]
    table += [
        f"| {line['way']} | {line['ap50']:.3f} | {line['interval']['low']:.3f} to {line['interval']['high']:.3f} "  # type: ignore[index]
        f"| {line['ap']:.3f} |"
        for line in lines
    ]
    (told.out / "ensembles.md").write_text("\n".join([*table, ""]))


if __name__ == "__main__":
    main()
