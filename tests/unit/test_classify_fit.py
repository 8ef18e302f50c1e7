"""The recipe of the heads: what it fits, what it measures, and that it says the same twice."""

import csv
import json

import cv2
import numpy as np
import pytest

from artray.classify import fit_heads, fit_metrics, heads
from artray.classify.fit_heads import Choice, Linear
from artray.errors import ConfigError
from artray.models import weights

sklearn = pytest.importorskip("sklearn", reason="scikit-learn is in the dev extra")


def clusters(count: int, dim: int = 8, seed: int = 0):
    """float32[1, N, D] around three centres, unequal in number, and int64[N]."""
    random = np.random.default_rng(seed)
    class_ids = random.choice(3, size=count, p=[0.6, 0.3, 0.1])
    centres = np.random.default_rng(99).normal(size=(3, dim))
    rows = centres[class_ids] + random.normal(size=(count, dim)) * 0.9
    return rows.astype(np.float32)[None] + 5, class_ids  # + 5: the standardisation has something to do


def test_a_fit_equals_scikit_learns_and_needs_no_standardised_input():
    from sklearn.linear_model import LogisticRegression

    embeddings, class_ids = clusters(300)
    head = fit_heads.fit(embeddings, class_ids, 3, Choice(strength=0.01, balance=1.0))
    scaled = (embeddings[0] - embeddings[0].mean(0)) / embeddings[0].std(0)
    reference = LogisticRegression(C=0.01, class_weight="balanced", tol=1e-8, max_iter=5000).fit(scaled, class_ids)
    logits = embeddings[0] @ head.weight.T + head.bias
    powers = np.exp(logits - logits.max(1, keepdims=True))
    assert np.abs(powers / powers.sum(1, keepdims=True) - reference.predict_proba(scaled)).max() < 1e-3


def test_the_same_data_gives_the_same_head():
    embeddings, class_ids = clusters(100)
    first, second = (fit_heads.fit(embeddings, class_ids, 3, Choice(0.1, 0.5)) for _ in range(2))
    assert np.array_equal(first.weight, second.weight)
    assert np.array_equal(first.bias, second.bias)


def test_an_artist_is_never_in_two_folds(monkeypatch):
    embeddings, class_ids = clusters(60)
    artists = [f"artist {n % 7}" for n in range(60)]
    seen = []

    def watched(train, ids, classes, choice):
        seen.append({float(value) for value in train[0, :, 0]})
        return Linear(np.zeros((3, 8)), np.zeros(3))

    monkeypatch.setattr(fit_heads, "fit", watched)
    fit_heads.choose("genre", embeddings, class_ids, artists)
    for rest in seen:
        trained = {artists[n] for n in range(60) if float(embeddings[0, n, 0]) in rest}
        held = {artists[n] for n in range(60) if float(embeddings[0, n, 0]) not in rest}
        assert not trained & held


def test_metrics_are_the_hand_derived_ones():
    truth, predicted = np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1])
    found = fit_metrics.measure(["a", "b"], truth, predicted)
    assert found["f1 a"] == pytest.approx(0.8)  # precision 2/2, recall 2/3
    assert found["f1 b"] == pytest.approx(2 / 3)  # precision 1/2, recall 1/1
    assert found["accuracy"] == found["micro_f1"] == pytest.approx(0.75)
    assert found["mcc"] == pytest.approx(2 / np.sqrt(12))  # (2*1 - 0*1) / sqrt(3 * 2 * 2 * 1), a as negatives
    interval = fit_metrics.bootstrap(["a", "b"], truth, predicted, resamples=50)["accuracy"]
    assert interval["low"] <= interval["value"] <= interval["high"]
    assert fit_metrics.bootstrap(["a", "b"], truth, predicted, resamples=50)["accuracy"] == interval


@pytest.fixture
def data(tmp_path):
    """A CSV file of twelve noise pictures: bright ones are paintings, dark ones drawings."""
    random = np.random.default_rng(0)
    with (tmp_path / "art.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["file", "split", "artist", "repo", "type", "genre"])
        writer.writeheader()
        for n in range(12):
            kind = ("painting", "drawing", "print")[n % 3]
            cv2.imwrite(str(tmp_path / f"{n}.png"), random.integers(0, (250, 40, 99)[n % 3], (30, 40, 3), np.uint8))
            split = ("train", "train", "val", "test")[n // 3]
            genre = ("landscape", "portrait")[n % 2]
            writer.writerow({"file": f"{n}.png", "split": split, "artist": f"a{n}", "type": kind, "genre": genre})
        writer.writerow({"file": "", "split": "train", "type": "painting"})
    return tmp_path / "art.csv"


def test_the_recipe_runs_from_a_csv_to_a_head_file(data, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(fit_heads, "STRENGTHS", (0.01,))
    monkeypatch.setattr(fit_heads, "BALANCES", (1.0,))
    monkeypatch.setattr(fit_metrics, "RESAMPLES", 10)
    fit_heads.main(["--data", str(data), "--out", str(tmp_path / "out")])
    assert "| type (n = 2) | accuracy |" in capsys.readouterr().out
    arrays = weights.read_arrays(tmp_path / "out" / "heads.safetensors")
    assert {name: array.shape for name, array in arrays.items()} == {
        "type.0.weight": (2, 1280),
        "type.0.bias": (2,),
        "genre.0.weight": (5, 1280),
        "genre.0.bias": (5,),
    }
    results = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert sum(results["type"]["prints"].values()) == 4  # four of the twelve are prints
    first = (tmp_path / "out" / "heads.safetensors").read_bytes()
    fit_heads.main(["--data", str(data), "--out", str(tmp_path / "out")])
    assert (tmp_path / "out" / "heads.safetensors").read_bytes() == first


def test_test_rows_never_reach_the_fit(data, monkeypatch):
    works = fit_heads.read(data)
    embeddings = np.zeros((1, len(works), 4), np.float32)
    embeddings[0, :, 0] = [work.split == "test" for work in works]
    monkeypatch.setattr(fit_heads, "choose", lambda *given: Choice(1.0, 1.0))
    monkeypatch.setattr(fit_heads, "fit", lambda rows, ids, classes, choice: rows)
    for task in ("type", "genre"):
        rows, _ = fit_heads.train(task, works, embeddings)
        assert rows.shape[1] == (6 if task == "type" else 9)
        assert not rows.any()


def test_the_views_are_plain_mirrored_and_grey(data):
    plain, mirrored, grey = fit_heads.views(data.parent / "0.png")
    assert np.array_equal(plain[:, ::-1], mirrored)
    assert (grey[..., 0] == grey[..., 2]).all()


def test_a_csv_that_is_not_there_or_lacks_a_column(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        fit_heads.read(tmp_path / "none.csv")
    (tmp_path / "short.csv").write_text("file,split\na.png,train\n")
    with pytest.raises(ConfigError, match="expected a column 'artist'"):
        fit_heads.read(tmp_path / "short.csv")
    with pytest.raises(ConfigError, match="expected a picture"):
        fit_heads.views(tmp_path / "short.csv")


def test_the_shipped_heads_are_what_the_recipe_writes():
    from artray.models import cards

    loaded = heads.load(cards.load("efficientnet-lite0-art"))
    assert {name: head.layers[0].weight.shape for name, head in loaded.items()} == {
        "type": (2, 1280),
        "genre": (5, 1280),
    }
