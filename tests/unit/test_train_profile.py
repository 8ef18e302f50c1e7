"""Training profiles: what is wrong is told by its key, and every key is documented."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from artray.errors import ConfigError
from artray.train import profile as module
from artray.train import run, shown
from artray.train.profile import TrainProfile

DOCS = (Path(__file__).parents[2] / "docs" / "training.md").read_text()
GOOD: dict[str, Any] = {"name": "x", "data": {"sources": [{"path": "labels.csv"}]}, "heads": {"type": {}}}

WRONG = {
    "heads.type.only: expected one of painting, drawing": {"heads": {"type": {"only": "print"}}},
    "heads.type.classes: expected at least two, every one once": {"heads": {"type": {"classes": ["a", "a"]}}},
    "heads: Dictionary should have at least 1 item": {"heads": {}},
    "balance.by: expected one of type, got 'genre'": {"balance": {"by": "genre"}},
    "batch_size: expected at least an image for each of 4 workers": {
        "training": {"batch_size": 3},
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
    "known keys: name, lr, weight_decay": {"optimiser": {"learning_rate": 1}},
    "augment.0: .*'horizontal_flip', 'perspective', 'rotation'": {"augment": [{"name": "mirror"}]},
    "network.trained: Input should be 'head', 'conv4-5', 'conv2-5' or 'all'": {"network": {"trained": "conv5"}},
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


def test_what_an_epoch_is_chosen_by() -> None:
    assert TrainProfile.model_validate(GOOD).choose_by == "f1 drawing"
    assert TrainProfile.model_validate(GOOD | {"heads": {"genre": {}}}).choose_by == "macro_f1"
    only = TrainProfile.model_validate(GOOD | {"heads": {"genre": {"only": "portrait"}}})
    assert only.choose_by == "f1 portrait"
    assert only.outputs("genre") == ("not portrait", "portrait")


def sections() -> list[tuple[str, str]]:
    """Every key of every section, but for those of single augmentations."""
    found = []
    for name, field in TrainProfile.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, BaseModel):
            found += [(name, key) for key in section.model_fields]
    found += [("heads.*", key) for key in module.HeadConfig.model_fields]
    found += [("data.sources", key) for key in module.Source.model_fields]
    return found


@pytest.mark.parametrize(("section", "key"), sections())
def test_every_key_is_documented(section: str, key: str) -> None:
    assert f"`{section}.{key}`" in DOCS or f"`{key}`" in DOCS


@pytest.mark.parametrize(
    "name", [model.model_fields["name"].annotation for model in (shown.Flip, shown.Grey, shown.Blur)]
)
def test_augmentations_are_documented(name: Any) -> None:
    assert f"`{name.__args__[0]}`" in DOCS
