"""The command line as a process of its own: quick to answer, quiet when nobody listens."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from artray.store.layout import Store
from tests import made_store

ARTRAY = [sys.executable, "-m", "artray"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return made_store.store(tmp_path_factory.mktemp("cli") / "store", 100)


def test_help_imports_nothing_heavy() -> None:
    heavy = (
        *("torch", "ray", "pyarrow", "numpy", "duckdb", "deltalake", "pymilvus", "PIL", "cv2", "boto3", "timm"),
        "pydantic",
    )
    script = (
        "import sys\nfrom artray.cli import main\nsys.argv = ['artray', '--help']\n"
        "try: main()\nexcept SystemExit: pass\n"
        f"sys.stderr.write(' '.join(name for name in {heavy} if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert "process" in done.stdout
    assert done.stderr == ""


def test_help_answers_in_half_a_second_of_work() -> None:
    took = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([*ARTRAY, "--help"], stdout=subprocess.DEVNULL, check=True, timeout=60)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        took.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(took) < 0.5


def test_import_artray_costs_nothing() -> None:
    script = "import sys, artray; print(len([name for name in sys.modules if name.startswith('artray')]))"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False).stdout == "1\n"


def test_errors_are_one_line_and_a_code(tmp_path: Path) -> None:
    done = subprocess.run([*ARTRAY, "status", str(tmp_path)], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert (
        done.stderr == f"artray: {tmp_path}: no artray store here; make one with: artray process ARCHIVE {tmp_path}\n"
    )


@pytest.mark.parametrize("more", [(), ("--json",)])
def test_a_reader_who_has_seen_enough_is_no_error(made: Store, more: tuple[str, ...]) -> None:
    command = [*ARTRAY, "find", made.uri, "--limit", "90", *more]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait(timeout=60) == 0


def test_a_terminal_that_knows_ascii_only(made: Store) -> None:
    env = dict(os.environ) | {"PYTHONIOENCODING": "ascii"}
    command = [*ARTRAY, "find", made.uri, "--text", "dürer", "--limit", "1"]
    done = subprocess.run([*command, "--json"], capture_output=True, env=env, timeout=60, check=False)
    assert json.loads(done.stdout)["works"][0]["metadata"]["artist"] == "Albrecht Dürer"
    done = subprocess.run(command, capture_output=True, env=env, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"Albrecht D" in done.stdout


def test_a_path_that_is_no_text_is_one_line(tmp_path: Path) -> None:
    command = [*ARTRAY, "status", os.fsencode(tmp_path) + b"/D\xfcrer"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("artray: ")
    assert len(done.stderr.splitlines()) == 1


def test_the_installed_script_and_the_jobs_are_the_same_program() -> None:
    jobs = Path(__file__).parents[2] / "jobs"
    for job in sorted(jobs.glob("*.py")):
        assert len(job.read_text().splitlines()) <= 30
        done = subprocess.run([sys.executable, job, "--help"], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0
        assert "Examples" in done.stdout
