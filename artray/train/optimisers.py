"""Optimisers, learning rates and averages of weights: torch's, by their names in a profile."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.optim import swa_utils

from artray.train.settings import OptimiserConfig


class Group(NamedTuple):
    """Weights that learn at a rate of their own."""

    parameters: list[nn.Parameter]
    factor: float = 1.0
    """Of the profile's rate."""


def trained(module: nn.Module) -> list[Group]:
    """All of a module's weights that have gradients, at one rate."""
    return [Group([each for each in module.parameters() if each.requires_grad])]


def optimiser(cfg: OptimiserConfig, groups: Sequence[Group]) -> torch.optim.Optimizer:
    """What changes weights after every batch."""
    kinds = {
        "adam": torch.optim.Adam,
        "adadelta": torch.optim.Adadelta,
        "adamw": torch.optim.AdamW,
        "sgd": torch.optim.SGD,
    }
    own: dict[str, Any] = {"momentum": cfg.momentum} if cfg.name == "sgd" else {}
    if cfg.name != "adadelta" and any(each.is_cuda for group in groups for each in group.parameters):
        own["fused"] = True  # one kernel for all parameters
    parts = [{"params": group.parameters, "lr": cfg.lr * group.factor} for group in groups if group.parameters]
    made: torch.optim.Optimizer = kinds[cfg.name](parts, lr=cfg.lr, weight_decay=cfg.weight_decay, **own)
    return made


def scheduler(cfg: OptimiserConfig, optimiser: torch.optim.Optimizer, epochs: int) -> Any:
    """What changes the learning rate after every epoch; None for a constant one."""
    schedules = torch.optim.lr_scheduler
    if cfg.schedule == "step":
        return schedules.StepLR(optimiser, cfg.step_epochs, cfg.step_factor)
    if cfg.schedule == "cosine":
        return schedules.CosineAnnealingLR(optimiser, epochs, eta_min=0.0)
    if cfg.schedule == "plateau":
        return schedules.ReduceLROnPlateau(optimiser, "max", cfg.step_factor, cfg.patience_epochs)
    return None


@contextlib.contextmanager
def warming(optimiser: torch.optim.Optimizer, batches: int, step: int) -> Iterator[None]:
    """Within the block, the learning rate of a batch while a training warms up: it rises evenly from nearly 0.

    Args:
        optimiser: whose rates; they are as before after the block, where schedules find them.
        batches: how many warm up.
        step: of the batch, from 0 at the training's start.

    Source: Goyal et al. 2017, https://arxiv.org/abs/1706.02677, section 2.2.
    """
    if step >= batches:
        yield
        return
    rates = [group["lr"] for group in optimiser.param_groups]
    for group, rate in zip(optimiser.param_groups, rates, strict=True):
        group["lr"] = rate * (step + 1) / (batches + 1)
    yield
    for group, rate in zip(optimiser.param_groups, rates, strict=True):
        group["lr"] = rate


def averaged(network: nn.Module, decay: float) -> swa_utils.AveragedModel:
    """An exponential moving average of a network's weights and statistics."""
    rule: Any = swa_utils.get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
    return swa_utils.AveragedModel(network, multi_avg_fn=rule, use_buffers=True)
