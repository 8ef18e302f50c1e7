"""Fine-tuned weights on the way back to where they started."""

import copy
import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from sklearn.linear_model import LogisticRegression
from torch import nn

from artray.classify import heads
from artray.location import Location
from artray.models import cards, trunks, weights
from artray.train import exchange, fit, robust, run
from artray.train.rundir import RunFolder
from tests import training


def clusters(count: int, classes: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """float64[N, 6] around a centre per class, and int64[N], the classes unequal in number."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(9).normal(size=(classes, 6))
    ids = random.choice(classes, size=count, p=np.arange(classes, 0, -1) / np.arange(classes + 1).sum())
    return torch.from_numpy(centres[ids] + random.normal(size=(count, 6)) + 3), torch.from_numpy(ids)


@pytest.mark.parametrize(("classes", "outputs"), [(2, 1), (3, 3)])
def test_a_head_is_scikit_learns(classes: int, outputs: int) -> None:
    features, ids = clusters(300, classes)
    weights = torch.linspace(0.5, 2.0, classes)
    head = robust.fit(features, ids, weights, outputs, 0.05)
    scaled = (features - features.mean(0)) / features.std(0, correction=0)
    reference = LogisticRegression(C=0.05, class_weight=dict(enumerate(weights.tolist())), tol=1e-8, max_iter=2000)
    expected = reference.fit(scaled.numpy(), ids.numpy()).predict_proba(scaled.numpy())
    logits = head(features)
    found = logits.sigmoid()[:, 0] if outputs == 1 else logits.softmax(dim=1)[:, -1]
    assert found.numpy() == pytest.approx(expected[:, -1], abs=2e-4)


def test_the_strength_is_chosen_by_validation() -> None:
    features, ids = clusters(60, 3)
    val = clusters(300, 3, seed=1)
    best = robust.fit_best((features, ids), val, torch.ones(3), 3)
    losses = {
        strength: float(
            nn.functional.cross_entropy(robust.fit(features, ids, torch.ones(3), 3, strength)(val[0]), val[1])
        )
        for strength in robust.STRENGTHS
    }
    assert best.strength == min(losses, key=losses.__getitem__)
    assert robust.fit_best((features, ids), (features[:0], ids[:0]), torch.ones(3), 3).strength == 1e-3


def test_weights_are_taken_part_of_the_way() -> None:
    start = trunks.make(training.ARCHITECTURE)
    tuned = copy.deepcopy(start)
    with torch.no_grad():
        for tensor in tuned.state_dict().values():
            if tensor.is_floating_point():
                tensor.add_(1.0)
    robust.interpolate(tuned, start, 0.25)
    for name, tensor in tuned.state_dict().items():
        if tensor.is_floating_point():
            assert torch.allclose(tensor, start.state_dict()[name] + 0.25, atol=1e-5)


def test_statistics_are_those_of_the_pictures() -> None:
    norm = nn.BatchNorm2d(3)
    batches = [torch.randn(8, 3, 4, 4) * 2 + 5 for _ in range(3)]
    robust.measure(nn.Sequential(norm), batches)
    assert norm.momentum == 0.1
    assert not norm.training
    assert torch.allclose(norm.running_mean, torch.cat(batches).mean(dim=(0, 2, 3)), atol=1e-4)
    assert torch.allclose(
        norm.running_var, torch.stack([each.var(dim=(0, 2, 3)) for each in batches]).mean(0), atol=1e-4
    )


def test_a_training_keeps_a_trunk_between_its_start_and_its_end(tmp_path: Path) -> None:
    training.written(tmp_path, heads={"genre": {"hidden": []}})
    torch.manual_seed(0)
    save_file(trunks.make(training.ARCHITECTURE).state_dict(), tmp_path / "start.safetensors")
    digest = hashlib.sha256((tmp_path / "start.safetensors").read_bytes()).hexdigest()
    described = yaml.safe_load((tmp_path / "small.yaml").read_text())
    described["weights"] = {"trunk": {"uri": "start.safetensors", "sha256": digest}}
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(described))

    def made(name: str, *changes: str) -> cards.Card:
        profile = run.load(tmp_path / "stripes.yaml", ["network.random=false", "training.epochs=1", *changes])
        works, _ = run.usable(run.read(profile), None, profile)
        folder = RunFolder(Location.of(tmp_path / name))
        folder.begin(profile, cards.load(tmp_path / "small.yaml"), works, [])
        fit.fit(folder, exchange.alone())
        assert folder.result is not None
        assert folder.result["epochs"] == (0 if name == "probe" else 1)
        return cards.load(folder.result["card"])

    trunk_files = {}
    for part in (1.0, 0.5):
        card = made(f"run-{part}", f"network.interpolate={part}")
        trunk_files[part] = load_file(weights.fetch(card.weights["trunk"]))
        assert heads.load(card)["type"].layers[0].weight.shape == (2, card.embedding_dim)
    probe = made("probe", "network.trained=none")
    assert probe.weights["trunk"].sha256 == digest  # the trunk is what it was
    assert probe.trunk_key() == cards.load(tmp_path / "small.yaml").trunk_key()
    assert heads.load(probe)["genre"].layers[0].weight.any()
    start = load_file(tmp_path / "start.safetensors")
    for name, tuned in trunk_files[1.0].items():
        if tuned.is_floating_point() and "running" not in name:
            assert torch.allclose(trunk_files[0.5][name], (tuned + start[name]) / 2, atol=1e-5)
