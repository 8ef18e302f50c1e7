"""One worker's part of any training: epochs of batches, a validation after each, states to go on from."""

import abc
import contextlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from artray.errors import ConfigError
from artray.train import optimisers
from artray.train.exchange import Exchange
from artray.train.optimisers import Group
from artray.train.settings import EpochsConfig, OptimiserConfig

Floats: TypeAlias = npt.NDArray[np.float64]
State: TypeAlias = dict[str, Any]

CHECKED_EVERY: Final = 50
"""Losses are looked at after so many batches: looking makes a GPU wait."""

DTYPES: Final = {"float32": torch.float32, "bfloat16": torch.float32, "float64": torch.float64}


class Result(NamedTuple):
    """One epoch's numbers."""

    epoch: int  # from 1
    lr: float
    loss: float  # mean over batches
    seconds: float
    images: int
    val_loss: float
    metrics: dict[str, float]  # of validation
    chosen: float  # the metric that chooses

    @property
    def images_per_s(self) -> float:
        """Images learned from per second, validation included."""
        return self.images / max(self.seconds, 1e-9)


def best_of(history: Sequence[Result]) -> Result | None:
    """The best epoch, the first of equally good ones; None before the first."""
    return max(history, key=lambda result: (result.chosen, -result.epoch), default=None)


class Shown(NamedTuple):
    """An epoch, from the batch on where it was interrupted."""

    images: int  # of the whole epoch, of all workers
    batches: Iterator[Any]  # this worker's, as :meth:`Loop.loss` takes them


class Loop(abc.ABC):
    """Trains a network; every worker has one, and all of them come to the same weights.

    What is learned and how it is judged is said by :meth:`shown`, :meth:`loss` and :meth:`validated`.

    Args:
        training: how long, in batches of which size, by which seed.
        optimiser: how weights are changed.
        network: with random or pretrained weights, on its device; what it trains of them has gradients.
        exchange: the other workers.
        chosen_by: the metric of validation that chooses the epoch.
        groups: weights that learn at rates of their own; None: all that have gradients, at one.
    """

    def __init__(
        self,
        training: EpochsConfig,
        optimiser: OptimiserConfig,
        network: nn.Module,
        exchange: Exchange,
        chosen_by: str,
        groups: Sequence[Group] | None = None,
    ) -> None:
        self.training, self.cfg, self.network, self.exchange = training, optimiser, network, exchange
        self.chosen_by = chosen_by
        self.device = next(network.parameters()).device
        self.parallel = _parallel(network, exchange, self.device)
        self.optimiser = optimisers.optimiser(optimiser, groups or optimisers.trained(network))
        self.scheduler = optimisers.scheduler(optimiser, self.optimiser, training.epochs)
        self.averaged = None if optimiser.ema_decay is None else optimisers.averaged(network, optimiser.ema_decay)
        self.history: list[Result] = []
        self.epoch, self.batch, self.steps, self.losses = 0, 0, 0, list[Tensor]()

    @abc.abstractmethod
    def shown(self) -> Shown:
        """The epoch ``self.epoch``, from ``self.batch`` on."""

    @abc.abstractmethod
    def loss(self, batch: Any) -> Tensor:
        """A batch's loss, a scalar, that of all workers together."""

    @abc.abstractmethod
    def validated(self) -> tuple[float, dict[str, float]]:
        """The loss over validation, and its metrics by name; the same for all workers."""

    def close(self) -> None:  # noqa: B027 - a training that reads nothing ahead has nothing to end
        """End what prepares batches of later epochs; training can go on, which starts it anew."""

    @property
    def judged(self) -> nn.Module:
        """What is validated and kept: the network, or the average of its weights."""
        return self.network if self.averaged is None else self.averaged.module

    @property
    def best(self) -> Result | None:
        """The epoch that is kept so far: the first of equally good ones, or the last one if the profile says so."""
        return self.history[-1] if self.training.keep == "last" and self.history else best_of(self.history)

    @property
    def done(self) -> bool:
        """Whether all epochs are over, or none has been better for as long as the profile waits."""
        patience, best = self.training.patience_epochs, self.best
        waited = len(self.history) - best.epoch if best else 0
        return self.epoch >= self.training.epochs or (patience is not None and waited >= patience)

    def run_epoch(self, checkpoint: Callable[[], None] = lambda: None) -> Result:
        """Train the next epoch, from the batch on where it was interrupted, and validate.

        Args:
            checkpoint: called after every ``checkpoint_batches`` batches, in a state that :meth:`state` can keep.

        Raises:
            ConfigError: a loss is not finite; names the batch.
        """
        start, every = time.perf_counter(), self.training.checkpoint_batches
        shown = self.shown()
        lr = float(self.optimiser.param_groups[0]["lr"])
        self.network.train()
        for batch in shown.batches:
            self.losses.append(self._step(batch))
            self.batch, self.steps = self.batch + 1, self.steps + 1
            if self.batch % CHECKED_EVERY == 0:
                self._check_losses()
            if every and self.batch % every == 0:
                self._check_losses()
                checkpoint()
        self._check_losses()
        return self._finished(shown.images, lr, start)

    def _finished(self, images: int, lr: float, start: float) -> Result:
        self._seed()  # of what a loss draws by lot
        val_loss, told = self.validated()
        if not math.isfinite(val_loss):
            raise ConfigError(
                f"loss: expected a finite number, got {val_loss} on validation after epoch {self.epoch + 1}; the last "
                "good checkpoint is kept; lower optimiser.lr, or set optimiser.clip_norm"
            )
        chosen = told[self.chosen_by]
        loss = float(torch.stack(self.losses).mean()) if self.losses else math.nan
        result = Result(self.epoch + 1, lr, loss, time.perf_counter() - start, images, val_loss, told, chosen)
        self.history.append(result)
        if isinstance(self.scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
            self.scheduler.step(chosen)
        elif self.scheduler is not None:
            self.scheduler.step()
        self.epoch, self.batch, self.losses = self.epoch + 1, 0, []
        return result

    def _step(self, batch: Any) -> Tensor:
        """One batch: its loss, detached."""
        self._seed()  # dropout's
        self.optimiser.zero_grad(set_to_none=True)
        loss = self.loss(batch)
        loss.backward()  # type: ignore[no-untyped-call]
        if self.cfg.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.cfg.clip_norm)
        with optimisers.warming(self.optimiser, self.cfg.warmup_batches, self.steps):
            self.optimiser.step()
        if self.averaged is not None:
            self.averaged.update_parameters(self.network)
        return loss.detach()

    def _seed(self) -> None:
        """Torch's lot follows from where the training is, whether it was interrupted or not."""
        seeds = [self.training.seed, self.epoch, self.batch, self.exchange.rank]
        torch.manual_seed(int(np.random.SeedSequence(seeds).generate_state(1, np.uint64)[0]))

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """The profile's precision."""
        if self.training.precision != "bfloat16":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16)

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

    def state(self) -> State:
        """Everything that resuming needs, on the CPU; what is random follows from seed, epoch and batch."""
        return {
            "epoch": self.epoch,
            "batch": self.batch,
            "steps": self.steps,
            "seed": self.training.seed,
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
        self.epoch, self.batch, self.steps = state["epoch"], state["batch"], state.get("steps", 0)
        self.losses = list(state["losses"].to(self.device))
        self.history = [Result(**values) for values in state["history"]]


def _parallel(network: nn.Module, exchange: Exchange, device: torch.device) -> nn.Module:
    """The network, with gradients averaged over workers."""
    if exchange.workers == 1:
        return network
    devices = [device] if device.type == "cuda" else None
    return nn.parallel.DistributedDataParallel(network, device_ids=devices)


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
