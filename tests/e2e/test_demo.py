"""What a newcomer types: the demo, then questions about it."""

import csv
import json
from pathlib import Path

import pytest
from PIL import Image

from tests import running


@pytest.fixture(scope="module")
def tour(tmp_path_factory: pytest.TempPathFactory, ray_temp: Path) -> tuple[Path, dict[str, str], str]:
    """The folder of a finished demo, its environment, and what the demo printed."""
    folder = tmp_path_factory.mktemp("tour")
    env = running.environment(ray_temp)
    return folder, env, running.run("demo", "--folder", folder, env=env).stdout


def test_the_demo_shows_works_and_what_to_try_next(tour: tuple[Path, dict[str, str], str]) -> None:
    _, _, told = tour
    assert "61 images: 61 done" in told
    assert "van Gogh" in told or "Morisot" in told or "Louis" in told
    assert "artray similar" in told


def test_every_promise_is_kept(tour: tuple[Path, dict[str, str], str]) -> None:
    folder, env, _ = tour
    proof = running.answer("verify", folder / "demo-store", folder / "demo-archive", env=env)
    assert proof["ok"], proof
    assert len(proof["promises"]) >= 12


def test_the_commands_that_the_demo_suggests_work(tour: tuple[Path, dict[str, str], str]) -> None:
    folder, env, told = tour
    import shlex

    suggested = [line.strip() for line in told.splitlines() if line.startswith("  artray ")]
    assert len(suggested) == 7
    for line in suggested:
        arguments = shlex.split(line)[1:]
        if "--out" in arguments:
            arguments[-1] = str(folder / "boxes.jpg")
        assert running.run(*arguments, env=env).stdout.strip()
    assert Image.open(folder / "boxes.jpg").size[0] > 100


def test_find_sees_faces_in_portraits(tour: tuple[Path, dict[str, str], str]) -> None:
    folder, env, _ = tour
    found = running.answer("find", folder / "demo-store", "--object", "faces:0.9", "--genre", "portrait", env=env)
    assert found["count"] >= 8
    for work in found["works"]:
        assert work["genre"] == "portrait"
        best = max(box["score"] for box in work["objects"])
        assert best >= 0.9


def test_similar_takes_an_id_a_file_and_a_region(tour: tuple[Path, dict[str, str], str]) -> None:
    folder, env, _ = tour
    store, name = folder / "demo-store", "gc_det_van_gogh_harvest.jpg"
    by_id = running.answer("similar", store, name, "-k", "3", env=env)
    assert [work["rank"] for work in by_id["works"]] == [1, 2, 3]
    assert name not in [work["image_id"] for work in by_id["works"]]
    by_file = running.answer("similar", store, folder / "demo-archive" / name, "-k", "1", env=env)
    assert by_file["works"][0]["image_id"] == name  # the picture itself, by its pixels
    assert by_file["works"][0]["score"] > 0.999
    part = running.answer("similar", store, name, "--region", "0,0,200,200", "-k", "2", env=env)
    assert len(part["works"]) == 2


def test_sql_reads_and_does_nothing_else(tour: tuple[Path, dict[str, str], str]) -> None:
    folder, env, _ = tour
    store = folder / "demo-store"
    answer = running.answer("sql", store, "SELECT count(*) FROM works WHERE metadata['artist'] LIKE '%Gogh'", env=env)
    assert answer["rows"][0][0] >= 8
    refused = running.run("sql", store, "DROP VIEW works", env=env, ok=False)
    assert refused.returncode == 2
    assert len(refused.stderr.strip().splitlines()) == 1


def test_export_writes_every_row(tour: tuple[Path, dict[str, str], str]) -> None:
    folder, env, _ = tour
    for form in ("csv", "jsonl", "parquet"):
        assert (
            running.answer("export", folder / "demo-store", folder / f"out.{form}", "--format", form, env=env)["rows"]
            == 61
        )
    with (folder / "out.csv").open(encoding="utf-8", newline="") as file:
        assert len(list(csv.DictReader(file))) == 61
    assert len([json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()]) == 61


def test_running_again_does_nothing(tour: tuple[Path, dict[str, str], str]) -> None:
    folder, env, _ = tour
    again = running.answer("demo", "--folder", folder, env=env)
    assert (again["done"], again["skipped"]) == (0, 61)
