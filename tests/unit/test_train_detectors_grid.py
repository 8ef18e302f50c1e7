"""Experiments of detectors: figures of columns, and rows that fuse what others found."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml

from artray.config import FuseConfig
from artray.detect.datasets.tables import BOXES, CORNERS, IMAGES
from artray.detect.found import Found
from artray.errors import ConfigError
from artray.location import Location
from artray.models import cards
from artray.taxonomy import CATEGORY, fallback
from artray.train import experiment, tables
from artray.train.detectors import given
from artray.train.detectors.folder import DetectorFolder
from artray.train.detectors.grid import Column, DetectorGrid, Fusion, figure, judged_classes
from artray.train.tables import Line
from tests.boxes_training import profile

CLASSES = ("angel", "persons (others)", "dog", "cat")
TRUTH = {0: ("angel", (0, 0, 40, 40)), 1: ("dog", (10, 10, 50, 50)), 2: ("cat", (20, 20, 90, 90))}
GRID: dict[str, Any] = {
    "name": "x",
    "title": "X",
    "base": {"data": {"sources": [{"path": "boxes.csv"}]}, "detector": {"card": "yolox-nano-coco"}},
    "rows": [{"name": "a"}, {"name": "b"}, {"name": "both", "ensemble": {"of": ["a", "b"], "fuse": {"method": "nms"}}}],
    "columns": [{"title": "AP@.5"}],
}


def found(*boxes: tuple[str, float, tuple[int, ...]], names: tuple[str, ...] = CLASSES) -> Found:
    """An answer: class, score, corners."""
    return Found(
        np.array([corners for *_, corners in boxes], np.float32).reshape(-1, 4),
        np.array([score for _, score, _ in boxes], np.float32),
        np.array([names.index(name) for name, *_ in boxes], np.int64),
    )


def folder(
    path: Path,
    answers: list[Found],
    names: tuple[str, ...] = CLASSES,
    moved: int = 0,
    boxed: tuple[str, ...] = CLASSES,
    wanted: tuple[str, ...] | None = CLASSES,
) -> DetectorFolder:
    """A finished training: three pictures of test, the first of set a, the others of set b, and what was found.

    The sets box these classes; what others of a category show counts as its "others" there.
    """
    made = DetectorFolder(Location.of(path))
    image = {"version": "1", "width_px": 100, "height_px": 100, "part": "test", "duplicates": None}
    image |= {"labelled": list(boxed)}
    images = [
        image | {"image_id": f"i{n}", "source": "a" if n == 0 else "b", "uri": f"u{n}", "group": f"g{n}"}
        for n in range(3)
    ]
    called = {n: name if name in boxed else fallback(CATEGORY[name]) for n, (name, _) in TRUTH.items()}
    boxes = [
        {"image_id": f"i{n}", "label": called[n], "class_name": called[n], "crowd": False, "difficult": False}
        | dict(zip(CORNERS, (corners[0] + moved, *corners[1:]), strict=True))
        for n, (_, corners) in TRUTH.items()
        if called[n] in boxed
    ]
    made.begin_boxes(
        profile(classes=None if wanted is None else [name for name in wanted if name in names]),
        cards.load("yolox-nano-coco"),
        pa.Table.from_pylist(images, schema=IMAGES),
        pa.Table.from_pylist(boxes, schema=BOXES),
        {"a": boxed, "b": boxed},
        [],
    )
    made.keep_predictions({"test": answers}, names)
    (made.location / "result.json").write_json({"classes": list(names)})
    return made


def of(made: DetectorFolder, **column: Any) -> float:
    """A column's figure of a folder."""
    known, rows = made.labels(), made.rows()["test"]
    answers = made.predictions("test", known.class_names)
    return figure(Column(title="t", **column), known, rows, answers)


def test_a_column_is_a_mean_over_the_classes_that_it_is_of(tmp_path: Path) -> None:
    answers = [
        found(("persons (others)", 0.9, (0, 0, 40, 40))),  # the angel, taken for anybody
        found(("dog", 0.8, (10, 10, 50, 52))),
        found(("cat", 0.3, (60, 60, 90, 90)), ("dog", 0.9, (20, 20, 90, 90))),  # a part of the cat; the cat as a dog
    ]
    made = folder(tmp_path, answers)
    assert of(made, class_name="angel") == 0
    assert of(made, class_name="dog") == pytest.approx(0.5, abs=0.01)  # the surest dog is none
    assert of(made) == pytest.approx(0.5 / 3, abs=0.01)
    assert of(made, category="animals") == pytest.approx(0.25, abs=0.01)
    assert of(made, coarse=True) == pytest.approx(1.0)
    assert of(made, coarse=True, category="animals") == pytest.approx(1.0)
    assert of(made, source="a") == 0
    assert math.isnan(of(made, class_name="persons (others)"))
    assert math.isnan(of(made, category="produce"))
    assert math.isnan(of(made, source="c"))
    assert of(made, metric="ap75", class_name="dog") == pytest.approx(0.5, abs=0.01)


def test_what_was_found_is_read_back_in_the_order_of_the_pictures(tmp_path: Path) -> None:
    answers = [found(), found(("dog", 0.8, (10, 10, 50, 52)), ("cat", 0.9, (1, 2, 3, 4))), found()]
    made = folder(tmp_path, answers)
    back = made.predictions("test", ("cat", "dog"))
    assert [each.scores.tolist() for each in back] == [[], [pytest.approx(0.8), pytest.approx(0.9)], []]
    assert back[1].class_ids.tolist() == [1, 0]
    assert back[1].boxes_xyxy.tolist() == [[10, 10, 50, 52], [1, 2, 3, 4]]
    assert [len(each.scores) for each in made.predictions("test", ("angel",))] == [0, 0, 0]
    assert made.predictions("val", CLASSES) == []


def grid(fuse: dict[str, Any]) -> DetectorGrid:
    rows = [*GRID["rows"][:2], {"name": "both", "ensemble": {"of": ["a", "b"], "fuse": fuse}}]
    return DetectorGrid.model_validate(GRID | {"rows": rows})


def test_detectors_of_a_category_each_become_one(tmp_path: Path) -> None:
    persons, animals = ("angel", "persons (others)"), ("dog", "cat")
    one = [found(("angel", 0.9, (0, 0, 40, 40)), names=persons), found(), found()]
    two = [
        found(),
        found(("dog", 0.8, (10, 10, 50, 52)), names=animals),
        found(("cat", 0.4, (20, 20, 88, 90)), names=animals),
    ]
    folders = {"a": folder(tmp_path / "a", one, persons), "b": folder(tmp_path / "b", two, animals)}
    table = grid({"method": "append"})
    places = {name: made.location for name, made in folders.items()}
    assert table.combined(table.rows[2], places) == [pytest.approx(1.0)]
    assert of(folders["a"]) == pytest.approx(1.0)  # of its own classes


def test_a_way_of_fusing_counts(tmp_path: Path) -> None:
    one = [found(("angel", 0.9, (0, 0, 40, 40)), ("persons (others)", 0.95, (1, 0, 40, 40))), found(), found()]
    two = [found(("angel", 0.5, (0, 0, 40, 42))), found(), found()]
    places = {name: folder(tmp_path / name, made).location for name, made in (("a", one), ("b", two))}

    def angels(**fuse: Any) -> float:
        table = grid(fuse)
        (column,) = table.columns
        table = table.model_copy(update={"columns": (column.model_copy(update={"class_name": "angel"}),)})
        return table.combined(table.rows[2], places)[0]

    assert angels(method="wbf") == 0.0  # within a category, the surest says what it is
    assert angels(method="wbf", by="class") == pytest.approx(1.0)
    assert angels(method="nms", by="class", score_min={"a": 0.99}) == pytest.approx(1.0)
    assert angels(method="nms", by="class", score_min={"a": 0.99, "b": 0.6}) == 0.0


def test_members_must_be_of_the_same_pictures(tmp_path: Path) -> None:
    nothing = [found(), found(), found()]
    places = {
        "a": folder(tmp_path / "a", nothing).location,
        "b": folder(tmp_path / "b", nothing, moved=1).location,
    }
    table = grid({})
    with pytest.raises(ConfigError, match=r"both: ensemble: expected rows with the same pictures, .* others in b than"):
        table.combined(table.rows[2], places)


def test_wrong_experiments_of_detectors_are_told(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"

    def told(**changes: Any) -> str:
        file.write_text(yaml.safe_dump(GRID | changes))
        with pytest.raises(ConfigError) as error:
            experiment.load(str(file))
        return str(error.value)

    assert "experiment x: a: optimiser.lr: Input should be" in told(
        rows=[{"name": "a", "set": {"optimiser": {"lr": -1}}}]
    )
    assert "t: source: expected one of csv, got 'z'" in told(columns=[{"title": "t", "source": "z"}])
    assert "t: category: expected one of persons" in told(columns=[{"title": "t", "category": "people"}])
    assert "t: class_name: expected one of angel, " in told(columns=[{"title": "t", "class_name": "hound"}])
    mixed = [{"title": "t", "class_name": "angel", "category": "animals"}]
    assert "t: class_name: expected one of cow, cat, " in told(columns=mixed)
    untrainable = told(rows=[{"name": "a", "set": {"detector": {"card": "nudenet"}}}])
    assert untrainable.startswith("experiment x: a: detector.card: expected one whose architecture can be trained")
    for card, text in (("no-such", "no-such"), ("efficientnet-lite2-art", "detector.card: expected a detector's")):
        assert text in told(rows=[{"name": "a", "trained": False, "set": {"detector": {"card": card}}}])
    for augment in (None, [{"name": "horizontal_flip"}], {"paste": "cutouts.csv"}):
        assert "augment" in told(base=GRID["base"] | {"augment": augment})
    as_it_is = [{"name": "a", "trained": False, "set": {"detector": {"card": "nudenet"}}}]
    file.write_text(yaml.safe_dump(GRID | {"rows": as_it_is}))
    assert experiment.load(str(file)).rows[0].name == "a"
    chain = [*GRID["rows"], {"name": "all", "ensemble": {"of": ["both"]}}]
    assert "all: ensemble: expected names of rows that are no ensembles, got 'both'" in told(rows=chain)
    assert "expected either set or ensemble" in told(rows=[*GRID["rows"][:2], GRID["rows"][2] | {"set": {"name": "c"}}])
    assert "expected either trained" in told(rows=[*GRID["rows"][:2], GRID["rows"][2] | {"trained": False}])
    weights = [*GRID["rows"][:2], {"name": "both", "ensemble": {"of": ["a"], "fuse": {"weights": {"b": 2.0}}}}]
    assert "experiment x: both: ensemble.fuse.weights: expected rows of ensemble.of (a), got b" in told(rows=weights)


def test_paths_of_sets_cut_outs_and_caches_are_placed() -> None:
    values = {
        "data": {"sources": [{"path": "boxes.csv"}, {"path": "/there"}], "cache": "kept"},
        "augment": {"paste": {"cutouts": "cut/outs.csv", "labels": "cut/names.csv"}},
    }
    made = DetectorGrid.rooted(values, "/sets")
    assert [source["path"] for source in made["data"]["sources"]] == ["/sets/boxes.csv", "/there"]
    assert made["data"]["cache"] == str(Path("kept").absolute())
    assert made["augment"]["paste"] == {"cutouts": "/sets/cut/outs.csv", "labels": "/sets/cut/names.csv"}


def test_a_row_and_a_fusion_of_it_alone_are_judged_alike(tmp_path: Path) -> None:
    """On what the set has boxes of, and on what the detector says besides, by the set's name for it."""
    persons = ("persons (others)", "dog")
    answers = [found(("angel", 0.9, (0, 0, 40, 40)), names=("angel",)), found(), found()]
    made = folder(tmp_path, answers, ("angel",), boxed=persons, wanted=None)
    known, rows = made.labels(judged_classes([made])), made.rows()["test"]
    column = Column(title="t")
    alone = figure(column, known, rows, made.predictions("test", known.class_names))
    assert alone == pytest.approx(0.5)  # the angel is a person; the dog was not found
    table = grid({"method": "append"})
    row = table.rows[2].model_copy(update={"ensemble": Fusion(of=("a",))})
    assert table.combined(row, {"a": made.location}) == [pytest.approx(alone)]


def test_a_card_is_judged_without_its_own_thresholds() -> None:
    card = cards.load("yolox-nano-art")
    assert card.settings["class_score_min"]
    cfg = profile(detector={"size_px": 64})
    lowered = given.low(card, cfg)
    assert (lowered.score_min, lowered.settings["size_px"]) == (cfg.test.score_min, 64)
    assert "class_score_min" not in lowered.settings
    mtcnn = cards.load("mtcnn")
    assert given.low(mtcnn, profile(detector={"size_px": None})) == mtcnn


def test_the_ensembles_of_table_6_are_those_of_the_profiles() -> None:
    from artray import config

    rows = {row.name: row for row in experiment.load("detection-table6").rows}
    for name, shipped in (("YOLO", "yolo"), ("ResNe(X)t and WBF", "resnext"), ("IconArt/pre-trained", "iconart")):
        detect = config.load(f"ensemble-{shipped}").detect
        row = rows[name]
        assert row.ensemble is not None
        assert row.ensemble.of == detect.cards
        assert getattr(row.ensemble, "fuse", FuseConfig()) == detect.fuse
        assert all(rows[card].set == {"detector": {"card": card}} for card in detect.cards)


def test_a_figure_that_is_not_defined_is_an_empty_cell() -> None:
    table = DetectorGrid.model_validate(GRID)
    lines = [Line(table.rows[0], [[math.nan, math.nan]]), Line(table.rows[1], [[0.5, 0.7]])]
    assert "| | AP@.5 |\n|---|---|\n| a |  |\n| b | 0.600 ± 0.141 |\n" in tables.markdown(table, lines)
    assert tables.table(list(tables.cells(table, lines))).splitlines()[1:] == ["a,,,", "b,0.600000,0.141421,"]
    assert tables.repeats(list(tables.cells(table, lines))).splitlines()[1] == "a,AP@.5,0,,"
