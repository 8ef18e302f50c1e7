"""Ray Data as its guides on images and on batch inference have it.

read_images -> map(transform) -> map_batches(actor with the models) -> write_parquet

Source: docs.ray.io, "Working with images" and "End-to-end: Offline Batch Inference".
"""

import argparse
import functools
import os
import sys
from typing import Any

import pyarrow as pa
import ray

from artray.config import Profile
from tests.benchmarks import work

EXTENSIONS = [suffix.removeprefix(".") for suffix in work.SUFFIXES]


class Predictor:
    """The models, in an actor."""

    def __init__(self, task: work.Task, models: type[work.Models]) -> None:
        self.models = models(task.profile, threads=1)
        work.ready(task.out)

    def __call__(self, batch: dict[str, Any]) -> pa.Table:
        sizes_wh = list(zip(batch["width_px"].tolist(), batch["height_px"].tolist(), strict=True))
        return self.models(batch["path"].tolist(), list(batch["image"]), sizes_wh)


def transform(row: dict[str, Any], profile: Profile) -> dict[str, Any]:
    """Make a picture as small as the models take it."""
    height, width = row["image"].shape[:2]
    image = work.fit(row["image"], profile.decode.max_side_px)
    return {"path": row["path"], "image": image, "width_px": width, "height_px": height}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--tuned", action="store_true", help="artray's model code, and an actor per core")
    own, sys.argv[1:] = parser.parse_known_args()
    task = work.task()
    # Actors that reserve all cores leave none to read with: the job would hang, as Ray warns.
    actors, cpus = (task.cores, 0.5) if own.tuned else (max(1, task.cores - 1), 1.0)
    ray.init(num_cpus=task.cores, include_dashboard=False, log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    (
        ray.data.read_images(str(task.archive), include_paths=True, mode="RGB", file_extensions=EXTENSIONS)
        .map(functools.partial(transform, profile=task.profile))
        .map_batches(
            Predictor,
            fn_constructor_args=(task, work.Models if own.tuned else work.PlainModels),
            batch_size=work.BATCH_IMAGES,
            compute=ray.data.ActorPoolStrategy(size=actors),
            num_cpus=cpus,
        )
        .write_parquet(str(task.out / "rows"))
    )
    work.finished(actors=actors)
    sys.stdout.flush()
    ray.shutdown()


if __name__ == "__main__":
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    main()
