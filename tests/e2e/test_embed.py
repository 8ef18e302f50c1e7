"""A method is added to a finished store: each image read once, nothing doubled, and answers by it."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from artray.archive.sample.make import write_archive
from artray.models import cards
from artray.retrieve.embedder import build
from artray.store.layout import open_store
from artray.store.records import Records
from tests import running

METHOD = "efficientnet-lite0-imagenet"
"""A classifier's trunk, whose weights a package has; the store's own embeddings are of another one."""

Tour = tuple[Path, Path, dict[str, str]]


@pytest.fixture(scope="module")
def tour(tmp_path_factory: pytest.TempPathFactory, ray_temp: Path) -> Tour:
    """An archive, its store with a second method, and the environment of both."""
    folder = tmp_path_factory.mktemp("embed")
    env = running.environment(ray_temp)
    write_archive(folder / "archive", 40, megapixels=(0.02, 0.04))
    (folder / "archive" / "broken.jpg").write_bytes(b"no picture")
    running.run("process", folder / "archive", folder / "store", *running.QUICK, env=env)
    summary = running.answer("embed", folder / "archive", folder / "store", "--method", METHOD, env=env)
    assert {key: summary[key] for key in ("images", "done", "failed", "skipped")} == {
        "images": 41,
        "done": 40,
        "failed": 1,
        "skipped": 0,
    }
    return folder / "archive", folder / "store", env


def test_the_embeddings_are_those_of_the_plain_method(tour: Tour) -> None:
    archive, store, _ = tour
    rows = Records.open(open_store(store).method(METHOD)).delta().to_pyarrow_table().to_pylist()
    lossless = [row for row in rows if row["image_id"].endswith(".png")]  # of JPEGs other decoders make other pixels
    assert len(rows) == len({row["image_id"] for row in rows}) == 41
    assert [row["image_id"] for row in rows if row["error"]] == ["broken.jpg"]
    assert {row["type"] for row in rows} == {None}
    embed = build(cards.load(METHOD))
    assert lossless
    for row in lossless:
        pixels = np.asarray(Image.open(archive / row["image_id"]).convert("RGB"))
        assert embed([pixels])[0] == pytest.approx(np.array(row["embedding"]), abs=1e-5)


def test_works_are_compared_by_it(tour: Tour) -> None:
    archive, store, env = tour
    name = min(str(path.relative_to(archive)) for path in archive.rglob("*.jpg") if path.name != "broken.jpg")
    own = running.answer("similar", store, name, "-k", "10", env=env)
    other = running.answer("similar", store, name, "-k", "10", "--method", METHOD, env=env)
    assert other["method"] == METHOD
    assert [work["score"] for work in own["works"]] != [work["score"] for work in other["works"]]
    assert other["works"][0]["type"] in ("painting", "drawing")  # labels are the store's
    filtered = running.answer("similar", store, name, "--method", METHOD, "--type", "drawing", env=env)
    assert {work["type"] for work in filtered["works"]} <= {"drawing"}
    by_file = running.answer("similar", store, archive / name, "-k", "1", "--method", METHOD, env=env)
    assert (by_file["works"][0]["image_id"], round(by_file["works"][0]["score"], 3)) == (name, 1.0)


def test_it_is_told_of_and_proved(tour: Tour) -> None:
    archive, store, env = tour
    told = running.answer("status", store, env=env)["methods"][METHOD]
    assert {key: told[key] for key in ("dimension", "metric", "done", "failed")} == {
        "dimension": 1280,
        "metric": "cosine",
        "done": 40,
        "failed": 1,
    }
    proof = running.answer("verify", store, archive, env=env)
    assert proof["ok"], proof
    assert sum(promise["name"].startswith(f"method {METHOD}: ") for promise in proof["promises"]) >= 8
    indexed = running.answer("index", store, env=env)
    assert (indexed["count"], indexed["methods"][METHOD]["count"]) == (40, 40)


def test_the_next_run_does_what_is_new(tour: Tour, tmp_path: Path) -> None:
    archive, store = (shutil.copytree(path, tmp_path / path.name) for path in tour[:2])
    Image.new("RGB", (60, 40), (200, 10, 10)).save(archive / "new.png")
    summary = running.answer("embed", archive, store, "--moved", "--method", METHOD, env=tour[2])
    assert (summary["done"], summary["skipped"]) == (1, 41)


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("efficientnet-lite2-art", "expected another method than the store's own"),
        ("mtcnn", "expected one that yields an embedding"),
        ("nothing", "expected one of"),
    ],
)
def test_what_is_no_other_method(tour: Tour, method: str, message: str) -> None:
    archive, store, env = tour
    refused = running.run("embed", archive, store, "--method", method, env=env, ok=False)
    assert refused.returncode == 2
    assert message in refused.stderr


def test_another_archive_is_refused(tour: Tour, tmp_path: Path) -> None:
    refused = running.run("embed", tmp_path, tour[1], "--method", METHOD, env=tour[2], ok=False)
    assert refused.returncode == 2
    assert "belongs to the archive" in refused.stderr


def test_works_are_found_by_colours(tour: Tour) -> None:
    archive, store, env = tour
    refused = running.run("similar", store, "--colour", "#c81414", env=env, ok=False)
    assert "artray embed ARCHIVE STORE --method colours" in refused.stderr
    Image.new("RGB", (80, 60), (200, 20, 20)).save(archive / "red.png")
    Image.new("RGB", (80, 60), (20, 20, 200)).save(archive / "blue.png")
    running.run("process", archive, store, *running.QUICK, env=env)
    running.run("embed", archive, store, "--method", "colours", env=env)
    for colour, name in (("#c81414", "red.png"), ("#1414c8", "blue.png")):
        found = running.answer("similar", store, "--colour", colour, "-k", "1", env=env)
        assert [(work["image_id"], work["score"] > 0.9) for work in found["works"]] == [(name, True)]
    both = running.answer("similar", store, "--colour", "#c81414:3", "--colour", "#1414c8", "-k", "2", env=env)
    assert [work["image_id"] for work in both["works"]] == ["red.png", "blue.png"]
    (archive / "red.png").unlink()
    (archive / "blue.png").unlink()
