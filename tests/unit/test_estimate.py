"""What an archive takes: sums by hand, and which index it gets."""

import pytest

from artray import config
from artray.config import Profile
from artray.errors import ConfigError
from artray.pipeline import run
from artray.pipeline.estimate import PUBLISHED, Rate, estimate, measured
from artray.pipeline.report import Summary

RATE = Rate(10.0, 2, "here")


def test_hours_and_bytes_by_hand() -> None:
    told = estimate(700_000, config.load("bundled"), RATE)
    assert [(each["machines"], each["seconds"]) for each in told["processing"]] == [
        (1, 70_000),
        (4, 17_500),
        (16, 4_375),
    ]
    assert told["embedding_dim"] == 1_280
    assert told["bytes"] == {"records": 700_000 * (1_100 + 5_120), "vectors": 700_000 * (165 + 5_120)}
    assert told["duplicates"]["processor_s"] == 22.5 * 60


@pytest.mark.parametrize(
    ("images", "store", "engine", "why"),
    [
        (20_000, [], "milvus", "Milvus Lite"),
        (20_001, [], "hnsw", "a graph in a file. Milvus Lite goes through the keys of all vectors at every question"),
        (700_000, ["store.engine=milvus"], "milvus", "400 ms at this size; leave store.engine at auto"),
        (700_000, ["store.milvus_uri=http://milvus:19530"], "milvus", "the Milvus server http://milvus:19530"),
        (700_000, ["store.index=false"], None, "no index"),
    ],
)
def test_which_index_and_why(images: int, store: list[str], engine: str | None, why: str) -> None:
    index = estimate(images, config.load("bundled", store), RATE)["index"]
    assert index["engine"] == engine
    assert why in index["why"]


def test_nothing_is_said_of_what_was_not_measured_or_does_not_matter() -> None:
    server = estimate(700_000, config.load("bundled", ["store.milvus_uri=http://milvus:19530"]), RATE)["index"]
    assert server["question_ms"] is None, "Milvus Lite was measured, no server"
    small = estimate(1_000, config.load("bundled", ["store.engine=hnsw"]), RATE)["index"]
    assert small["why"] == "a graph in a file"


@pytest.mark.parametrize(("steady", "told"), [(4.0, 4.0), (None, 1.0)])
def test_a_measurement_leaves_out_what_comes_before_the_first_part_and_touches_no_server(
    steady: float | None, told: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    def process(archive: str, store: str, profile: Profile, reporter: object, options: run.Options) -> Summary:
        assert profile.store.milvus_uri is None
        return Summary("run", images_per_s=1.0, steady_images_per_s=steady)

    monkeypatch.setattr(run, "process", process)
    rate = measured(config.load("bundled", ["store.milvus_uri=http://milvus:19530"]), images=2)
    assert rate.images_per_s == told


@pytest.mark.parametrize("images", [0, -1])
def test_an_archive_has_a_picture_at_least(images: int) -> None:
    with pytest.raises(ConfigError, match=f"images: expected at least 1, got {images}"):
        estimate(images, config.load("bundled"), RATE)


def test_without_a_rate_there_are_no_hours_and_without_an_index_no_vectors() -> None:
    told = estimate(1_000, config.load("bundled", ["store.index=false"]), None)
    assert (told["processing"], told["rate"], told["bytes"]["vectors"]) == ([], None, 0)
    assert told["index"]["question_ms"] is None


def test_the_engine_is_the_one_that_a_store_of_that_size_gets() -> None:
    from artray.store.vectors import LITE_ROWS

    bundled = config.load("bundled")
    engines = [estimate(count, bundled, None)["index"]["engine"] for count in (LITE_ROWS, LITE_ROWS + 1)]
    assert engines == ["milvus", "hnsw"]
    assert PUBLISHED.images_per_s == 15.67  # as docs/benchmarks.md has it
