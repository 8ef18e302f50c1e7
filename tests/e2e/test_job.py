"""The main job as an engineer submits it: to a running cluster with token authentication, archive and store on S3."""

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from artray.archive.s3 import client
from artray.archive.sample.make import write_archive
from tests import clusters, running

ROOT = Path(__file__).parents[2]


@pytest.fixture
def cluster(tmp_path: Path, ray_temp: Path, s3_bucket: str) -> Iterator[tuple[str, dict[str, str]]]:
    """A head node with a dashboard and a token: its address for jobs, and the environment that holds the token."""
    env, dashboard = clusters.environment(tmp_path), clusters.free_port()
    with clusters.head(env, ray_temp, clusters.free_port(), f"--dashboard-port={dashboard}", "--num-cpus=2") as node:
        clusters.wait_for(dashboard, node)
        yield f"http://127.0.0.1:{dashboard}", env


def submit(address: str, env: dict[str, str], *entrypoint: str) -> subprocess.CompletedProcess[str]:
    """The submitted job, when it has ended; the dashboard answers a little before the node takes jobs."""
    command = ["ray", "job", "submit", "--address", address, "--", "python", *entrypoint]
    for _ in range(60):
        done = subprocess.run(command, check=False, env=env, capture_output=True, text=True, timeout=400, cwd=ROOT)
        if "No available agent" not in done.stderr:
            break
        time.sleep(1.0)
    return done


def test_process_and_index_as_submitted_jobs(
    cluster: tuple[str, dict[str, str]], s3_bucket: str, tmp_path: Path
) -> None:
    address, env = cluster
    write_archive(tmp_path / "archive", 24)
    for path in sorted((tmp_path / "archive").iterdir()):
        client().upload_file(str(path), s3_bucket, f"pictures/{path.name}")
    archive, store = f"s3://{s3_bucket}/pictures", f"s3://{s3_bucket}/store"

    refused = submit(address, env | {"RAY_AUTH_TOKEN_PATH": str(tmp_path / "none")}, str(ROOT / "jobs/process.py"))
    assert refused.returncode != 0

    done = submit(address, env, str(ROOT / "jobs/process.py"), archive, store, "--set", "store.index=false")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "24 images: 24 done" in done.stdout
    indexed = submit(address, env, str(ROOT / "jobs/index.py"), store)
    assert indexed.returncode == 0, indexed.stdout[-3000:]
    assert "24 vectors written" in indexed.stdout

    found = subprocess.run(
        running.command("find", store, "--type", "painting", "--json"),
        check=True,
        env=env,
        capture_output=True,
        text=True,
    )
    works = json.loads(found.stdout)["works"]
    assert len(works) >= 10
    assert works[0]["uri"].startswith(archive)

    failed = submit(address, env, str(ROOT / "jobs/process.py"), f"s3://{s3_bucket}/nothing", store)
    assert failed.returncode != 0
    assert "found no keys" in failed.stdout + failed.stderr
    assert "Traceback" not in failed.stdout
