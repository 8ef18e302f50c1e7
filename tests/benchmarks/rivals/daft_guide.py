"""Daft as its guides have it: download and decode as expressions, a class with the models, write_parquet.

Source: docs.daft.ai, "Working with images" and "Stateful Class UDFs", and Daft's own image classification benchmark.
"""

import argparse
import sys
from typing import Any

import daft
import pyarrow as pa
from daft import DataType, ImageMode, Series, col
from daft.functions import decode_image, download

from tests.benchmarks import work

ANSWER = DataType.from_arrow_type(pa.struct(list(work.RESULT)[1:]))


class Predictor:
    """The models, in a process of their own."""

    def __init__(self, task: work.Task, tuned: bool) -> None:
        self.models = work.Models(task.profile, threads=1) if tuned else work.PlainModels(task.profile, threads=None)
        self.max_side_px = task.profile.decode.max_side_px
        work.ready(task.out)

    @daft.method.batch(return_dtype=ANSWER, batch_size=work.BATCH_IMAGES)
    def __call__(self, images: Series) -> Any:
        pictures = images.to_pylist()
        sizes_wh = [picture.shape[1::-1] for picture in pictures]
        shown = [work.fit(picture, self.max_side_px) for picture in pictures]
        table = self.models([""] * len(shown), shown, sizes_wh).drop_columns(["image_id"])
        return Series.from_arrow(table.to_struct_array().combine_chunks())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--tuned", action="store_true", help="artray's model code, and one thread in each process")
    own, sys.argv[1:] = parser.parse_known_args()
    task = work.task()
    predictor = daft.cls(Predictor, max_concurrency=task.cores, use_process=True)(task, own.tuned)
    paths = [str(path) for path in work.pictures(task.archive)]
    (
        daft.from_pydict({"image_id": paths})
        .with_column("image", decode_image(download(col("image_id")), mode=ImageMode.RGB))
        .with_column("answer", predictor(col("image")))
        .select("image_id", "answer")
        .write_parquet(str(task.out / "rows"))
    )
    work.finished()


if __name__ == "__main__":
    main()
