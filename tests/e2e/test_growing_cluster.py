"""A run on a cluster that has no room at first and grows while it waits: Ray's own autoscaler, on this machine."""

import json
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from artray.archive.sample.make import write_archive
from tests import clusters, running

WORKERS = 2
PORT = 6379  # where the machines of Ray's provider for one computer look for the head


def launcher_file() -> dict[str, object]:
    """A head without CPUs, and machines of one CPU that come when they are wanted."""
    kinds = {
        "ray.head.default": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
        "worker": {"resources": {"CPU": 1}, "node_config": {}, "min_workers": 0, "max_workers": WORKERS},
    }
    commands = ("initialization", "setup", "head_setup", "worker_setup", "head_start_ray", "worker_start_ray")
    one_address = {"use_node_id_as_ip": True, "disable_node_updaters": True, "disable_launch_config_check": True}
    return {
        "cluster_name": "growing",
        "provider": {"type": "fake_multinode"} | one_address,
        "max_workers": WORKERS,
        "upscaling_speed": 10.0,
        "idle_timeout_minutes": 5,
        "available_node_types": kinds,
        "head_node_type": "ray.head.default",
        "auth": {},
        "docker": {},
        "file_mounts": {},
        "cluster_synced_files": [],
        "file_mounts_sync_continuously": False,
        "rsync_exclude": [],
        "rsync_filter": [],
        **{f"{name}_commands": [] for name in commands},
    }


def actors(node: psutil.Process) -> int:
    """How many actors of artray's run on a cluster's machines."""
    found = 0
    for process in node.children(recursive=True):
        try:
            found += "MapWorker" in " ".join(process.cmdline())
        except psutil.Error:
            continue
    return found


def test_actors_come_with_the_machines(tmp_path: Path, ray_temp: Path) -> None:
    if clusters.listens(PORT):
        pytest.skip(f"something listens on port {PORT}, which Ray's provider for one computer needs")
    write_archive(tmp_path / "archive", 2_500, megapixels=(0.05, 0.1))  # enough until the second machine comes
    env = clusters.environment(tmp_path) | {"RAY_FAKE_CLUSTER": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1"}
    (tmp_path / "cluster.yaml").write_text(json.dumps(launcher_file()))
    options = ["--num-cpus=0", f"--autoscaling-config={tmp_path / 'cluster.yaml'}"]
    with clusters.head(env, ray_temp, PORT, *options) as node:
        run = subprocess.Popen(
            running.command("process", tmp_path / "archive", tmp_path / "store", *running.QUICK),
            env=env | {"RAY_ADDRESS": f"127.0.0.1:{PORT}"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        seen = [0]
        while run.poll() is None and seen[-1] < WORKERS:
            seen.append(max(seen[-1], actors(node)))
            time.sleep(0.5)
        run.send_signal(signal.SIGINT)  # that was all there was to see
        told = run.communicate(timeout=120)[0].decode()
    assert sorted(set(seen)) == list(range(WORKERS + 1)), told
    assert "no node of the cluster has room for an actor (1 CPUs and 0 GPUs) yet" in told
    assert run.returncode == 3, told
