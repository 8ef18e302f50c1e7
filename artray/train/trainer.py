"""Training of classifiers: what a batch costs, and how validation is judged."""

from collections.abc import Iterator
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from artray.metrics import classification as metrics
from artray.train import epochs, losses
from artray.train.devices import sent
from artray.train.epochs import Epoch, Ints, Labels
from artray.train.exchange import Exchange
from artray.train.loop import Floats, Loop, Shown
from artray.train.networks import COLOUR, Colour, Network
from artray.train.pictures import Planned
from artray.train.profile import Task, TrainProfile
from artray.train.recorded import Passes, recorded
from artray.train.sampling import Share


class Inputs(Protocol):
    """Where batches come from."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one input in training."""

    def training(self, number: int, first: int, planned: Planned) -> Iterator[Tensor]:
        """What the network takes, a batch per share of an epoch from the ``first`` on; of a mixed epoch, mixed."""

    def validation(self, rows: Ints, batch_size: int) -> Iterator[Tensor]:
        """What the network takes of images, as the pipeline shows them, in order."""

    def judged(self, rows: Ints, batch_size: int) -> Iterator[Tensor]:
        """What it takes at the end: all views of an image, one behind the other, of so many images at a time."""

    def close(self) -> None:
        """No more is learned: end what prepares it."""


class Batch(NamedTuple):
    """A worker's part of a batch."""

    epoch: Epoch
    share: Share
    images: Tensor


class Trainer(Loop):
    """Trains a classifier's network; see :class:`artray.train.loop.Loop`.

    Args:
        profile: the training's.
        network: with random or pretrained weights, on its device; the trunk's batch norms synchronised.
        inputs: of the training's images.
        labels: per head int64[N], -1 for unknown.
        train: int64: rows of the images that are learned from.
        val: int64: rows of those that choose the epoch.
        exchange: the other workers.
    """

    def __init__(
        self,
        profile: TrainProfile,
        network: Network,
        inputs: Inputs,
        labels: Labels,
        train: Ints,
        val: Ints,
        exchange: Exchange,
    ) -> None:
        super().__init__(profile.training, profile.optimiser, network, exchange, profile.chosen_by)
        self.profile, self.inputs = profile, inputs
        self.labels, self.train, self.val = labels, train, val
        records = profile.workers.cuda_graph and profile.network.trained != "none"
        self.forward = self._recorded() if records else self.parallel
        self.class_weights: dict[str, Tensor] = {name: self._class_weights(name) for name in profile.heads}

    def _recorded(self) -> Passes:
        batch = torch.zeros(self.training.batch_size, *self.inputs.shape, device=self.device)
        with self.autocast():
            return recorded(self.network, self.on_device(batch.to(next(self.network.parameters()).dtype)))

    def shown(self) -> Shown:
        """The epoch, from the batch on where it was interrupted; of a mixed one, pictures come mixed."""
        epoch, shares = self._planned(self.epoch)
        images = self.inputs.training(self.epoch, self.batch, self._planned)
        pairs = zip(shares[self.batch :], images, strict=True)
        return Shown(len(epoch.indices), (Batch(epoch, share, self.on_device(each)) for share, each in pairs))

    def close(self) -> None:
        """End the processes that prepare pictures."""
        self.inputs.close()

    def _planned(self, number: int) -> tuple[Epoch, list[Share]]:
        epoch = epochs.plan(self.profile, self.labels, self.train, number)
        return epoch, epoch.shares(self.training.batch_size, self.exchange)

    def loss(self, batch: Batch) -> Tensor:
        """The heads' losses, weighted; of a mixed batch, towards both classes by their parts."""
        epoch, share, images = batch
        with self.autocast():
            outputs = self.forward(images)
        parts: list[tuple[Ints, Tensor | None]] = [(share.positions, None)]
        if epoch.mix is not None:
            own = sent(torch.from_numpy(epoch.mix.parts[share.positions]), self.device)
            parts = [(share.positions, own), (epoch.mix.positions[share.positions], 1 - own)]
        total = torch.zeros((), device=self.device)
        for name, cfg in self.profile.heads.items():
            logits = outputs[name]
            logits = logits.float() if logits.dtype is torch.bfloat16 else logits
            for positions, part in parts:
                ids = sent(torch.from_numpy(epoch.labels[name][positions]), self.device)
                loss = self._head_loss(name, logits, ids, part)
                total = total + cfg.weight * loss
        return total if self.colour is None else self._with_colour(total, outputs[COLOUR], self.colour.truth(images))

    @property
    def colour(self) -> Colour | None:
        """The regression on mean colours; None where there is none."""
        assert isinstance(self.network, Network)
        return self.network.colour

    def _with_colour(self, heads: Tensor, found: Tensor, truth: Tensor) -> Tensor:
        """The heads' loss and that of colours, each by its weight."""
        weight = self.profile.colour.weight
        return (1 - weight) * heads + weight * losses.mean_squared(found.to(truth.dtype), truth, self.exchange.total)

    def _head_loss(self, name: Task, logits: Tensor, ids: Tensor, part: Tensor | None = None) -> Tensor:
        known = ids.clamp(min=0)
        weights = self.class_weights[name].to(logits.dtype)[known] * (ids >= 0)
        loss = losses.LOSSES[self.profile.heads[name].loss]
        if part is None:
            return loss(logits, known, weights, self.exchange.total)
        mean = self.exchange.total(torch.stack([part.sum(), torch.ones_like(part).sum()]))
        return loss(logits, known, weights * part.to(logits.dtype), self.exchange.total) * (mean[0] / mean[1])

    def _class_weights(self, name: Task) -> Tensor:
        known = self.labels[name][self.train]
        outputs = self.profile.outputs(name)
        exponent = self.profile.heads[name].class_weight
        weights = losses.class_weights(known[known >= 0].tolist(), len(outputs), exponent)
        return weights.to(self.device)

    def validated(self) -> tuple[float, dict[str, float]]:
        """The loss over validation, and its metrics by "HEAD METRIC"; of colours in steps of 8 bits."""
        logits = self._outputs(self.val)
        told: dict[str, float] = {}
        loss = 0.0
        for name, cfg in self.profile.heads.items():
            ids, names = self.labels[name][self.val], self.profile.outputs(name)
            known = ids >= 0
            table = as_logits(logits[name][known])
            loss += cfg.weight * metrics.loss(table, ids[known]) if known.any() else 0.0
            matrix = metrics.confusion(ids[known], table.argmax(axis=1), len(names))
            found = metrics.named(metrics.metrics(matrix), names)
            told |= {f"{name} {metric}": value for metric, value in found.items()}
        if COLOUR in logits:
            weight, off = self.profile.colour.weight, logits[COLOUR]
            loss = (1 - weight) * loss + weight * float(np.square(off).mean())
            told[f"{COLOUR} mean_absolute_error"] = 255 * float(np.abs(off).mean())
        return loss, told

    def logits(self, rows: Ints) -> dict[str, Floats]:
        """Per head float64[M, K] of images as the pipeline shows them; every worker sees a part, all get the whole."""
        found = self._outputs(rows)
        return {name: found[name] for name in self.profile.heads}

    def _outputs(self, rows: Ints) -> dict[str, Floats]:
        """Likewise, and where there is a regression on colours by how much these are off, float64[M, 3]."""
        module = self.judged.eval()
        widths: dict[str, int] = {name: self.profile.width(name) for name in self.profile.heads}
        widths |= {} if self.colour is None else {COLOUR: 3}
        found: dict[str, list[Floats]] = {name: [np.zeros((0, width))] for name, width in widths.items()}
        with torch.inference_mode():
            for images in self._shown(rows):
                with self.autocast():
                    outputs = module(images)
                if self.colour is not None:
                    outputs[COLOUR] = outputs[COLOUR] - self.colour.truth(images)
                for name, values in outputs.items():
                    found[name].append(values.double().cpu().numpy())
        return {name: self.exchange.interleaved(np.concatenate(parts), len(rows)) for name, parts in found.items()}

    def features(self, rows: Ints) -> Floats:
        """float64[M, D] of images as the pipeline shows them: what heads are given; shared as :meth:`logits` are."""
        network = self.judged.eval()
        assert isinstance(network, Network)  # an average's module is one, too
        found: list[Floats] = [np.zeros((0, network.dim))]
        with torch.inference_mode():
            found += [network.features(images).double().cpu().numpy() for images in self._shown(rows)]
        return self.exchange.interleaved(np.concatenate(found), len(rows))

    def _shown(self, rows: Ints) -> Iterator[Tensor]:
        """This worker's part of some images as the pipeline shows them, on its device, in batches."""
        size = max(1, self.profile.training.batch_size // self.exchange.workers)
        for images in self.inputs.validation(rows[self.exchange.rank :: self.exchange.workers], size):
            yield self.on_device(images)

    def on_device(self, images: Tensor) -> Tensor:
        """Pictures in the order of memory that convolutions like best, which a GPU changes itself."""
        moved = sent(images, self.device)
        return moved.contiguous(memory_format=torch.channels_last) if moved.ndim == 4 else moved


def as_logits(values: Floats) -> Floats:
    """float64[N, C] for softmax, of float64[N, K]: a single logit is the second of two, the first of which is 0."""
    return values if values.shape[1] > 1 else np.concatenate([np.zeros_like(values), values], axis=1)
