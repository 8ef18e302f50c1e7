"""Classify images: DecodedRow -> ClassifiedRow."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from artray import schema
from artray.classify import heads, inputs
from artray.classify.inputs import Image, mean_rgb
from artray.classify.model import Classifier, Embedder
from artray.config import ClassifyConfig
from artray.errors import RowError
from artray.models import cards, registry
from artray.models.attempt import attempt
from artray.models.cards import Input
from artray.schema import Batch

Row = dict[str, Any]

NOTHING: Row = dict.fromkeys(schema.CLASSIFIED.names)
"""What is said of an image that could not be decoded, or on which a model raised."""


class Classify:
    """One worker's classifiers; cards with the same trunk share its forward pass.

    Raises:
        ConfigError: two cards yield the same, a card is no classifier, or a card or the device is not there.
        TransientError: weights cannot be reached.
    """

    def __init__(self, cfg: ClassifyConfig) -> None:
        device = registry.check_device(cfg.device)
        loaded = [cards.load(name) for name in cfg.cards]
        cards.check_classifiers(loaded)
        self.views = cfg.views
        self.embedders: dict[str, Embedder] = {}
        self.classifiers: list[tuple[str, Classifier]] = []
        for card in loaded:
            key = card.trunk_key()
            self.embedders[key] = self.embedders.get(key) or Embedder(card, device, cfg.batch_size)
            self.classifiers.append((key, Classifier(card, device, embedder=self.embedders[key])))

    def __call__(self, batch: Batch) -> Batch:
        """The batch with the columns of :data:`artray.schema.CLASSIFIED`, None in rows that hold an error.

        An image on which a model raises becomes a row with ``error`` "model_failed"; the others are not touched.
        """
        batch = batch | {name: list(batch[name]) for name in ("pixels", "error", "error_detail")}
        good = [index for index, error in enumerate(batch["error"]) if error == ""]
        found = attempt(self._embeddings, [batch["pixels"][index] for index in good])
        rows = [NOTHING] * len(batch["error"])
        for index, embeddings in zip(good, found, strict=True):
            if isinstance(embeddings, RowError):
                batch["pixels"][index], batch["error"][index] = None, embeddings.kind
                batch["error_detail"][index] = embeddings.detail
            else:
                rows[index] = self._row(batch["pixels"][index], embeddings)
        return batch | {name: [row[name] for row in rows] for name in NOTHING}

    def _embeddings(self, images: Sequence[Image]) -> list[dict[str, NDArray[np.float32]]]:
        """Per image and trunk float32[1 + V, D]: its embedding and those of V other views."""
        found = {key: self._seen(embedder, images) for key, embedder in self.embedders.items()}
        return [{key: array[index] for key, array in found.items()} for index in range(len(images))]

    def _seen(self, embedder: Embedder, images: Sequence[Image]) -> NDArray[np.float32]:
        """float32[N, 1 + V, D] of N images."""
        seen = [view for image in images for view in (image, *self._others(image, embedder.spec))]
        return embedder(seen).reshape(len(images), -1 if images else 1, embedder.dim)

    def _others(self, image: Image, spec: Input) -> list[Image]:
        if self.views == "one":
            return []
        found = inputs.views(image, spec, self.views)
        return found[1:] if self.views == "flips" else found

    def _row(self, pixels: Image, embeddings: dict[str, NDArray[np.float32]]) -> Row:
        row = dict(NOTHING)
        for key, classifier in self.classifiers:
            (embedding, *others), yields = embeddings[key], classifier.card.yields
            row |= heads.scored(classifier.heads, embedding)
            row |= heads.disagreements(classifier.heads, embedding, others)
            if "embedding" in yields:
                row["embedding"] = embedding
            if "mean_rgb" in yields:
                row["mean_rgb"] = mean_rgb(pixels)
        return row
