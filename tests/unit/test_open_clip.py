"""open_clip's models with random weights, loaded through a card; and the published ones' cards."""

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from artray.errors import ConfigError
from artray.models import cards, registry, trunks
from artray.models.cards import Card
from artray.retrieve.embedder import ImageEmbedder, TextEmbedder, build

pytestmark = pytest.mark.usefixtures("one_thread")

NAME = "artray-tiny"
SIZE = 32
TEXT = {"context_length": 77, "vocab_size": 49_408, "width": 32, "heads": 2, "layers": 1}
TINY = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": SIZE, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": TEXT,
}
ELSEWHERE = {"hf_tokenizer_name": "nobody/nothing"}


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """open_clip, which knows some tiny models besides its own."""
    open_clip = pytest.importorskip("open_clip", reason="in the extra clip")
    factory = sys.modules["open_clip.factory"]
    monkeypatch.setattr(factory, "_MODEL_CONFIG_PATHS", [*factory._MODEL_CONFIG_PATHS])
    monkeypatch.setattr(factory, "_MODEL_CONFIGS", {**factory._MODEL_CONFIGS})
    variants = {
        NAME: TINY,
        f"{NAME}-no-words": TINY | {"text_cfg": TEXT | ELSEWHERE, "custom_text": True, "init_logit_bias": -10},
        f"{NAME}-hf": TINY | {"text_cfg": TEXT | {"hf_model_name": "nobody/nothing"}},
        f"{NAME}-wide": TINY | {"embed_dim": 24},
        f"{NAME}-more": TINY | {"unheard_of": {}},
    }
    for name, config in variants.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(config))
    open_clip.add_model_config(tmp_path)
    return open_clip


def reference(library: Any, name: str = NAME) -> torch.nn.Module:
    torch.manual_seed(0)
    return library.create_model(name).eval()


def described(folder: Path, model: torch.nn.Module, name: str = NAME, **changes: Any) -> Card:
    path = folder / "model.safetensors"
    save_file({key: tensor.contiguous() for key, tensor in model.state_dict().items()}, path)
    values = {
        **{"name": "tiny", "task": "retrieve", "architecture": f"open_clip/{name}", "yields": ["embedding"]},
        "input": {"size_px": SIZE, "mean": [120, 110, 100], "std": [60, 60, 60]},
        "weights": {"model": {"uri": path.as_uri(), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}},
        **{"embedding_dim": 16, "licence": "none", "source": "made for this test"},
    }
    return Card(**values | changes)


def pictures(count: int) -> list[Any]:
    made = list(np.random.default_rng(0).integers(0, 256, (count, SIZE, SIZE, 3), dtype=np.uint8))
    for picture in made:
        picture.flags.writeable = False
    return made


def test_pictures_and_words_are_embedded_as_the_library_does(tmp_path: Path, library: Any) -> None:
    model, shown = reference(library), pictures(3)
    method = build(described(tmp_path, model))
    assert isinstance(method, TextEmbedder)
    texts = ["a portrait of a lady", "ships at sea", ""]
    images = (torch.from_numpy(np.stack(shown)).float() - torch.tensor([120.0, 110, 100])) / 60
    with torch.inference_mode():
        expected = model.encode_image(images.permute(0, 3, 1, 2), normalize=True).numpy()
        expected_words = model.encode_text(library.get_tokenizer(NAME)(texts), normalize=True).numpy()
    assert method.dim == 16
    found, words = method(shown), method.embed_text(texts)
    assert found.dtype == words.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(words, expected_words, atol=1e-5)


def test_none_depends_on_the_others_and_none_are_none(tmp_path: Path, library: Any) -> None:
    method, shown = build(described(tmp_path, reference(library))), pictures(3)
    assert isinstance(method, TextEmbedder)
    assert method(shown[1:2]).tobytes() == method(shown)[1:2].tobytes()
    texts = ["one", "two words", "three short words"]
    assert method.embed_text(texts[2:]).tobytes() == method.embed_text(texts)[2:].tobytes()
    assert method([]).shape == method.embed_text([]).shape == (0, 16)
    long = " ".join(["ship"] * 300)
    np.testing.assert_array_equal(method.embed_text([long]), method.embed_text([long + " ship"]))
    with pytest.raises(ValueError, match=r"image: expected uint8\[H, W, 3\]"):
        method([np.zeros((4, 4), np.uint8)])


def test_a_tokenizer_from_elsewhere_leaves_pictures(tmp_path: Path, library: Any) -> None:
    name = f"{NAME}-no-words"
    model, shown = reference(library, name), pictures(1)
    method = build(described(tmp_path, model, name))
    assert not isinstance(method, TextEmbedder)
    images = (torch.from_numpy(np.stack(shown)).float() - torch.tensor([120.0, 110, 100])) / 60
    with torch.inference_mode():
        expected = model.encode_image(images.permute(0, 3, 1, 2), normalize=True).numpy()
    np.testing.assert_allclose(method(shown), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        (f"{NAME}-hf", {}, "expected a model of open_clip's own, got one with a text tower elsewhere"),
        (f"{NAME}-more", {}, "expected a model of two towers"),
        (NAME, {"architecture": "open_clip/artray-teeny"}, "got 'artray-teeny'; near: artray-tiny"),
        (NAME, {"architecture": f"open_clip/{NAME}-wide"}, r"weights: text_projection: expected shape \(32, 24\), got"),
        (NAME, {"embedding_dim": 17}, "card tiny: embedding_dim: expected 16, got 17"),
        (NAME, {"input": {"size_px": 48, "mean": [0, 0, 0], "std": [1, 1, 1]}}, "card tiny: input.size_px: .* got 48"),
        (NAME, {"input": None}, "expected an input, weights with the role model"),
        (NAME, {"metric": "euclidean"}, "card tiny: metric: expected cosine"),
    ],
)
def test_what_does_not_fit_is_refused(
    tmp_path: Path, library: Any, name: str, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        registry.build(described(tmp_path, reference(library), name, **changes))


def test_without_the_library_it_is_told_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "open_clip", None)
    with pytest.raises(ConfigError, match=r"card tiny: open_clip: expected the package, .* 'artray\[clip\]'"):
        registry.build(described(tmp_path, torch.nn.Linear(2, 2)))


@pytest.mark.parametrize(
    ("name", "size_bytes"),
    [("dinov2-vit-s-14", 88_240_510), ("dinov2-vit-b-14", 346_334_872), ("siglip2-vit-b-16", 371_551_936)],
)
def test_published_trunks_have_the_size_of_their_files(name: str, size_bytes: int) -> None:
    card = cards.load(name)
    assert trunks.dim(card.architecture) == card.embedding_dim
    with torch.device("meta"):
        module = trunks.make(card.architecture)
    values = sum(parameter.numel() for parameter in module.parameters())
    assert 15_000 < size_bytes - 4 * values < 17_000, "four bytes a value, and the names before them"


def test_a_published_trunk_takes_images_smaller_than_it_was_trained_at() -> None:
    with torch.inference_mode():
        module = trunks.make("timm/vit_small_patch14_dinov2")
        assert module.pos_embed.shape[1] == 37 * 37 + 1, "518 px"
        assert module(torch.zeros(1, 3, 56, 56)).shape == (1, 384)


@pytest.mark.parametrize("name", ["clip-vit-b-32", "clip-vit-b-32-laion2b"])
def test_published_models_of_open_clip(name: str) -> None:
    library = pytest.importorskip("open_clip", reason="in the extra clip")
    card = cards.load(name)
    config = library.get_model_config(card.architecture.partition("/")[2])
    assert config["embed_dim"] == card.embedding_dim
    assert card.input is not None
    assert config["vision_cfg"]["image_size"] == card.input.size_px
    np.testing.assert_allclose(card.input.mean, np.array(library.OPENAI_DATASET_MEAN) * 255, rtol=1e-6)
    np.testing.assert_allclose(card.input.std, np.array(library.OPENAI_DATASET_STD) * 255, rtol=1e-6)
    assert "hf_tokenizer_name" not in config["text_cfg"], "its words are cut up by what open_clip brings"


def test_what_embeds_pictures_only_is_no_text_embedder() -> None:
    method: ImageEmbedder = registry.build(cards.load("pixels"))
    assert not isinstance(method, TextEmbedder)
