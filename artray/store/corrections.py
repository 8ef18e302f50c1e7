"""Types and genres that people put right: beside the records, which stay what the models said.

STORE/corrections/TIME-ID.json   one correction each, never changed: image, labels, who, when

Of several corrections of one image's type (or genre), the last one counts. A training reads them as a set of labels
(``kind: corrections``).
"""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any, Final, NamedTuple

from artray import taxonomy
from artray.errors import ConfigError
from artray.store import find, views
from artray.store.layout import Store
from artray.store.records import Records

FOLDER: Final = "corrections"
NONE: Final = "none"
"""What is said of a work that is of no class, such as the type of a print."""

CLASSES: Final[Mapping[str, tuple[str, ...]]] = {"type": taxonomy.TYPES, "genre": taxonomy.GENRES}


class Corrected(NamedTuple):
    """What an image is, as people say."""

    labels: dict[str, str]  # "type" and "genre", where they were put right: a class, or NONE
    by: str  # who said so last
    at: str  # when, ISO 8601


def correct(store: Store, image_ids: Sequence[str], labels: Mapping[str, str], by: str) -> int:
    """Put the labels of images right.

    Args:
        store: whose images.
        image_ids: which.
        labels: ``type``, ``genre`` or both, to a class that the store's model or artray's taxonomy knows, or to NONE.
        by: who says so.

    Returns:
        How many images these are.

    Raises:
        ConfigError: no such image, an unknown label, or nothing to put right; nothing was written then.
        TransientError: the storage failed.
    """
    if not labels:
        raise ConfigError("correct: expected --type, --genre or both, got neither")
    wanted = list(dict.fromkeys(image_ids))
    with views.opened(Records.open(store)) as connection:
        statement = "SELECT image_id, type_scores, genre_scores FROM works WHERE image_id IN (SELECT unnest(?))"
        found = {row["image_id"]: row for row in find.works(connection, statement, [wanted])}
    if missing := [image_id for image_id in wanted if image_id not in found]:
        raise ConfigError(f"{missing[0]}: no such image in {store.uri}; artray find lists them")
    chosen = {head: _known(head, label, found.values()) for head, label in labels.items()}
    now = datetime.now(timezone.utc)
    name = f"{now:%Y%m%dT%H%M%S.%f}-{uuid.uuid4().hex[:8]}.json"
    said = {"image_ids": wanted, "labels": chosen, "by": by, "at": now.isoformat(timespec="seconds")}
    (store.location / FOLDER).make()
    store.write_json(f"{FOLDER}/{name}", said)
    return len(wanted)


def read(store: Store) -> dict[str, Corrected]:
    """What people say of images, by image_id.

    Raises:
        ConfigError: a correction is damaged; names the file.
        TransientError: the storage failed.
    """
    folder = store.location / FOLDER
    told: dict[str, Corrected] = {}
    for name in sorted(name for name in folder.names() if name.endswith(".json")):  # a name begins with its time
        said = store.read_json(f"{FOLDER}/{name}")
        if said is None:
            continue
        try:
            labels, by, at = dict(said["labels"]), str(said["by"]), str(said["at"])
            image_ids = list(said["image_ids"])
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"{folder / name}: expected a correction of artray's, got something else") from error
        for image_id in image_ids:
            before = told[image_id].labels if image_id in told else {}
            told[image_id] = Corrected(before | labels, by, at)
    return told


def _known(head: str, label: str, records: Iterable[Mapping[str, Any]]) -> str:
    """The label as the taxonomy, or else the model, writes it."""
    own = [str(name) for record in records for name in (record[f"{head}_scores"] or {})]
    names = [*CLASSES[head], *own, NONE]
    known = {name.lower(): name for name in reversed(names)}
    if label.strip().lower() not in known:
        told = ", ".join(dict.fromkeys(names))
        raise ConfigError(f"--{head}: expected one of {told}, got {label!r}")
    return known[label.strip().lower()]
