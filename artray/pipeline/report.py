"""What a run leaves behind: ``runs/RUN_ID.json``, written when it begins and when it ends, however it ends."""

import os
import platform
import secrets
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from importlib.metadata import version
from types import TracebackType
from typing import Any, Final

from artray import __version__
from artray.config import Profile
from artray.errors import ArtrayError, Interrupted
from artray.models.cards import Card
from artray.store.layout import Store

PACKAGES: Final = ("ray", "torch", "torchvision", "timm", "pillow", "simplejpeg", "pyarrow", "deltalake", "numpy")


def new_run_id() -> str:
    """A run's name: when it began, and six digits by lot."""
    return f"{datetime.now(timezone.utc):%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"


def embedding_of(card: Card) -> dict[str, Any]:
    """What store.json says of the card that makes the embeddings."""
    told = {"card": card.name, "fingerprint": card.fingerprint(), "dimension": card.embedding_dim}
    return told | {"metric": card.metric}


@dataclass
class Summary:
    """Counts of a run; ``process --json`` prints them."""

    run_id: str
    images: int = 0  # in the archive
    done: int = 0  # processed in this run, well
    failed: int = 0  # processed in this run, with an error
    skipped: int = 0  # recorded before, and unchanged
    pending: int = 0  # left for the next run
    vanished: int = 0  # recorded before, and gone
    seconds: float = 0.0
    images_per_s: float = 0.0
    steady_images_per_s: float | None = None  # without the start of Ray and models; null of a single part
    errors: dict[str, int] = field(default_factory=dict)
    state: str = "running"  # then done, interrupted or failed
    report: str = ""  # where all this and more is kept
    notes: list[str] = field(default_factory=list)


class Report:
    """A run's report; a context manager around the run."""

    def __init__(self, store: Store, archive: str, run_id: str, profile: Profile, described: Sequence[Card]) -> None:
        self._store, self._name = store, f"runs/{run_id}.json"
        self.summary = Summary(run_id, report=f"{store.uri}/{self._name}")
        self._begun = time.monotonic()
        self._fixed = {
            "archive": archive,
            "started_at": datetime.now(timezone.utc).isoformat(),
            "profile": profile.model_dump(mode="json"),
            "profile_digest": profile.digest(),
            "cards": {
                card.name: card.model_dump(mode="json") | {"fingerprint": card.fingerprint()} for card in described
            },
            "versions": {"artray": __version__, "python": platform.python_version()}
            | {p: version(p) for p in PACKAGES},
            "machine": {"node": platform.node(), "system": platform.platform(), "cpus": os.cpu_count()},
        }

    def __enter__(self) -> "Report":
        self.save()
        return self

    def save(self) -> None:
        """Write down how far the run is, for the case that it is killed."""
        self._write()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        summary = self.summary
        interrupted = isinstance(error, (Interrupted, KeyboardInterrupt))
        summary.state = "interrupted" if interrupted else "failed" if error else "done"
        summary.seconds = round(time.monotonic() - self._begun, 3)
        try:
            self._write(None if error is None or interrupted else f"{type(error).__name__}: {error}")
        except (ArtrayError, OSError):
            if error is None:
                raise

    def _write(self, failure: str | None = None) -> None:
        ended = datetime.now(timezone.utc).isoformat() if self.summary.state != "running" else None
        self._store.write_json(self._name, self._fixed | asdict(self.summary) | {"ended_at": ended, "failure": failure})
