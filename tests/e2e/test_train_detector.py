"""From boxes to a detector in the pipeline: artray train on Ray Train's workers, disturbed and undisturbed."""

import json
import subprocess
import time
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
import pytest
import yaml

from tests import boxes_training, running

TRAINING = {
    "detector": {"size_px": 64, "norms": "frozen"},
    "training": {"epochs": 4, "batch_size": 6, "checkpoint_batches": 1},
    "workers": {"workers": 2, "cpus_per_worker": 0.5},
    "optimiser": {"name": "sgd", "lr": 0.001, "ema_decay": 0.8},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("detector")
    boxes_training.written(made, **TRAINING)
    return made


@pytest.fixture(scope="module")
def undisturbed(folder: Path, ray_temp: Path) -> dict[str, Any]:
    """What two workers come to that nobody disturbs."""
    profile, env = folder / "rectangles.yaml", running.environment(ray_temp)
    return running.answer("train", profile, "--out", folder / "run", env=env)


def losses(run: Path) -> list[float]:
    try:
        return [json.loads(line)["loss"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    except FileNotFoundError:
        return []


def test_boxes_are_checked_without_reading_a_picture(folder: Path, ray_temp: Path) -> None:
    env = running.environment(ray_temp)
    told = running.answer("train", folder / "rectangles.yaml", "--check", env=env)
    assert told["works"] == boxes_training.COUNT
    assert told["sets"][0]["counts"] == {"objects": {"cat": 12, "dog": 12}}
    shown = running.run("train", folder / "rectangles.yaml", "--check", env=env).stdout
    assert "24 works; 0 lines cannot be used" in shown


def test_a_card_comes_out_that_detects_in_the_pipeline(
    folder: Path, undisturbed: dict[str, Any], ray_temp: Path
) -> None:
    env = running.environment(ray_temp)
    assert undisturbed["classes"] == ["dog", "cat"]
    assert undisturbed["counts"]["dog"] == {"train": 6, "epoch": 6, "val": 3, "test": 3}
    card = yaml.safe_load(Path(undisturbed["card"]).read_text())
    assert (card["classes"], card["settings"]["size_px"]) == (["dog", "cat"], 64)
    assert card["training"]["data_sha256"]
    told = pq.read_table(folder / "run" / "predictions.parquet")
    assert {"image_id", "part", "class_name", "score", "x1_px"} <= set(told.column_names)
    assert set(told["part"].to_pylist()) <= {"val", "test"}
    assert (folder / "run" / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert running.answer("models", "verify", undisturbed["card"], env=env)[0]["ok"]
    store = folder / "store"
    cards = ("--set", f"detect.cards=[{undisturbed['card']}]")
    running.run("process", folder / "pictures", store, *running.QUICK, *cards, env=env)
    assert len(running.records(store)) == boxes_training.COUNT
    shown = running.run("train", folder / "rectangles.yaml", "--out", folder / "run", env=env).stdout
    assert "on 6 pictures of test:" in shown
    assert "then name it in detect.cards of a profile" in shown


def test_one_worker_killed_in_mid_epoch_comes_to_the_same(
    folder: Path, undisturbed: dict[str, Any], ray_temp: Path
) -> None:
    out = folder / "killed"
    process = subprocess.Popen(
        running.command("train", folder / "rectangles.yaml", "--out", out),
        env=running.environment(ray_temp),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    for _ in range(3000):
        if len(losses(out)) >= 2:
            break
        assert process.poll() is None, "ended too early"
        time.sleep(0.05)
    workers = psutil.Process(process.pid).children(recursive=True)
    next(each for each in workers if "RayTrainWorker" in " ".join(each.cmdline())).kill()
    assert process.wait(timeout=300) == 0
    assert losses(out) == pytest.approx(losses(folder / "run"), abs=1e-4)
    assert json.loads((out / "result.json").read_text())["best_epoch"] == undisturbed["best_epoch"]


def test_without_boxes_of_the_classes_nothing_is_begun(folder: Path, ray_temp: Path) -> None:
    env = running.environment(ray_temp)
    profile = folder / "rectangles.yaml"
    no = running.run("train", profile, "--out", folder / "no", "--set", "classes=[ship]", env=env, ok=False)
    assert no.returncode == 2
    assert "data.sources: expected boxes of ship, found none" in no.stderr
    assert not (folder / "no" / "training.json").exists()


def test_an_experiment_compares_a_card_as_it_is_a_training_and_both_fused(folder: Path, ray_temp: Path) -> None:
    base = yaml.safe_load((folder / "rectangles.yaml").read_text())
    base |= {"training": {"epochs": 1, "batch_size": 6}, "workers": {"cpus_per_worker": 0.5}}
    fused = {"of": ["as it is", "trained"], "fuse": {"method": "nms", "by": "class"}}
    values = {
        "name": "dogs",
        "title": "Dogs",
        "base": {name: value for name, value in base.items() if name != "name"},
        "rows": [
            {"name": "as it is", "trained": False},
            {
                "name": "on a test alone",
                "trained": False,
                "set": {"data": {"sources": [{"path": "pictures/boxes.csv", "part": "test"}]}},
            },
            {"name": "trained"},
            {"name": "both", "ensemble": fused},
        ],
        "columns": [{"title": "AP"}, {"title": "persons", "category": "persons"}],
    }
    file, out, env = folder / "dogs.yaml", folder / "experiment", running.environment(ray_temp)
    file.write_text(yaml.safe_dump(values))
    told = running.answer("experiment", file, "--data", folder, "--out", out, env=env)
    assert [row["name"] for row in told["rows"]] == ["as it is", "on a test alone", "trained", "both"]
    alone = json.loads((out / "on-a-test-alone" / "0" / "result.json").read_text())
    assert alone["parts"]["test"]["pictures"] == boxes_training.COUNT
    assert all(row["measured"][1] == [None] for row in told["rows"])
    untouched = json.loads((out / "as-it-is" / "0" / "result.json").read_text())
    assert untouched["card"] == "start"
    assert told["rows"][0]["measured"][0][0] == pytest.approx(untouched["parts"]["test"]["figures"]["ap50"])
    learned = json.loads((out / "trained" / "0" / "result.json").read_text())
    assert told["rows"][2]["measured"][0][0] == pytest.approx(learned["parts"]["test"]["figures"]["ap50"])
    assert (out / "table.md").read_text() == told["markdown"]
    assert "published" not in told["markdown"]
    assert running.answer("experiment", file, "--data", folder, "--out", out, env=env) == told
    values["rows"][0] = {"name": "as it is"}  # now it is to be trained
    file.write_text(yaml.safe_dump(values))
    refused = running.run("experiment", file, "--data", folder, "--out", out, env=env, ok=False)
    assert refused.returncode == 2
    assert "holds a training with another profile" in refused.stderr
