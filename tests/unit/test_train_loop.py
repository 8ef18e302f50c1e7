"""Epochs: what is learned, resumed, stopped and chosen, by one worker or several."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from artray.classify import inputs
from artray.errors import ConfigError
from artray.train.epochs import plan
from artray.train.transforms import Training
from tests import training
from tests.training import SPEC, labels, picture, profile, shared, trained, trainer


def close(first: dict[str, Any], second: dict[str, Any], tolerance: float) -> bool:
    """Whether two networks' parameters and statistics are the same."""
    return all(
        torch.allclose(first["network"][name].double(), second["network"][name].double(), rtol=0, atol=tolerance)
        for name in first["network"]
    )


VARIANTS = {
    "plain": {},
    "balanced": {
        "balance": {"rule": "oversample"},
        "heads": {"type": {"class_weight": 1.0}, "genre": {"weight": 0.3}},
        "training": {"seed": 2},  # some start where rounding grows to 1.5e-9 in two epochs
    },
    "f1, mixed": {"heads": {"type": {"loss": "f1"}, "genre": {"loss": "f1"}}, "training": {"mixup": 0.4}},
    "drawn, average": {
        "data": {"sources": [{"path": "none"}], "drawings_from_paintings": 0.5},
        "balance": {"rule": "undersample"},
        "optimiser": {"ema_decay": 0.9, "clip_norm": 1.0, "name": "sgd"},
    },
    "colour, mixed": {"colour": {"weight": 0.3}, "training": {"mixup": 0.4}},
    "co-occurrences": {"network": {"cooccurrence": {"stage": "second_last"}}, "colour": {"weight": 0.05}},
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
                assert mine["metrics"] == pytest.approx(theirs["metrics"], abs=1e-8)
                assert mine["loss"] == pytest.approx(theirs["loss"], abs=1e-9)
                assert mine["val_loss"] == pytest.approx(theirs["val_loss"], abs=1e-9)


@pytest.mark.parametrize("schedule", ["constant", "step", "cosine", "plateau"])
def test_a_training_resumed_in_mid_epoch_is_one_that_was_never_interrupted(schedule: str) -> None:
    cfg = profile(
        colour={"weight": 0.05 if schedule == "cosine" else 0.0},
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


def test_the_last_epoch_is_kept_where_overfitting_is_wanted() -> None:
    made = trainer(profile(training={"epochs": 9, "patience_epochs": 2, "keep": "last"}))
    assert made.best is None
    result = made.run_epoch()
    made.history = [result._replace(epoch=n, chosen=value) for n, value in enumerate([0.5, 0.7, 0.7, 0.6], 1)]
    made.epoch = 4
    assert made.best is not None
    assert made.best.epoch == 4
    assert not made.done  # there is always a better one to come


@pytest.mark.parametrize("mixup", [0.0, 0.4])
def test_the_loss_is_that_of_the_heads_and_that_of_the_colours_by_their_weights(mixup: float) -> None:
    """Colours by hand: the means of the pixels that are shown, of a mixed picture of both by their parts."""
    plain, coloured = (
        trainer(profile(colour={"weight": weight}, training={"mixup": mixup, "batch_size": 8})) for weight in (0.0, 0.2)
    )
    plain.network.load_state_dict(coloured.network.state_dict(), strict=False)
    (without, *_), (batch, *_) = plain.shown().batches, coloured.shown().batches
    assert batch.images.equal(without.images)
    epoch, positions = batch.epoch, batch.share.positions
    transform = Training(SPEC, coloured.profile.crop, coloured.profile.augment)

    def colour(position: int) -> np.ndarray:
        return transform(picture(int(epoch.indices[position])), (0, 0, position)).mean(axis=(0, 1)) / 255

    truth = np.stack([colour(position) for position in positions])
    if epoch.mix is not None:
        part = epoch.mix.parts[positions][:, None]
        others = np.stack([colour(int(position)) for position in epoch.mix.positions[positions]])
        truth = part * truth + (1 - part) * others
    for each in (plain, coloured):
        each.network.eval()  # batch norms' statistics stay as they are
    with torch.no_grad():
        told = coloured.network(batch.images)["colour"].numpy()
        squared = float(np.square(told - truth).mean())
        expected = 0.8 * float(plain.loss(without)) + 0.2 * squared
        assert float(coloured.loss(batch)) == pytest.approx(expected, abs=1e-7)


def test_without_a_weight_nothing_is_learned_of_colours_and_nothing_else_changes() -> None:
    plain = trainer(profile())
    assert not [name for name in plain.state()["network"] if "colour" in name]
    coloured = trainer(profile(colour={"weight": 0.1})).state()["network"]
    assert [name for name in coloured if "colour" in name] == ["colour.linear.weight", "colour.linear.bias"]
    assert all(tensor.equal(coloured[name]) for name, tensor in plain.state()["network"].items())  # the same start
    assert set(plain.run_epoch().metrics) == {n for n in trained(profile()).history[0].metrics if "colour" not in n}


def test_colours_are_learned_and_told_in_steps_of_8_bits() -> None:
    made = trained(profile(colour={"weight": 0.5}, training={"epochs": 6}, optimiser={"schedule": "constant"}))
    told = [result.metrics["colour mean_absolute_error"] for result in made.history]
    assert told[-1] < 0.7 * told[0]
    found = []
    for row in made.val.tolist():
        (shown,) = made.inputs.validation(np.array([row]), 1)
        with torch.inference_mode():
            found.append(made.network.eval()(shown)["colour"][0].numpy())
    truth = np.stack([resized(row).mean(axis=(0, 1)) for row in made.val.tolist()])
    assert told[-1] == pytest.approx(np.abs(255 * np.stack(found) - truth).mean(), abs=1e-6)


def resized(row: int) -> np.ndarray:
    """uint8[32, 32, 3]: a picture as the pipeline shows it."""
    return inputs.square(picture(row), SPEC)


def test_a_filter_is_trained_with_the_stages_that_it_sees_and_no_others() -> None:
    cfg = profile(network={"cooccurrence": {"stage": "second_last", "window": 3}}, training={"epochs": 1})
    start, end = trainer(cfg).state()["network"], trained(cfg).state()["network"]
    moved = {name for name, tensor in end.items() if not tensor.equal(start[name])}
    assert "trunk.filter" in moved
    assert {name for name in moved if name.startswith("trunk.trunk.blocks")}
    behind = ("trunk.trunk.conv_head", "trunk.trunk.bn2")
    assert not {name for name in moved if name.startswith(behind)}


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
