"""Training of retrieval methods: which pictures, what is learned, resumed and chosen, and the card that comes out."""

import copy
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from pydantic import ValidationError
from torch import nn

from artray import api
from artray.archive.sample import works as sample
from artray.errors import ConfigError
from artray.location import Location
from artray.models import cards, registry, verify
from artray.pipeline.progress import Silent
from artray.retrieve import embedder
from artray.retrieve import vae as networks
from artray.retrieve.vae import kl_divergence, picture_input
from artray.train import exchange, losses
from artray.train import run as trainings
from artray.train.cache import opened
from artray.train.fit import MAX_FILE_BYTES
from artray.train.methods import fit, run
from artray.train.methods.folder import MethodFolder
from artray.train.methods.learner import LEARNERS
from artray.train.methods.pictures import Lot, Pictures
from artray.train.methods.profile import CHOSEN_BY, MethodProfile, VisualWordsConfig, WhiteningConfig
from artray.train.methods.trainer import VaeTrainer, noise
from artray.train.prepare import Prepare
from tests import methods_training, training
from tests.methods_training import profile, shared, trained, trainer

pytestmark = pytest.mark.usefixtures("one_thread")


def close(first: dict[str, Any], second: dict[str, Any], tolerance: float) -> bool:
    """Whether two networks' parameters and statistics are the same."""
    return all(
        torch.allclose(first["network"][name].double(), second["network"][name].double(), rtol=0, atol=tolerance)
        for name in first["network"]
    )


def test_workers_that_share_batches_come_to_the_same(tmp_path: Path) -> None:
    cfg = profile(method={"reconstruction": "bce", "reconstruction_weight": 50})
    alone, start = trained(cfg).state(), trainer(cfg).state()
    assert not close(alone, start, 1e-4)
    for state in shared(cfg, 2, tmp_path):
        assert close(state, alone, 1e-9)
        for mine, theirs in zip(state["history"], alone["history"], strict=True):
            assert mine["metrics"] == pytest.approx(theirs["metrics"], abs=1e-9)
            assert mine["loss"] == pytest.approx(theirs["loss"], abs=1e-9)


def test_a_training_resumed_in_mid_epoch_is_one_that_was_never_interrupted() -> None:
    cfg = profile(training={"epochs": 3, "checkpoint_batches": 2}, optimiser={"ema_decay": 0.9})
    kept: list[dict[str, Any]] = []
    whole = trainer(cfg)
    while not whole.done:
        whole.run_epoch(lambda: kept.append(copy.deepcopy(whole.state())))
    resumed = trainer(cfg)
    resumed.load(kept[3])
    while not resumed.done:
        resumed.run_epoch()
    assert close(resumed.state(), whole.state(), 0.0)
    assert [each.loss for each in resumed.history] == [each.loss for each in whole.history]


def test_the_loss_is_equation_3() -> None:
    made = trainer(profile(method={"reconstruction": "mse", "reconstruction_weight": 10}))
    made.network.train()
    batch = next(iter(made.shown().batches))
    loss = made.loss(batch)
    made.network.train()
    logits, (mean, log_variance) = made.vae(batch.pictures, batch.noise)
    reconstruction = nn.functional.mse_loss(torch.sigmoid(logits), batch.pictures)
    divergence = -0.5 * (1 + log_variance - mean**2 - log_variance.exp())  # as it is usually written
    torch.testing.assert_close(loss, 10 * reconstruction + divergence.mean())
    summed = trainer(profile(method={"reconstruction_weight": 10, "kl": "sum"}))
    torch.testing.assert_close(
        summed.loss(batch), 10 * reconstruction + divergence.sum(dim=(1, 2, 3)).mean(), rtol=1e-9, atol=1e-9
    )


def test_crops_stand_for_whole_pictures() -> None:
    method = {"size_px": 36, "filters": [4, 8, 1], "padding": 0, "stride": 1}
    for kl in ("mean", "sum"):
        crop = {"kind": "random", "size_px": 20, "resize_px": 36}
        made = trainer(profile(method=method | {"kl": kl}, crop=crop))
        batch = next(iter(made.shown().batches))
        assert batch.pictures.shape[1:] == (3, 20, 20)
        assert batch.noise.shape[1:] == (1, 14, 14)
        _, encoded = made.vae(batch.pictures, batch.noise)
        mean = kl_divergence(encoded).mean() / 14**2
        loss = made._sums(made.vae(batch.pictures, batch.noise), batch.pictures)[1] / 8
        torch.testing.assert_close(loss, mean if kl == "mean" else 30**2 * mean)
        assert made.terms(made.val[:2]).reconstruction > 0  # of whole pictures
        whole, part = torch.rand(1, 3, 36, 36).double(), (slice(None), slice(None), slice(5, 25), slice(7, 27))
        made.vae.eval()
        inner = made.vae.encoder(whole).mean[..., 5:19, 7:21]
        torch.testing.assert_close(made.vae.encoder(whole[part]).mean, inner)  # the very same values


def test_validation_is_judged_by_the_same_noise_in_every_epoch_and_the_least_loss_is_best() -> None:
    made = trainer(profile())
    first, again = made.terms(made.val), made.terms(made.val)
    assert first == again
    assert first.loss == pytest.approx(10 * first.reconstruction + first.kl)
    assert made.terms(made.val[:0]).loss == 0
    result = made.run_epoch()
    assert result.chosen == result.metrics[CHOSEN_BY] == -result.val_loss
    made.history = [result._replace(epoch=n, chosen=-loss) for n, loss in enumerate([0.5, 0.3, 0.4], 1)]
    assert made.best is not None
    assert made.best.epoch == 2


def test_noise_is_each_pictures_own_and_standard_normal() -> None:
    both, second = noise([(0, 1), (0, 2)], (3, 50, 50)), noise([(0, 2)], (3, 50, 50))
    assert torch.equal(both[1], second[0])
    assert not torch.equal(both[0], both[1])
    assert abs(float(both.mean())) < 4 / math.sqrt(both.numel())
    assert float(both.std()) == pytest.approx(1, abs=0.02)


def test_active_dimensions_are_those_whose_means_vary() -> None:
    made = trainer(profile())
    with torch.no_grad():
        made.vae.encoder.mean.weight.mul_(100)
    assert 0 < made.active(made.val) <= methods_training.DIM
    with torch.no_grad():
        made.vae.encoder.mean.weight.zero_()  # every picture has the same latent
    assert made.active(made.val) == 0
    assert made.active(made.val[:0]) == 0


def shipped(row: int, side_px: int = 48) -> np.ndarray:
    """A picture of the sample archive, small."""
    return np.asarray(Image.open(sample.shipped()[row].path).convert("RGB").resize((side_px, side_px)), np.uint8)


def test_the_loss_over_validation_falls_on_pictures_of_the_sample() -> None:
    cfg = profile(training={"epochs": 8, "precision": "float32"}, method={"filters": [8, 16, 32]})
    small, rows = [shipped(row) for row in range(30)], np.arange(30)
    pictures = Pictures(cfg, picture_input(32), small.__getitem__)
    made = VaeTrainer(cfg, fit.build(cfg, exchange.alone()), pictures, rows[6:], rows[:6], exchange.alone())
    before = made.terms(made.val)
    while not made.done:
        made.run_epoch()
    assert made.history[-1].val_loss < 0.8 * made.history[0].val_loss
    assert made.terms(made.val).reconstruction < 0.8 * before.reconstruction


def begun(folder: Path, values: dict[str, Any] | None = None, **changes: Any) -> MethodFolder:
    """A training's folder, its pictures prepared by this process; ``values`` are another profile's."""
    path = methods_training.written(folder, **changes)
    if values is not None:
        path.write_text(yaml.safe_dump(values))
    loaded = run.load(path)
    found = trainings.read(loaded)
    cache = opened(loaded.data.cache, loaded.data.short_side_px)
    with Prepare(cache, MAX_FILE_BYTES) as prepare:
        told = prepare({name: found.works[name].to_pylist() for name in ("work_id", "uri", "version")})
    works, left_out = trainings.usable(found, told, loaded)
    run.check(works, loaded)
    made = MethodFolder(Location.of(folder / "run"))
    made.begin_pictures(loaded, works, left_out)
    return made


def test_a_card_comes_out_that_embeds(tmp_path: Path) -> None:
    folder = begun(tmp_path, training={"epochs": 2, "batch_size": 8, "precision": "float32"})
    assert folder.kind == "method"
    fit.fit(folder, exchange.alone())
    result = folder.result
    assert result is not None
    card = cards.load(result["card"])
    assert (card.task, card.architecture, card.metric) == ("retrieve", "vae", "euclidean")
    assert card.embedding_dim == methods_training.DIM
    assert card.training["data_sha256"] == folder.made["data_sha256"]
    assert card.metrics["active_dimensions"] == result["active_dimensions"]
    assert set(result["losses"]) == {"val", "test"}
    assert result["best_epoch"] in (1, 2)
    assert verify.verify(card).ok
    images = [training.picture(row) for row in range(3)]
    assert registry.build(card)(images).shape == (3, methods_training.DIM)
    for name in ("reconstructions.png", "walk.png", "curves.png"):
        assert (tmp_path / "run" / name).read_bytes().startswith(b"\x89PNG")
    model, _ = networks.load(card)  # the best epoch's weights, and no others
    best = folder.checkpoints.load("best.pt")
    assert best is not None
    assert all(torch.equal(tensor, best["network"][name]) for name, tensor in model.state_dict().items())


WORDS = {"name": "visual_words", "words": 6, "regions": {"longer_side_px": 96}}


def test_what_is_learned_at_once_gets_a_card_like_any_other(tmp_path: Path) -> None:
    values = yaml.safe_load(methods_training.written(tmp_path).read_text())
    sources = [{"kind": "folder", "path": str(sample.FOLDER / "images"), "limit": 12}]
    folder = begun(tmp_path, {"name": "words", "data": values["data"] | {"sources": sources}, "method": WORDS})
    fit.fit(folder, exchange.Exchange(1, 2, losses.alone, lambda given: [given]))  # not the first: it has no work
    assert folder.result is None
    fit.fit(folder, exchange.alone())
    result = folder.result
    assert result is not None
    assert (result["method"], result["epochs"], result["losses"]) == ("visual_words", 0, {})
    card = cards.load(result["card"])
    assert (card.architecture, card.embedding_dim, card.metric) == ("visual_words", 6, "chi_square")
    assert (card.settings["weighting"], card.settings["longer_side_px"]) == ("counts", 96)
    assert card.training_data.startswith("folder: train ")
    assert verify.verify(card).ok
    found = registry.build(card)([shipped(row, 120) for row in range(4)])
    assert found.sum(axis=1) == pytest.approx(1)


def test_weights_of_words_are_learned_where_they_are_asked_for() -> None:
    learner, pictures = LEARNERS["visual_words"], [shipped(row, 120) for row in range(4)]
    plain = learner.learn(pictures, VisualWordsConfig(**WORDS))
    weighted = learner.learn(pictures, VisualWordsConfig(**WORDS, weighting="tfidf"))
    assert set(plain) == {"words"}
    assert set(weighted) == {"words", "idf"}
    assert torch.equal(plain["words"], weighted["words"])
    assert weighted["idf"].shape == (6,)


WHITENING = {"name": "whitening", "card": "pixels", "dim": 3}


def test_a_whitening_gets_a_card_that_names_the_card_it_is_of(tmp_path: Path) -> None:
    values = yaml.safe_load(methods_training.written(tmp_path).read_text())
    folder = begun(tmp_path, {"name": "white", "data": values["data"], "method": WHITENING})
    fit.fit(folder, exchange.alone())
    result = folder.result
    assert result is not None
    assert (result["method"], result["epochs"], result["losses"]) == ("whitening", 0, {})
    card, inner = cards.load(result["card"]), cards.load("pixels")
    assert (card.architecture, card.embedding_dim, card.metric) == ("whitened", 3, "cosine")
    assert card.settings == {"card": "pixels", "fingerprint": inner.fingerprint()}
    assert card.licence == "that of your pictures, and of pixels"
    assert verify.verify(card).ok
    found = embedder.build(card)([shipped(row, 120) for row in range(4)])
    assert np.linalg.norm(found, axis=1) == pytest.approx(1)


def test_what_a_whitening_cannot_be_learned_with(tmp_path: Path) -> None:
    learner = LEARNERS["whitening"]
    for changes, message in (
        ({"card": "nothing"}, "method.card: card nothing: expected one of"),
        ({"card": "mtcnn"}, "method.card: card mtcnn: expected one that yields an embedding"),
        ({"dim": 769}, "method.dim: expected at most 768, the embedding's length, got 769"),
        ({"dim": None, "sample": 768}, "method.sample: expected more than 768 pictures for as many axes, got 768"),
    ):
        with pytest.raises(ConfigError, match=message):
            learner.check(WhiteningConfig(**WHITENING | changes))
    with pytest.raises(ConfigError, match=r"pictures: expected at least 4 .* for 3 axes, got 3; .* method\.dim to 2"):
        learner.learn([shipped(row) for row in range(3)], WhiteningConfig(**WHITENING))
    values = {"name": "white", "data": {"sources": [{"path": "x"}]}, "method": WHITENING | {"dim": 769}}
    wrong = MethodProfile.model_validate(values)
    with pytest.raises(ConfigError, match=r"method\.dim: expected at most 768"):
        run.train(wrong, Location.of(tmp_path / "run"), Silent())
    assert not (tmp_path / "run").exists()


def test_a_profile_names_a_cards_file_beside_it(tmp_path: Path) -> None:
    path = methods_training.written(tmp_path)
    values = yaml.safe_load(path.read_text()) | {"method": WHITENING | {"card": "own.yaml"}}
    for section in ("augment", "optimiser", "training"):
        del values[section]
    path.write_text(yaml.safe_dump(values))
    loaded = run.load(path)
    assert isinstance(loaded.method, WhiteningConfig)
    assert loaded.method.card == str(tmp_path / "own.yaml")
    shipped_profile = run.load("whitening")
    assert shipped_profile.method == WhiteningConfig(name="whitening")
    LEARNERS["whitening"].check(shipped_profile.method)


def test_pictures_by_lot_are_read_when_they_are_asked_for() -> None:
    asked: list[int] = []

    def read(row: int) -> np.ndarray:
        asked.append(row)
        return training.picture(row)

    lot = Lot(np.arange(10, 20), 0, read)
    assert len(lot) == 10
    assert asked == []
    assert np.array_equal(lot[0], training.picture(lot.rows[0]))
    assert len(lot[:3]) == 3
    assert len(asked) == 4
    assert sorted(lot.rows.tolist()) == list(range(10, 20)) != lot.rows.tolist()
    assert len(list(lot)) == 10
    assert lot.rows.tolist() == Lot(np.arange(10, 20), 0, read).rows.tolist()


def test_no_labels_are_needed_nor_looked_at(tmp_path: Path) -> None:
    for name in ("a.png", "b/c.png", "b/d.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    (tmp_path / "list.csv").write_text("file,split\na.png,train\nb/c.png,val\n")
    (tmp_path / "odd.csv").write_text("file,type\na.png,fresco\nb/d.png,\n")
    (tmp_path / "p.yaml").write_text(
        yaml.safe_dump({"name": "p", "data": {"sources": [{"path": "list.csv"}]}, "method": {"name": "vae"}})
    )
    told = api.labels(tmp_path / "p.yaml")
    assert told["left_out"] == []
    assert told["works"] == 2
    assert told["sets"][0]["counts"] == {"pictures": {"in all": 2}}
    odd = api.labels(tmp_path / "p.yaml", set=["data.sources=[{path: odd.csv}]"])
    assert (odd["works"], odd["left_out"]) == (2, [])
    both = "data.sources=[{kind: folder, path: .}, {path: list.csv}]"
    plain = api.labels(tmp_path / "p.yaml", set=[both])
    assert plain["works"] == 3  # each once
    assert [entry["counts"]["pictures"]["in all"] for entry in plain["sets"]] == [3, 0]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"data\.sources: expected pictures, found none"):
        api.labels(tmp_path / "p.yaml", set=["data.sources=[{kind: folder, path: empty}]"])


def test_which_profiles_are_of_methods(tmp_path: Path) -> None:
    assert {name for name in trainings.shipped() if trainings.is_of_method(name)} == {
        "vae-i",
        "vae-ii",
        "vae-iii",
        "visual-words",
        "whitening",
    }
    assert not trainings.is_of_detector("vae-i")
    loaded = run.load("vae-i", data=str(tmp_path))
    assert loaded.data.sources[0].path == str(tmp_path / "art.csv")


def test_too_little_is_told_before_anything_is_begun(tmp_path: Path) -> None:
    loaded = run.load(methods_training.written(tmp_path))
    works, _ = trainings.usable(trainings.read(loaded), None, loaded)
    run.check(works, loaded)
    names = works["part"].to_pylist()
    with pytest.raises(ConfigError, match=r"data\.val: expected pictures to choose the epoch by, got none of"):
        run.check(works.filter([name != "val" for name in names]), loaded)
    with pytest.raises(ConfigError, match=r"two pictures to learn from for each of 1 workers at least, got 0 in all"):
        run.check(works.filter([name != "train" for name in names]), loaded)


WRONG = {
    "choose_by": ({"training": {"choose_by": "macro_f1"}}, "choose_by: expected null, for the least loss is chosen"),
    "mixup": ({"training": {"mixup": 0.2}}, "mixup: expected 0: pictures are not mixed"),
    "crop": (
        {"crop": {"size_px": 31}},
        "expected a side of which strides leave out what they do of 32",
    ),
    "method": (
        {"method": {"name": "word2vec"}},
        "does not match any of the expected tags: 'vae', 'visual_words', 'whiten",
    ),
    "nothing": ({"method": {"kernel": 50}}, "size_px: expected more than 32, of which component 1 leaves nothing"),
    "parts": ({"data": {"sources": [{"path": "x"}], "val": 0.6, "test": 0.4}}, "expected less than 1 together"),
    "twice": ({"data": {"sources": [{"path": "x"}, {"path": "y"}]}}, "csv: expected each name once"),
    "batch": ({"workers": {"workers": 5}}, "expected at least two images for each of 5 workers"),
}


@pytest.mark.parametrize("case", WRONG)
def test_profiles_that_are_wrong(case: str) -> None:
    changes, message = WRONG[case]
    with pytest.raises(ValidationError, match=message):
        profile(**changes)


@pytest.mark.parametrize("section", ["crop", "augment", "optimiser", "training"])
def test_what_has_no_epochs_takes_nothing_for_them(section: str) -> None:
    given = {"crop": {"kind": "centre"}, "augment": [{"name": "grey"}], "optimiser": {}, "training": {"epochs": 3}}
    values = {"name": "words", "data": {"sources": [{"path": "x"}]}, "method": WORDS}
    assert MethodProfile.model_validate(MethodProfile.model_validate(values).model_dump()).method.name == "visual_words"
    with pytest.raises(ValidationError, match=f"{section}: expected nothing with method visual_words, which has no"):
        MethodProfile.model_validate(values | {section: given[section]})


def test_another_profile_is_refused_and_a_classifiers_folder_too(tmp_path: Path) -> None:
    folder = begun(tmp_path)
    other = MethodProfile.model_validate(folder.made["profile"] | {"augment": []})
    with pytest.raises(ConfigError, match="holds a training with another profile"):
        trainings._check_same(folder, other, "method")
    trainings._check_same(folder, folder.method_profile, "method")
    with pytest.raises(ConfigError, match="holds a training with another profile"):
        trainings._check_same(folder, folder.method_profile, None)
