"""What is kept of how a picture looks: OpenCV's hash, in all turns, and how colourful it is."""

import cv2
import numpy as np
import pytest
from PIL import Image

from artray import schema
from artray.archive.sample import works as sample
from artray.retrieve import hashing
from artray.retrieve.hashing import GREY_CHROMA, SIDE_PX, TURNS, hashes, laid, look, spectra, turned
from artray.retrieve.look import Look


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    return [np.asarray(Image.open(work.path).convert("RGB")) for work in sample.shipped()[:12]]


def distance(a: int, b: int) -> int:
    return (a ^ b).bit_count()


def hash_of(picture: np.ndarray) -> int:
    return look(picture).perceptual_hash


def chroma_of(picture: np.ndarray) -> float:
    return look(picture).chroma


def opencv_hash(picture: np.ndarray) -> int:
    small = cv2.resize(picture, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_AREA)
    bits = cv2.img_hash.pHash(cv2.cvtColor(small, cv2.COLOR_RGB2BGR))
    return int.from_bytes(np.ascontiguousarray(bits).tobytes(), "big")


def test_the_hash_is_opencvs(pictures: list[np.ndarray]) -> None:
    for picture in pictures:
        assert distance(hash_of(picture), opencv_hash(picture)) <= 1  # a coefficient may be at the mean


def test_hashes_of_reproductions_are_near_and_of_others_far(pictures: list[np.ndarray]) -> None:
    found = np.array([hash_of(picture) for picture in pictures], np.uint64)
    for picture, own in zip(pictures, found.tolist(), strict=True):
        grey = np.repeat(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)[:, :, None], 3, axis=2)
        smaller = cv2.resize(grey, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        assert distance(hash_of(smaller), own) <= 4
    distances = np.bitwise_count(found[:, None] ^ found[None])
    assert distances[~np.eye(12, dtype=bool)].min() > 8


def test_turned_pictures_have_turned_spectra(pictures: list[np.ndarray]) -> None:
    thumbnails = np.stack([look(picture).thumbnail for picture in pictures])
    for turn in TURNS:
        there = laid(thumbnails, turn)
        assert np.allclose(spectra(there), turned(spectra(thumbnails), turn), atol=0.01)
        assert np.array_equal(hashes(spectra(there)), hashes(turned(spectra(thumbnails), turn)))
    assert np.array_equal(laid(thumbnails, TURNS[1]), thumbnails[:, :, ::-1])
    assert np.array_equal(laid(thumbnails, TURNS[3]), np.rot90(thumbnails, 2, axes=(1, 2)))
    quarter = next(turn for turn in TURNS if turn.transposed and turn.flipped and not turn.mirrored)
    assert np.array_equal(laid(thumbnails, quarter), np.rot90(thumbnails, axes=(1, 2)))


def test_which_turns_are_mirror_images() -> None:
    letter = np.zeros((SIDE_PX, SIDE_PX), np.uint8)
    letter[4:28, 6:10] = letter[24:28, 6:22] = 255  # an L
    turns = [np.rot90(letter, quarters) for quarters in range(4)]
    for turn in TURNS:
        is_turn = any(np.array_equal(laid(letter, turn), each) for each in turns)
        assert turn.is_mirror_image == (not is_turn)
    assert len({laid(letter, turn).tobytes() for turn in TURNS}) == 8
    assert [turn.is_turned for turn in TURNS] == [False, False, True, True, True, True, True, True]


def test_pictures_without_structure_have_no_hash() -> None:
    for shade in (0, 90, 255):
        assert hash_of(np.full((50, 80, 3), shade, np.uint8)) == 0 == opencv_hash(np.full((50, 80, 3), shade, np.uint8))
    paper = 240 + np.random.default_rng(0).normal(0, 2, (500, 400, 3))
    assert hash_of(np.clip(paper, 0, 255).astype(np.uint8)) == 0  # noise of a scanner
    assert hash_of(np.zeros((1, 1, 3), np.uint8)) == 0
    assert hashes(np.zeros((0, 8, 8), np.float32)).shape == (0,)
    assert spectra(np.zeros((0, SIDE_PX, SIDE_PX), np.uint8)).shape == (0, 8, 8)


def test_a_spectrum_is_a_cosine_transform() -> None:
    thumbnail = np.random.default_rng(0).integers(0, 256, (SIDE_PX, SIDE_PX), np.uint8)
    assert np.allclose(spectra(thumbnail[None])[0], cv2.dct(thumbnail.astype(np.float32))[:8, :8], atol=0.01)
    assert spectra(thumbnail[None])[0, 0, 0] == pytest.approx(32 * thumbnail.mean(), rel=1e-5)
    ramp = np.repeat(np.linspace(0, 255, SIDE_PX)[None], SIDE_PX, axis=0).astype(np.uint8)
    assert hashing.contrast(spectra(ramp[None]))[0] == pytest.approx(ramp.std(), rel=0.01)  # it is all low frequencies


def test_toned_reproductions_are_grey() -> None:
    ramp = np.repeat(np.linspace(0, 255, 64, dtype=np.uint8)[None], 64, axis=0)
    grey = np.stack([ramp] * 3, axis=2)
    assert chroma_of(grey) == pytest.approx(0, abs=0.1)
    assert (
        chroma_of((grey * [1.0, 0.96, 0.9]).astype(np.uint8))
        < GREY_CHROMA
        < chroma_of((grey * [1, 0.8, 0.6]).astype(np.uint8))
    )


def test_the_stage_keeps_what_is_seen_and_skips_what_failed(pictures: list[np.ndarray]) -> None:
    batch = Look()({"pixels": [pictures[0], None], "error": ["", "truncated"]})
    seen = look(pictures[0])
    assert batch["thumbnail"] == [seen.thumbnail.tobytes(), None]
    assert batch["chroma"] == [seen.chroma, None]
    stored, missing = batch["perceptual_hash"]
    assert missing is None
    assert stored % 2**64 == seen.perceptual_hash  # the same bits, signed
    table = schema.table(batch, schema.LOOK)
    assert table["perceptual_hash"].to_pylist() == [stored, None]
    assert len(table["thumbnail"][0].as_py()) == 1024


@pytest.mark.parametrize("bits", [0, 1, 2**63 - 1, 2**63, 2**64 - 1])
def test_stored_hashes_are_the_same_bits(bits: int) -> None:
    assert np.int64(hashing.stored(bits)).view(np.uint64) == bits
