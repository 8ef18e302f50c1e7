"""Kill a run at random moments: what the resumed run leaves is what an undisturbed one leaves.

ARTRAY_FAULT_MOMENTS says how many kills (`make fault`: 20); each is a SIGKILL, in turn of the driver, of an actor, and
of everything that belongs to the run, its Ray included.
"""

import os
import random
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest
from pyarrow import ArrowInvalid
from pyarrow.fs import FileSystem

from artray.archive.sample.make import write_archive
from artray.store.layout import open_store
from tests import running

MOMENTS = int(os.environ.get("ARTRAY_FAULT_MOMENTS", "3"))
IMAGES = 500
COMMIT_S = 1.0
VICTIMS = ("driver", "actor", "everything")
PART = re.compile(r"part-[0-9a-f]{32}\.parquet")


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


def kill(process: subprocess.Popen[bytes], victim: str) -> str:
    """SIGKILL; of an actor where there is one, else of the driver. Returns who it was."""
    driver = psutil.Process(process.pid)
    family = driver.children(recursive=True)
    actors = _actors(family)
    victim = "driver" if victim == "actor" and not actors else victim
    # The driver first: Ray's native code ends it by itself, with a status of its own, when it sees that Ray is gone.
    for one in {"driver": [driver], "actor": actors[:1], "everything": [driver, *family]}[victim]:
        try:
            one.kill()
        except psutil.NoSuchProcess:
            continue
    if victim != "actor":
        process.wait(60)
        for child in family:  # Ray's own reaper ends them; the next run of the test must not have to wait for it
            try:
                child.kill()
            except psutil.NoSuchProcess:
                continue
    return victim


def _actors(family: list[psutil.Process]) -> list[psutil.Process]:
    return [child for child in family if "MapWorker" in " ".join(_cmdline(child))]


def _cmdline(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def interrupted_runs(
    archive: str,
    store: str,
    env: dict[str, str],
    duration_s: float,
    chance: random.Random,
    victims: Sequence[str],
    verb: Sequence[str] = ("process", *running.QUICK),
) -> list[str]:
    """Run and kill, one victim after the other, until a run ends well; who was killed."""
    killed: list[str] = []
    while True:
        process = subprocess.Popen(
            running.command(verb[0], archive, store, *verb[1:], "--set", f"store.commit_s={COMMIT_S}"),
            env=env,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        if len(killed) < len(victims) and _still_runs(process, chance, duration_s, victims[len(killed)]):
            killed.append(kill(process, victims[len(killed)]))
        _, told = process.communicate(timeout=540)
        assert process.returncode in (0, 3, -signal.SIGKILL), told.decode()[-3000:]
        if process.returncode == 0:
            return killed


def _still_runs(process: subprocess.Popen[bytes], chance: random.Random, duration_s: float, victim: str) -> bool:
    """Wait for a random moment; for an actor's, count from when there is one."""
    share = chance.uniform(0.2, 0.9)
    if victim == "actor":
        share *= 0.3
        driver = psutil.Process(process.pid)
        while process.poll() is None and not _actors(driver.children(recursive=True)):
            time.sleep(0.2)
    try:
        process.wait(share * duration_s)
    except subprocess.TimeoutExpired:
        return True
    return False


def disturbed(archive: str, stores: str, env: dict[str, str], duration_s: float, seed: int) -> Iterator[str]:
    """Stores that were made in spite of kills, until there were MOMENTS of these, of every victim as many."""
    chance, killed = random.Random(seed), list[str]()
    for attempt in range(3 * MOMENTS):
        store, left = f"{stores}-{attempt}", MOMENTS - len(killed)
        if left <= 0:
            break
        order = [VICTIMS[n % len(VICTIMS)] for n in range(len(killed), len(killed) + left)]
        now = interrupted_runs(archive, store, env, duration_s, chance, order)
        killed += now
        _assert_little_was_done_twice(store, kills=len(now), duration_s=duration_s)
        _assert_every_promise_is_kept(store, archive, env)
        yield store
    assert len(killed) == MOMENTS
    assert len(VICTIMS) > MOMENTS or {"actor", "everything"} <= set(killed)


def test_on_disk(archive: Path, undisturbed: tuple[dict, float], tmp_path: Path, ray_temp: Path) -> None:
    expected, duration_s = undisturbed
    env = running.environment(ray_temp)
    for store in disturbed(str(archive), str(tmp_path / "store"), env, duration_s, seed=1):
        assert running.records(store) == expected


def _assert_every_promise_is_kept(store: Path | str, archive: Path | str, env: dict[str, str]) -> None:
    promises = running.answer("verify", store, archive, env=env, ok=False)["promises"]
    assert [promise for promise in promises if not promise["ok"]] == []


def _assert_little_was_done_twice(store: str, *, kills: int, duration_s: float) -> None:
    """Rows in all parts that workers ever wrote, committed or not, against one each."""
    opened = open_store(store)
    parts = [name for name in opened.records.names() if PART.fullmatch(name)]
    files = opened.records.filesystem
    written = sum(_rows((opened.records / name).root, files) for name in parts)
    rows = len(running.records(store))
    in_flight = 2 * 2 * 64  # two actors with two parts each
    assert written - rows <= kills * (in_flight + COMMIT_S * rows / (0.3 * duration_s))


def _rows(path: str, files: FileSystem) -> int:
    """Of a part; 0 of one whose writer was killed before its end, which no commit has."""
    try:
        return int(pq.read_metadata(path, filesystem=files).num_rows)
    except ArrowInvalid:
        return 0


def test_while_records_are_made_anew(
    archive: Path, undisturbed: tuple[dict, float], tmp_path: Path, ray_temp: Path
) -> None:
    """Rows that replace others: the parts in which they lie are written anew, and the kills come in between."""
    expected, duration_s = undisturbed
    env = running.environment(ray_temp)
    running.run("process", archive, tmp_path / "smaller", *running.QUICK, "--set", "decode.max_side_px=64", env=env)
    assert running.records(tmp_path / "smaller").keys() == expected.keys()
    chance, killed, moments = random.Random(7), list[str](), max(1, MOMENTS // 2)
    for attempt in range(3 * moments):
        order = [VICTIMS[-1 - n % len(VICTIMS)] for n in range(len(killed), moments)]
        if not order:
            break
        store = tmp_path / f"store-{attempt}"
        shutil.copytree(tmp_path / "smaller", store)
        killed += interrupted_runs(str(archive), str(store), env, duration_s, chance, order)
        assert running.records(store) == expected
        _assert_every_promise_is_kept(store, archive, env)
    assert len(killed) == moments


def test_while_a_method_is_added(
    archive: Path, undisturbed: tuple[dict, float], tmp_path: Path, ray_temp: Path
) -> None:
    env, method = running.environment(ray_temp), "efficientnet-lite0-imagenet"
    verb = ("embed", "--method", method, "--set", "store.index=false")
    running.run("process", archive, tmp_path / "store", *running.QUICK, env=env)
    shutil.copytree(tmp_path / "store", tmp_path / "quiet")
    begun = time.monotonic()
    running.run(verb[0], archive, tmp_path / "quiet", *verb[1:], env=env)
    duration_s = time.monotonic() - begun
    expected = running.records(tmp_path / "quiet" / "methods" / method)
    assert expected.keys() == undisturbed[0].keys()
    killed = interrupted_runs(
        str(archive), str(tmp_path / "store"), env, duration_s, random.Random(3), VICTIMS[:2], verb
    )
    assert len(killed) == 2
    assert running.records(tmp_path / "store" / "methods" / method) == expected
    _assert_every_promise_is_kept(tmp_path / "store", archive, env)


def test_on_s3(archive: Path, undisturbed: tuple[dict, float], ray_temp: Path, s3_bucket: str) -> None:
    expected, duration_s = undisturbed
    env = running.environment(ray_temp)
    _upload(archive, s3_bucket, "pictures")
    for store in disturbed(f"s3://{s3_bucket}/pictures", f"s3://{s3_bucket}/store", env, duration_s, seed=99):
        found = running.records(store)
        assert len(found) >= IMAGES
        for image_id, row in found.items():
            assert _content(row) == _content(expected[image_id])


def _content(row: dict) -> dict:
    """What does not depend on where the archive lies."""
    return {name: value for name, value in row.items() if name not in ("uri", "version")}


def _upload(folder: Path, bucket: str, prefix: str) -> None:
    from artray.archive.s3 import client

    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink() and os.access(path, os.R_OK) and path.stat().st_size < 2**24:
            client().upload_file(str(path), bucket, f"{prefix}/{path.relative_to(folder)}")
