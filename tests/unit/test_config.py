"""Profiles: what is taken, and one clear line for everything that is not."""

from pathlib import Path

import pytest
import yaml

from artray import config
from artray.config import DecodeConfig, Profile
from artray.errors import ConfigError


def written(folder: Path, text: str) -> Path:
    path = folder / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_shipped_profiles_say_every_default_out_loud() -> None:
    ensembles = ["ensemble-iconart", "ensemble-resnext", "ensemble-yolo"]
    assert list(config.shipped()) == ["bundled", *ensembles, "report", "thorough"]
    assert config.load("bundled") == Profile(name="bundled")  # the file repeats the code's defaults: neither may drift
    text = config.shipped()["bundled"].read_text(encoding="utf-8")
    for section, fields in Profile(name="x").model_dump().items():
        if section != "name":
            assert list(yaml.safe_load(text)[section]) == list(fields)


def test_report_decodes_what_its_detector_looks_at() -> None:
    assert config.load("report").decode.max_side_px == 1333


def test_overrides_apply_in_order_and_are_yaml() -> None:
    profile = config.load(
        "bundled",
        ["pipeline.max_actors=2", "pipeline.max_actors=3", "archive.include=['*.tif', b*]", "store.index=false"],
    )
    assert profile.pipeline.max_actors == 3
    assert profile.archive.include == ("*.tif", "b*")
    assert profile.store.index is False


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("pipeline", "expected section.key=value"),
        ("=1", "expected section.key=value"),
        ("a..b=1", "expected section.key=value"),
        ("name.x.y=1", "name is a value, not a section"),
        ("decode.max_side_px.deep.er=1", "max_side_px is a value, not a section"),
        ("decode.max_side_px={a: {b: 1}}", "decode.max_side_px: Input should be a valid integer"),
        ("decode.max_side=9", "decode.max_side: .*known keys: max_side_px, max_pixels"),
        ("nothing.at.all=9", "nothing: .*known keys: name, archive, decode"),
        ("decode.max_side_px=31", "decode.max_side_px: .*greater than or equal to 32, got 31"),
        ("decode.timeout_s=.inf", "decode.timeout_s: .*finite"),
        ("decode.timeout_s=.nan", "decode.timeout_s: "),
        ("pipeline.layout=both", "pipeline.layout: Input should be 'fused' or 'split', got 'both'"),
        ("classify.device=gpu", "classify.device: expected cpu, cuda or cuda:N, got 'gpu'"),
        ("archive.include=x", "archive.include: .*got 'x'"),
        ("archive.include=[1]", "archive.include.0: .*got 1"),
        ("decode.max_side_px=[1", "--set .*not valid YAML"),
        ("decode.max_side_px=*a", "--set .*alias"),
        ("decode.max_side_px=!!python/name:os.system x", "--set .*tag"),
        ("pipeline.min_actors=4", None),
        (
            "pipeline={min_actors: 4, max_actors: 2}",
            "^bundled: pipeline: max_actors: expected at least min_actors .4., got 2$",
        ),
    ],
)
def test_wrong_overrides_are_named(override: str, message: str | None) -> None:
    if message is None:
        assert config.load("bundled", [override]).pipeline.min_actors == 4
        return
    with pytest.raises(ConfigError, match=message) as caught:
        config.load("bundled", [override])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a mapping of keys to values, got NoneType"),
        ("- a", "got list"),
        ("[" * 100_000, "at most 20 levels"),  # quadratic in the parser: this would take minutes
        ("a: " * 5 + "b", "not valid YAML"),
        ("name: x\n---\nname: y", "single document"),
        ("name: &n x\nclassify: {device: *n}", r"expected no alias, got \*n"),
        ("name: !!python/object/apply:os.system [ls]", "expected no tag"),
        ("name: !!int abc", "expected no tag"),
        ("name: x\ndecode: {timeout_s: 2024-99-99}", "not valid YAML: month must be in 1..12"),  # YAML sees a date
        ("name: x\ndecode: {max_side_px: 0b_}", "not valid YAML"),  # YAML sees a binary number
        (f"name: x\ndecode: {{max_side_px: {'9' * 5000}}}", "not valid YAML"),
        ("name: x\ndecode: {processes: 2}\ndecode: {readers: 2}", "decode: expected once, got twice"),
        ("name: x\ndecode: {processes: 2, processes: 3}", "processes: expected once, got twice"),
        ("? [a]\n: b", "not valid YAML"),
        ("name: x\n1: 2", "1: "),
        ("decode: {}", "name: Field required$"),
        ("name: x\ndecode:", "decode: .*got None"),
        ("name: x\nclassify: {cards: 'a'}", "classify.cards: "),
        (f"name: x\nclassify: {{cards: {'a' * 5000}}}", "got 'a{79}…$"),
        ("name: \0", "not valid YAML"),
    ],
)
def test_wrong_files_are_named(tmp_path: Path, text: str, message: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ConfigError, match=message) as caught:
        config.load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_files_that_are_no_text_or_too_long(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    with pytest.raises(
        ConfigError,
        match=r"No such file.*one of: bundled, ensemble-iconart, ensemble-resnext, ensemble-yolo, report, thorough",
    ):
        config.load(path)
    with pytest.raises(ConfigError, match="Is a directory"):
        config.load(tmp_path)
    with pytest.raises(ConfigError, match="cannot be read"):
        config.load("a\0b")
    path.write_bytes(b"name: D\xfcrer")
    with pytest.raises(ConfigError, match="not UTF-8"):
        config.load(path)
    with pytest.raises(ConfigError, match="at most 1 MiB"):
        config.load(Path("/dev/zero"))  # read no further than needed: it has no end
    path.write_text("name: x\n" + "#" * (2**20 - 8), encoding="utf-8")
    assert config.load(path).name == "x"


def test_profiles_are_immutable_and_known_by_their_digest() -> None:
    profile = config.load("bundled")
    with pytest.raises(ValueError, match="frozen"):
        profile.decode.max_side_px = 64  # type: ignore[misc]
    assert profile.digest() == Profile(name="bundled").digest()
    assert len(profile.digest()) == 12
    assert profile.digest() != config.load("bundled", ["decode.max_side_px=641"]).digest()


def test_a_metadata_path_may_be_anything() -> None:
    profile = config.load("bundled")
    for path in ("a: b.csv", "null", "[1].csv", "#1.csv", "12"):
        assert profile.with_metadata(path).archive.metadata == path
    assert profile.archive.metadata is None
    assert profile.with_metadata("a").decode == DecodeConfig()
