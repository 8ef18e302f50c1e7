"""A run that is disturbed: decoders that die and hang, images that change or go, a second run, Ctrl-C."""

import os
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

from artray.archive.sample.make import write_archive
from tests import running

ROOT = Path(__file__).parents[2]


@pytest.fixture
def env(ray_temp: Path) -> dict[str, str]:
    """With the folder of the faulty decoders on the path."""
    return running.environment(ray_temp, PYTHONPATH=os.pathsep.join([str(ROOT), str(ROOT / "tests" / "fault")]))


def test_decoders_that_die_and_hang_cost_one_image_each(tmp_path: Path, env: dict[str, str]) -> None:
    write_archive(tmp_path / "a", 40)
    poison = {"crash.jpg": b"SEGV", "hang.jpg": b"LOOP"}
    for name, content in poison.items():
        (tmp_path / "a" / name).write_bytes(content * 10)
    settings = (*running.QUICK, "--set", "decode.plugins=[faulty_decoders]", "--set", "decode.timeout_s=5")
    summary = running.answer("process", tmp_path / "a", tmp_path / "s", *settings, env=env)
    assert summary["errors"] == {"decoder_crashed": 1, "decoder_hung": 1}
    assert summary["done"] == 40
    again = running.answer("process", tmp_path / "a", tmp_path / "s", *settings, env=env)
    assert (again["done"], again["failed"], again["skipped"]) == (0, 0, 42)  # left alone
    retried = running.answer("process", tmp_path / "a", tmp_path / "s", *settings, "--retry-errors", env=env)
    assert (retried["done"], retried["failed"], retried["skipped"]) == (0, 2, 40)


def test_images_that_change_or_go_while_the_run_lists_them(tmp_path: Path, env: dict[str, str]) -> None:
    """The listing is made first; what happens to an image after that is found out when it is read."""
    write_archive(tmp_path / "a", 300, seed=1, megapixels=(0.05, 0.1))
    pictures = sorted(tmp_path.joinpath("a").rglob("*.jpg"))
    last, before_last = pictures[-1], pictures[-2]
    process = subprocess.Popen(
        running.command("process", tmp_path / "a", tmp_path / "s", *running.QUICK, "--json"),
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "starting Ray" in line:
            last.unlink()
            before_last.write_bytes(before_last.read_bytes() + b"more")
            break
    threading.Thread(target=process.stderr.read, daemon=True).start()
    assert process.stdout is not None
    process.stdout.read()
    assert process.wait(300) == 0
    rows = running.records(tmp_path / "s")
    assert rows[str(last.relative_to(tmp_path / "a"))]["error"] == "missing"
    assert rows[str(before_last.relative_to(tmp_path / "a"))]["error"] == "changed"
    assert sum(1 for row in rows.values() if row["error"]) == 2
    summary = running.answer("process", tmp_path / "a", tmp_path / "s", *running.QUICK, env=env)
    assert (summary["done"] + summary["failed"], summary["vanished"]) == (1, 1)


@pytest.mark.parametrize("after_s", [0, 2, 9])  # while actors start, too
def test_ctrl_c_keeps_what_is_committed_and_says_how_to_go_on(
    tmp_path: Path, env: dict[str, str], after_s: float
) -> None:
    write_archive(tmp_path / "a", 600, seed=2, megapixels=(0.05, 0.1))
    settings = (*running.QUICK, "--set", "store.commit_s=0.5")
    process = subprocess.Popen(
        running.command("process", tmp_path / "a", tmp_path / "s", *settings),
        env=env,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "processing" in line:
            break
    time.sleep(after_s)
    process.send_signal(signal.SIGINT)
    told = process.stderr.read()
    assert process.wait(60) == 3, told
    assert "run the same command again" in told
    kept = len(running.records(tmp_path / "s")) if (tmp_path / "s" / "records").exists() else 0
    summary = running.answer("process", tmp_path / "a", tmp_path / "s", *settings, env=env)
    assert (summary["done"], summary["skipped"]) == (600 - kept, kept)


def test_of_two_runs_on_one_store_the_later_stops(tmp_path: Path, env: dict[str, str]) -> None:
    write_archive(tmp_path / "a", 300, seed=3, megapixels=(0.05, 0.1))
    first = subprocess.Popen(
        running.command("process", tmp_path / "a", tmp_path / "s", *running.QUICK),
        env=env,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert first.stderr is not None
    for line in first.stderr:
        if "starting Ray" in line:
            break
    second = running.run("process", tmp_path / "a", tmp_path / "s", *running.QUICK, env=env, ok=False)
    assert second.returncode == 3
    assert "is writing to this store" in second.stderr
    first.stderr.read()
    assert first.wait(300) == 0
    assert len(running.records(tmp_path / "s")) == 300


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--profile", "nothing.yaml"), "nothing.yaml"),
        (("--set", "decode.max_side=3"), "decode.max_side"),
        (("--set", "pipeline.min_actors=0"), "pipeline.min_actors"),
        (("--set", "classify.cards=[nobody]"), "nobody"),
        (("--metadata", "nothing.csv"), "nothing.csv"),
        (("--profile", "report"), "resnet50-type: these weights are yours to train"),
        (("--set", "classify.cards=[mtcnn]"), "classify.cards: expected cards of task classify, got mtcnn"),
        (("--set", "detect.cards=[efficientnet-lite2-art]"), "detect.cards"),
    ],
)
def test_bad_configuration_is_one_line_before_ray_starts(
    arguments: tuple[str, ...], words: str, tmp_path: Path, env: dict[str, str]
) -> None:
    write_archive(tmp_path / "a", 3)
    refused = running.run("process", tmp_path / "a", tmp_path / "s", *arguments, env=env, ok=False)
    assert refused.returncode == 2, refused.stderr
    assert words in refused.stderr
    assert "starting Ray" not in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not (tmp_path / "s").exists()


def test_an_actor_for_which_there_is_no_room_is_one_line(tmp_path: Path, env: dict[str, str]) -> None:
    write_archive(tmp_path / "a", 3)
    settings = (*running.QUICK, "--set", "pipeline.cpus_per_actor=1000")
    refused = running.run("process", tmp_path / "a", tmp_path / "s", *settings, env=env, ok=False)
    assert refused.returncode == 2, refused.stderr
    assert "pipeline: expected an actor to fit on this machine, got 1000 CPUs" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_device_that_a_worker_lacks_is_one_line_too(tmp_path: Path, env: dict[str, str]) -> None:
    """Only a worker can tell whether it has a GPU: the machine that the run is started from may have none."""
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    write_archive(tmp_path / "a", 3)
    settings = (*running.QUICK, "--set", "classify.device=cuda")
    refused = running.run("process", tmp_path / "a", tmp_path / "s", *settings, env=env, ok=False)
    assert refused.returncode == 2, refused.stderr
    assert refused.stderr.strip().splitlines()[-1].startswith("artray: device: expected a GPU for 'cuda'")
    assert "Traceback" not in refused.stderr
