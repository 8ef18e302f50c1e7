"""Embed images by a retrieval method: DecodedRow -> rows with ``embedding``.

Importing this module registers every architecture that retrieves.
"""

from collections.abc import Sequence

from artray.config import RetrieveConfig
from artray.errors import RowError
from artray.models import cards
from artray.models.attempt import attempt
from artray.retrieve import (  # noqa: F401 - they register themselves
    colours,
    cooccurrence,
    detector_features,
    open_clip,
    pixels,
    vae,
    visual_words,
    whitened,
)
from artray.retrieve.embedder import Floats, Image, build
from artray.schema import Batch


class Embed:
    """One worker's method; knows nothing of Ray.

    Raises:
        ConfigError: no card, or one that makes no embeddings, or a device that is not there.
        TransientError: weights cannot be reached.
    """

    def __init__(self, cfg: RetrieveConfig) -> None:
        self.cfg = cfg
        self.embed = build(cards.load(cfg.card or ""), cfg.device, cfg.batch_size)

    def __call__(self, batch: Batch) -> Batch:
        """The batch with ``embedding``, None in rows that hold an error.

        An image on which the method raises becomes a row with ``error`` "model_failed"; the others are not touched.
        """
        batch = batch | {name: list(batch[name]) for name in ("pixels", "error", "error_detail")}
        good = [row for row, error in enumerate(batch["error"]) if error == ""]
        embeddings: list[object] = [None] * len(batch["error"])
        for start in range(0, len(good), self.cfg.batch_size):
            rows = good[start : start + self.cfg.batch_size]
            for row, found in zip(rows, attempt(self._embeddings, [batch["pixels"][row] for row in rows]), strict=True):
                if isinstance(found, RowError):
                    batch["pixels"][row], batch["error"][row] = None, found.kind
                    batch["error_detail"][row] = found.detail
                else:
                    embeddings[row] = found
        return batch | {"embedding": embeddings}

    def _embeddings(self, images: Sequence[Image]) -> list[Floats]:
        return list(self.embed(images))
