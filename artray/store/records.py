"""The records: one row per image, in a Delta Lake table that is written by commits alone.

Every commit carries two application transactions. ``artray`` is the fence: its version goes up by one with each
commit, and Delta refuses a commit that was prepared before somebody else's, so of two runs on one store one stops
and no row is ever doubled. The run's own id makes a commit idempotent: tried again after a lost answer, it finds
itself in the log and does nothing.
"""

import json
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import deltalake
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable, Transaction
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from deltalake.transaction import AddAction, RemoveAction

from artray import schema
from artray.errors import ConfigError, InvariantError, StoreBusyError, TransientError
from artray.location import Location, first_line
from artray.store.layout import Store

FENCE: Final = "artray"
ATTEMPTS: Final = 6


@dataclass(frozen=True)
class Part:
    """A Parquet file of records that a worker wrote and nobody has committed yet."""

    path: str  # relative to the table
    size_bytes: int
    rows: int

    def action(self) -> AddAction:
        """The entry that makes it part of the table."""
        # The number of rows and no bounds: readers take bounds of a few columns for bounds of all.
        stats = json.dumps({"numRecords": self.rows})
        return AddAction(self.path, self.size_bytes, {}, time.time_ns() // 1_000_000, True, stats)


def write_part(records: Location, table: pa.Table, kind: str = "part") -> Part:
    """Write records beside the table, under a name that no other writer has.

    Args:
        records: the table's folder.
        table: columns of schema.RECORD, at least one row.
        kind: what the name begins with: "part" of a worker's, "kept" and "large" of rows that were there before.
    """
    name = f"{kind}-{uuid.uuid4().hex}.parquet"
    target = records / name
    with target.output() as stream:
        pq.write_table(table, stream, compression="zstd", write_statistics=["image_id", "type", "genre"])
        size = stream.tell()
    return Part(name, size, table.num_rows)


LISTED: Final = ("path", "size_bytes", "num_records")
"""What Delta calls the fields of :class:`Listed`."""


class Listed(NamedTuple):
    """The P parts of a table."""

    names: list[str]  # below its folder, as Delta's log has them
    size_bytes: list[int]
    rows: list[int]


class Records:
    """A handle on the table at one version; it moves on with its own commits and with :meth:`refresh` only."""

    def __init__(self, store: Store, delta: DeltaTable) -> None:
        self.store, self._delta = store, delta
        self._fence = delta.transaction_version(FENCE) or 0
        self._listed = -1, Listed([], [], [])

    @classmethod
    def open(cls, store: Store, version: int | None = None) -> "Records":
        """The table as it is now, or as it was at ``version``.

        Raises:
            ConfigError: there is no table, or no such version.
        """
        try:
            return cls(store, DeltaTable(store.records_uri, version, storage_options=store.storage_options))
        except TableNotFoundError as error:
            raise ConfigError(f"{store.uri}: no records yet; make some with: artray process ARCHIVE STORE") from error
        except (DeltaError, OverflowError) as error:  # OverflowError: a version that no number can be
            raise ConfigError(f"{store.uri}: records cannot be read: {first_line(error)}") from error
        except OSError as error:
            raise TransientError(f"{store.uri}: storage failed: {first_line(error)}") from error

    @classmethod
    def create(cls, store: Store) -> "Records":
        """The table, made if there is none."""
        try:
            DeltaTable.create(
                store.records_uri, schema.RECORD, mode="ignore", storage_options=store.storage_options, name="artray"
            )
        except (DeltaError, OSError) as error:
            raise TransientError(f"{store.uri}: records cannot be created: {first_line(error)}") from error
        return cls.open(store)

    def delta(self) -> DeltaTable:
        """The Delta table at this handle's version."""
        return self._delta

    @property
    def version(self) -> int:
        """The version that this handle reads."""
        return int(self._delta.version())

    def refresh(self) -> None:
        """See everybody's commits up to now.

        Raises:
            TransientError: the storage failed.
        """
        self._update()
        self._fence = self._delta.transaction_version(FENCE) or 0

    def count(self) -> int:
        """How many rows there are."""
        return int(self._delta.count())

    def append(self, table: pa.Table, run_id: str = "append") -> None:
        """Write and commit records of images that have none yet."""
        self.add([write_part(self.store.records, table)], run_id)

    def add(self, parts: Sequence[Part], run_id: str, instead_of: Sequence[str] = ()) -> None:
        """Commit parts whose images have no row yet, but in parts that go: one entry in the log, whatever their size.

        Args:
            parts: what is added; may be empty.
            run_id: who commits.
            instead_of: names of the parts that go; their files stay for :meth:`vacuum`.

        Raises:
            StoreBusyError: somebody else committed since this handle was opened.
            TransientError: the storage failed, again and again.
        """
        now_ms = time.time_ns() // 1_000_000
        actions: list[AddAction | RemoveAction] = [part.action() for part in parts]
        actions += [RemoveAction(name, True, now_ms) for name in instead_of]
        self._commit(run_id, actions)

    def parts(self) -> Listed:
        """What the table is made of, at this handle's version; read once, for it is asked at every search."""
        if self._listed[0] != self.version:
            actions = self._delta.get_add_actions(flatten=True)
            names, sizes, rows = (list(actions.column(name).to_pylist()) for name in LISTED)
            self._listed = self.version, Listed(names, sizes, rows)
        return self._listed[1]

    def vacuum(self, keep_hours: int) -> int:
        """Delete the files that no version of the last hours needs; returns how many.

        These are parts that were replaced, and what runs that were killed had written and not committed.
        """
        try:
            old = self._delta.vacuum(keep_hours, dry_run=True, enforce_retention_duration=False, full=True)
            gone = {*old} & {*self.store.records.names()} if old else set()  # Delta names deleted ones again and again
            if gone:
                self._delta.vacuum(keep_hours, dry_run=False, enforce_retention_duration=False, full=True)
                self._update()
        except (DeltaError, OSError) as error:
            raise TransientError(f"{self.store.uri}: old files cannot be deleted: {first_line(error)}") from error
        return len(gone)

    def _commit(self, run_id: str, actions: list[AddAction | RemoveAction]) -> None:
        """Commit once, whatever it takes: conflicts stop the run, a failing storage is tried again.

        Without actions there is no commit; then the fence stays where it is. Of a commit that carries no fence and
        comes in between (another program's OPTIMIZE) Delta sees no conflict, but it may have moved rows that go here.
        """
        version, removes = self.version, any(isinstance(action, RemoveAction) for action in actions)
        if (self._delta.transaction_version(FENCE) or 0) != self._fence:
            raise self._busy()  # it was seen in an earlier attempt: Delta finds conflicts with later commits only
        number = (self._delta.transaction_version(run_id) or 0) + 1
        properties = CommitProperties(
            app_transactions=[Transaction(FENCE, self._fence + 1), Transaction(run_id, number)]
        )
        for attempt in range(ATTEMPTS if actions else 0):
            try:
                self._delta.create_write_transaction(
                    actions, "append", self._delta.schema(), commit_properties=properties
                )
                break
            except (DeltaError, OSError) as error:
                if self._landed(run_id, number):
                    break
                if isinstance(error, CommitFailedError):
                    raise self._busy() from error
                if attempt == ATTEMPTS - 1:
                    raise TransientError(f"{self.store.uri}: commit failed: {first_line(error)}") from error
                time.sleep(min(0.2 * 2**attempt, 5.0))
        self._update()
        if (self._delta.transaction_version(FENCE) or 0) != self._fence + bool(actions):
            raise self._busy()
        self._fence += bool(actions)
        if removes and self.version != version + 1:
            raise InvariantError(
                f"{self.store.uri}: another program changed the table between versions {version} and {self.version} "
                f"while rows were replaced; artray verify {self.store.uri} tells whether a row is doubled"
            )

    def _update(self) -> None:
        try:
            self._delta.update_incremental()
        except (DeltaError, OSError) as error:
            raise TransientError(f"{self.store.uri}: records cannot be read: {first_line(error)}") from error

    def _busy(self) -> StoreBusyError:
        return StoreBusyError(
            f"{self.store.uri}: another run wrote to this store meanwhile; nothing was doubled: "
            "wait until it has ended, then run again"
        )

    def _landed(self, run_id: str, number: int) -> bool:
        """Whether a commit whose answer was lost is in the log after all."""
        try:
            latest = DeltaTable(self.store.records_uri, storage_options=self.store.storage_options)
        except (DeltaError, OSError):
            return False
        return (latest.transaction_version(run_id) or 0) >= number


def deltalake_version() -> str:
    """The version of the library that writes the table."""
    return str(deltalake.__version__)
