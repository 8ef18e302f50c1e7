"""The bare loop: no framework, one process, torch on all cores, one Parquet file at the end."""

from itertools import islice

from artray.archive.formats import decode_bytes
from tests.benchmarks import work


def main() -> None:
    task = work.task()
    models = work.Models(task.profile, threads=task.cores)
    work.ready(task.out)
    paths, tables = iter(work.pictures(task.archive)), []
    while batch := list(islice(paths, work.BATCH_IMAGES)):
        decoded = [decode_bytes(path.read_bytes(), task.profile.decode) for path in batch]
        ids = [str(path.relative_to(task.archive)) for path in batch]
        tables.append(models(ids, [d.pixels for d in decoded], [(d.width_px, d.height_px) for d in decoded]))
    work.write(tables, task.out)
    work.finished()


if __name__ == "__main__":
    main()
