"""From pictures without labels to a retrieval method in the pipeline: artray train on Ray Train's workers."""

import json
import subprocess
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from tests import methods_training, running

TRAINING = {
    "training": {"epochs": 6, "batch_size": 8, "precision": "float64", "checkpoint_batches": 1},
    "workers": {"workers": 2, "cpus_per_worker": 0.5},
    "optimiser": {"lr": 0.01, "ema_decay": 0.8},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("method")
    methods_training.written(made, **TRAINING)
    return made


@pytest.fixture(scope="module")
def undisturbed(folder: Path, ray_temp: Path) -> dict[str, Any]:
    """What two workers come to that nobody disturbs."""
    return running.answer("train", folder / "stripes.yaml", "--out", folder / "run", env=running.environment(ray_temp))


def losses(run: Path) -> list[tuple[float, float]]:
    try:
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    except FileNotFoundError:
        return []
    return [(line["loss"], line["val_loss"]) for line in lines]


def test_pictures_are_counted_without_reading_one(folder: Path, ray_temp: Path) -> None:
    shown = running.run("train", folder / "stripes.yaml", "--check", env=running.environment(ray_temp)).stdout
    assert f"{methods_training.COUNT} works; 0 lines cannot be used" in shown


def test_a_card_comes_out_that_embeds_in_the_pipeline(
    folder: Path, undisturbed: dict[str, Any], ray_temp: Path
) -> None:
    env = running.environment(ray_temp)
    card = yaml.safe_load(Path(undisturbed["card"]).read_text())
    assert (card["task"], card["architecture"], card["embedding_dim"]) == ("retrieve", "vae", methods_training.DIM)
    assert undisturbed["losses"]["val"]["loss"] == pytest.approx(min(loss for _, loss in losses(folder / "run")))
    assert running.answer("models", "verify", undisturbed["card"], env=env)[0]["ok"]
    store = folder / "store"
    given = ("--set", f"retrieve.card={undisturbed['card']}")
    running.run("process", folder / "pictures", store, *running.QUICK, *given, env=env)
    records = running.records(store)
    assert len(records) == methods_training.COUNT
    assert {len(record["embedding"]) for record in records.values()} == {methods_training.DIM}
    shown = running.run("train", folder / "stripes.yaml", "--out", folder / "run", env=env).stdout
    assert "then name it in retrieve.card of a profile" in shown
    assert "dimensions of the latent that say something of a picture" in shown


def test_one_worker_and_one_killed_in_mid_epoch_come_to_the_same(
    folder: Path, undisturbed: dict[str, Any], ray_temp: Path
) -> None:
    out, env = folder / "killed", running.environment(ray_temp)
    process = subprocess.Popen(
        running.command("train", folder / "stripes.yaml", "--out", out),
        env=env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    for _ in range(3000):
        if len(losses(out)) >= 2:
            break
        assert process.poll() is None, "ended too early"
        time.sleep(0.02)
    workers = psutil.Process(process.pid).children(recursive=True)
    next(each for each in workers if "RayTrainWorker" in " ".join(each.cmdline())).kill()
    assert process.wait(timeout=300) == 0
    expected = flat(losses(folder / "run"))
    assert flat(losses(out)) == pytest.approx(expected, abs=1e-6)
    assert json.loads((out / "result.json").read_text())["best_epoch"] == undisturbed["best_epoch"]
    one = ("--set", "workers.workers=1", "--out", folder / "one")
    running.answer("train", folder / "stripes.yaml", *one, env=env)
    assert flat(losses(folder / "one")) == pytest.approx(expected, abs=1e-6)


def flat(pairs: list[tuple[float, float]]) -> list[float]:
    return [value for pair in pairs for value in pair]
