"""The main job as an engineer submits it: to a running cluster with token authentication, archive and store on S3."""

import json
import re
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from artray.archive.s3 import client
from artray.archive.sample.make import write_archive
from tests import clusters, running

ROOT = Path(__file__).parents[2]


class Cluster(NamedTuple):
    """A head node with a dashboard and a token."""

    address: str  # for jobs
    metrics: str  # what Prometheus would read
    env: dict[str, str]  # holds the token

    def datasets(self) -> list[dict[str, Any]]:
        """What the dashboard shows of the jobs' Ray Data."""
        jobs = self._asked("/api/jobs/")
        return [found for job in jobs for found in self._asked(f"/api/data/datasets/{job['job_id']}")["datasets"]]

    def meters(self) -> dict[str, float]:
        """artray's own metrics, without the labels that Ray adds."""
        with urllib.request.urlopen(self.metrics, timeout=10) as answer:
            lines = [line for line in answer.read().decode().splitlines() if line.startswith("ray_artray_")]
        values = {}
        for line in lines:
            outcome = re.search('outcome="([^"]*)"', line)
            values[line.split("{")[0] + (f" {outcome[1]}" if outcome else "")] = float(line.split()[-1])
        return values

    def _asked(self, path: str) -> Any:
        token = Path(self.env["RAY_AUTH_TOKEN_PATH"]).read_text()
        request = urllib.request.Request(self.address + path, headers={"Authorization": f"Bearer {token}"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)


@pytest.fixture
def cluster(tmp_path: Path, ray_temp: Path, s3_bucket: str) -> Iterator[Cluster]:
    env = clusters.environment(tmp_path) | {"RAY_metrics_report_interval_ms": "500"}
    dashboard, metrics = clusters.free_port(), clusters.free_port()
    agent = clusters.free_port()  # of the node's; jobs are refused where another Ray of this machine has the usual one
    options = [f"--dashboard-port={dashboard}", f"--metrics-export-port={metrics}", "--num-cpus=2"]
    options.append(f"--dashboard-agent-listen-port={agent}")
    with clusters.head(env, ray_temp, clusters.free_port(), *options) as node:
        clusters.wait_for(dashboard, node)
        clusters.wait_for(metrics, node)  # its agent comes later than the dashboard
        yield Cluster(f"http://127.0.0.1:{dashboard}", f"http://127.0.0.1:{metrics}/metrics", env)


def submit(address: str, env: dict[str, str], *entrypoint: str) -> subprocess.CompletedProcess[str]:
    """The submitted job, when it has ended; the dashboard answers a little before the node takes jobs."""
    command = ["ray", "job", "submit", "--address", address, "--", "python", *entrypoint]
    for _ in range(60):
        done = subprocess.run(command, check=False, env=env, capture_output=True, text=True, timeout=400, cwd=ROOT)
        if "No available agent" not in done.stderr:
            break
        time.sleep(1.0)
    return done


def test_process_and_index_as_submitted_jobs(cluster: Cluster, s3_bucket: str, tmp_path: Path) -> None:
    address, env = cluster.address, cluster.env
    write_archive(tmp_path / "archive", 24)
    for path in sorted((tmp_path / "archive").iterdir()):
        client().upload_file(str(path), s3_bucket, f"pictures/{path.name}")
    archive, store = f"s3://{s3_bucket}/pictures", f"s3://{s3_bucket}/store"

    refused = submit(address, env | {"RAY_AUTH_TOKEN_PATH": str(tmp_path / "none")}, str(ROOT / "jobs/process.py"))
    assert refused.returncode != 0

    with ThreadPoolExecutor(1) as beside:
        process = str(ROOT / "jobs/process.py")
        job = beside.submit(submit, address, env, process, archive, store, "--set", "store.index=false")
        seen: dict[str, float] = {}
        while not job.done():
            seen |= cluster.meters()
            time.sleep(0.2)
        done = job.result()
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "24 images: 24 done" in done.stdout
    assert (seen["ray_artray_images_to_do"], seen["ray_artray_images_total good"]) == (24.0, 24.0)
    shown = cluster.datasets()
    assert [found["state"] for found in shown] == ["FINISHED"]
    assert shown[0]["dataset"].startswith("artray-2")
    assert shown[0]["progress"] == shown[0]["total"] > 0

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
