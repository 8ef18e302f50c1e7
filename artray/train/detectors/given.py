"""Judge a detector as it is, in a folder as of a training: what trained ones are compared with."""

from typing import Any, Final

from artray.detect import stage
from artray.detect.detector import Detector
from artray.detect.found import Found
from artray.errors import ConfigError, RowError
from artray.location import Location
from artray.models import cards, registry
from artray.models.cards import Card
from artray.pipeline.progress import Reporter, Tally
from artray.train.detectors import judging, run
from artray.train.detectors.folder import DetectorFolder
from artray.train.detectors.labels import judged_classes
from artray.train.detectors.profile import DetectorProfile
from artray.train.fit import reader
from artray.train.run import conduct
from artray.train.sampling import in_order

KIND: Final = "given"
"""What such a folder holds."""


def judge(profile: DetectorProfile, out: Location, reporter: Reporter) -> dict[str, Any]:
    """What the profile's detector finds in the pictures of validation and test, without any training.

    It runs in this process, on ``workers.device``.

    Args:
        profile: its data; ``detector.card`` and, if the card's architecture takes it, ``detector.size_px``;
            ``training.batch_size``; of ``test``, ``score_min`` and ``resamples``.
        out: the folder.
        reporter: is told how far it is.

    Returns:
        What is in RUN/result.json, and ``folder``.

    Raises:
        ConfigError: the profile, the data, the card or the folder cannot be used.
        TransientError: something outside failed; run again.
    """
    card, folder = cards.load(profile.detector.card), DetectorFolder(out)
    return conduct(
        folder,
        profile,
        reporter,
        lambda: run.begin(folder, profile, card, reporter, kind=KIND),
        kind=KIND,
        fit=lambda: _judge(folder, profile, card, reporter),
    )


def low(card: Card, profile: DetectorProfile) -> Card:
    """The card with the thresholds of judging: its own are for use."""
    settings = {name: value for name, value in card.settings.items() if name != "class_score_min"}
    told: dict[str, Any] = {"score_min": profile.test.score_min} if card.score_min else {}
    if profile.detector.size_px is not None:
        settings["size_px"] = profile.detector.size_px
    return card.model_copy(update=told | {"settings": settings})


def _judge(folder: DetectorFolder, profile: DetectorProfile, card: Card, reporter: Reporter) -> None:
    detector: Detector = registry.build(low(card, profile), profile.workers.device)
    rows, read = {part: ids for part, ids in folder.rows().items() if part != "train"}, reader(profile, folder.images)
    tally = Tally(sum(map(len, rows.values())))
    reporter.start(tally, "detecting")
    known = folder.labels(judged_classes(folder.boxes, [profile.classes], detector.class_names))
    found: dict[str, list[Found]] = {part: [] for part in rows}
    for part, ids in rows.items():
        for batch in in_order(len(ids), profile.training.batch_size):
            images = [read(int(ids[at])) for at in batch]
            for at, image, each in zip(batch, images, stage.attempt(detector, images), strict=True):
                if isinstance(each, RowError):
                    raise ConfigError(f"{folder.images['uri'][int(ids[at])]}: {card.name}: {each.detail}")
                width, height = known.sizes_wh[ids[at]].tolist()
                found[part].append(stage.place(each, image.shape[:2], (width, height)))
            tally.add(len(batch), {})
            reporter.update(tally)
    folder.keep_predictions(found, detector.class_names)
    reports = {
        part: judging.report(known, ids, folder.predictions(part, known.class_names), profile.test.resamples)
        for part, ids in rows.items()
    }
    (folder.location / "result.json").write_json(
        {"card": card.name, "classes": list(detector.class_names), "parts": reports}
    )
