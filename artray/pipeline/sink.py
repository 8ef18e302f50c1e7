"""Finished parts become rows: committed every few seconds or few thousand rows."""

import time
from typing import TYPE_CHECKING

from artray.config import StoreConfig
from artray.store.records import Records

if TYPE_CHECKING:
    from artray.pipeline.messages import Done


class Committer:
    """Collects what workers have written and commits it, new images and replaced ones apart.

    Args:
        records: the table, open since before the work was planned: a commit by anybody else since then is refused.
        run_id: who commits.
        cfg: how often.
    """

    def __init__(self, records: Records, run_id: str, cfg: StoreConfig) -> None:
        self._records, self._run_id, self._cfg = records, run_id, cfg
        self._waiting: list[Done] = []
        self._last = time.monotonic()

    def add(self, done: "Done") -> None:
        """A part that waits for the next commit."""
        self._waiting.append(done)

    @property
    def due(self) -> bool:
        """Whether it is time to commit."""
        rows = sum(done.part.rows for done in self._waiting)
        late = time.monotonic() - self._last >= self._cfg.commit_s
        return rows >= self._cfg.commit_rows or (rows > 0 and late)

    def flush(self) -> int:
        """Commit everything that waits; returns how many rows.

        Raises:
            StoreBusyError: another run committed meanwhile.
            TransientError: the storage failed.
        """
        waiting, self._waiting = self._waiting, []
        fresh = [done.part for done in waiting if not done.recorded]
        replacing = [done.part for done in waiting if done.recorded]
        if fresh:
            self._records.add(fresh, self._run_id)
        if replacing:
            self._records.replace(replacing, self._run_id)
        self._last = time.monotonic()
        return sum(done.part.rows for done in waiting)
