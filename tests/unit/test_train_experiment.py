"""Experiments: the report's tables with their published figures, and how rows become figures."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from artray.errors import ConfigError
from artray.location import Location
from artray.models import cards
from artray.models.cards import Card
from artray.train import classified, experiment, tables
from artray.train.classified import ClassifierGrid, Column
from artray.train.detectors.grid import DetectorGrid
from artray.train.profile import TrainProfile
from artray.train.rundir import RunFolder
from artray.train.tables import Line
from artray.train.works import WORKS
from tests.training import SPEC, profile

REPORT = Path(__file__).parents[3] / "shared" / "reference"


@pytest.mark.parametrize("small", [False, True])
@pytest.mark.parametrize("name", experiment.shipped())
def test_shipped_experiments_are_sound(name: str, small: bool) -> None:
    loaded = experiment.load(name, small=small, data="/sets")
    assert isinstance(loaded, ClassifierGrid | DetectorGrid)
    for row in loaded.rows:
        if row.ensemble is None:
            cfg = loaded.profile(row, 1)
            assert cfg.training.seed == 1
            assert all(source.path == "/sets" or source.path.startswith("/sets/") for source in cfg.data.sources)
            assert cards.load(cfg.network.card if isinstance(cfg, TrainProfile) else cfg.detector.card).architecture
    assert loaded.name == (f"{name}-small" if small else name)


@pytest.mark.skipif(not REPORT.exists(), reason="the report is not here")
@pytest.mark.parametrize("name", experiment.shipped())
def test_published_figures_are_the_reports(name: str) -> None:
    text = "".join(path.read_text() for path in REPORT.glob("*.txt")).replace(",", ".")
    for row in experiment.load(name).rows:
        for figure in row.published:
            assert figure is None or figure.split(" ")[0] in text  # the deviations stand elsewhere in its text


def test_the_user_has_the_last_word() -> None:
    assert experiment.load("table4", ["base.training.epochs=1"], small=True).base["training"]["epochs"] == 1


def test_the_variants_of_the_report_are_what_it_says() -> None:
    table3 = experiment.load("table3")
    row = next(row for row in table3.rows if row.name == "RandomResizedCrop")
    cfg = table3.profile(row, 0)
    assert (cfg.training.epochs, cfg.training.batch_size) == (30, 100)
    assert (cfg.optimiser.name, cfg.optimiser.lr, cfg.optimiser.schedule) == ("adam", 1e-4, "cosine")
    assert (cfg.crop.kind, cfg.crop.resize_px, cfg.crop.edge) == ("random_resized", 300, "longer")
    assert (cfg.network.card, cfg.network.trained) == ("resnet50-imagenet", "conv4-5")
    best = experiment.load("table7").profile(experiment.load("table7").rows[0], 0)
    assert (best.optimiser.name, best.optimiser.lr, best.network.size_px) == ("adadelta", 0.005, 400)
    assert len(best.heads["type"].hidden) == 3  # and the last one: four layers
    assert best.balance.rule == "oversample"


def test_wrong_experiments_are_told(tmp_path: Path) -> None:
    values: dict[str, Any] = {
        "name": "x",
        "title": "X",
        "base": {"data": {"sources": [{"path": "a.csv"}]}, "heads": {"type": {}}},
        "rows": [{"name": "a", "set": {"optimiser": {"lr": -1}}}],
        "columns": [{"title": "t", "part": "val", "head": "type", "metric": "mcc"}],
    }
    file = tmp_path / "x.yaml"

    def told(**changes: Any) -> str:
        file.write_text(yaml.safe_dump(values | changes))
        with pytest.raises(ConfigError) as error:
            experiment.load(str(file))
        return str(error.value)

    assert "experiment x: a: optimiser.lr: Input should be greater than 0" in told()
    assert "expected once, got twice" in told(rows=[{"name": "a"}, {"name": "a"}])
    assert "two that make 'row'" in told(rows=[{"name": "絵画"}, {"name": "素描"}])
    typo = [{"title": "t", "part": "val", "head": "type", "metric": "f1 drawings"}]
    assert "t: metric: expected one of f1 painting, f1 drawing" in told(rows=[{"name": "a"}], columns=typo)
    other = [{"title": "t", "part": "val", "head": "genre", "metric": "mcc"}]
    assert "t: head: expected one of type, got genre" in told(rows=[{"name": "a"}], columns=other)
    lost = [{"name": "a"}, {"name": "b", "ensemble": {"rule": "majority", "of": ["a", "c"]}}]
    assert "expected names of rows that are no ensembles, got 'c'" in told(rows=lost)
    twice = [{"name": "a"}, {"name": "b", "ensemble": {"rule": "majority", "of": ["a", "a"]}}]
    assert "b: ensemble: expected every row once, got 'a' twice" in told(rows=twice)
    assert "data" in told(base={"data": None, "heads": {"type": {}}}, rows=[{"name": "a"}])
    assert "published: expected 1 values" in told(rows=[{"name": "a", "published": ["1", "2"]}])
    with pytest.raises(ConfigError, match=r"give a YAML file or one of: detection-ablation, .*, table10, table3"):
        experiment.load("table2")


def trained(folder: Path, head: dict[str, Any], scores: list[list[float]]) -> RunFolder:
    """A finished training of four works of the test, two of them of another set."""
    run = RunFolder(Location.of(folder))
    genres = ["portrait", "landscape", "portrait", "still life"]
    works = pa.Table.from_pylist(
        [
            dict.fromkeys(WORKS.names)
            | {"work_id": f"w{n}", "source": "a" if n < 2 else "b", "uri": f"u{n}", "version": "1", "group": "g"}
            | {"part": "test", "genre": genre}
            for n, genre in enumerate(genres)
        ],
        schema=WORKS,
    )
    card = Card(
        name="c",
        task="classify",
        architecture="resnet18",
        input=SPEC,
        yields=("embedding",),
        embedding_dim=512,
        licence="",
        source="",
    )
    cfg = profile(heads={"genre": head})
    run.begin(cfg.model_copy(update={"heads": {"genre": cfg.heads["genre"]}}), card, works, [])
    cfg = run.profile
    table = pa.table(
        {
            "work_id": [f"w{n}" for n in range(4)],
            "part": ["test"] * 4,
            "head": ["genre"] * 4,
            "scores": pa.array(scores, pa.list_(pa.float32())),
            "predicted": [cfg.outputs("genre")[int(np.argmax(row))] for row in scores],
        }
    )
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    (run.location / "predictions.parquet").write_bytes(buffer.getvalue())
    return run


def one_hot(*ids: int) -> list[list[float]]:
    return np.eye(5)[list(ids)].tolist()


def test_a_run_keeps_the_order_of_its_heads(tmp_path: Path) -> None:
    run = trained(tmp_path, {}, one_hot(0, 0, 0, 0))
    cfg = profile()  # type, then genre
    run.begin(cfg, run.card, run.works, [])
    assert RunFolder(run.location).profile.balanced_by == cfg.balanced_by == "type"


COLUMN = Column(title="accuracy", part="test", head="genre", metric="accuracy")


def test_a_column_is_of_a_part_and_a_set(tmp_path: Path) -> None:
    run = trained(tmp_path, {}, one_hot(3, 2, 0, 0))  # right, right, wrong, wrong
    scores = classified._said(run, COLUMN)
    assert classified._figure(run, COLUMN, scores) == 0.5
    assert classified._figure(run, COLUMN.model_copy(update={"source": "a"}), scores) == 1.0
    with pytest.raises(ConfigError, match=r"accuracy: metric: expected one of f1 genre painting, .* got 'auc'"):
        classified._figure(run, COLUMN.model_copy(update={"metric": "auc"}), scores)


def test_a_majority_of_three(tmp_path: Path) -> None:
    runs = [
        trained(tmp_path / "a", {}, one_hot(3, 2, 3, 0)),
        trained(tmp_path / "b", {}, one_hot(3, 0, 3, 0)),
        trained(tmp_path / "c", {}, one_hot(0, 2, 0, 4)),
    ]
    assert classified._combined(runs, "majority", COLUMN) == 0.75


def test_the_surest_of_one_versus_the_rest(tmp_path: Path) -> None:
    genres = ("portrait", "landscape", "still life")
    positive = {
        "portrait": [0.4, 0.2, 0.9, 0.1],
        "landscape": [0.3, 0.6, 0.95, 0.2],
        "still life": [0.1, 0.1, 0.1, 0.3],
    }
    runs = [
        trained(tmp_path / name, {"only": name}, [[1 - score, score] for score in positive[name]]) for name in genres
    ]
    assert (
        classified._combined(runs, "most_confident", COLUMN) == 0.75
    )  # none is positive of the first: the surest decides
    own = Column(title="f1", part="test", head="genre", metric="f1 {only}")
    assert classified._figure(runs[0], own, classified._said(runs[0], own)) == pytest.approx(2 / 3)  # one of two found


def test_the_table_has_measured_beside_published() -> None:
    loaded = experiment.load("table4")
    lines = [Line(row, [[0.9, 0.92], [0.5, 0.5], [0.1, 0.1], [0.2, 0.2]]) for row in loaded.rows]
    text = tables.markdown(loaded, lines)
    assert "| Getty, unbalanced | 0.910 ± 0.014 | 0.956 ± 0.004 | 0.500 ± 0.000 | 0.993 ± 0.001 |" in text
    assert text.count("published") == 4
    found = list(tables.cells(loaded, lines))
    assert (
        tables.table(found).splitlines()[1].startswith('"Getty, unbalanced",0.910000,0.014142,0.956 ± 0.004,0.500000')
    )
    assert (
        tables.repeats(found).splitlines()[1] == '"Getty, unbalanced",validation: F1 drawings,0,0.900000,0.956 ± 0.004'
    )


def test_tables_9_and_10_have_the_reports_layout() -> None:
    ninth = experiment.load("table9")
    text = tables.markdown(ninth, [Line(row, [[0.5]]) for row in ninth.rows])
    heads = next(line for line in text.splitlines() if line.startswith("| |"))
    assert heads == (
        "| | portrait | published | genre painting | published | history painting | published | still life | published "
        "| landscape | published |"
    )
    assert (
        "| with data augmentation, cosine annealing | 0.500 | 0.342 | 0.500 | 0.592 | 0.500 | 0.702 | 0.500 | 0.395 "
        "| 0.500 | 0.734 |"
    ) in text
    tenth = experiment.load("table10")
    text = tables.markdown(tenth, [Line(row, [[0.5]] * 10) for row in tenth.rows if row.shown])
    assert "| | Ensemble Model 1 | published | Ensemble Model 2 | published |" in text
    assert "| SemArt: F1 still life | 0.500 | 0.7434 | 0.500 | 0.7711 |" in text
    some = tables.markdown(ninth, [Line(ninth.rows[0], [[0.5]]), Line(ninth.rows[6], [[0.25]])])  # not all are done yet
    assert "| without data augmentation, cosine annealing |  |  | 0.250 | 0.705 |" in some
