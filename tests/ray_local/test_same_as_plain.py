"""What Ray gives is what the plain callables give, row by row, in either layout."""

from pathlib import Path

import pytest

from artray import config
from artray.archive import listing
from artray.archive.sample.defects import KINDS, write_defects
from artray.archive.sample.make import write_archive
from artray.archive.sample.oddities import write_oddities
from artray.location import Location
from artray.models import cards
from artray.pipeline import plan
from artray.pipeline.messages import Spec
from artray.pipeline.run import fingerprint
from artray.pipeline.worker import Worker
from artray.store.layout import create_store
from artray.store.records import Records
from tests import running


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real works, unusual files and broken ones."""
    folder = tmp_path_factory.mktemp("archive")
    write_archive(folder / "works", 61)
    write_oddities(folder / "oddities")
    write_defects(folder / "defects", len(KINDS), seed=1)
    return folder


@pytest.fixture(scope="module")
def plain(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict]:
    """The records that a worker makes in this process, without Ray."""
    folder = tmp_path_factory.mktemp("plain")
    profile = config.load("bundled")
    described = [cards.load(name) for name in (*profile.classify.cards, *profile.detect.cards)]
    records = Records.create(create_store(folder / "store"))
    found = listing.entries(Location.of(archive), profile.archive, lambda _: None)
    manifest = plan.write_manifest(found, Location.of(folder / "manifest.parquet"), [], lambda _: None)
    models = fingerprint(profile, described)
    with plan.Planner(manifest, records, None) as planner:
        work = planner.write_work(Location.of(folder / "work.arrow"), models, retry_errors=False, limit=None)
    worker = Worker(Spec(profile, "plain", models))
    try:
        rows = worker(plan.WorkFile(work.location).rows(0, work.images)).to_pylist()
    finally:
        worker.close()
    return {
        row["image_id"]: {k: v for k, v in row.items() if k not in (*running.MADE_ANEW, "recorded")} for row in rows
    }


@pytest.mark.parametrize("layout", ["fused", "split"])
def test_ray_equals_plain(archive: Path, plain: dict[str, dict], layout: str, tmp_path: Path, ray_temp: Path) -> None:
    settings = ("--set", f"pipeline.layout={layout}", "--set", "pipeline.max_actors=1", "--set", "store.index=false")
    running.run("process", archive, tmp_path / "store", *settings, env=running.environment(ray_temp))
    found = running.records(tmp_path / "store")
    assert found.keys() == plain.keys()
    assert {image_id for image_id, row in found.items() if row != plain[image_id]} == set()


def test_no_oddity_fails_and_every_defect_is_of_its_kind(archive: Path, plain: dict[str, dict], tmp_path: Path) -> None:
    failed = {image_id: row["error"] for image_id, row in plain.items() if row["error"]}
    assert len(plain) >= 61 + 40
    defects = write_defects(tmp_path, len(KINDS), seed=1)  # the same once more, to be told what they are
    expected = {f"defects/{d.path.relative_to(tmp_path)}": d.expected_kind for d in defects}
    assert failed == {name: kind for name, kind in expected.items() if kind and name in plain}
