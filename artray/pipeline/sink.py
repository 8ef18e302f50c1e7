"""Finished parts become rows: committed every few seconds or few thousand rows.

A commit of new images takes milliseconds; one that replaces rows writes the parts anew in which they lie, and takes the
longer the more of them there are. So the next one waits for some times as long as the last one took, within bounds.
"""

import time
from typing import TYPE_CHECKING, Final

from artray.config import StoreConfig
from artray.store import rewrite
from artray.store.records import Records

if TYPE_CHECKING:
    from artray.pipeline.messages import Done

REST: Final = 9
"""After a commit, for so many times as long as it took nothing is committed: commits have a tenth of the time."""

REST_MAX_S: Final = 30.0
"""But for no longer than this: what is not committed is done again after a crash."""


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
        self._last, self._took_s = time.monotonic(), 0.0

    def add(self, done: "Done") -> None:
        """A part that waits for the next commit."""
        self._waiting.append(done)

    @property
    def due(self) -> bool:
        """Whether it is time to commit."""
        rows = sum(done.part.rows for done in self._waiting)
        since_s = time.monotonic() - self._last
        wanted = rows >= self._cfg.commit_rows or (rows > 0 and since_s >= self._cfg.commit_s)
        return wanted and since_s >= min(REST * self._took_s, REST_MAX_S)

    def flush(self) -> int:
        """Commit everything that waits; returns how many rows.

        Raises:
            StoreBusyError: another run committed meanwhile.
            TransientError: the storage failed.
        """
        began = time.monotonic()
        waiting, self._waiting = self._waiting, []
        fresh = [done.part for done in waiting if not done.recorded]
        replacing = [done.part for done in waiting if done.recorded]
        if fresh:
            self._records.add(fresh, self._run_id)
        if replacing:
            rewrite.replace(self._records, replacing, self._run_id)
        self._last = time.monotonic()
        self._took_s = self._last - began
        return sum(done.part.rows for done in waiting)
