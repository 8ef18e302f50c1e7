"""Training of variational autoencoders: what a batch costs, and how validation is judged."""

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np
import torch
from torch import Tensor

from artray.retrieve.vae import RECONSTRUCTIONS, Passed, Vae, kl_divergence
from artray.train import sampling
from artray.train.exchange import Exchange
from artray.train.loop import Loop, Shown
from artray.train.methods.pictures import Pictures
from artray.train.methods.profile import CHOSEN_BY, MethodProfile, VaeConfig
from artray.train.sampling import Share
from artray.train.works import Ints

ACTIVE_MIN: Final = 0.01
"""A dimension whose mean varies more than this among pictures says something of them. Source: Burda et al. (2016)."""

NOISE: Final = 1
"""Tells the noise's lot from that of a picture's augmentation, which begins with the same numbers."""


class Batch(NamedTuple):
    """A worker's part of a batch."""

    pictures: Tensor  # float[n, 3, S, S] in [0, 1]
    noise: Tensor  # float[n, C, h, w], standard normal


class Terms(NamedTuple):
    """The parts of a loss, means over pictures."""

    reconstruction: float
    kl: float
    loss: float  # weighted


class VaeTrainer(Loop):
    """Trains a variational autoencoder; see :class:`artray.train.loop.Loop`.

    What an image looks like and the noise that its latent gets depend on seed, epoch and its position in the epoch
    alone, so that a training comes to the same on one worker and on many.

    Args:
        profile: the training's.
        vae: with random weights, on its device; its batch norms synchronised.
        pictures: of all rows.
        train: int64: rows that are learned from.
        val: int64: rows that choose the epoch.
        exchange: the other workers.
    """

    def __init__(
        self, profile: MethodProfile, vae: Vae, pictures: Pictures, train: Ints, val: Ints, exchange: Exchange
    ) -> None:
        super().__init__(profile.training, profile.optimiser, vae, exchange, CHOSEN_BY)
        assert isinstance(profile.method, VaeConfig)
        self.profile, self.method, self.vae, self.pictures = profile, profile.method, vae, pictures
        self.train, self.val = train, val

    def shown(self) -> Shown:
        """The epoch, from the batch on where it was interrupted."""
        seed, number = self.training.seed, self.epoch
        shares = self._planned(number)[self.batch :]
        pictures = self.pictures.training(number, self.batch, self._planned)
        lots = ([(seed, number, at, NOISE) for at in share.positions.tolist()] for share in shares)
        return Shown(len(self.train), (self._batch(each, lot) for each, lot in zip(pictures, lots, strict=True)))

    def close(self) -> None:
        """End the processes that prepare pictures."""
        self.pictures.close()

    def _planned(self, number: int) -> list[Share]:
        """This worker's parts of an epoch's batches."""
        exchange = self.exchange
        rows = self.train[sampling.order(np.zeros(len(self.train)), "none", self.training.seed, number)]
        return list(sampling.batches(rows, self.training.batch_size, exchange.rank, exchange.workers))

    def loss(self, batch: Batch) -> Tensor:
        """Equation 3: alpha times the reconstruction's loss, and the divergence."""
        with self.autocast():
            passed = self.parallel(batch.pictures, batch.noise)
        sums = self.exchange.total(self._sums(passed, batch.pictures))
        return self._weighted(sums[:-1] / sums[-1])

    def validated(self) -> tuple[float, dict[str, float]]:
        """The loss over validation, and its parts by name."""
        terms = self.terms(self.val)
        return terms.loss, {"reconstruction": terms.reconstruction, "kl": terms.kl, CHOSEN_BY: -terms.loss}

    def terms(self, rows: Ints) -> Terms:
        """Of pictures as the method shows them, with the same noise in every epoch; every worker sees a part."""
        sums = torch.zeros(3, dtype=torch.float64)
        with torch.inference_mode():
            for batch in self._judged(rows):
                with self.autocast():
                    passed = self._module()(batch.pictures, batch.noise)
                sums += self._sums(passed, batch.pictures).double().cpu()
        whole = torch.stack(self.exchange.gather(sums)).sum(dim=0)
        means = whole[:-1] / whole[-1].clamp(min=1)
        return Terms(float(means[0]), float(means[1]), float(self._weighted(means)))

    def active(self, rows: Ints) -> int:
        """How many of the latent's dimensions say something of pictures; see :data:`ACTIVE_MIN`."""
        sums = torch.zeros(2, self.vae.dim, dtype=torch.float64)
        with torch.inference_mode():
            for batch in self._judged(rows):
                means = self._module().encoder(batch.pictures).mean.flatten(1).double().cpu()
                sums += torch.stack([means.sum(dim=0), means.square().sum(dim=0)])
        mean, square = torch.stack(self.exchange.gather(sums)).sum(dim=0) / max(len(rows), 1)
        return int((square - mean.square() > ACTIVE_MIN).sum())

    def _judged(self, rows: Ints) -> Iterator[Batch]:
        """This worker's part of some pictures, in batches; the noise follows from a picture's place among them."""
        exchange = self.exchange
        own = np.arange(exchange.rank, len(rows), exchange.workers)
        size, done = max(1, self.training.batch_size // exchange.workers), 0
        for pictures in self.pictures.validation(rows[own], size):
            places = own[done : done + len(pictures)].tolist()
            yield self._batch(pictures, [(self.training.seed, at, NOISE) for at in places])
            done += len(pictures)

    def _batch(self, pictures: Tensor, lots: Sequence[Sequence[int]]) -> Batch:
        made = noise(lots, self.vae.cfg.latent_shape(pictures.shape[-1])).to(pictures)
        return Batch(pictures.contiguous(memory_format=torch.channels_last), made)

    def _module(self) -> Vae:
        module = self.judged.eval()
        assert isinstance(module, Vae)  # an average's module is one, too
        return module

    def _sums(self, passed: Passed, pictures: Tensor) -> Tensor:
        """[3]: the reconstruction's losses and the divergences, summed over pictures, and how many pictures."""
        logits, encoded = passed
        if logits.dtype is torch.bfloat16:
            logits, encoded = logits.float(), type(encoded)(*(each.float() for each in encoded))
        losses = RECONSTRUCTIONS[self.method.reconstruction](logits, pictures)
        divergences = kl_divergence(encoded) / encoded.mean[0].numel()
        if self.method.kl == "sum":  # crops may have fewer dimensions than the whole, for which they stand
            divergences = divergences * self.vae.dim
        return torch.stack([losses.sum(), divergences.sum(), torch.ones_like(losses).sum()])

    def _weighted(self, means: Tensor) -> Tensor:
        """The loss, of [2]: the means of the reconstruction's loss and of the divergence."""
        return self.method.reconstruction_weight * means[0] + means[1]


def noise(lots: Sequence[Sequence[int]], shape: Sequence[int]) -> Tensor:
    """Standard normal noise float32[N, *shape], each picture's by a lot of its own.

    Args:
        lots: N times integers >= 0; the same ones give the same.
        shape: of a picture's.
    """

    def one(lot: Sequence[int]) -> Tensor:
        generator = torch.Generator().manual_seed(int(np.random.SeedSequence(lot).generate_state(1, np.uint64)[0]))
        return torch.randn(*shape, generator=generator)

    return torch.stack([one(lot) for lot in lots])
