"""From labels to a card in the pipeline: artray train on Ray Train's workers, disturbed and undisturbed."""

import contextlib
import json
import subprocess
import time
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
import pytest
import yaml

from tests import clusters, running, training

EPOCHS = 6
TRAINING = {
    "training": {"epochs": EPOCHS, "batch_size": 8, "precision": "float64", "checkpoint_batches": 2},
    "workers": {"workers": 2, "cpus_per_worker": 0.5, "max_failures": 3},
    "optimiser": {"lr": 0.01, "ema_decay": 0.8},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("training")
    training.written(made, **TRAINING)
    return made


@pytest.fixture(scope="module")
def undisturbed(folder: Path, ray_temp: Path) -> dict[str, Any]:
    """What two workers come to that nobody disturbs."""
    return running.answer("train", folder / "stripes.yaml", "--out", folder / "run", env=running.environment(ray_temp))


def history(run: Path) -> list[dict[str, Any]]:
    """Epochs without how long they took."""
    try:
        lines = (run / "metrics.jsonl").read_text().splitlines()
    except FileNotFoundError:
        return []
    return [{name: value for name, value in json.loads(line).items() if name != "seconds"} for line in lines]


def same(run: Path, folder: Path) -> bool:
    """Whether a run came to what the undisturbed one came to, epoch by epoch."""
    told, expected = history(run), history(folder / "run")
    return len(told) == len(expected) and all(
        one["chosen"] == two["chosen"] and one["loss"] == pytest.approx(two["loss"], abs=1e-6)
        for one, two in zip(told, expected, strict=True)
    )


def test_one_worker_comes_to_the_same(folder: Path, undisturbed: dict[str, Any], ray_temp: Path) -> None:
    env = running.environment(ray_temp)
    one = ("--set", "workers.workers=1", "--out", folder / "one")
    result = running.answer("train", folder / "stripes.yaml", *one, env=env)
    assert same(folder / "one", folder)
    assert result["best_epoch"] == undisturbed["best_epoch"]
    assert result["heads"]["type"]["test"]["metrics"] == undisturbed["heads"]["type"]["test"]["metrics"]
    again = running.answer("train", folder / "stripes.yaml", *one, env=env)  # done: nothing is trained again
    assert again == result
    other = running.run("train", folder / "stripes.yaml", *one, "--set", "optimiser.lr=0.1", env=env, ok=False)
    assert other.returncode == 2
    assert "holds a training with another profile; name another folder with --out" in other.stderr


def test_the_card_classifies_in_the_pipeline_as_it_was_judged(
    folder: Path, undisturbed: dict[str, Any], ray_temp: Path
) -> None:
    env = running.environment(ray_temp)
    verified = running.answer("models", "verify", undisturbed["card"], env=env)
    assert verified[0]["ok"]
    card = yaml.safe_load(Path(undisturbed["card"]).read_text())
    assert card["metrics"]["type"]["works"] == undisturbed["heads"]["type"]["test"]["works"] > 0
    assert (folder / "run" / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert "| f1 drawing |" in (folder / "run" / "report.md").read_text()
    cards = f"classify.cards=[{undisturbed['card']}]"
    store = folder / "store"
    running.run("process", folder / "pictures", store, *running.QUICK, "--set", cards, env=env)
    records = running.records(store)
    predictions = pq.read_table(folder / "run" / "predictions.parquet").to_pylist()
    assert {row["part"] for row in predictions} == {"val", "test"}
    for row in predictions:
        stored = records[row["work_id"].removeprefix("csv/")]
        scores = dict(stored[f"{row['head']}_scores"])
        assert scores[row["predicted"]] == pytest.approx(row["score"], abs=0.03)  # judged on kept pictures, JPEGs
        assert scores[row["predicted"]] > max(scores.values()) - 0.03


def test_a_worker_killed_in_mid_epoch_changes_nothing(
    folder: Path, undisturbed: dict[str, Any], ray_temp: Path
) -> None:
    process = started(folder, folder / "worker-killed", ray_temp)
    after_epochs(folder / "worker-killed", 2, process)
    worker = next(each for each in family(process) if "RayTrainWorker" in " ".join(each.cmdline()))
    worker.kill()
    assert process.wait(timeout=300) == 0
    assert same(folder / "worker-killed", folder)
    result = json.loads((folder / "worker-killed" / "result.json").read_text())
    assert result["best_epoch"] == undisturbed["best_epoch"]


def test_a_killed_driver_resumes(folder: Path, undisturbed: dict[str, Any], ray_temp: Path) -> None:
    out = folder / "driver-killed"
    process = started(folder, out, ray_temp)
    after_epochs(out, 3, process)
    for each in [*family(process), psutil.Process(process.pid)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            each.kill()
    process.wait()
    assert 3 <= len(history(out)) < EPOCHS
    running.run("train", folder / "stripes.yaml", "--out", out, env=running.environment(ray_temp))
    assert same(out, folder)
    assert undisturbed["epochs"] == EPOCHS


def test_a_training_goes_on_with_the_machines_that_are_left(
    folder: Path, undisturbed: dict[str, Any], ray_temp: Path, tmp_path: Path
) -> None:
    env, port, out = clusters.environment(tmp_path), clusters.free_port(), folder / "machine-lost"
    elastic = ("workers.min_workers=1", "workers.cpus_per_worker=1")
    with clusters.head(env, ray_temp, port, "--num-cpus=1"), clusters.joined(env, port, "--num-cpus=1") as node:
        process = subprocess.Popen(
            running.command(
                "train", folder / "stripes.yaml", "--out", out, *(each for key in elastic for each in ("--set", key))
            ),
            env=env | {"RAY_ADDRESS": f"127.0.0.1:{port}"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        after_epochs(out, 2, process)
        assert any("RayTrainWorker" in " ".join(each.cmdline()) for each in node.children(recursive=True))
        clusters.kill(node)
        told = process.communicate(timeout=240)[0].decode()
        assert process.returncode == 0, told
    assert same(out, folder)
    assert json.loads((out / "result.json").read_text())["best_epoch"] == undisturbed["best_epoch"]


def test_an_experiment_stands_beside_what_was_published(folder: Path, ray_temp: Path) -> None:
    base = yaml.safe_load((folder / "stripes.yaml").read_text()) | {"training": {"epochs": 1, "batch_size": 16}}
    base = {name: value for name, value in base.items() if name != "name"} | {"workers": {"cpus_per_worker": 0.5}}
    values = {
        "name": "sampling",
        "title": "Sampling",
        "base": base,
        "rows": [
            {"name": "none", "published": ["0.5"]},
            {"name": "over", "set": {"balance": {"rule": "oversample"}}, "published": [None]},
            {"name": "both", "ensemble": {"rule": "majority", "of": ["none", "over"]}},
        ],
        "columns": [{"title": "accuracy", "part": "test", "head": "type", "metric": "accuracy"}],
    }
    file, out, env = folder / "sampling.yaml", folder / "experiment", running.environment(ray_temp)
    file.write_text(yaml.safe_dump(values))
    told = running.answer("experiment", file, "--data", folder, "--out", out, env=env)
    assert [row["name"] for row in told["rows"]] == ["none", "over", "both"]
    table = (out / "table.md").read_text()
    assert table == told["markdown"]
    assert "| | accuracy | published |" in table
    assert f"| none | {told['rows'][0]['measured'][0][0]:.3f} | 0.5 |" in table
    result = json.loads((out / "over" / "0" / "result.json").read_text())
    assert result["heads"]["type"]["test"]["metrics"]["accuracy"]["value"] == told["rows"][1]["measured"][0][0]
    written = (out / "over" / "0" / "result.json").stat().st_mtime_ns
    assert running.answer("experiment", file, "--data", folder, "--out", out, env=env) == told
    assert (out / "over" / "0" / "result.json").stat().st_mtime_ns == written  # nothing was trained again


def started(folder: Path, out: Path, ray_temp: Path) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        running.command("train", folder / "stripes.yaml", "--out", out),
        env=running.environment(ray_temp),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def after_epochs(out: Path, epochs: int, process: "subprocess.Popen[bytes]") -> None:
    """Wait until so many are over."""
    for _ in range(3000):
        if len(history(out)) >= epochs:
            return
        assert process.poll() is None, "ended too early"
        time.sleep(0.05)
    raise AssertionError("took too long")


def family(process: "subprocess.Popen[bytes]") -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)
