"""Results as Markdown: a section per benchmark, with the machine and the versions that they are true of."""

import re
from collections.abc import Mapping
from typing import Any

from tests.benchmarks import listing

MIB = 2**20
ANOTHER_DAY = "Measured on another day:"


def markdown(result: Mapping[str, Any]) -> str:
    """The whole page.

    Args:
        result: ``machine``, and of ``throughput``, ``memory``, ``listing`` and ``store`` those that were measured.
    """
    parts = ["# Benchmarks", INTRODUCTION, machine(result["machine"])]
    if "throughput" in result:
        parts.append(throughput(result["throughput"], result["images"], result["round_count"]))
    if "memory" in result:
        parts.append(memory(result["memory"]))
    if "listing" in result:
        parts.append(listing.markdown(result["listing"]))
    if "store" in result:
        parts.append(result["store"]["markdown"])
    return "\n\n".join(part.strip() for part in parts) + "\n"


def kept(page: str, before: str) -> str:
    """A page with the sections of the one before that were not measured anew, which then say when they were."""
    new, old = (dict(_sections(text)) for text in (page, before))
    when = old.get("Machine", ("", "?"))[1].partition(";")[0]
    for key, (heading, text) in old.items():
        if key not in new:
            note = "" if ANOTHER_DAY in text else f"{ANOTHER_DAY} {when}."
            first, _, rest = text.partition("\n\n")
            new[key] = heading, "\n\n".join(filter(None, [f"{first} {note}".strip(), rest]))
    top = page.partition("\n## ")[0].strip()
    return "\n\n".join([top, *(f"## {heading}\n\n{text}" for heading, text in new.values())]) + "\n"


def _sections(page: str) -> list[tuple[str, tuple[str, str]]]:
    """Of each section a key that numbers do not change, its heading and its text."""
    parts = [part.partition("\n") for part in page.split("\n## ")[1:]]
    return [(re.sub(r"[\d.,]+", "", heading), (heading, text.strip())) for heading, _, text in parts]


INTRODUCTION = """
Measured by `make bench` (`python -m tests.benchmarks --help` for its settings); this page is written by it. Rates on
other machines differ; what carries over is the order and the ratios.
"""

HOW = """
All contestants do the same work on the same pictures with the same weights (the default profile's EfficientNet-Lite2
with its heads, YOLOX-nano and MTCNN), pinned to the same cores, each as a process of its own, all in turn in every
round. The bare loop, the DataLoader script and the limit have artray's own decoder and model code. **Guides** are what
somebody writes who follows them: the framework's own decoder, and plain model code, which is batches through timm's
network as it is; the detectors are artray's there too. **Tuned** ones have artray's model code and what else we could
find for them. **images/s** is of the processing phase: from the first read of a picture, or from when the first worker
has its models if that is later (Ray Data and Daft read ahead meanwhile, which counts in their favour), to the last row
in Parquet; for artray that is its last commit. **Whole run** is the wall time of the process: also starting Python, Ray
and the models, and, for artray, listing, planning and compaction. The first read is seen from outside (inotify), not
told by the contestant. **limit** is 1 / (decode + models), seconds per picture of each alone on all cores, in the
better of two layouts: a process per core, or one process with a thread per core; it is measured before and after every
contestant. **artray is** so many times as fast: the median over the rounds of the ratio within a round, as machines
drift; of the limit, the ratio to its mean just before and just after artray.
"""


def machine(told: Mapping[str, Any]) -> str:
    """What the figures were measured on."""
    versions = ", ".join(f"{name} {number}" for name, number in told["versions"].items())
    return (
        "## Machine\n\n"
        f"{told['date']}; {told['cores']} cores of {told['cpu']}, {told['ram_gib']} GiB; {told['system']}."
        f"\n\n{versions}."
    )


def throughput(measured: Mapping[str, Any], images: int, rounds: int) -> str:
    """Artray and its rivals, by speed."""
    rows = [_row(name, entry) for name, entry in measured.items()]
    head = "| contestant | images/s (least to most) | whole run, s | cores busy | artray is | at least | |\n"
    table = head + "|---|---:|---:|---:|---:|---:|---|\n" + "\n".join(rows)
    what = "\n".join(f"- {name}: {entry['what']}" for name, entry in measured.items())
    title = f"## Throughput: {images} JPEGs of 2 megapixels, medians of {rounds} rounds"
    return f"{title}\n\n{HOW.strip()}\n\n{table}\n\n{what}"


def _row(name: str, entry: Mapping[str, Any]) -> str:
    median, ratio, target = entry["median"], entry.get("ratio"), entry.get("target")
    if not median:
        return f"| {name} | - | - | - | - | - | {entry['rounds'][-1]['failure']} |"
    least, most = entry["spread"]
    wall = f"{median['wall_s']:.1f}" if "busy_cores" in median else "-"
    busy = f"{median['busy_cores']:.2f}" if "busy_cores" in median else "-"
    compared = f"{ratio:.2f} x" if ratio else "-"
    wanted = f"{target:.1f} x" if target else "-"
    verdict = "" if not ratio or not target else "met" if ratio >= target else "missed"
    return (
        f"| {name} | {median['images_per_s']:.2f} ({least:.2f} to {most:.2f}) | {wall} | {busy} "
        f"| {compared} | {wanted} | {verdict} |"
    )


def memory(measured: Mapping[str, Any]) -> str:
    """Peak memory by archive size."""
    rows = "\n".join(
        f"| {one['images']:,} | {one['peak_bytes'] / MIB:,.0f} | {one['wall_s']:.0f} |" for one in measured["runs"]
    )
    growth, most = measured["growth"], measured["growth_max"]
    verdict = ""
    if growth is not None:
        verdict = f"\n\nGrowth: {growth:+.1%}; at most {most:.0%}: {'met' if growth <= most else 'missed'}."
    return (
        "## Memory: the most that `artray process` holds\n\n"
        "PSS of the process and all below it, Ray's included, every 0.2 s. The bundled profile, vectors included; "
        "pictures of 0.2 megapixels, so that thousands take minutes.\n\n"
        f"| images | peak, MiB | whole run, s |\n|---:|---:|---:|\n{rows}{verdict}"
    )
