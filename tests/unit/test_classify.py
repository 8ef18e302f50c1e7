"""The classifier and its stage: values, order, neighbours, failures."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save_file

from artray import schema, taxonomy
from artray.classify import heads, inputs
from artray.classify.model import Classifier
from artray.classify.stage import Classify
from artray.config import ClassifyConfig
from artray.errors import ConfigError
from artray.models import cards, trunks
from artray.models.cards import Input


def spec(resize="squash", size_px=32) -> Input:
    return Input(size_px=size_px, mean=(127, 127, 127), std=(128, 128, 128), resize=resize)


def pictures(count: int, seed: int = 0) -> list[np.ndarray]:
    """Pictures of as many sizes."""
    random = np.random.default_rng(seed)
    return [random.integers(0, 256, (40 + 13 * n, 90 - 7 * n, 3), dtype=np.uint8) for n in range(count)]


def batch_of(images: list) -> dict[str, list]:
    errors = ["" if image is not None else "truncated" for image in images]
    return {"image_id": [str(n) for n in range(len(images))], "pixels": images, "error": errors, "error_detail": errors}


@pytest.fixture(scope="module")
def classify() -> Classify:
    torch.set_num_threads(1)
    return Classify(ClassifyConfig())


# ------------------------------------------------------------------------------------------------ inputs


def test_a_colour_becomes_itself_normalised():
    image = np.full((50, 70, 3), (127, 255, 0), np.uint8)
    square = inputs.to_input(image, spec())
    assert square.shape == (32, 32, 3)
    assert square.dtype == np.float32
    assert np.allclose(square[5, 5], [0, 1, -127 / 128])  # (255 - 127) / 128 = 1


def test_squash_shows_all_and_crop_the_middle():
    image = np.zeros((64, 192, 3), np.uint8)
    image[:, 64:128] = 200  # the middle third is the largest square in the middle
    assert (inputs.centre_crop(image, spec()) == 200).all()
    squashed = inputs.squash(image, spec())
    assert squashed[0, 0, 0] == 0
    assert squashed[0, 16, 0] == 200


def test_letterbox_pads_with_the_mean():
    image = np.full((64, 128, 3), 10, np.uint8)
    boxed = inputs.letterbox(image, spec())
    assert (boxed[8:24] == 10).all()  # 64 x 128 becomes 16 x 32: 8 rows of ground above and below
    assert (boxed[:8] == 127).all()
    assert (boxed[24:] == 127).all()


def test_shrinking_averages_also_where_the_other_side_grows():
    image = np.zeros((8, 320, 3), np.uint8)
    image[:, ::2] = 200  # stripes of one pixel: their average is 100, a sampled pixel would be 0 or 200
    assert (inputs.squash(image, spec()) == 100).all()


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 500, 3), (700, 2, 3)])
@pytest.mark.parametrize("resize", ["squash", "centre_crop", "letterbox"])
def test_any_shape_fits(shape, resize):
    assert inputs.to_input(np.full(shape, 9, np.uint8), spec(resize)).shape == (32, 32, 3)


@pytest.mark.parametrize("image", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)])
def test_other_arrays_are_refused(image):
    with pytest.raises(ValueError, match="expected uint8"):
        inputs.to_input(image, spec())


def test_mean_rgb_is_the_mean():
    image = np.array([[[0, 10, 255], [10, 20, 255]]], np.uint8)
    assert inputs.mean_rgb(image) == [5.0, 15.0, 255.0]


# ------------------------------------------------------------------------------------------------ heads


def test_a_head_is_layers_with_relu_and_softmax():
    hidden = heads.Layer(np.array([[1.0, 0.0], [-1.0, 0.0]]), np.zeros(2))
    last = heads.Layer(np.array([[np.log(3), 5.0], [0.0, 5.0]]), np.zeros(2))
    head = heads.Head(("a", "b"), (hidden, last))
    # hidden: relu(1, -1) = (1, 0); logits (log 3, 0): odds of 3 to 1
    assert np.allclose(head(np.array([1, 0], np.float32)), [0.75, 0.25])
    assert heads.score(head, np.zeros((0, 2), np.float32)).shape == (0, 2)


def test_large_logits_do_not_overflow():
    head = heads.Head(("a", "b"), (heads.Layer(np.array([[5000.0], [-5000.0]]), np.zeros(2)),))
    assert head(np.ones(1, np.float32)).tolist() == [1.0, 0.0]


def test_heads_score_one_image_as_many():
    head = next(iter(heads.load(cards.load("efficientnet-lite2-art")).values()))
    embeddings = np.random.default_rng(0).normal(size=(33, 1280)).astype(np.float32)
    alone = np.concatenate([heads.score(head, embeddings[n : n + 1]) for n in range(33)])
    assert np.array_equal(heads.score(head, embeddings), alone)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({}, "expected tensors type.0.weight"),
        ({"type.1.weight": torch.zeros(2, 512)}, "expected tensors type.0.weight"),
        ({"type.0.weight": torch.zeros(2, 7)}, r"type.0: expected a weight \[\*, 512\]"),
        ({"type.0.weight": torch.zeros(3, 512)}, "type: expected 2 outputs, got 3"),
        ({"type.0.weight": torch.zeros(2, 512), "type.0.bias": torch.zeros(3)}, "a bias for each"),
    ],
)
def test_heads_that_do_not_fit_are_refused(tmp_path, tensors, message):
    with pytest.raises(ConfigError, match=message):
        heads.load(cards.load(small_card(tmp_path, head_tensors=tensors)))


# ------------------------------------------------------------------------------------------------ stage


def small_card(folder: Path, name="small", yields=("type",), head_tensors=None, **changes) -> str:
    """A ResNet-18 with random weights, always the same, and a head for the types."""
    torch.manual_seed(0)
    files = {"trunk": trunks.make("resnet18").state_dict()}
    classes = {"type": ["painting", "drawing"], "genre": list(taxonomy.GENRES)}
    scored = {head: classes[head] for head in yields if head in classes}
    if scored:
        made = {f"{head}.0.weight": torch.randn(len(names), 512) for head, names in scored.items()}
        files[f"{name}-heads"] = made if head_tensors is None else head_tensors
    weights = {}
    for file, tensors in files.items():
        path = folder / f"{file}.safetensors"
        save_file(dict(tensors), path)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        weights["trunk" if file == "trunk" else "heads"] = {"uri": path.name, "sha256": digest}
    values = {
        "name": name,
        "task": "classify",
        "architecture": "resnet18",
        "input": spec().model_dump(mode="json"),
        "yields": list(yields),
        "heads": scored,
        "weights": weights,
        "embedding_dim": 512,
        "licence": "none",
        "source": "this test",
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(values | changes))
    return str(path)


def test_a_batch_becomes_typed_columns(classify):
    found = classify(batch_of([*pictures(2), None]))
    table = schema.table(found, schema.CLASSIFIED)
    rows = table.to_pylist()
    for row in rows[:2]:
        assert row["type"] in taxonomy.TYPES
        assert row["genre"] in taxonomy.GENRES
        assert tuple(name for name, _ in row["type_scores"]) == taxonomy.TYPES
        assert row["type_score"] == max(score for _, score in row["type_scores"])
        assert sum(score for _, score in row["genre_scores"]) == pytest.approx(1, abs=1e-6)
        assert np.linalg.norm(row["embedding"]) == pytest.approx(1, abs=1e-6)
        assert len(row["embedding"]) == 1280
        assert all(0 <= value <= 255 for value in row["mean_rgb"])
    assert set(rows[2].values()) == {None}
    assert found["error"] == ["", "", "truncated"]


def test_an_empty_batch_stays_empty(classify):
    found = classify(batch_of([]))
    assert schema.table(found, schema.CLASSIFIED).num_rows == 0


def test_neighbours_order_and_batch_size_change_not_one_bit(classify):
    images = [*pictures(5), None, *pictures(2, seed=1)]
    whole = classify(batch_of(images))
    expected = {
        name: schema.table(whole, schema.CLASSIFIED).column(name).to_pylist() for name in schema.CLASSIFIED.names
    }
    order = [6, 2, 5, 0, 7, 1, 3, 4]
    for step in (1, 3, 8):
        for start in range(0, 8, step):
            places = order[start : start + step]
            part = schema.table(classify(batch_of([images[n] for n in places])), schema.CLASSIFIED)
            for name in schema.CLASSIFIED.names:
                assert part.column(name).to_pylist() == [expected[name][n] for n in places]


def test_the_stored_embedding_gives_the_same_scores_again(classify):
    found = classify(batch_of(pictures(3)))
    stored = schema.table(found, schema.CLASSIFIED).to_pylist()
    again = heads.load(cards.load("efficientnet-lite2-art"))
    for index, row in enumerate(stored):
        rehead = heads.scored(again, np.array(row["embedding"], np.float32))
        assert rehead == {name: found[name][index] for name in rehead}


def test_a_batch_is_not_changed_in_place(classify):
    batch = batch_of(pictures(1))
    classify(batch)
    assert set(batch) == {"image_id", "pixels", "error", "error_detail"}


def test_an_image_that_a_model_fails_on_leaves_the_others_alone(classify):
    images = pictures(3)
    expected = classify(batch_of(images))
    broken = classify(batch_of([images[0], np.zeros((5, 5), np.uint8), images[2]]))
    assert broken["error"] == ["", "model_failed", ""]
    assert broken["error_detail"][1].startswith("ValueError: image: expected uint8[H, W, 3]")
    assert broken["pixels"][1] is None
    assert broken["embedding"][1] is None
    for index in (0, 2):
        assert np.array_equal(broken["embedding"][index], expected["embedding"][index])


def test_cards_with_one_trunk_share_its_forward_pass(tmp_path):
    names = (small_card(tmp_path, "types"), small_card(tmp_path, "genres", yields=("genre", "embedding")))
    classify = Classify(ClassifyConfig(cards=names))
    assert len(classify.embedders) == 1
    found = classify(batch_of(pictures(2)))
    assert found["type"][0] in taxonomy.TYPES
    assert found["genre"][0] in taxonomy.GENRES
    assert found["mean_rgb"] == [None, None]  # neither card yields it
    alone = Classify(ClassifyConfig(cards=names[:1]))(batch_of(pictures(2)))
    assert alone["type_scores"] == found["type_scores"]
    assert alone["embedding"] == [None, None]


def test_cards_that_yield_the_same_are_refused(tmp_path):
    names = (small_card(tmp_path, "one"), small_card(tmp_path, "two"))
    with pytest.raises(ConfigError, match="expected one card that yields type, got one and two; leave one"):
        Classify(ClassifyConfig(cards=names))


def test_a_detector_is_no_classifier():
    with pytest.raises(ConfigError, match="expected cards of task classify, got mtcnn of task detect"):
        Classify(ClassifyConfig(cards=("mtcnn",)))


def test_the_length_of_the_embedding_must_be_the_trunks(tmp_path):
    card = cards.load(small_card(tmp_path, yields=("embedding",), embedding_dim=100))
    with pytest.raises(ConfigError, match="embedding_dim: expected 512, got 100"):
        Classifier(card)


@pytest.mark.parametrize(("kind", "count"), [("flips", 1), ("five_crop", 5), ("ten_crop", 10)])
def test_other_views_say_how_much_of_them_is_called_something_else(classify, kind: str, count: int):
    images = pictures(3)
    plain, found = classify(batch_of(images)), Classify(ClassifyConfig(views=kind))(batch_of([*images, None]))
    embedder, loaded = next(iter(classify.embedders.values())), heads.load(cards.load("efficientnet-lite2-art"))
    for row, image in enumerate(images):
        assert all(found[name][row] == plain[name][row] for name in ("type", "genre", "type_scores", "genre_scores"))
        others = inputs.views(image, embedder.spec, kind)[-count:]
        for name, head in loaded.items():
            called = [head.class_names[scores.argmax()] for scores in heads.score(head, embedder(others))]
            expected = np.mean([each != found[name][row] for each in called])
            assert found[f"{name}_disagreement"][row] == pytest.approx(expected)
    assert found["genre_disagreement"][3] is None
    assert plain["genre_disagreement"] == [None] * 3
