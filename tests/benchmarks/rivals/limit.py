"""What the machine allows: decoding alone and the models alone, each on all cores, each in its better arrangement.

Processes of one thread each, or one process with as many threads. No pipeline that does both for every picture on
these cores can be faster than 1 / (decode_s + models_s), both in seconds per picture.
"""

import argparse
import multiprocessing
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

from artray.archive.formats import decode_bytes
from tests.benchmarks import work

DECODE_LEAST_S = 3.0
"""Decoding a few pictures takes no time: it is repeated for so long, or it would be measured by chance."""


def decoder(task: work.Task, paths: list[Path], threads: int) -> Callable[[], int]:
    """Decodes all pictures, again and again, for a while; says how many."""

    def one(path: Path) -> None:
        decode_bytes(path.read_bytes(), task.profile.decode)

    def run() -> int:
        begun, done = time.monotonic(), 0
        with ThreadPoolExecutor(threads) as pool:
            while time.monotonic() - begun < DECODE_LEAST_S:
                done += len(list(pool.map(one, paths)))
        return done

    one(paths[0])
    return run


def model_runner(task: work.Task, paths: list[Path], threads: int) -> Callable[[], int]:
    """Runs the models on all pictures, decoded before."""
    models = work.Models(task.profile, threads)
    decoded = [decode_bytes(path.read_bytes(), task.profile.decode) for path in paths]
    ids = [path.name for path in paths]

    def batch(at: int) -> None:
        cut = slice(at, at + work.BATCH_IMAGES)
        models(ids[cut], [d.pixels for d in decoded[cut]], [(d.width_px, d.height_px) for d in decoded[cut]])

    def run() -> int:
        for at in range(0, len(paths), work.BATCH_IMAGES):
            batch(at)
        return len(paths)

    batch(0)  # the first pictures take longer
    return run


def measure(
    kind: Callable[..., Callable[[], int]], task: work.Task, paths: list[Path], processes: int, threads: int
) -> float:
    """Pictures per second of so many processes of so many threads, from the first to start to the last to end."""
    context = multiprocessing.get_context("spawn")
    barrier, answers = context.Barrier(processes), context.Queue()
    children = [
        context.Process(target=_child, args=(kind, task, paths[n::processes], threads, barrier, answers))
        for n in range(processes)
    ]
    for child in children:
        child.start()
    begun, ended, done = zip(*[answers.get() for _ in children], strict=True)
    for child in children:
        child.join()
    return float(sum(done) / (max(ended) - min(begun)))


def _child(
    kind: Callable[..., Callable[[], int]],
    task: work.Task,
    paths: list[Path],
    threads: int,
    barrier: Barrier,
    answers: Any,
) -> None:
    run = kind(task, paths, threads)
    barrier.wait()
    begun = time.time()
    done = run()
    answers.put((begun, time.time(), done))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pictures", type=int, help="so many of the archive; all by default")
    parser.add_argument("--best", nargs=2, metavar=("DECODE", "MODELS"), help="layouts; by default all are tried")
    own, sys.argv[1:] = parser.parse_known_args()
    task = work.task()
    paths = work.pictures(task.archive)[: own.pictures]
    layouts = {"processes": (task.cores, 1), "threads": (1, task.cores)}
    rates: dict[str, dict[str, float]] = {}
    for at, (name, kind) in enumerate((("decode", decoder), ("models", model_runner))):
        tried = [own.best[at]] if own.best else layouts
        rates[name] = {layout: measure(kind, task, paths, *layouts[layout]) for layout in tried}
    best = {name: max(by_layout, key=by_layout.__getitem__) for name, by_layout in rates.items()}
    decode, models = (rates[name][layout] for name, layout in best.items())
    work.finished(rates=rates, best=list(best.values()), images_per_s=1 / (1 / decode + 1 / models))


if __name__ == "__main__":
    main()
