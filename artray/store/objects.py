"""What was found in a store's images, and what its detectors look for."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import pyarrow.compute as pc

from artray.store import views
from artray.store.layout import Store
from artray.store.records import Records
from artray.taxonomy import CATEGORY

ROWS: Final = 2_000
"""So many records are in memory at a time."""

SETTINGS: Final = ("views", "detect.views", "detect.fuse", "decode")
"""What a record's ``models`` names beside cards."""


def good(store: Store, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The records of images that were processed well and are there, in values that JSON knows.

    Args:
        store: whose.
        columns: of schema.RECORD.

    Raises:
        ConfigError: the store has no records.
        TransientError: the storage failed.
    """
    needed = list(dict.fromkeys([*columns, "error", "vanished_at"]))
    for batch in views.batches(Records.open(store), needed, ROWS):
        well = pc.and_(pc.equal(batch["error"], ""), batch["vanished_at"].is_null())
        for row in views.rows(batch.filter(well).select(list(columns))):
            yield {name: views.plain(value) for name, value in row.items()}


def known_cards(store: Store) -> dict[str, tuple[str, ...]]:
    """Every card of the store's runs, as records name it, to the classes that it finds; a classifier finds none.

    Raises:
        TransientError: the storage failed.
    """
    found: dict[str, tuple[str, ...]] = {}
    for report in store.runs():
        for name, card in report.get("cards", {}).items():
            labels = card.get("labels", {}).values() if card.get("task") == "detect" else ()
            found[f"{name}@{card.get('fingerprint')}"] = tuple(each for each in CATEGORY if each in labels)
    return found


def looked_for(models: str, known: Mapping[str, tuple[str, ...]]) -> tuple[str, ...] | None:
    """The classes that a record's detectors look for, in the taxonomy's order.

    Args:
        models: the record's, such as "yolo@1f2e,decode@640".
        known: the cards and their classes, see :func:`known_cards`.

    Returns:
        None where that is not known, for one of the cards is not, or there are none.

    >>> looked_for("pets@1,mtcnn@2,decode@640", {"pets@1": ("cat", "dog"), "mtcnn@2": ("face",)})
    ('cat', 'dog', 'face')
    >>> looked_for("pets@0,decode@640", {"pets@1": ("cat", "dog")})
    """
    makers = [maker for maker in models.split(",") if maker.partition("@")[0] not in SETTINGS or maker in known]
    if not makers or any(maker not in known for maker in makers):
        return None
    return tuple(name for name in CATEGORY if any(name in known[maker] for maker in makers))
