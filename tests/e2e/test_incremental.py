"""The next run does what is new or changed, marks what is gone, and nothing else."""

import shutil
from pathlib import Path

import pytest
from PIL import Image

from artray.archive.sample.make import write_archive
from tests import running

IMAGES = 1_000


@pytest.fixture(scope="module")
def processed(tmp_path_factory: pytest.TempPathFactory, ray_temp: Path) -> tuple[Path, Path, dict[str, str]]:
    """An archive of 1,000 images and its store."""
    folder = tmp_path_factory.mktemp("incremental")
    env = running.environment(ray_temp)
    write_archive(folder / "archive", IMAGES, seed=3, megapixels=(0.02, 0.04))
    summary = running.answer("process", folder / "archive", folder / "store", *running.QUICK, env=env)
    assert (summary["images"], summary["done"], summary["failed"]) == (IMAGES, IMAGES, 0)
    return folder / "archive", folder / "store", env


def test_three_new_two_changed_one_gone(processed: tuple[Path, Path, dict[str, str]], tmp_path: Path) -> None:
    archive, store, env = (
        shutil.copytree(processed[0], tmp_path / "a"),
        shutil.copytree(processed[1], tmp_path / "s"),
        processed[2],
    )
    before = running.records(store)
    pictures = sorted(path for path in archive.rglob("*.jpg"))
    for number in range(3):
        Image.new("RGB", (60, 40), (number * 80, 10, 10)).save(archive / f"new-{number}.jpg")
    for path in pictures[:2]:
        Image.new("L", (30, 50), 99).save(path)
    pictures[2].unlink()
    summary = running.answer("process", archive, store, "--moved", *running.QUICK, env=env)
    assert {key: summary[key] for key in ("images", "done", "skipped", "vanished")} == {
        "images": IMAGES + 2,
        "done": 5,
        "skipped": IMAGES - 3,
        "vanished": 1,
    }
    after = running.records(store)
    assert len(after) == IMAGES + 3
    gone = str(pictures[2].relative_to(archive))
    assert after[gone].pop("vanished_at") is not None
    assert before[gone].pop("vanished_at") is None
    assert after[gone] == before[gone]
    assert after[str(pictures[0].relative_to(archive))]["width_px"] == 30
    touched = {gone, *(str(path.relative_to(archive)) for path in pictures[:2])}
    assert all(after[image_id] == row for image_id, row in before.items() if image_id not in touched)


def test_nothing_to_do_reads_no_image(processed: tuple[Path, Path, dict[str, str]], tmp_path: Path) -> None:
    """Ten thousand files whose content is gone, but not their names and times: a run that read one would fail on it."""
    import pyarrow as pa

    from artray import schema
    from artray.archive import listing
    from artray.config import ArchiveConfig, load
    from artray.location import Location
    from artray.models import cards
    from artray.pipeline.run import fingerprint
    from artray.store.layout import create_store
    from artray.store.records import Records

    archive, store = tmp_path / "a", tmp_path / "s"
    archive.mkdir()
    for number in range(10_000):
        (archive / f"{number:05}.jpg").touch()
    profile = load("bundled", ["detect.cards=[]"])
    models = fingerprint(profile, [cards.load(name) for name in profile.classify.cards])
    entries = list(listing.entries(Location.of(archive), ArchiveConfig(), lambda _: None))
    columns = {
        name: [getattr(entry, name) for entry in entries] for name in ("image_id", "uri", "size_bytes", "version")
    }
    made = schema.table(columns | {"error": [""] * len(entries), "models": [models] * len(entries)}, schema.RECORD)
    Records.create(create_store(store)).append(pa.table(made))
    summary = running.answer("process", archive, store, *running.QUICK, env=processed[2])
    assert {key: summary[key] for key in ("images", "done", "failed", "skipped")} == {
        "images": 10_000,
        "done": 0,
        "failed": 0,
        "skipped": 10_000,
    }
    assert summary["seconds"] < 60


def test_a_store_keeps_to_its_archive(processed: tuple[Path, Path, dict[str, str]], tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    refused = running.run("process", tmp_path / "other", processed[1], env=processed[2], ok=False)
    assert refused.returncode == 2
    assert "--moved" in refused.stderr


def test_new_metadata_travel_without_decoding(processed: tuple[Path, Path, dict[str, str]], tmp_path: Path) -> None:
    archive, store, env = processed
    table = tmp_path / "catalogue.csv"
    first = sorted(path for path in archive.rglob("*.jpg"))[0]
    table.write_text(f"image_id,title\n{first.relative_to(archive)},Found in the cellar\n", encoding="utf-8")
    summary = running.answer("process", archive, store, *running.QUICK, "--metadata", table, env=env)
    assert summary["done"] == 0
    found = running.answer("find", store, "--text", "cellar", env=env)
    assert [work["image_id"] for work in found["works"]] == [str(first.relative_to(archive))]


def test_an_earlier_version_can_be_read(processed: tuple[Path, Path, dict[str, str]]) -> None:
    from artray.store.layout import open_store
    from artray.store.records import Records

    assert Records.open(open_store(processed[1]), version=0).count() == 0
    assert Records.open(open_store(processed[1])).count() == IMAGES
