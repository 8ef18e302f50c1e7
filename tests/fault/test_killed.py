"""Kill a run at random moments: what the resumed run leaves is what an undisturbed one leaves.

ARTRAY_FAULT_MOMENTS says how many kills (`make fault`: 20); each is a SIGKILL, in turn of the driver, of an actor, and
of everything that belongs to the run, its Ray included.
"""

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest

from artray.archive.sample.make import write_archive
from artray.store.layout import open_store
from tests import running

MOMENTS = int(os.environ.get("ARTRAY_FAULT_MOMENTS", "3"))
IMAGES = 500
COMMIT_S = 1.0
VICTIMS = ("driver", "actor", "everything")


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archive") / "pictures"
    write_archive(folder, IMAGES, seed=5, defects=17, megapixels=(0.05, 0.1))
    return folder


@pytest.fixture(scope="module")
def undisturbed(
    archive: Path, ray_temp: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, dict], float]:
    """The rows of a run that nobody touched, and how long it took."""
    folder = tmp_path_factory.mktemp("undisturbed")
    begun = time.monotonic()
    running.run("process", archive, folder / "store", *running.QUICK, env=running.environment(ray_temp))
    return running.records(folder / "store"), time.monotonic() - begun


def kill(process: subprocess.Popen[bytes], victim: str) -> None:
    """SIGKILL; of an actor where there is one already, else of the driver."""
    driver = psutil.Process(process.pid)
    family = driver.children(recursive=True)
    actors = [child for child in family if "MapWorker" in " ".join(_cmdline(child))]
    chosen = {"driver": [driver], "actor": actors[:1] or [driver], "everything": [*family, driver]}[victim]
    for one in chosen:
        try:
            one.kill()
        except psutil.NoSuchProcess:
            continue
    if victim != "actor" or not actors:
        process.wait(60)
        for child in family:  # Ray's own reaper ends them; the next run of the test must not have to wait for it
            try:
                child.kill()
            except psutil.NoSuchProcess:
                continue


def _cmdline(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def interrupted_runs(archive: str, store: str, env: dict[str, str], duration_s: float, seed: int) -> list[str]:
    """Run and kill until a run ends well after MOMENTS kills, or the archive is done before; who was killed."""
    chance, killed = random.Random(seed), []
    while True:
        process = subprocess.Popen(
            running.command("process", archive, store, *running.QUICK, "--set", f"store.commit_s={COMMIT_S}"),
            env=env,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        if len(killed) < MOMENTS:
            try:
                process.wait(chance.uniform(0.2, 0.9) * duration_s)
            except subprocess.TimeoutExpired:
                victim = VICTIMS[len(killed) % len(VICTIMS)]
                killed.append(victim)
                kill(process, victim)
        _, told = process.communicate(timeout=540)
        if process.returncode == 0 and len(killed) >= MOMENTS:
            return killed
        assert process.returncode in (0, 3, -signal.SIGKILL), told.decode()[-3000:]
        if process.returncode == 0:
            return killed


def test_on_disk(archive: Path, undisturbed: tuple[dict, float], tmp_path: Path, ray_temp: Path) -> None:
    expected, duration_s = undisturbed
    env = running.environment(ray_temp)
    remaining, attempt = MOMENTS, 0
    while remaining > 0:
        store = tmp_path / f"store-{attempt}"
        killed = interrupted_runs(str(archive), str(store), env, duration_s, seed=attempt)
        assert running.records(store) == expected
        _assert_every_promise_is_kept(store, archive, env)
        _assert_little_was_done_twice(store, len(expected), kills=len(killed), duration_s=duration_s)
        remaining, attempt = remaining - max(1, len(killed)), attempt + 1


def _assert_every_promise_is_kept(store: Path | str, archive: Path | str, env: dict[str, str]) -> None:
    """But for the one about the vectors, which QUICK leaves out."""
    promises = running.answer("verify", store, archive, env=env, ok=False)["promises"]
    assert [p["name"] for p in promises if not p["ok"]] == ["every embedding can be searched"]


def _assert_little_was_done_twice(store: Path, rows: int, *, kills: int, duration_s: float) -> None:
    """Rows in all parts that workers ever wrote, committed or not, against one each."""
    parts = list((store / "records").glob("part-" + "?" * 32 + ".parquet"))
    written = sum(pq.read_metadata(path).num_rows for path in parts)
    in_flight = 2 * 2 * 64  # two actors with two parts each
    assert written - rows <= kills * (in_flight + COMMIT_S * rows / (0.3 * duration_s))


def test_on_s3(archive: Path, undisturbed: tuple[dict, float], ray_temp: Path, s3_bucket: str) -> None:
    expected, duration_s = undisturbed
    env = running.environment(ray_temp)
    _upload(archive, s3_bucket, "pictures")
    killed = interrupted_runs(f"s3://{s3_bucket}/pictures", f"s3://{s3_bucket}/store", env, duration_s, seed=99)
    found = running.records(open_store(f"s3://{s3_bucket}/store").uri)
    same = {image_id: row for image_id, row in expected.items() if image_id in found}
    assert killed
    assert len(found) >= IMAGES
    _assert_every_promise_is_kept(f"s3://{s3_bucket}/store", f"s3://{s3_bucket}/pictures", env)
    for image_id, row in found.items():
        assert _content(row) == _content(same[image_id])


def _content(row: dict) -> dict:
    """What does not depend on where the archive lies."""
    return {name: value for name, value in row.items() if name not in ("uri", "version")}


def _upload(folder: Path, bucket: str, prefix: str) -> None:
    from artray.archive.s3 import client

    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink() and os.access(path, os.R_OK) and path.stat().st_size < 2**24:
            client().upload_file(str(path), bucket, f"{prefix}/{path.relative_to(folder)}")
