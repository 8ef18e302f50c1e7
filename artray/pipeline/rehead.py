"""New types and genres for a finished store, from its stored embeddings: no image is read, no model but heads is run.

A card can do this whose trunk is that of the store's embeddings, and which says all that the store's card says. The new
labels are one commit; what was there before can be read by version.
"""

from collections.abc import Mapping
from datetime import datetime, timezone
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from artray import schema
from artray.classify import heads
from artray.classify.heads import Head
from artray.config import Profile
from artray.errors import ConfigError
from artray.models import cards
from artray.models.cards import Card
from artray.pipeline.progress import Reporter, Tally
from artray.pipeline.report import Report, embedding_of, new_run_id
from artray.store import rewrite
from artray.store.layout import Store
from artray.store.lease import Lease
from artray.store.records import Records


class Reheaded(NamedTuple):
    """What became of a store."""

    rows: int  # that have new labels
    skipped: int  # without an embedding of this trunk, or with these labels already
    changed: dict[str, int]  # per head, how many are now called something else
    version_before: int  # by which the labels before can be read
    version: int
    run_id: str


def rehead(store: Store, name: str, reporter: Reporter) -> Reheaded:
    """Give every image with an embedding the labels of a card's heads.

    Args:
        store: whose records.
        name: of a card, or its file.
        reporter: is told how far it is.

    Raises:
        ConfigError: the card's trunk is another one, it says less than the store's card, or the store has no runs.
        StoreBusyError: another run writes to the store.
        TransientError: the storage failed; run again.
    """
    card, (old, profile, described) = cards.load(name), made_by(store)
    _check(store, card, old)
    run_id = new_run_id()
    named = tuple(name if kept == old.name else kept for kept in profile.classify.cards)
    new_profile = profile.model_copy(update={"classify": profile.classify.model_copy(update={"cards": named})})
    described = [card if kept.name == old.name else kept for kept in described]
    with Lease(store, run_id, reporter.note):
        records = Records.open(store)
        work = _Work(card, _makers(store, card), heads.load(card), run_id, reporter, Tally(records.count()))
        archive = str((store.read_json("store.json") or {}).get("archive", ""))
        with Report(store, archive, run_id, new_profile, described) as report:
            before = records.version
            reporter.start(work.tally, "reclassifying")
            rewrite.every(records, work, run_id)
            described_store = store.read_json("store.json") or {}
            store.write_json("store.json", described_store | {"embedding": embedding_of(card)})
            report.summary.images = work.tally.total
            report.summary.done, report.summary.skipped = work.rows, work.tally.total - work.rows
    return Reheaded(work.rows, work.tally.total - work.rows, work.changed, before, records.version, run_id)


def made_by(store: Store) -> tuple[Card, Profile, list[Card]]:
    """The card of the store's embeddings, and the profile and all cards of the last run, as its report has them."""
    held = store.embedding
    for report in reversed(store.runs(100)):
        described = [Card.reported(values) for values in report.get("cards", {}).values()]
        found = next((card for card in described if card.name == held.get("card")), None)
        if found is not None:
            return found, Profile.reported(report["profile"]), described
    raise ConfigError(f"{store.uri}: expected a run that stored embeddings, found none; artray process makes one")


def _makers(store: Store, card: Card) -> set[str]:
    """The cards, as records name them, that have the same trunk: a card of the same name may have had another one."""
    reports = [report.get("cards", {}).values() for report in store.runs(1_000)]
    cards_ = [
        Card.reported(values) for described in reports for values in described if values.get("task") == "classify"
    ]
    return {f"{each.name}@{each.fingerprint()}" for each in cards_ if each.trunk_key() == card.trunk_key()}


def _check(store: Store, card: Card, old: Card) -> None:
    """Raises ConfigError where the card cannot take the place of the store's."""
    if card.task != "classify" or card.trunk_key() != old.trunk_key():
        raise ConfigError(
            f"card {card.name}: expected the trunk that made the embeddings of {store.uri} ({old.name}'s), got another "
            f"one; process the archive with it: artray process ARCHIVE STORE --set classify.cards=[{card.name}]"
        )
    if missing := sorted({*old.heads} - {*card.heads}):
        raise ConfigError(
            f"card {card.name}: heads: expected one for each of {', '.join(old.heads)}, got no {missing[0]}"
        )


class _Work:
    """Changes a part's rows; counts."""

    def __init__(
        self, card: Card, makers: set[str], loaded: Mapping[str, Head], run_id: str, reporter: Reporter, tally: Tally
    ) -> None:
        self.card, self.heads, self.run_id, self.reporter, self.tally = card, loaded, run_id, reporter, tally
        self.old, self.new = makers, f"{card.name}@{card.fingerprint()}"
        self.dim, self.rows = card.embedding_dim, 0
        self.changed = dict.fromkeys(loaded, 0)

    def __call__(self, table: pa.Table) -> pa.Table | None:
        """The part with new labels in its rows with an embedding; None if none has one."""
        before = table["models"].to_pylist()
        models = [self._models(text) for text in before]
        lengths = pc.list_value_length(table["embedding"])
        fits = np.array(pc.fill_null(pc.equal(lengths, self.dim), False).to_pylist(), bool)
        other = np.array([new != text for new, text in zip(models, before, strict=True)], bool)
        rows = np.flatnonzero(fits & other)
        self.tally.add(table.num_rows, {})
        self.reporter.update(self.tally)
        if not len(rows):
            return None
        self.rows += len(rows)
        embeddings = pc.list_flatten(table["embedding"].take(pa.array(rows))).to_numpy().reshape(len(rows), -1)
        columns: dict[str, pa.Array] = {}
        for name, head in self.heads.items():
            scores = heads.score(head, embeddings)
            columns |= labelled(name, head.class_names, scores)
            same = pc.equal(table[name].take(pa.array(rows)).combine_chunks(), columns[name])
            self.changed[name] += len(rows) - int(pc.sum(pc.fill_null(same, False)).as_py() or 0)
            columns[f"{name}_disagreement"] = pa.nulls(len(rows), pa.float32())  # it was about the label before
        columns["models"] = pa.array([models[row] for row in rows.tolist()], pa.string())
        moment = datetime.now(timezone.utc)
        columns["processed_at"] = pa.array([moment] * len(rows), schema.RECORD.field("processed_at").type)
        columns["run_id"] = pa.array([self.run_id] * len(rows), pa.string())
        where = np.full(table.num_rows, -1)
        where[rows] = np.arange(len(rows))
        return rewrite.with_columns(table, pa.array(where, mask=where < 0), pa.table(columns))

    def _models(self, text: str | None) -> str:
        """The fingerprint of a row's makers with the new card in the place of the old; no other view was looked at."""
        makers = [maker for maker in (text or "").split(",") if not maker.startswith("views@")]
        return ",".join(self.new if maker in self.old else maker for maker in makers)


def labelled(name: str, class_names: tuple[str, ...], scores: npt.NDArray[np.float32]) -> dict[str, pa.Array]:
    """A head's columns for N rows, as the classify stage gives them, of scores float32[N, C]."""
    best = scores.argmax(axis=1)
    offsets = np.arange(0, scores.size + 1, len(class_names), dtype=np.int32)
    keys = pa.DictionaryArray.from_arrays(
        pa.array(np.tile(np.arange(len(class_names), dtype=np.int32), len(scores))), pa.array(class_names)
    ).cast(pa.string())
    return {
        name: pa.array(np.array(class_names, object)[best], pa.string()),
        f"{name}_score": pa.array(scores[np.arange(len(scores)), best], pa.float32()),
        f"{name}_scores": pa.MapArray.from_arrays(pa.array(offsets), keys, pa.array(scores.ravel(), pa.float32())),
    }
