"""A worker without Ray: rows of the work list in, records out, the same for any cut of them."""

import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from artray import config, schema
from artray.archive import listing
from artray.config import ArchiveConfig
from artray.location import Location
from artray.pipeline import worker
from artray.pipeline.plan import WORK
from artray.pipeline.worker import Decoder, Models, Spec, Worker, ahead, pack, unpack

SPEC = Spec(config.load("bundled", ["detect.cards=[]", "decode.batch_images=2"]), "run", "fingerprint")


def picture(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 6 + seed, 3), np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).resize((80 + seed, 60)).save(out, "JPEG")
    return out.getvalue()


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> pa.Table:
    folder = tmp_path_factory.mktemp("archive")
    for seed in range(5):
        (folder / f"{seed}.jpg").write_bytes(picture(seed))
    (folder / "2.jpg").write_bytes(b"no image")
    (folder / "5.jpg").symlink_to("nowhere")
    entries = listing.entries(Location.of(folder), ArchiveConfig(), print)
    rows = [entry._asdict() | {"metadata": {"title": entry.image_id}, "recorded": False} for entry in entries]
    return pa.Table.from_pylist(rows, schema=WORK)


@pytest.fixture(scope="module")
def whole() -> Iterator[Worker]:
    made = Worker(SPEC)
    yield made
    made.close()


def comparable(table: pa.Table) -> pa.Table:
    return table.drop_columns(["processed_at"]).combine_chunks()


def test_every_row_comes_out_as_a_record(work: pa.Table, whole: Worker) -> None:
    records = whole(work)
    assert records.schema == worker.RECORD_AND_STATE
    assert records.column("image_id").to_pylist() == work.column("image_id").to_pylist()
    assert records.column("error").to_pylist() == ["", "", "unsupported", "", "", "missing"]
    rows = records.to_pylist()
    for row in rows:
        assert (row["run_id"], row["models"], row["recorded"]) == ("run", "fingerprint", False)
        assert row["processed_at"] is not None
        assert row["vanished_at"] is None
        assert dict(row["metadata"]) == {"title": row["image_id"]}
        good = row["error"] == ""
        assert (row["objects"] == []) == good
        for name in ("type", "genre", "embedding", "mean_rgb", "width_px", "type_scores", "thumbnail", "chroma"):
            assert (row[name] is not None) == good, name
    assert len({tuple(row["embedding"]) for row in rows if row["embedding"]}) == 4


def test_a_record_is_the_same_whatever_is_beside_it(work: pa.Table, whole: Worker) -> None:
    together = comparable(whole(work))
    order = [5, 3, 0, 2, 4, 1]
    assert comparable(whole(work.take(order))).equals(together.take(order))
    apart = pa.concat_tables([comparable(whole(work.slice(at, 1))) for at in range(work.num_rows)])
    assert apart.combine_chunks().equals(together)


def test_both_halves_in_two_processes_are_the_whole(work: pa.Table, whole: Worker) -> None:
    decoder, models = Decoder(SPEC), Models(SPEC)
    batches = unpack(pack(decoder.slices(work)))
    split = pa.concat_tables([models(batch) for batch in batches])
    decoder.close()
    assert comparable(split).equals(comparable(whole(work)))


def test_pixels_cross_processes_as_they_are(work: pa.Table) -> None:
    decoder = Decoder(SPEC)
    batches = list(decoder.slices(work))
    decoder.close()
    assert [schema.rows(batch) for batch in batches] == [2, 2, 2]  # decode.batch_images
    for before, after in zip(batches, unpack(pack(batches)), strict=True):
        for name in ("image_id", "width_px", "error", "error_detail", "content_sha256", "recorded"):
            assert before[name] == after[name]
        for first, second in zip(before["pixels"], after["pixels"], strict=True):
            assert (first is None) == (second is None)
            assert first is None or np.array_equal(first, second)


def test_failed_images_have_no_results_of_any_stage(work: pa.Table) -> None:
    class FailsAfterwards:
        """A stage like the last one, which finds fault with every other image."""

        def __call__(self, batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
            errors = ["model_failed" if at % 2 else error for at, error in enumerate(batch["error"])]
            details = ["it raised" if at % 2 else detail for at, detail in enumerate(batch["error_detail"])]
            return batch | {"error": errors, "error_detail": details, "objects": [[]] * len(errors)}

    decoder, models = Decoder(SPEC), Models(SPEC)
    models.stages = (models.stages[0], FailsAfterwards())
    rows = [row for batch in decoder.slices(work) for row in models(batch).to_pylist()]
    decoder.close()
    assert [row["error"] for row in rows] == ["", "model_failed", "unsupported", "model_failed", "", "model_failed"]
    results = ("type", "type_score", "genre_scores", "mean_rgb", "embedding", "objects")
    for row in rows:
        assert {row[name] is None for name in results} == {row["error"] != ""}


def test_ahead_is_one_step_ahead_in_order() -> None:
    made: list[int] = []

    def numbers() -> Iterator[int]:
        for number in range(4):
            made.append(number)
            yield number

    with ThreadPoolExecutor(1) as thread:
        seen = [(number, len(made)) for number in ahead(numbers(), thread)]
        assert [number for number, _ in seen] == [0, 1, 2, 3]
        assert all(count <= number + 2 for number, count in seen)
        assert list(ahead([], thread)) == []

        def fails() -> Iterator[int]:
            yield 1
            raise ValueError("decoder")

        found = ahead(fails(), thread)
        assert next(found) == 1
        with pytest.raises(ValueError, match="decoder"):
            next(found)
