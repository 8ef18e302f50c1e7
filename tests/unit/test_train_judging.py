"""What a trained network is said to be worth, and what is kept of a training."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from artray.errors import ConfigError, TransientError
from artray.location import Location
from artray.metrics.calibration import Calibration
from artray.store.layout import Store
from artray.train import judging, told
from artray.train.checkpoints import Checkpoints
from artray.train.judging import Judged
from artray.train.loop import Result
from tests.training import profile

# five works of two views each: two validate, two test, one has no label
LOGITS = np.array(
    [
        [[2.0, 0.0], [2.0, 0.0]],
        [[0.0, 3.0], [0.0, 1.0]],
        [[1.0, 0.0], [0.0, 4.0]],
        [[0.0, 2.0], [0.0, 2.0]],
        [[0.0, 1.0], [0.0, 1.0]],
    ]
)
JUDGED = Judged(
    ["v1", "v2", "t1", "t2", "t3"],
    ["val", "val", "test", "test", "test"],
    ["a", "b", "c", "c", "d"],
    np.array([0, 1, 0, 1, -1]),
    LOGITS,
)


def test_a_report_has_the_metrics_of_known_works() -> None:
    report = judging.report(JUDGED, profile(), "type", Calibration())
    assert report["classes"] == ["painting", "drawing"]
    assert (report["val"]["works"], report["test"]["works"]) == (2, 2)
    assert report["val"]["metrics"]["accuracy"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert report["test"]["confusion"] == [[0, 1], [0, 1]]  # t1: a tie of votes, the surer view decides
    assert report["test"]["metrics"]["f1 painting"]["value"] == 0.0
    assert json.loads(json.dumps(report)) == report
    nothing = JUDGED._replace(truth=np.full(5, -1))
    assert judging.report(nothing, profile(), "type", Calibration())["test"] == {"works": 0, "per_class": [0, 0]}


def test_metrics_are_told_apart() -> None:
    coloured = JUDGED._replace(apart={"colour": ["grey", "grey", "grey", "colour", None]})
    report = judging.report(coloured, profile(), "type", Calibration())
    assert list(report["test"]["apart"]["colour"]) == ["colour", "grey"]
    assert report["test"]["apart"]["colour"]["grey"]["confusion"] == [[0, 1], [0, 0]]
    assert report["test"]["apart"]["colour"]["colour"]["metrics"]["f1 drawing"]["value"] == 1.0
    assert report["val"]["apart"]["colour"]["grey"]["works"] == report["val"]["works"] == 2
    assert report["val"]["apart"]["colour"].keys() == {"grey"}
    page = judging.markdown("mine", {"type": report})
    assert "## type, on 2 works of test" in page
    assert "| f1 drawing | 0.667 | 0.667 to 0.667 |" in page
    assert "| painting | 0 | 1 |" in page
    assert "| grey | 1 | 0.000 (0.000 to 0.000) | 0.000 (0.000 to 0.000) | 0.000 (0.000 to 0.000) |" in page
    nothing = judging.report(JUDGED._replace(truth=np.full(5, -1)), profile(), "type", Calibration())
    assert "## type, on 0 works of val" in judging.markdown("mine", {"type": nothing})


def test_the_temperature_changes_no_decision_and_wants_two_classes_and_a_mistake() -> None:
    sure, truth = np.array([[4.0, 0.0], [0.0, 4.0], [0.0, 4.0], [4.0, 0.0]]), np.array([0, 1, 0, -1])
    made = judging.calibration(sure, truth, "temperature")
    assert made.temperature > 1  # too sure of a mistake
    assert not made.shift
    for logits, ids in [(sure[:2], truth[:2]), (sure, np.array([0, 0, 0, -1])), (sure[:0], truth[:0])]:
        assert judging.calibration(logits, ids, "temperature") == Calibration()  # all right; one class; nothing
    assert judging.calibration(sure, truth, "none") == Calibration()
    assert judging.calibration(sure, truth, "bias_corrected").shift[1] < 0  # "drawing" was said too often
    same = judging.report(JUDGED, profile(), "type", made)["test"]["confusion"]
    assert same == [[0, 1], [0, 1]]


def test_predictions_say_how_sure_they_are() -> None:
    rows = {row["work_id"]: row for row in judging.predictions(JUDGED, profile(), "type", Calibration()).to_pylist()}
    assert rows["t1"] == {
        "work_id": "t1",
        "part": "test",
        "head": "type",
        "truth": "painting",
        "predicted": "drawing",
        "score": pytest.approx(0.6255, abs=1e-3),  # the mean of 1 / (1 + e) and 1 / (1 + 1 / e^4)
        "scores": [pytest.approx(0.3745, abs=1e-3), pytest.approx(0.6255, abs=1e-3)],
        "entropy": pytest.approx(0.954, abs=1e-3),
        "disagreement": 0.5,
    }
    assert rows["t3"]["truth"] is None
    assert rows["v1"]["disagreement"] == 0


def results(*chosen: float) -> list[Result]:
    names = ("f1 painting", "f1 drawing", "micro_f1", "macro_f1", "accuracy", "mcc")
    metrics = {f"type {name}": 0.5 for name in names}
    return [Result(n, 0.1, 1 / n, 2.0, 100, 2 / n, metrics, value) for n, value in enumerate(chosen, 1)]


def test_epochs_are_told_in_three_ways(tmp_path: Path) -> None:
    told.tell(Location.of(tmp_path), results(0.5, 0.7, 0.6), last=False)
    assert not (tmp_path / "curves.png").exists()
    told.tell(Location.of(tmp_path), results(0.5, 0.7, 0.6), last=True)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["chosen"] for line in lines] == [0.5, 0.7, 0.6]
    assert Image.open(io.BytesIO((tmp_path / "curves.png").read_bytes())).size == (1210, 440)
    events = (tmp_path / "tensorboard" / "events.out.tfevents.artray").read_bytes()
    for name in (b"loss/train", b"val/type_f1_drawing", b"images_per_s"):
        assert events.count(name) == 3


def test_checkpoints_lie_on_disk_and_on_s3(any_store: Store) -> None:
    kept = Checkpoints(any_store.location / "checkpoints", "key")
    assert kept.load() is None
    for epoch in (1, 2):
        kept.save({"epoch": epoch, "network": {"weight": torch.full((2, 2), float(epoch))}})
    kept.save({"epoch": 1}, "best.pt")
    again = Checkpoints(any_store.location / "checkpoints", "key")
    state = again.load()
    assert state is not None
    assert (state["epoch"], state["network"]["weight"].tolist()) == (2, [[2.0, 2.0], [2.0, 2.0]])
    assert again.load("best.pt") == {"epoch": 1}


def test_checkpoints_are_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Checkpoints(Location.of(tmp_path), "key")
    assert kept.load() is None
    kept.save({"epoch": 1})
    assert kept.load() == {"epoch": 1}

    def full(path: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", full)
        with pytest.raises(TransientError, match=r"last\.pt: storage failed: .*No space left"):
            kept.save({"epoch": 2})
    assert kept.load() == {"epoch": 1}
    with pytest.raises(ConfigError, match="of another profile or other data"):
        Checkpoints(Location.of(tmp_path), "other").load()
    for damage in (b"", b"PK\x03\x04 cut", (tmp_path / "last.pt").read_bytes()[:100]):
        (tmp_path / "last.pt").write_bytes(damage)
        with pytest.raises(ConfigError, match="expected a checkpoint, got a damaged file"):
            kept.load()
