"""``python -m tests.benchmarks.duplicates``: copies of real works found again, against perceptual hashes.

Works of art.csv (--data), 22 kinds of copies of some of them (tests/benchmarks/copies.py), and artray's groups, the
four hashes of imagededup and PDQ, if they are installed, on the same pictures. Every threshold is chosen on half of the
works and judged on the other half. A pair is right if it shows the same work; pairs of works that are one, in several
books, count as neither right nor wrong. ``--rows`` more, made, works say what an archive of that size takes.
"""

import argparse
import json
import os
import resource
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from artray.retrieve import duplicates
from artray.retrieve.reasons import why
from tests.benchmarks import copied_works, machine, made_looks, pair_counts
from tests.benchmarks.copied_works import ORIGINAL, Set
from tests.benchmarks.copies import KINDS
from tests.benchmarks.pair_counts import Counts
from tests.benchmarks.rivals import hashes

SCORES = (0.8, 0.84, 0.88, 0.9, 0.92, 0.94, 0.96)
COSINES = [0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95]
CNN_DEFAULT = 0.9
"""imagededup's, of its CNN method; here of the embeddings that artray has."""

WORDS = {
    **dict.fromkeys(("cropped 5 %", "cropped 10 %", "cropped 20 %", "cropped 30 %"), "cropped"),
    **dict.fromkeys(("border", "frame"), "framed"),
    **dict.fromkeys(("turned 1 to 5°", "perspective"), "skewed"),
    **{"mirrored": "mirrored", "turned 90 to 270°": "turned"},
}
"""What a copy of a kind should be said to be."""


def ours(works: Set, score: float) -> tuple[Counts, dict[str, Any]]:
    """What artray groups, and what else there is to say of it."""
    start, cpu = time.perf_counter(), time.process_time()
    found = duplicates.find(works.works, score, os.cpu_count() or 1)
    groups = duplicates.groups(len(works.work), found, works.works.pixels)
    told: dict[str, Any] = {"seconds": time.perf_counter() - start, "cpu_s": time.process_time() - cpu}
    told["words"] = words(works, found)
    return pair_counts.of(pair_counts.grouped(groups), works), told


def chosen_score(works: Set) -> float:
    """The score from which on copies make the best groups, of those that the lowest of all finds."""
    found = duplicates.find(works.works, SCORES[0], os.cpu_count() or 1)

    def f1(score: float) -> float:
        enough = found.at(np.flatnonzero(found.score >= score))
        groups = duplicates.groups(len(works.work), enough, works.works.pixels)
        return pair_counts.of(pair_counts.grouped(groups), works).f1

    return max(SCORES, key=f1)


def words(works: Set, found: duplicates.Copies) -> dict[str, float]:
    """Of the pairs of an original and its copy the part that is said to be what it is."""
    a, b = works.kind[found.first], works.kind[found.second]
    rows = np.flatnonzero((works.work[found.first] == works.work[found.second]) & (np.minimum(a, b) == ORIGINAL))
    kinds, told = np.maximum(a, b)[rows], [each.split(", ") for each in why(works.works, found.at(rows))]
    hits: dict[str, list[bool]] = {}
    for kind, said in zip(kinds.tolist(), told, strict=True):
        name = list(KINDS)[kind]
        if name in WORDS:
            hits.setdefault(name, []).append(WORDS[name] in said)
    return {name: statistics.fmean(values) for name, values in hits.items()}


def contest(choosing: Set, judging: Set) -> dict[str, Any]:
    """Every method, with its default and with the threshold that was best on the other half."""
    best = chosen_score(choosing)
    tell(f"artray: best {best}")
    result = {"artray": {"best": best, "default": duplicates.SCORE_MIN} | both(judging, best)}
    for name, values in judging.hashes.items():
        most = 2 * hashes.DEFAULTS[name]
        start = time.perf_counter()
        curves = [pair_counts.by_distance(part.hashes[name], part, most) for part in (choosing, judging)]
        bits = int(np.argmax([counts.f1 for counts in curves[0]]))
        entry: dict[str, Any] = {"best": bits, "default": hashes.DEFAULTS[name], "seconds": time.perf_counter() - start}
        entry |= {"at_best": plain(curves[1][bits]), "at_default": plain(curves[1][hashes.DEFAULTS[name]])}
        if name != "PDQ":
            start = time.perf_counter()
            theirs = hashes.imagededup_duplicates(name, values, hashes.DEFAULTS[name])
            entry["their_s"], entry["their_pairs"] = time.perf_counter() - start, len(theirs)
        result[name] = entry
        tell(f"{name}: best {bits}")
    curves = [pair_counts.by_similarity(unit(part), part, COSINES) for part in (choosing, judging)]
    at = int(np.argmax([counts.f1 for counts in curves[0]]))
    entry = {"best": COSINES[at], "default": CNN_DEFAULT, "at_best": plain(curves[1][at])}
    result["embeddings"] = entry | {"at_default": plain(curves[1][COSINES.index(CNN_DEFAULT)])}
    return result


def both(judging: Set, best: float) -> dict[str, Any]:
    """What artray groups from the best score on, and by default."""
    at_default, told = ours(judging, duplicates.SCORE_MIN)
    at_best = at_default if best == duplicates.SCORE_MIN else ours(judging, best)[0]
    return {"at_best": plain(at_best), "at_default": plain(at_default)} | told


def unit(works: Set) -> Any:
    vectors = works.works.embeddings.astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def plain(counts: Counts) -> dict[str, Any]:
    """Counts as JSON has them."""
    kinds = zip(KINDS, counts.recalls().tolist(), counts.precisions().tolist(), strict=True)
    told = {"precision": counts.precision, "recall": counts.recall, "right": counts.right, "wrong": counts.wrong}
    return told | {"kinds": {name: {"recall": recall, "precision": precision} for name, recall, precision in kinds}}


def scale(judging: Set, rows: int, scratch: Path) -> dict[str, Any]:
    """The works of one half, and their copies, among so many made ones."""
    works = made_looks.among(judging, rows, scratch)
    tell(f"{len(works.work):,} works made")
    phases: dict[str, float] = {}
    last = [time.perf_counter(), ""]

    def told(doing: str, done: int, total: int) -> None:
        del done, total
        now = time.perf_counter()
        phases[str(last[1])] = phases.get(str(last[1]), 0.0) + now - float(last[0])
        last[:] = [now, doing]

    start, cpu = time.perf_counter(), time.process_time()
    found = duplicates.find(works.works, duplicates.SCORE_MIN, os.cpu_count() or 1, told)
    groups = duplicates.groups(len(works.work), found, works.works.pixels)
    told("", 0, 0)
    result = {"seconds": time.perf_counter() - start, "cpu_s": time.process_time() - cpu, "phases": phases}
    result["peak_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    real = works.kind > made_looks.MADE
    group = np.full(len(works.work), -1)
    group[groups.member] = groups.group
    result["made_in_groups"] = int((group[~real] >= 0).sum())
    result["counts"] = plain(pair_counts.of(pair_counts.grouped(groups), works))
    result["rows"] = len(works.work)
    return result


def tell(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.duplicates")
    parser.add_argument("--data", type=Path, required=True, help="the folder with art.csv")
    parser.add_argument("--works", type=int, default=300, help="so many are copied")
    parser.add_argument("--first", type=int, help="only so many works of the list, a multiple of 50")
    parser.add_argument("--rows", type=int, default=0, help="so many made works beside them, for instance 700000")
    parser.add_argument("--scratch", type=Path, required=True, help="where what takes long is kept")
    parser.add_argument("--only-scale", action="store_true", help="not the contest: memory is then that of the rest")
    parser.add_argument("--json", type=Path)
    told = parser.parse_args()
    every, costs = copied_works.gathered(told.data, told.works, told.scratch / f"copies-{told.works}", told.first)
    choosing, judging = copied_works.halves(every)
    result: dict[str, Any] = {"machine": machine.describe(), "pictures": len(judging.work), "costs": costs._asdict()}
    result |= {"copied": int((judging.kind == 0).sum()), "works": len(np.unique(judging.work)), "cnn": hashes.cnn()}
    if not told.only_scale:
        result["contest"] = contest(choosing, judging)
    if told.rows:
        result["scale"] = scale(judging, told.rows, told.scratch)
    if told.json:
        told.json.write_text(json.dumps(result, indent=1, ensure_ascii=False), encoding="utf-8")
    sys.stdout.write(page(result))


def page(result: dict[str, Any]) -> str:
    """The results as Markdown."""
    parts = [machine_line(result)]
    if "contest" in result:
        parts += [overall(result), kinds(result["contest"])]
    if "scale" in result:
        parts.append(at_scale(result["scale"]))
    return "\n\n".join(parts) + "\n"


def machine_line(result: dict[str, Any]) -> str:
    told = result["machine"]
    return (
        f"{told['date']}; {told['cores']} cores of {told['cpu']}. {result['copied']:,} works copied by {len(KINDS)} "
        f"kinds of change among {result['works']:,} works: {result['pictures']:,} pictures; as many others to choose "
        "thresholds by."
    )


def overall(result: dict[str, Any]) -> str:
    """A table of methods."""
    rows = []
    for name, entry in result["contest"].items():
        cells = [name]
        for key in ("default", "best"):
            counts = entry[f"at_{key}"]
            cells += [f"{entry[key]:g}", f"{counts['precision']:.3f}", f"{counts['recall']:.3f}"]
        rows.append(" | ".join([*cells, cost(name, result), f"{entry.get('their_s', entry.get('seconds', 0)):.0f}"]))
    head = "method | default | precision | recall | best | precision | recall | ms a picture | all pairs, s"
    lines = [f"| {head} |", "|---|" + "---:|" * 8, *(f"| {row} |" for row in rows)]
    return "\n".join([*lines, "", f"imagededup's CNN: {result['cnn'] or 'its weights are here'}."])


def cost(name: str, result: dict[str, Any]) -> str:
    costs = result["costs"]
    if name == "artray":
        return f"{costs['look']:.1f} (+ {costs['embedding']:.0f} that a store has)"
    return f"{costs['embedding']:.0f}" if name == "embeddings" else f"{costs['hashes'][name]:.1f}"


def kinds(contested: dict[str, Any]) -> str:
    """A table of kinds: artray's default, the rivals at their best thresholds."""
    names = list(contested)
    head = " | ".join(["kind", "artray precision", "said so", *(f"{name} recall" for name in names)])
    rows = []
    for kind in KINDS:
        own = contested["artray"]["at_default"]["kinds"][kind]
        said = contested["artray"]["words"].get(kind)
        recalls = [own["recall"], *(contested[name]["at_best"]["kinds"][kind]["recall"] for name in names[1:])]
        cells = [kind, f"{own['precision']:.3f}", "" if said is None else f"{said:.2f}", *(f"{r:.3f}" for r in recalls)]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join([f"| {head} |", "|---|" + "---:|" * (len(names) + 2), *rows])


def at_scale(told: dict[str, Any]) -> str:
    """What an archive's size takes."""
    counts = told["counts"]
    phases = ", ".join(f"{name or 'the rest'} {seconds:.0f} s" for name, seconds in told["phases"].items())
    recalls = ", ".join(f"{kind} {entry['recall']:.3f}" for kind, entry in counts["kinds"].items())
    return (
        f"{told['rows']:,} works: {told['seconds'] / 60:.1f} minutes ({told['cpu_s'] / 60:.1f} of a processor; "
        f"{phases}), {told['peak_bytes'] / 2**30:.1f} GiB. Pairs: precision {counts['precision']:.3f}, recall "
        f"{counts['recall']:.3f}; {told['made_in_groups']:,} made works are in groups. Recall by kind: {recalls}."
    )


if __name__ == "__main__":
    main()
