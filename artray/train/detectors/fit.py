"""One worker's training of a detector: from the last checkpoint to the card."""

import hashlib
from typing import Any

import numpy as np
from safetensors.torch import save

from artray import __version__
from artray.train.detectors import judging, learners, plan
from artray.train.detectors.folder import DetectorFolder
from artray.train.detectors.learner import Learner
from artray.train.detectors.pictures import Pictures
from artray.train.detectors.profile import DetectorProfile
from artray.train.detectors.trainer import Trainer
from artray.train.exchange import Exchange
from artray.train.fit import Told, origin, reader, run, trained_with, worker_profile, write_yaml
from artray.train.settings import WorkersConfig
from artray.train.works import Ints

SCORE_MIN = 0.05
"""The least threshold that a card has: what scores less would only be in the way."""


def fit(
    folder: DetectorFolder, exchange: Exchange, tell: Told = lambda _: None, workers: WorkersConfig | None = None
) -> None:
    """Train from where the folder's last checkpoint is to the end, and judge the best epoch.

    Args:
        folder: begun; every worker reaches it.
        exchange: the other workers.
        tell: is told every epoch.
        workers: those of this run, which may be others than those that began.

    Raises:
        ConfigError: a picture or a card cannot be used, a loss is not finite, or a checkpoint is of something else.
        TransientError: a storage failed; run again to go on.
    """
    profile, labels, rows = worker_profile(folder.detector_profile, workers), folder.labels(), folder.rows()
    learner = learners.build(profile, folder.card, labels.class_names, exchange)
    pictures = Pictures(profile, labels, learner.size_px, reader(profile, folder.images))
    if not profile.detector.random:
        learner.calibrate(pictures.validation(_some(profile, rows["train"]), profile.training.batch_size))
    trainer = Trainer(profile, learner, pictures, labels, rows["train"], rows["val"], exchange)
    run(folder, trainer, tell)
    _finish(folder, trainer)


def _some(profile: DetectorProfile, train: Ints) -> Ints:
    """Some pictures to get ready by, for every worker the same ones."""
    return np.random.default_rng(profile.training.seed).permutation(train)[: learners.MEASURED]


def _finish(folder: DetectorFolder, trainer: Trainer) -> None:
    """Judge the best epoch; the first worker writes the result and the card."""
    labels, cfg, rows = trainer.labels, trainer.profile.test, folder.rows()
    found = {part: trainer.found(rows[part])[1] for part in ("val", "test")}
    if trainer.exchange.rank:
        return
    reports = {part: judging.report(labels, rows[part], each, cfg.resamples) for part, each in found.items()}
    scores = judging.thresholds(labels, trainer.val, found["val"])
    (folder.location / "report.md").write_bytes(judging.markdown(trainer.profile.name, reports).encode())
    folder.keep_predictions(found, labels.class_names)
    best = trainer.best
    (folder.location / "result.json").write_json(
        {
            "card": write_card(folder, trainer, reports, scores),
            "best_epoch": best.epoch if best else None,
            "epochs": len(trainer.history),
            "chosen_by": trainer.chosen_by,
            "classes": list(labels.class_names),
            "counts": plan.counts(labels, rows, trainer.factors),
            "parts": reports,
            "thresholds": scores,
        }
    )


def write_card(
    folder: DetectorFolder, trainer: Trainer, reports: dict[str, dict[str, Any]], scores: dict[str, float]
) -> str:
    """Write the card and its file of weights into RUN/card; returns where the card is."""
    profile, learner = trainer.profile, trainer.judged
    assert isinstance(learner, Learner)
    names = trainer.labels.class_names
    data = save({name: tensor.contiguous().clone() for name, tensor in learner.tensors().items()})
    file = f"{profile.name}.safetensors"
    (folder.location / "card" / file).write_bytes(data)
    kept = {name: max(scores.get(name, max(scores.values(), default=SCORE_MIN)), SCORE_MIN) for name in names}
    card = {
        "name": profile.name,
        "task": "detect",
        "architecture": folder.card.architecture,
        "yields": ["objects"],
        **learner.described(names, kept),
        "weights": {"model": {"uri": file, "sha256": hashlib.sha256(data).hexdigest()}},
        **origin(folder, "boxes", random=profile.detector.random),
        "training_data": _training_data(folder),
        "metrics": {part: _brief(each) for part, each in reports.items() if each["pictures"]},
        "training": trained_with(folder, profile),
        "notes": f"score_min and class_score_min give the best F1 on validation. Trained by artray {__version__}.",
    }
    return write_yaml(folder, card)


def _training_data(folder: DetectorFolder) -> str:
    """What it was trained on, in a line."""
    counts = ", ".join(f"{part} {len(rows):,}" for part, rows in folder.rows().items())
    return f"{', '.join(sorted(set(folder.images['source'].to_pylist())))}: {counts} pictures"


def _brief(report: dict[str, Any]) -> dict[str, Any]:
    """Of each set and class its boxes, AP@.5 and the interval of that."""
    told: dict[str, Any] = {name: round(value, 4) for name, value in report["figures"].items()}
    for title, each in report["sets"].items():
        told[title] = {
            name: [found["boxes"], *(round(found[key], 4) for key in ("ap50", "ap50_low", "ap50_high"))]
            for name, found in each["classes"].items()
        }
    return told
