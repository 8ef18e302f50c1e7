"""Throughput: artray and its rivals in turn, round after round, each as a process of its own on the same cores.

What the machine allows, the limit, is measured before and after every contestant: these machines are a tenth faster or
slower from one minute to the next.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import pyarrow.compute as pc
import pyarrow.dataset

from tests.benchmarks import machine, work
from tests.benchmarks.observe import Cores, FirstRead

ROOT: Final = Path(__file__).parents[2]
SETTLE_S: Final = 60.0
TRIES: Final = 3
DISTURBED_CORES: Final = 0.25
TIMEOUT_S: Final = 3600.0


class Setting(NamedTuple):
    """What all contestants have in common."""

    archive: Path
    images: int
    scratch: Path
    cores: int
    overrides: tuple[str, ...] = ()  # of the bundled profile


class Contestant(NamedTuple):
    """A way to do the work."""

    name: str
    what: str
    command: Callable[[Setting, Path], list[str]]
    target: float | None = None  # artray is to be at least so many times as fast
    needs: str = ""  # a package without which it cannot run


def rival(module: str, *arguments: str) -> Callable[[Setting, Path], list[str]]:
    """The command line of a script in ``rivals/``."""

    def command(setting: Setting, out: Path) -> list[str]:
        name = f"tests.benchmarks.rivals.{module}"
        return [*_python(name), str(setting.archive), str(out), f"--cores={setting.cores}", *_set(setting), *arguments]

    return command


def artray(setting: Setting, out: Path) -> list[str]:
    """As a user runs it, but for the vector store, which no rival fills, unless the setting asks for it."""
    store = str(out / "store")
    fewer = ["--set", f"pipeline.max_actors={setting.cores}"] if setting.cores < (os.cpu_count() or 1) else []
    return [
        sys.executable,
        "-c",
        CLI,
        "process",
        str(setting.archive),
        store,
        "--json",
        *NO_INDEX,
        *_set(setting),
        *fewer,
    ]


CLI: Final = "from artray.cli import main; main()"
NO_INDEX: Final = ("--set", "store.index=false")

LIMIT_PICTURES: Final = 160
LIMIT: Final = Contestant(
    "limit",
    f"decoding alone and the models alone, each on all cores in its best layout, on {LIMIT_PICTURES} of the pictures",
    rival("limit", f"--pictures={LIMIT_PICTURES}"),
    0.9,
)

CONTESTANTS: Final = (
    Contestant("artray", "`artray process`, bundled profile, no vector store", artray),
    Contestant("bare loop", "one process, torch on all cores, batches of 16", rival("bare_loop"), 1.0),
    Contestant(
        "DataLoader", "PyTorch DataLoader, a worker per core, models in the main process", rival("dataloader"), 1.0
    ),
    Contestant(
        "Ray Data guide",
        "read_images, map, map_batches, write_parquet, plain model code; an actor per core but one, left for reading",
        rival("ray_guide"),
        2.0,
    ),
    Contestant(
        "Ray Data tuned",
        "the same with artray's model code, and an actor per core that reserves half of it, so that reading fits in",
        rival("ray_guide", "--tuned"),
    ),
    Contestant(
        "Daft guide",
        "download, decode_image, a class with plain model code in a process per core, write_parquet",
        rival("daft_guide"),
        1.2,
        "daft",
    ),
    Contestant(
        "Daft tuned",
        "the same with artray's model code, and torch told to use one thread in each process",
        rival("daft_guide", "--tuned"),
        None,
        "daft",
    ),
)


def run(setting: Setting, rounds: int, only: Sequence[str], tell: Callable[[str], None]) -> dict[str, Any]:
    """All contestants, ``rounds`` times in turn.

    Returns:
        Per contestant its ``rounds``, their ``median`` and ``spread``, and the ``ratio``: the median over the rounds of
        artray's speed over this one's; over the limit's mean before and after artray, if it is the limit.
    """
    contestants = [c for c in CONTESTANTS if not only or c.name in only]
    measured: dict[str, list[dict[str, Any]]] = {c.name: [] for c in (LIMIT, *contestants)}
    limit = LIMIT

    def measure(number: int, contestant: Contestant) -> dict[str, Any]:
        got = _undisturbed(contestant, setting)
        measured[contestant.name].append(got)
        tell(f"round {number + 1}/{rounds}: {contestant.name}: {_line(got)}")
        return got

    for number in range(rounds):
        shift = number % len(contestants)  # nobody always runs after the same neighbour
        before = measure(number, limit)
        if limit is LIMIT and "best" in before:  # the other layouts need not be tried again
            limit = LIMIT._replace(command=rival("limit", f"--pictures={LIMIT_PICTURES}", "--best", *before["best"]))
        for contestant in contestants[shift:] + contestants[:shift]:
            got, after = measure(number, contestant), measure(number, limit)
            if "failure" not in before and "failure" not in after:
                got["limit_images_per_s"] = (before["images_per_s"] + after["images_per_s"]) / 2
            before = after
    return summarise(measured, {c.name: c for c in (LIMIT, *contestants)})


def summarise(measured: dict[str, list[dict[str, Any]]], known: dict[str, Contestant]) -> dict[str, Any]:
    """Medians over the rounds, and artray against each."""
    result: dict[str, Any] = {}
    for name, rounds in measured.items():
        good = [one for one in rounds if "failure" not in one]
        keys = ("images_per_s", "wall_s", "processing_s", "busy_cores")
        median = {key: statistics.median(one[key] for one in good) for key in keys if good and key in good[0]}
        spread = [min(rates), max(rates)] if (rates := [one["images_per_s"] for one in good]) else None
        result[name] = {"what": known[name].what, "rounds": rounds, "median": median, "spread": spread}
    ours = measured.get("artray", [])
    for name, entry in result.items():
        if name == LIMIT.name:
            ratios = [one["images_per_s"] / limit for one in ours if (limit := one.get("limit_images_per_s"))]
        else:
            ratios = _ratios(ours, measured[name]) if name != "artray" else []
        if ratios:
            entry["ratio"], entry["ratios"], entry["target"] = statistics.median(ratios), ratios, known[name].target
    return result


def _ratios(ours: Sequence[dict[str, Any]], theirs: Sequence[dict[str, Any]]) -> list[float]:
    """How many times as fast we were, round by round: machines drift, and neighbours in time drift alike."""
    pairs = zip(ours, theirs, strict=False)
    return [a["images_per_s"] / b["images_per_s"] for a, b in pairs if "failure" not in a and "failure" not in b]


def _undisturbed(contestant: Contestant, setting: Setting) -> dict[str, Any]:
    """One contestant, once; again if something else kept the machine busy meanwhile. The least disturbed counts."""
    tries: list[dict[str, Any]] = []
    for _ in range(TRIES):
        tries.append(_attempt(contestant, setting))
        if tries[-1].get("others_cores", 0.0) <= DISTURBED_CORES:
            break
    return min(tries, key=lambda one: one.get("others_cores", 0.0))


def _attempt(contestant: Contestant, setting: Setting) -> dict[str, Any]:
    """One contestant, once; a failure is part of the result."""
    if contestant.needs and machine.missing(contestant.needs):
        return {"failure": f"{contestant.needs} is not installed"}
    out = setting.scratch / "out"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    warm(setting.archive)
    machine.wait_quiet(SETTLE_S)
    with FirstRead(setting.archive) as first_read, Cores() as cores:
        begun = time.time()
        done = execute(contestant.command(setting, out), setting)
        wall_s = time.time() - begun
    if done.returncode:
        return {"failure": done.stderr.strip().splitlines()[-1][:300] if done.stderr.strip() else "it failed"}
    said = json.loads(done.stdout.strip().splitlines()[-1]) if contestant.name != "artray" else _artray(out)
    said |= {"wall_s": wall_s, "others_cores": cores.busy(begun, begun + wall_s)[1]}
    if "images_per_s" in said:  # the limit has no one phase
        return said
    start = max(first_read.at or begun, work.ready_at(out) or begun)
    rows, faces = count(out)
    if rows != setting.images:
        return {"failure": f"expected {setting.images} rows, got {rows}"}
    return said | {
        "start_up_s": start - begun,
        "processing_s": said["end_at"] - start,
        "images_per_s": setting.images / (said["end_at"] - start),
        "busy_cores": cores.busy(start, said["end_at"])[0],
        "faces": faces,
    }


def execute(command: Sequence[str], setting: Setting) -> "subprocess.CompletedProcess[str]":
    """A command on the cores of the setting, to its end."""
    return subprocess.run(
        pinned(command, setting.cores),
        check=False,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )


def pinned(command: Sequence[str], cores: int) -> list[str]:
    """The command, on the first so many of the cores that this process may use."""
    chosen = sorted(os.sched_getaffinity(0))[:cores]
    return ["taskset", "-c", ",".join(map(str, chosen)), *command]


def warm(archive: Path) -> None:
    """Read every picture once, so that all contestants find them in the page cache."""
    for path in work.pictures(archive):
        path.read_bytes()


def count(out: Path) -> tuple[int, int]:
    """Rows and detected objects in what a contestant wrote; the same decoder and models must find the same."""
    store = out / "store" / "records"
    if store.exists():
        from deltalake import DeltaTable

        table = DeltaTable(str(store)).to_pyarrow_table(columns=["objects"])
    else:
        files = [str(path) for path in sorted(out.rglob("*.parquet"))]
        table = pyarrow.dataset.dataset(files, format="parquet").to_table()
    objects = table["objects"] if "objects" in table.column_names else pc.struct_field(table["answer"], "objects")
    return table.num_rows, pc.sum(pc.list_value_length(objects)).as_py() or 0


def _artray(out: Path) -> dict[str, Any]:
    """What artray's own report says, and when its last row was committed (compaction comes after)."""
    from deltalake import DeltaTable

    report = json.loads(next((out / "store" / "runs").glob("*.json")).read_text(encoding="utf-8"))
    commits = DeltaTable(str(out / "store" / "records")).history()
    last_ms = max(commit["timestamp"] for commit in commits if commit["operation"] == "WRITE")
    return {
        "end_at": last_ms / 1000,
        "reported_images_per_s": report["images_per_s"],
        "reported_s": report["seconds"],
        "failed": report["failed"],
    }


def _line(got: dict[str, Any]) -> str:
    if "failure" in got:
        return f"FAILED: {got['failure']}"
    busy = f", {got['busy_cores']:.2f} cores busy" if "busy_cores" in got else ""
    return (
        f"{got['images_per_s']:.2f} images/s, {got['wall_s']:.1f} s in all{busy} ({got['others_cores']:.2f} by others)"
    )


def _python(module: str) -> list[str]:
    return [sys.executable, "-m", module]


def _set(setting: Setting) -> list[str]:
    return [argument for override in setting.overrides for argument in ("--set", override)]
