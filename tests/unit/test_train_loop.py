"""Epochs: what is learned, resumed, stopped and chosen, by one worker or several."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from artray.errors import ConfigError
from artray.train.epochs import plan
from tests import training
from tests.training import labels, profile, shared, trained, trainer


def close(first: dict[str, Any], second: dict[str, Any], tolerance: float) -> bool:
    """Whether two networks' parameters and statistics are the same."""
    return all(
        torch.allclose(first["network"][name].double(), second["network"][name].double(), rtol=0, atol=tolerance)
        for name in first["network"]
    )


VARIANTS = {
    "plain": {},
    "balanced": {"balance": {"rule": "oversample"}, "heads": {"type": {"class_weight": 1.0}, "genre": {"weight": 0.3}}},
    "f1, mixed": {"heads": {"type": {"loss": "f1"}, "genre": {"loss": "f1"}}, "training": {"mixup": 0.4}},
    "drawn, average": {
        "data": {"sources": [{"path": "none"}], "drawings_from_paintings": 0.5},
        "balance": {"rule": "undersample"},
        "optimiser": {"ema_decay": 0.9, "clip_norm": 1.0, "name": "sgd"},
    },
    "head": {"network": {"card": "none", "trained": "head"}, "balance": {"rule": "imbalanced"}},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_workers_that_share_batches_come_to_the_same_parameters(variant: str, tmp_path: Path) -> None:
    cfg = profile(**VARIANTS[variant])
    alone = trained(cfg).state()
    start = trainer(cfg).state()
    assert not close(alone, start, 1e-4)
    for workers in (2, 4) if variant == "plain" else (2,):
        states = shared(cfg, workers, tmp_path)
        for state in states:
            assert close(state, alone, 1e-9)
            for mine, theirs in zip(state["history"], alone["history"], strict=True):
                assert mine["metrics"] == theirs["metrics"]
                assert mine["loss"] == pytest.approx(theirs["loss"], abs=1e-9)
                assert mine["val_loss"] == pytest.approx(theirs["val_loss"], abs=1e-9)


@pytest.mark.parametrize("schedule", ["constant", "step", "cosine", "plateau"])
def test_a_training_resumed_in_mid_epoch_is_one_that_was_never_interrupted(schedule: str) -> None:
    cfg = profile(
        optimiser={"schedule": schedule, "step_epochs": 1, "ema_decay": 0.9},
        training={"epochs": 3, "checkpoint_batches": 2, "mixup": 0.2},
    )
    kept: list[dict[str, Any]] = []
    whole = trainer(cfg)
    while not whole.done:
        whole.run_epoch(lambda: kept.append(copy.deepcopy(whole.state())))
    assert [(state["epoch"], state["batch"]) for state in kept] == [(e, b) for e in range(3) for b in (2, 4)]
    resumed = trainer(cfg)
    resumed.load(kept[3])
    while not resumed.done:
        resumed.run_epoch()
    assert close(resumed.state(), whole.state(), 0.0)
    without_seconds = [result._replace(seconds=0.0) for result in whole.history]
    assert [result._replace(seconds=0.0) for result in resumed.history] == without_seconds
    lrs = {"constant": [0.01] * 3, "step": [0.01, 0.001, 1e-4], "cosine": [0.01, 0.0075, 0.0025], "plateau": [0.01] * 3}
    assert [result.lr for result in whole.history] == pytest.approx(lrs[schedule])


@pytest.mark.parametrize("name", ["adam", "adadelta", "adamw", "sgd"])
def test_every_optimiser_learns_the_stripes(name: str) -> None:
    lr = {"adam": 0.01, "adadelta": 1.0, "adamw": 0.01, "sgd": 0.01}[name]
    cfg = profile(
        optimiser={"name": name, "lr": lr, "schedule": "constant"}, training={"epochs": 8, "precision": "float32"}
    )
    history = trained(cfg).history
    assert history[-1].loss < 0.8 * history[0].loss
    assert max(result.metrics["type f1 drawing"] for result in history) > 0.8


def test_the_best_epoch_is_the_first_of_equally_good_ones_and_ends_the_waiting() -> None:
    cfg = profile(training={"epochs": 9, "patience_epochs": 2})
    made = trainer(cfg)
    result = made.run_epoch()
    made.history = [result._replace(epoch=n, chosen=value) for n, value in enumerate([0.5, 0.7, 0.7, 0.6], 1)]
    made.epoch = 4
    assert made.best is not None
    assert made.best.epoch == 2
    assert made.done
    made.history.pop()
    made.epoch = 3
    assert not made.done


def test_a_loss_that_is_not_finite_stops_and_names_its_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    made = trainer(profile())
    made.run_epoch()
    usual, step = made._step, iter(range(100))

    def poisoned(*given: Any) -> torch.Tensor:
        loss = usual(*given)
        return loss * float("nan") if next(step) == 3 else loss

    monkeypatch.setattr(made, "_step", poisoned)
    with pytest.raises(ConfigError, match="finite number, got nan at batch 4 of epoch 2; the last good checkpoint"):
        made.run_epoch()


def test_a_checkpoint_of_another_network_is_refused() -> None:
    cfg = profile()
    state = trainer(cfg).state()
    other = trainer(profile(heads={"type": {"hidden": [3]}}))
    with pytest.raises(ConfigError, match="checkpoint: expected one of this network"):
        other.load(state)


def test_an_epoch_is_planned_from_seed_and_number() -> None:
    train = np.arange(10, 60)
    cfg = profile(
        data={"sources": [{"path": "x"}], "drawings_from_paintings": 0.5},
        balance={"rule": "oversample"},
        training={"mixup": 0.4},
    )
    epoch = plan(cfg, labels(), train, 3)
    again = plan(cfg, labels(), train, 3)
    assert epoch.indices.tolist() == again.indices.tolist() != plan(cfg, labels(), train, 4).indices.tolist()
    drawings = epoch.labels["type"] == 1
    assert 2 * drawings.sum() == len(drawings)  # balanced after the conversion
    assert (labels()["type"][epoch.indices[epoch.drawn]] == 0).all()
    assert drawings[epoch.drawn].all()
    assert set(epoch.indices) <= set(train)
    assert np.array_equal(epoch.labels["genre"], labels()["genre"][epoch.indices])


def test_pictures_come_from_processes_of_their_own_alike() -> None:
    cfg = profile(training={"epochs": 1})
    aside = profile(training={"epochs": 1}, workers={"loader_processes": 2})
    assert close(trained(cfg).state(), trained(aside).state(), 0.0)
    assert training.COUNT == 60
