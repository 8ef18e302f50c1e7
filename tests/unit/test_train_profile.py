"""Training profiles: what is wrong is told by its key, and every key is documented."""

from pathlib import Path
from typing import Any, get_args

import pyarrow as pa
import pytest
import yaml
from pydantic import BaseModel

from artray.errors import ConfigError, StoreBusyError
from artray.location import Location
from artray.models import cards
from artray.pipeline.progress import Silent
from artray.store.layout import Store
from artray.store.lease import Lease
from artray.train import launch, run, shown, works
from artray.train import profile as module
from artray.train.detectors import run as detectors
from artray.train.methods import run as methods
from artray.train.prepare import PREPARED
from artray.train.profile import TrainProfile

DOCS = (Path(__file__).parents[2] / "docs" / "training.md").read_text()
GOOD: dict[str, Any] = {"name": "x", "data": {"sources": [{"path": "labels.csv"}]}, "heads": {"type": {}}}

WRONG = {
    "heads.type.only: expected one of painting, drawing": {"heads": {"type": {"only": "print"}}},
    "heads.type.classes: expected at least two, every one once": {"heads": {"type": {"classes": ["a", "a"]}}},
    "heads: Dictionary should have at least 1 item": {"heads": {}},
    "balance.by: expected one of type, got 'genre'": {"balance": {"by": "genre"}},
    "batch_size: expected at least two images for each of 4 workers, got 7": {
        "training": {"batch_size": 7},
        "workers": {"workers": 4},
    },
    "choose_by: expected one of f1 painting, f1 drawing, micro_f1": {"training": {"choose_by": "f1 portrait"}},
    "drawings_from_paintings: expected a head type": {
        "data": {"sources": [{"path": "x"}], "drawings_from_paintings": 0.5},
        "heads": {"genre": {}},
    },
    "network.trained: expected head with data.embeddings": {"data": {"sources": [{"path": "x"}], "embeddings": "/s"}},
    "crop and augment: expected neither with data.embeddings": {
        "data": {"sources": [{"path": "x"}], "embeddings": "/s"},
        "network": {"trained": "head"},
        "augment": [{"name": "grey"}],
    },
    "val and test: expected less than 1 together": {"data": {"sources": [{"path": "x"}], "val": 0.5, "test": 0.5}},
    "sources: csv: expected each name once": {"data": {"sources": [{"path": "x"}, {"path": "y"}]}},
    "precision: expected float32 or float64 on workers.device cpu": {"training": {"precision": "bfloat16"}},
    "augment.0.affine.scale: expected numbers above 0": {"augment": [{"name": "affine", "scale": [-1, 1]}]},
    "augment.0.affine.degrees: expected the smaller number first": {"augment": [{"name": "affine", "degrees": [9, 1]}]},
    "crop.ratio: expected numbers above 0": {"crop": {"ratio": [0, 1]}},
    "network.size_px and resize: expected neither with data.embeddings": {
        "data": {"sources": [{"path": "x"}], "embeddings": "/s"},
        "network": {"trained": "head", "size_px": 128},
    },
    "known keys: name, lr, weight_decay": {"optimiser": {"learning_rate": 1}},
    "augment.0: .*'horizontal_flip', 'perspective', 'rotation'": {"augment": [{"name": "mirror"}]},
    "network.trained: Input should be 'none', 'head', 'conv4-5', 'conv2-5' or 'all'": {"network": {"trained": "conv5"}},
    "known keys: classes, only, loss": {"heads": {"type": {"los": "f1"}}},
    "known keys: kind, path, name": {"data": {"sources": [{"knd": "csv", "path": "x.csv"}]}},
    "known keys: name, kernel_px, sigma, p$": {"augment": [{"name": "blur", "kernel": 3}]},
    "network: heads without hidden layers": {"network": {"random": True, "interpolate": 0.5}},
    "expected interpolate 1 and another trained than none": {
        "network": {"trained": "none"},
        "heads": {"type": {"hidden": [3]}},
    },
    "are trained in epochs: expected interpolate 1 and another trained than none": {
        "network": {"trained": "none"},
        "colour": {"weight": 0.01},
    },
    r"network: a filter \(network.cooccurrence\) and": {"network": {"interpolate": 0.5, "cooccurrence": {}}},
    "colour.weight: expected 0 with data.embeddings": {
        "data": {"sources": [{"path": "x"}], "embeddings": "/s"},
        "network": {"trained": "head"},
        "colour": {"weight": 0.01},
    },
    "network.cooccurrence: expected none with data.embeddings": {
        "data": {"sources": [{"path": "x"}], "embeddings": "/s"},
        "network": {"trained": "head", "cooccurrence": {}},
    },
    "colour.weight: Input should be less than 1": {"colour": {"weight": 1}},
    "network.cooccurrence.window: expected an odd number, got 4": {"network": {"cooccurrence": {"window": 4}}},
    "workers.min_workers: expected at most workers.workers, 2, got 5": {"workers": {"workers": 2, "min_workers": 5}},
    "workers.device: expected cuda, which gives each of 2": {"workers": {"workers": 2, "device": "cuda:1"}},
    "workers.device: expected cpu, cuda or cuda:N": {"workers": {"device": "gpu"}},
}


@pytest.mark.parametrize("told", WRONG)
def test_what_is_wrong_is_told_by_its_key(told: str, tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text(yaml.safe_dump(GOOD | WRONG[told]))
    with pytest.raises(ConfigError, match=told):
        run.load(file)


def test_paths_are_the_profiles(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text(yaml.safe_dump(GOOD))
    assert run.load(file).data.sources[0].path == str(tmp_path / "labels.csv")
    remote = run.load(file, ["data.sources=[{path: 's3://bucket/labels.csv'}]"])
    assert remote.data.sources[0].path == "s3://bucket/labels.csv"
    with pytest.raises(ConfigError, match=r"profile .*none\.yaml: cannot be read"):
        run.load(tmp_path / "none.yaml")


def test_sets_lie_below_the_folder_that_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "x.yaml"
    file.write_text(yaml.safe_dump(GOOD))
    assert run.load(file, data="s3://bucket/sets/").data.sources[0].path == "s3://bucket/sets/labels.csv"
    monkeypatch.chdir(tmp_path)
    assert run.load(file, data="sets").data.sources[0].path == str(tmp_path / "sets" / "labels.csv")
    for name in run.shipped():
        if run.is_of_detector(name):
            detector = detectors.load(name)
            assert (detector.name, detector.classes) == (name, cards.load(name).classes)
            assert detector.data.sources[0].path == str(tmp_path / "PeopleArt")
            assert detector.augment.paste is not None
            assert detector.augment.paste.cutouts == str(tmp_path / "cutouts" / "cutouts.csv")
            continue
        if run.is_of_method(name):
            method = methods.load(name)
            assert (method.name, method.data.sources[0].path) == (name, str(tmp_path / "art.csv"))
            continue
        recipe = run.load(name)
        assert recipe.name == name
        assert recipe.data.sources[0].path == str(tmp_path / "art.csv")
        assert set(recipe.outputs("genre")) == set(cards.load(name.removesuffix("-trunk")).heads["genre"])


def test_workers_that_have_no_room_are_told_first() -> None:
    cfg = TrainProfile.model_validate(
        GOOD | {"workers": {"workers": 4, "min_workers": 2, "cpus_per_worker": 2}}
    ).workers
    launch.check_room(cfg, {"CPU": 4.0})
    with pytest.raises(ConfigError, match=r"expected room for 2 workers of 2 CPUs, got 3 CPUs"):
        launch.check_room(cfg, {"CPU": 3.0})
    on_gpus = cfg.model_copy(update={"device": "cuda"})
    launch.check_room(on_gpus, {"CPU": 4.0, "GPU": 2.0})
    with pytest.raises(ConfigError, match=r"expected a GPU for each of 2 workers, got 0"):
        launch.check_room(on_gpus, {"CPU": 4.0})


WORKS = {
    "none of 'drawing'": [("painting", "train")] * 4 + [("drawing", "val")],
    "data.val: .* drawing among them, got painting": [("painting", "train"), ("drawing", "train"), ("painting", "val")]
    * 4,
    "data.val: .* got none": [("painting", "train"), ("drawing", "train")] * 4,
    "two works in an epoch for each worker at least, got 3": [
        *([("painting", "train"), ("drawing", "train"), ("painting", "train")]),
        *([("painting", "val"), ("drawing", "val")]),
    ],
}


@pytest.mark.parametrize("told", WORKS)
def test_what_is_missing_is_told_before_anything_is_trained(told: str) -> None:
    cfg = TrainProfile.model_validate(GOOD | {"workers": {"workers": 2}})
    rows = [
        dict.fromkeys(works.WORKS.names, "x")
        | {"near_hash": 1}
        | {"work_id": str(n), "type": kind, "part": part, "genre": None}
        for n, (kind, part) in enumerate(WORKS[told])
    ]
    with pytest.raises(ConfigError, match=told):
        run.check(pa.Table.from_pylist(rows, schema=works.WORKS), cfg)


def test_one_against_the_rest_needs_no_more_than_a_rest() -> None:
    cfg = TrainProfile.model_validate(GOOD | {"heads": {"genre": {"only": "portrait"}}})
    rows = [
        dict.fromkeys(works.WORKS.names, "x")
        | {"near_hash": 1}
        | {"work_id": str(n), "genre": genre, "part": part, "type": None}
        for n, (genre, part) in enumerate((g, p) for g in ("portrait", "landscape") for p in ("train", "val") * 2)
    ]
    run.check(pa.Table.from_pylist(rows, schema=works.WORKS), cfg)


def test_what_is_found_out_of_pictures_goes_into_the_works() -> None:
    told = {"type": "painting", "genre": None, "part": "train", "duplicates": None, "near_hash": None}
    rows = [
        dict.fromkeys(works.WORKS.names, "x") | told | {"work_id": n, "colour": c}
        for n, c in zip("abc", ("grey", None, None), strict=True)
    ]
    seen = [
        {"work_id": name, "near_hash": 2**64 - 1 - 2**at, "colour": "colour", "error": "", "error_detail": ""}
        for name, at in (("a", 1), ("b", 30))
    ]
    prepared = [*seen, {"work_id": "c", "near_hash": 0, "colour": None, "error": "corrupt", "error_detail": "it is"}]
    found = run.Found(pa.Table.from_pylist(rows, schema=works.WORKS), [], [])
    kept, left_out = run.usable(
        found, pa.Table.from_pylist(prepared, schema=PREPARED), TrainProfile.model_validate(GOOD)
    )
    assert kept["work_id"].to_pylist() == ["a", "b"]
    assert kept["colour"].to_pylist() == ["grey", "colour"]  # what is told goes before what is seen
    assert kept["near_hash"].to_pylist() == [2**64 - 3, 2**64 - 1 - 2**30]
    assert left_out == ["c: corrupt: it is"]
    assert kept.schema.equals(works.WORKS)


def test_a_start_that_cannot_be_is_told_first() -> None:
    cfg = TrainProfile.model_validate(GOOD)
    card = cards.load("efficientnet-lite2-art")
    run._check_start(cfg, card)
    with pytest.raises(ConfigError, match=r"network\.trained: expected head or all with the architecture timm/vit"):
        run._check_start(cfg, card.model_copy(update={"architecture": "timm/vit_tiny_patch16_224"}))
    with pytest.raises(ConfigError, match=r"network\.card: expected one with weights of its trunk"):
        run._check_start(cfg, card.model_copy(update={"weights": {}}))


def test_two_trainings_in_one_folder_are_told_of_each_other(tmp_path: Path) -> None:
    out = Location.of(tmp_path / "run")
    out.make()
    with Lease(Store(out), "other", print), pytest.raises(StoreBusyError, match=r"run other on .* is writing"):
        run.train(TrainProfile.model_validate(GOOD), out, Silent())


def test_what_an_epoch_is_chosen_by() -> None:
    assert TrainProfile.model_validate(GOOD).choose_by == "f1 drawing"
    assert TrainProfile.model_validate(GOOD | {"heads": {"genre": {}}}).choose_by == "macro_f1"
    only = TrainProfile.model_validate(GOOD | {"heads": {"genre": {"only": "portrait"}}})
    assert only.choose_by == "f1 portrait"
    assert only.outputs("genre") == ("not portrait", "portrait")


def sections() -> list[tuple[str, str]]:
    """Every key of every section and of every augmentation."""
    found = []
    for name, field in TrainProfile.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, BaseModel):
            found += [(name, key) for key in section.model_fields]
    found += [("heads.*", key) for key in module.HeadConfig.model_fields]
    found += [("data.sources", key) for key in module.Source.model_fields]
    augmentations = get_args(get_args(shown.Augmentation)[0])
    found += [("augment", key) for model in augmentations for key in model.model_fields if key != "name"]
    return found


@pytest.mark.parametrize(("section", "key"), sections())
def test_every_key_is_documented(section: str, key: str) -> None:
    assert f"`{section}.{key}`" in DOCS or f"`{key}`" in DOCS


@pytest.mark.parametrize(
    "name", [model.model_fields["name"].annotation for model in get_args(get_args(shown.Augmentation)[0])]
)
def test_augmentations_are_documented(name: Any) -> None:
    assert f"`{name.__args__[0]}`" in DOCS
