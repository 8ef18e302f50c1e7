"""Cards: what is accepted, what is refused and how, and what a fingerprint covers."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from artray import config
from artray.errors import ConfigError
from artray.models import cards
from artray.models.cards import Card

CLASSIFIER = "efficientnet-lite2-art"


@pytest.fixture
def user_folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "config" / "artray" / "cards"


def values(**changes) -> dict:
    """A small classifier's card, with changes."""
    return {
        "name": "small",
        "task": "classify",
        "architecture": "resnet18",
        "input": {"size_px": 64, "mean": [127, 127, 127], "std": [128, 128, 128]},
        "yields": ["type", "embedding"],
        "heads": {"type": ["painting", "drawing"]},
        "weights": {"trunk": {"uri": "trunk.safetensors", "sha256": "0" * 64}},
        "embedding_dim": 512,
        "licence": "none",
        "source": "this test",
    } | changes


def written(folder: Path, **changes) -> Path:
    path = folder / f"{changes.get('name', 'small')}.yaml"
    path.write_text(yaml.safe_dump(values(**changes)))
    return path


def test_importing_cards_loads_no_deep_learning_library():
    code = "import sys, artray.models.cards as c; c.known(); sys.exit('torch' in sys.modules or 'cv2' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_shipped_card_is_sound():
    assert {CLASSIFIER, "mtcnn", "resnet50-type", "resnet50-genre"} <= set(cards.shipped())
    for name in cards.shipped():
        assert cards.load(name).licence


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ConfigError, match=f"card nonesuch: expected one of .*{CLASSIFIER}, .*mtcnn"):
        cards.load("nonesuch")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"colour": "red"}, "colour: Extra inputs"),
        ({"heads": {}}, r"heads: expected one for each of \['type'\]"),
        ({"heads": {"type": ["painting"]}}, "at least two classes"),
        ({"heads": {"type": ["painting", "painting"]}}, "every one once"),
        ({"input": None}, "input and embedding_dim: expected both"),
        ({"yields": ["objects"], "heads": {}}, "yields: expected objects of a detector"),
        ({"task": "detect"}, "yields: expected objects of a detector"),
        ({"labels": {"person": "human"}}, "person: expected a class of the taxonomy"),
        ({"weights": {"trunk": {"uri": "https://example.org/a.pth"}}}, "sha256: expected 64 hexadecimal digits"),
        ({"weights": {"trunk": {"uri": "a.pth", "sha256": "ABC"}}}, "weights.trunk.sha256"),
        ({"input": {"size_px": 64, "mean": [0, 0, 0], "std": [1, 1, 0]}}, "input.std: .*three positive numbers"),
        ({"input": {"size_px": 64, "mean": [0, 0, 0], "std": [1, 1, 1], "resize": "stretch"}}, "input.resize"),
        ({"score_min": 1.5}, "score_min"),
    ],
)
def test_a_wrong_card_is_refused_by_its_key(tmp_path, changes, message):
    with pytest.raises(ConfigError, match=message):
        cards.load(written(tmp_path, **changes))


def test_a_file_must_be_named_as_its_card(tmp_path):
    path = written(tmp_path).rename(tmp_path / "other.yaml")
    with pytest.raises(ConfigError, match="expected that of its file, 'other', got 'small'"):
        cards.load(path)


def test_tags_are_not_executed(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text("name: !!python/object/apply:os.getcwd []\n")
    with pytest.raises(ConfigError, match="not valid YAML"):
        cards.load(path)


def test_relative_weights_lie_beside_the_card(tmp_path):
    card = cards.load(written(tmp_path))
    assert card.weights["trunk"].uri == (tmp_path / "trunk.safetensors").as_uri()


def test_an_added_card_is_known_by_name_and_keeps_its_weights(tmp_path, user_folder):
    added = cards.add(written(tmp_path))
    assert cards.load("small") == added
    assert cards.known()["small"] == user_folder / "small.yaml"
    assert [path.name for path in user_folder.iterdir()] == ["small.yaml"]


def test_a_shipped_name_cannot_be_taken(tmp_path, user_folder):
    with pytest.raises(ConfigError, match="expected one that artray does not use itself"):
        cards.add(written(tmp_path, name="mtcnn"))


def test_the_fingerprint_covers_what_determines_results_and_no_prose():
    plain = Card(**values())
    assert plain.fingerprint() == Card(**values(notes="new", licence="other", metrics={"f1": 1})).fingerprint()
    assert len(plain.fingerprint()) == 12
    for change in (
        {"architecture": "resnet34"},
        {"input": values()["input"] | {"size_px": 65}},
        {"heads": {"type": ["drawing", "painting"]}},
        {"weights": {"trunk": {"uri": "trunk.safetensors", "sha256": "1" * 64}}},
        {"settings": {"a": 1}},
        {"score_min": 0.5},
    ):
        assert plain.fingerprint() != Card(**values(**change)).fingerprint(), change


def test_where_weights_lie_does_not_change_the_fingerprint():
    moved = {"trunk": {"uri": "s3://bucket/trunk.safetensors", "sha256": "0" * 64}}
    assert Card(**values()).fingerprint() == Card(**values(weights=moved)).fingerprint()


def test_cards_that_differ_in_heads_alone_share_a_trunk():
    heads = {"trunk": values()["weights"]["trunk"], "heads": {"uri": "h.safetensors", "sha256": "2" * 64}}
    other = Card(**values(weights=heads, yields=["genre"], heads={"genre": ["landscape", "portrait"]}))
    assert Card(**values()).trunk_key() == other.trunk_key()
    assert Card(**values()).fingerprint() != other.fingerprint()


@pytest.mark.parametrize("name", ["bundled", "report"])
def test_profiles_name_known_cards_and_say_every_field_with_a_comment(name):
    profile = config.load(name)
    assert {*profile.classify.cards, *profile.detect.cards} <= set(cards.shipped())
    path = config.shipped()[name]
    written_values, lines = yaml.safe_load(path.read_text()), path.read_text().splitlines()
    for section, model in profile:
        if section == "name":
            continue
        assert set(written_values[section]) == set(type(model).model_fields), section
        for key in written_values[section]:
            places = [n for n, line in enumerate(lines) if line.startswith(f"  {key}:")]
            assert places, key
            assert all(lines[n - 1].startswith("  # ") for n in places), key
            below = getattr(model, key)
            if isinstance(below, config.Section):
                assert set(written_values[section][key]) == set(type(below).model_fields), key
                places = [n for n, line in enumerate(lines) if re.match("    [a-z_]+:", line)]
                assert all(lines[n - 1].startswith("    # ") for n in places), key


def test_the_bundled_profile_is_the_default():
    assert config.load("bundled") == config.Profile(name="bundled")


def test_defaults_in_comments_are_those_of_the_code():
    lines = config.shipped()["bundled"].read_text().splitlines()
    section, comment = "", ""
    for line in lines:
        if line and not line.startswith((" ", "#")) and ": " in line and "#" in line:
            section = line.split(":")[0]
        if line.strip().startswith("# "):
            comment = line
        elif line.startswith("  ") and section:
            assert "Default:" in comment, line
