"""One worker's part of a training: epochs of batches, a validation after each, checkpoints, the best one kept."""

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from artray.errors import ConfigError
from artray.metrics import classification as metrics
from artray.train import epochs, losses, optimisers
from artray.train.epochs import Epoch, Ints, Labels
from artray.train.exchange import Exchange
from artray.train.networks import Network
from artray.train.profile import Task, TrainProfile
from artray.train.sampling import Share

Floats: TypeAlias = npt.NDArray[np.float64]
State: TypeAlias = dict[str, Any]

CHECKED_EVERY: Final = 50
"""Losses are looked at after so many batches: looking makes a GPU wait."""

DTYPES: Final = {"float32": torch.float32, "bfloat16": torch.float32, "float64": torch.float64}


class Inputs(Protocol):
    """Where batches come from."""

    def training(self, epoch: Epoch, shares: Sequence[Share]) -> Iterator[Tensor]:
        """What the network takes, a batch per share; of a mixed epoch, mixed."""

    def validation(self, rows: Ints, batch_size: int) -> Iterator[Tensor]:
        """What the network takes of images, as the pipeline shows them, in order."""

    def judged(self, rows: Ints, batch_size: int) -> Iterator[Tensor]:
        """What it takes at the end: all views of an image, one behind the other, of so many images at a time."""


class Result(NamedTuple):
    """One epoch's numbers."""

    epoch: int  # from 1
    lr: float
    loss: float  # mean over batches
    seconds: float
    images: int
    val_loss: float
    metrics: dict[str, float]  # of validation, "HEAD METRIC"
    chosen: float  # the metric that chooses

    @property
    def images_per_s(self) -> float:
        """Images learned from per second, validation included."""
        return self.images / max(self.seconds, 1e-9)


def best_of(history: Sequence[Result]) -> Result | None:
    """The best epoch, the first of equally good ones; None before the first."""
    return max(history, key=lambda result: (result.chosen, -result.epoch), default=None)


class Trainer:
    """Trains a network; every worker has one, and all of them come to the same weights.

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
        self.profile, self.network, self.inputs, self.exchange = profile, network, inputs, exchange
        self.labels, self.train, self.val = labels, train, val
        self.device = next(network.parameters()).device
        self.parallel = _parallel(network, exchange, self.device)
        cfg = profile.optimiser
        self.optimiser = optimisers.optimiser(cfg, [each for each in network.parameters() if each.requires_grad])
        self.scheduler = optimisers.scheduler(cfg, self.optimiser, profile.training.epochs)
        self.averaged = None if cfg.ema_decay is None else optimisers.averaged(network, cfg.ema_decay)
        self.class_weights: dict[str, Tensor] = {name: self._class_weights(name) for name in profile.heads}
        self.history: list[Result] = []
        self.epoch, self.batch, self.losses = 0, 0, list[Tensor]()

    @property
    def judged(self) -> nn.Module:
        """What is validated and kept: the network, or the average of its weights."""
        return self.network if self.averaged is None else self.averaged.module

    @property
    def best(self) -> Result | None:
        """The best epoch so far, the first of equally good ones."""
        return best_of(self.history)

    @property
    def done(self) -> bool:
        """Whether all epochs are over, or none has been better for as long as the profile waits."""
        patience, best = self.profile.training.patience_epochs, self.best
        waited = len(self.history) - best.epoch if best else 0
        return self.epoch >= self.profile.training.epochs or (patience is not None and waited >= patience)

    def run_epoch(self, checkpoint: Callable[[], None] = lambda: None) -> Result:
        """Train the next epoch, from the batch on where it was interrupted, and validate.

        Args:
            checkpoint: called after every ``checkpoint_batches`` batches, in a state that :meth:`state` can keep.

        Raises:
            ConfigError: a loss is not finite; names the batch.
        """
        start, every = time.perf_counter(), self.profile.training.checkpoint_batches
        epoch = epochs.plan(self.profile, self.labels, self.train, self.epoch)
        shares = epoch.shares(self.profile.training.batch_size, self.exchange)[self.batch :]
        lr = float(self.optimiser.param_groups[0]["lr"])
        self.network.train()
        for share, images in zip(shares, self.inputs.training(epoch, shares), strict=True):
            self.losses.append(self._step(epoch, share, self.on_device(images)))
            self.batch += 1
            if self.batch % CHECKED_EVERY == 0:
                self._check_losses()
            if every and self.batch % every == 0:
                self._check_losses()
                checkpoint()
        self._check_losses()
        return self._finished(epoch, lr, start)

    def _finished(self, epoch: Epoch, lr: float, start: float) -> Result:
        val_loss, told = self._validated()
        if not math.isfinite(val_loss):
            raise ConfigError(
                f"loss: expected a finite number, got {val_loss} on validation after epoch {self.epoch + 1}; the last "
                "good checkpoint is kept; lower optimiser.lr, or set optimiser.clip_norm"
            )
        chosen = told[f"{self.profile.balanced_by} {self.profile.choose_by}"]
        loss = float(torch.stack(self.losses).mean()) if self.losses else math.nan
        seconds = time.perf_counter() - start
        result = Result(self.epoch + 1, lr, loss, seconds, len(epoch.indices), val_loss, told, chosen)
        self.history.append(result)
        if isinstance(self.scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
            self.scheduler.step(chosen)
        elif self.scheduler is not None:
            self.scheduler.step()
        self.epoch, self.batch, self.losses = self.epoch + 1, 0, []
        return result

    def _step(self, epoch: Epoch, share: Share, images: Tensor) -> Tensor:
        """One batch: its loss, detached."""
        seeds = [self.profile.training.seed, epoch.number, self.batch, self.exchange.rank]
        torch.manual_seed(int(np.random.SeedSequence(seeds).generate_state(1, np.uint64)[0]))  # dropout's
        self.optimiser.zero_grad(set_to_none=True)
        with self._autocast():
            outputs = self.parallel(images)
        loss = self._loss(outputs, epoch, share)
        loss.backward()  # type: ignore[no-untyped-call]
        if self.profile.optimiser.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.profile.optimiser.clip_norm)
        self.optimiser.step()
        if self.averaged is not None:
            self.averaged.update_parameters(self.network)
        return loss.detach()

    def _loss(self, outputs: dict[str, Tensor], epoch: Epoch, share: Share) -> Tensor:
        """The heads' losses, weighted; of a mixed batch, towards both classes by their parts."""
        parts: list[tuple[Ints, Tensor | None]] = [(share.positions, None)]
        if epoch.mix is not None:
            own = torch.from_numpy(epoch.mix.parts[share.positions]).to(self.device)
            parts = [(share.positions, own), (epoch.mix.positions[share.positions], 1 - own)]
        total = torch.zeros((), device=self.device)
        for name, cfg in self.profile.heads.items():
            logits = outputs[name]
            logits = logits.float() if logits.dtype is torch.bfloat16 else logits
            for positions, part in parts:
                ids = torch.from_numpy(epoch.labels[name][positions]).to(self.device)
                loss = self._head_loss(name, logits, ids, part)
                total = total + cfg.weight * loss
        return total

    def _head_loss(self, name: Task, logits: Tensor, ids: Tensor, part: Tensor | None = None) -> Tensor:
        known = ids.clamp(min=0)
        weights = self.class_weights[name].to(logits.dtype)[known] * (ids >= 0)
        loss = losses.LOSSES[self.profile.heads[name].loss]
        if part is None:
            return loss(logits, known, weights, self.exchange.total)
        mean = self.exchange.total(torch.stack([part.sum(), torch.ones_like(part).sum()]))
        return loss(logits, known, weights * part.to(logits.dtype), self.exchange.total) * (mean[0] / mean[1])

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        if self.profile.training.precision != "bfloat16":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16)

    def _class_weights(self, name: Task) -> Tensor:
        known = self.labels[name][self.train]
        outputs = self.profile.outputs(name)
        exponent = self.profile.heads[name].class_weight
        weights = losses.class_weights(known[known >= 0].tolist(), len(outputs), exponent)
        return weights.to(self.device)

    def _check_losses(self) -> None:
        """Raises ConfigError where a loss is not finite; every worker has the same losses."""
        if not self.losses:
            return
        finite = torch.isfinite(torch.stack(self.losses)).tolist()
        if not all(finite):
            where = f"batch {self.batch - len(finite) + finite.index(False) + 1} of epoch {self.epoch + 1}"
            raise ConfigError(
                f"loss: expected a finite number, got {float(self.losses[finite.index(False)])} at {where}; the last "
                f"good checkpoint is kept; lower optimiser.lr, or set optimiser.clip_norm"
            )

    def _validated(self) -> tuple[float, dict[str, float]]:
        """The loss over validation, and its metrics by "HEAD METRIC"."""
        logits = self.logits(self.val)
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
        return loss, told

    def logits(self, rows: Ints) -> dict[str, Floats]:
        """Per head float64[M, K] of images as the pipeline shows them; every worker sees a part, all get the whole."""
        module = self.judged.eval()
        found: dict[str, list[Floats]] = {name: [] for name in self.profile.heads}
        with torch.inference_mode():
            for images in self._shown(rows):
                with self._autocast():
                    outputs = module(images)
                for name, values in outputs.items():
                    found[name].append(values.double().cpu().numpy())
        return {name: self._together(found[name], len(rows), name) for name in self.profile.heads}

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
        moved = images.to(self.device, non_blocking=True)
        return moved.contiguous(memory_format=torch.channels_last) if moved.ndim == 4 else moved

    def _together(self, parts: list[Floats], rows: int, name: Task) -> Floats:
        outputs = len(self.profile.outputs(name))
        own = np.concatenate(parts) if parts else np.zeros((0, 1 if outputs == 2 else outputs))
        return self.exchange.interleaved(own, rows)

    def state(self) -> State:
        """Everything that resuming needs, on the CPU; what is random follows from seed, epoch and batch."""
        return {
            "epoch": self.epoch,
            "batch": self.batch,
            "seed": self.profile.training.seed,
            "losses": torch.stack(self.losses).cpu() if self.losses else torch.zeros(0),
            "history": [result._asdict() for result in self.history],
            "network": self.network.state_dict(),
            "averaged": None if self.averaged is None else self.averaged.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "scheduler": None if self.scheduler is None else self.scheduler.state_dict(),
        }

    def load(self, state: State) -> None:
        """Go on from a state of the same profile.

        Raises:
            ConfigError: it is of another architecture.
        """
        try:
            self.network.load_state_dict(state["network"])
            if self.averaged is not None:
                self.averaged.load_state_dict(state["averaged"])
            self.optimiser.load_state_dict(state["optimiser"])
            if self.scheduler is not None:
                self.scheduler.load_state_dict(state["scheduler"])
        except (RuntimeError, KeyError, ValueError, TypeError, AttributeError) as error:
            raise ConfigError(f"checkpoint: expected one of this network and optimiser: {_line(error)}") from error
        self.epoch, self.batch = state["epoch"], state["batch"]
        self.losses = list(state["losses"].to(self.device))
        self.history = [Result(**values) for values in state["history"]]


def as_logits(values: Floats) -> Floats:
    """float64[N, C] for softmax, of float64[N, K]: a single logit is the second of two, the first of which is 0."""
    return values if values.shape[1] > 1 else np.concatenate([np.zeros_like(values), values], axis=1)


def _parallel(network: Network, exchange: Exchange, device: torch.device) -> nn.Module:
    """The network, with gradients averaged over workers."""
    if exchange.workers == 1:
        return network
    devices = [device] if device.type == "cuda" else None
    return nn.parallel.DistributedDataParallel(network, device_ids=devices)


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
