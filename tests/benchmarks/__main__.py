"""``python -m tests.benchmarks``: every benchmark, as JSON and as docs/benchmarks.md."""

import argparse
import importlib
import importlib.util
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from artray.archive.sample.make import write_archive
from tests.benchmarks import contest, listing, machine, memory, report

SECTIONS = ("throughput", "memory", "listing", "store")


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks",
        description="Measure artray against its rivals, on an otherwise idle machine.",
        epilog="To see whether all of it runs: --images 24 --rounds 1 --memory-images 24 48 --rows 2000",
    )
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=SECTIONS)
    parser.add_argument("--images", type=int, default=300, help="pictures of 2 megapixels that each contestant does")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cores", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--only", nargs="+", default=[], choices=[c.name for c in contest.CONTESTANTS])
    parser.add_argument(
        "--set", action="append", default=[], metavar="section.key=value", help="of the bundled profile"
    )
    parser.add_argument("--memory-images", type=int, nargs="+", default=[500, 5000])
    parser.add_argument("--rows", type=int, help="of the made store that questions are asked of")
    parser.add_argument("--scratch", type=Path, help="where pictures and results go; kept, and used again")
    parser.add_argument("-o", "--out", type=Path, help="JSON; otherwise on stdout")
    parser.add_argument("--markdown", type=Path, default=contest.ROOT / "docs" / "benchmarks.md")
    return parser.parse_args(argv)


def main() -> None:
    told = arguments()
    with tempfile.TemporaryDirectory() as temporary:
        result = measure(told, told.scratch or Path(temporary))
    text = json.dumps(result, indent=1, default=str)
    if told.out:
        told.out.write_text(text + "\n", encoding="utf-8")
    else:
        sys.stdout.write(text + "\n")
    told.markdown.parent.mkdir(parents=True, exist_ok=True)
    page = report.markdown(result)
    if set(told.sections) < set(SECTIONS) and told.markdown.exists():
        page = report.kept(page, told.markdown.read_text(encoding="utf-8"))
    told.markdown.write_text(page, encoding="utf-8")


def measure(told: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """The sections asked for."""
    result: dict[str, Any] = {"machine": machine.describe(), "images": told.images, "round_count": told.rounds}
    if "throughput" in told.sections:
        archive = scratch / f"plain-{told.images}"
        if not archive.exists():
            write_archive(archive, told.images, plain_2mp=True)
        setting = contest.Setting(archive, told.images, scratch, told.cores, tuple(told.set))
        result["throughput"] = contest.run(setting, told.rounds, told.only, tell)
    if "memory" in told.sections:
        result["memory"] = memory.run(told.memory_images, scratch, told.cores, tell)
    if "listing" in told.sections:
        result["listing"] = listing.run(tell)
    if "store" in told.sections and importlib.util.find_spec("tests.benchmarks.bench_store"):
        store = importlib.import_module("tests.benchmarks.bench_store")
        measured = store.run(scratch, **({"rows": told.rows} if told.rows else {}))
        result["store"] = {"result": measured, "markdown": store.markdown(measured)}
    return result


def tell(line: str) -> None:
    """Progress, to stderr."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    main()
