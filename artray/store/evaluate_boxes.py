"""A store's objects against labelled boxes: COCO's figures, intervals, coarse labels, and kinds of error."""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Final

import numpy as np
from PIL import Image, ImageDraw

from artray.detect.datasets import reading, tables
from artray.detect.datasets.readers import reader
from artray.detect.datasets.sources import BoxSource
from artray.detect.datasets.truths import truths
from artray.errors import ArtrayError, ConfigError
from artray.metrics import detection, detection_errors
from artray.metrics.classification import RESAMPLES
from artray.metrics.matching import RIGHT, WRONG, Predictions, Truths, match
from artray.store import objects, sheet, show
from artray.store.layout import Store
from artray.store.pictures import Pictures
from artray.taxonomy import CATEGORY

SHEET: Final = 10
"""So many of the worst and of the best images are looked at."""

SIDE_PX: Final = 480

SHOWN_SCORE: Final = 0.3
"""Kinds of error are those of boxes that score so much."""


def evaluate(
    store: Store, source: BoxSource, *, resamples: int = RESAMPLES, score_min: float = SHOWN_SCORE
) -> dict[str, Any]:
    """Compare a store's objects with labelled boxes of its images.

    Args:
        store: whose records. An image is known by its URI, by its image_id, or by its file's name.
        source: the boxes. Its pictures are looked for in the store's archive unless it says where they are, as another
            store does.
        resamples: of the bootstrap.
        score_min: the errors' kinds are told of boxes with this score or more, in [0, 1].

    Returns:
        ``images`` that are in both, ``boxes`` of the classes that the set labels, ``fine`` and ``coarse`` (COCO's
        figures by name, see artray.metrics.detection.named), ``intervals`` of AP@.5, ``errors`` per class, ``curves``
        per class (precision and recall by falling score), ``thresholds`` per class (the score of the best F1),
        ``looked_at``, the images in which most is wrong and then those in which all is right, and ``left_out``, a line
        for everything in the set that cannot be used.

    Raises:
        ConfigError: the boxes cannot be read, or are of no image of the store.
        TransientError: the storage failed.
    """
    archive = (store.read_json("store.json") or {}).get("archive")
    placed = source.images or not archive or reader(source.kind).places
    found = reading.read(source if placed else source.model_copy(update={"images": archive}))
    names = _classes(source, found)
    judged = truths(found, names)
    if found.images.num_rows and not judged.image_ids:
        raise ConfigError(
            f"--boxes {source.path}: expected pictures in which every one of {', '.join(names)} is labelled, found "
            "none; judge fewer classes at once, with a label map that leaves the others empty"
        )
    rows = {row["image_id"]: row for row in found.images.to_pylist()}
    records = _records(store)
    known = [
        (at, record)
        for at, image_id in enumerate(judged.image_ids)
        if (record := _record(records, rows[image_id], source.title)) is not None
    ]
    if not known:
        raise ConfigError(
            f"--boxes {source.path}: expected boxes of images of {store.uri}, found none of "
            f"{len(judged.image_ids):,} images there"
        )
    there, said = _numbered(judged.truths, [at for at, _ in known]), _predictions([entry for _, entry in known], names)
    groups = [rows[judged.image_ids[at]]["group"] for at, _ in known]
    matches = match(there, said)
    told: dict[str, Any] = {"images": len(known), "boxes": int((~there.crowd).sum()), "classes": list(names)}
    told["fine"] = detection.named(detection.evaluate(matches), names)
    told["intervals"] = {
        name: interval._asdict() for name, interval in detection.bootstrap(matches, names, groups, resamples).items()
    }
    broad, broad_said, categories = detection.coarse(there, said, names)
    told["coarse"] = detection.named(detection.evaluate(match(broad, broad_said)), categories)
    shown = said.at(said.scores >= score_min)
    told["errors"] = detection_errors.named(detection_errors.errors(there, shown), names)
    told["counts"] = dict(
        zip(names, np.bincount(there.class_ids[~there.crowd], minlength=len(names)).tolist(), strict=True)
    )
    curves = detection.curves(matches)
    told["curves"] = {
        name: {key: getattr(curve, key).tolist() for key in ("scores", "precision", "recall")}
        for name, curve in zip(names, curves, strict=True)
    }
    best = detection.thresholds(matches)
    told["thresholds"] = {
        name: None if np.isnan(score) else score for name, score in zip(names, best.scores.tolist(), strict=True)
    }
    told["looked_at"] = _ranked(shown, there, [entry for _, entry in known], names)
    told["left_out"] = list(found.left_out)
    told["published"] = {name: count._asdict() for name, count in tables.counts(found, source.title).items()}
    return told


def _classes(source: BoxSource, found: tables.Labelled) -> tuple[str, ...]:
    """The classes that are judged: those that the set labels or, where it says nothing of that, has boxes of."""
    names = source.classes(source.label_map())
    if source.labels is not None or source.labelled is not None:
        return names
    present = set(found.boxes["class_name"].to_pylist())
    return tuple(name for name in names if name in present)


def save_sheet(store: Store, looked_at: Sequence[dict[str, Any]], out: Path) -> int:
    """Write the images of ``looked_at`` as a sheet: what was found in colour, what is there in white.

    Returns:
        How many are on it.

    Raises:
        ConfigError: the file cannot be written.
    """
    pictures, cells = Pictures(store), list[sheet.Cell]()
    for entry in looked_at:
        try:
            pixels = show.draw(pictures.of_record(entry, SIDE_PX).pixels, entry)
            pixels = _outlined(pixels, entry)
        except ArtrayError:  # the sheet shows the others
            pixels = None
        told = f"{entry['right']} right, {entry['wrong']} wrong, {entry['missed']} missed"
        cells.append(sheet.Cell(pixels, (entry["image_id"], told)))
    sheet.save(cells, out)
    return len(cells)


def _outlined(pixels: Any, entry: dict[str, Any]) -> Any:
    """The picture with the labelled boxes in white."""
    picture = Image.fromarray(pixels)
    pen = ImageDraw.Draw(picture)
    scale = np.array([picture.width / entry["width_px"], picture.height / entry["height_px"]] * 2)
    for box in entry["labelled"]:
        pen.rectangle((np.array(box) * scale).tolist(), outline="white", width=2)
    return np.asarray(picture)


def _ranked(
    shown: Predictions, there: Truths, records: Sequence[dict[str, Any]], names: Sequence[str]
) -> list[dict[str, Any]]:
    """The images with the lowest F1, and then those with the highest of those with most boxes."""
    matches = match(there, shown, (0.5,), {"all": (0, np.inf)})
    outcomes, count = matches.outcomes[0, 0], len(records)
    right = np.bincount(matches.image_ids[outcomes == RIGHT], minlength=count)
    wrong = np.bincount(matches.image_ids[outcomes == WRONG], minlength=count)
    missed = np.bincount(there.image_ids[~there.crowd & ~matches.truth_found[0, 0]], minlength=count)
    f1 = 2 * right / np.maximum(2 * right + wrong + missed, 1)
    some = np.flatnonzero(right + wrong + missed)
    order = some[np.lexsort((-(wrong + missed)[some], f1[some]))]
    best = some[np.lexsort((-right[some], -f1[some]))]
    chosen = dict.fromkeys([*order[:SHEET].tolist(), *best[:SHEET].tolist()])
    told = []
    for at in chosen:
        own = shown.image_ids == at
        drawn = [
            {"class_name": names[class_id], "category": CATEGORY[names[class_id]], "score": score}
            | dict(zip(tables.CORNERS, box, strict=True))
            for class_id, score, box in zip(
                shown.class_ids[own].tolist(), shown.scores[own].tolist(), shown.boxes_xyxy[own].tolist(), strict=True
            )
        ]
        kept = {key: records[at][key] for key in ("image_id", "uri", "version", "width_px", "height_px")}
        counts = {"right": int(right[at]), "wrong": int(wrong[at]), "missed": int(missed[at])}
        told.append(kept | counts | {"objects": drawn, "labelled": there.boxes_xyxy[there.image_ids == at].tolist()})
    return told


def _records(store: Store) -> dict[str, dict[str, Any]]:
    """Every good record by its URI, image_id and file name; the first of a name counts."""
    rows = list(objects.good(store, ("image_id", "uri", "version", "width_px", "height_px", "objects")))
    known: dict[str, dict[str, Any]] = {}
    for key in ("uri", "image_id"):
        known |= {row[key]: row for row in rows}
    for row in rows:
        known.setdefault(PurePosixPath(row["image_id"]).name, row)
    return known


def _record(records: dict[str, dict[str, Any]], row: dict[str, Any], title: str) -> dict[str, Any] | None:
    """The record of a labelled picture."""
    file = row["image_id"].removeprefix(f"{title}/")
    return next((records[key] for key in (row["uri"], file, PurePosixPath(file).name) if key in records), None)


def _numbered(found: Truths, places: list[int]) -> Truths:
    """The truths of some images, numbered anew."""
    numbers = np.full(found.images, -1)
    numbers[places] = np.arange(len(places))
    kept = found.at(numbers[found.image_ids] >= 0)
    return kept._replace(images=len(places), image_ids=numbers[kept.image_ids])


def _predictions(records: list[dict[str, Any]], names: tuple[str, ...]) -> Predictions:
    """The objects of records in order, of classes that are judged."""
    ids = {name: at for at, name in enumerate(names)}
    rows = [
        (image, ids[each["class_name"]], [each[name] for name in tables.CORNERS], each["score"])
        for image, record in enumerate(records)
        for each in record["objects"] or ()
        if each["class_name"] in ids
    ]
    images, classes, boxes, scores = zip(*rows, strict=True) if rows else ((), (), (), ())
    return Predictions.of(list(images), list(classes), np.array(boxes, np.float64).reshape(-1, 4), list(scores))
