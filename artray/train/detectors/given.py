"""Judge a detector as it is, in a folder as of a training: what trained ones are compared with."""

from typing import Any

import numpy as np

from artray.detect.detector import Detector
from artray.detect.found import Found
from artray.location import Location
from artray.models import cards, registry
from artray.models.cards import Card
from artray.pipeline.progress import Reporter, Tally
from artray.train.detectors import judging, run
from artray.train.detectors.fit import reader
from artray.train.detectors.folder import DetectorFolder
from artray.train.detectors.profile import DetectorProfile
from artray.train.run import conduct
from artray.train.sampling import in_order


def judge(profile: DetectorProfile, out: Location, reporter: Reporter) -> dict[str, Any]:
    """What the profile's detector finds in the pictures of validation and test, without any training.

    Args:
        profile: its data, ``detector.card`` and ``test`` count.
        out: the folder, on storage that all workers reach.
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
        lambda: run.begin(folder, profile, card, reporter),
        fit=lambda: _judge(folder, profile, card, reporter),
    )


def _judge(folder: DetectorFolder, profile: DetectorProfile, card: Card, reporter: Reporter) -> None:
    told = {"score_min": profile.test.score_min} if card.score_min else {}  # a card's own is for use, not for judging
    detector: Detector = registry.build(card.model_copy(update=told), profile.workers.device)
    rows, read = {part: ids for part, ids in folder.rows().items() if part != "train"}, reader(profile, folder)
    tally = Tally(sum(map(len, rows.values())))
    reporter.start(tally, "detecting")
    found: dict[str, list[Found]] = {part: [] for part in rows}
    sizes_wh = folder.labels().sizes_wh
    for part, ids in rows.items():
        for batch in in_order(len(ids), profile.training.batch_size):
            images = [read(int(ids[at])) for at in batch]
            for at, image, each in zip(batch, images, detector(images), strict=True):
                scale = np.tile(sizes_wh[ids[at]] / image.shape[1::-1], 2)
                found[part].append(each._replace(boxes_xyxy=(each.boxes_xyxy * scale).astype(np.float32)))
            tally.add(len(batch), {})
            reporter.update(tally)
    folder.keep_predictions(found, detector.class_names)
    known = folder.labels()
    reports = {
        part: judging.report(known, ids, folder.predictions(part, known.class_names), profile.test.resamples)
        for part, ids in rows.items()
    }
    (folder.location / "result.json").write_json(
        {"card": card.name, "classes": list(detector.class_names), "parts": reports}
    )
