"""Copies among pictures: where a part lies, how alike what lies over each other is, who is in a group with whom."""

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from PIL import Image

from artray.archive.sample import works as sample
from artray.retrieve import alignment, candidates, duplicates, registration
from artray.retrieve.alignment import Pairs, Pictures
from artray.retrieve.duplicates import Copies, Works
from artray.retrieve.hashing import TURNS, laid, look, spectra
from artray.retrieve.reasons import WORDS, why
from tests.benchmarks.copies import KINDS, made

NOTHING = np.zeros(0, np.int64)


@pytest.fixture(scope="module")
def originals() -> list[np.ndarray]:
    return [np.asarray(Image.open(work.path).convert("RGB")) for work in sample.shipped()[:20]]


def seen(pictures: Sequence[np.ndarray]) -> Works:
    """Works without embeddings."""
    looks = [look(picture) for picture in pictures]
    thumbnails = np.array([found.thumbnail for found in looks], np.uint8).reshape(-1, 32, 32)
    sizes = np.array([picture.shape[:2] for picture in pictures]).reshape(-1, 2)
    count = len(pictures)
    return Works(
        Pictures(thumbnails, spectra(thumbnails), np.log(sizes[:, 1] / sizes[:, 0]).astype(np.float32)),
        np.array([found.chroma for found in looks], np.float32),
        sizes.prod(axis=1),
        np.arange(count),
        np.zeros((count, 4), np.float16),
        np.zeros(count, bool),
    )


def pairs(*rows: tuple[int, int, int]) -> Pairs:
    return Pairs(*np.array(rows, np.int64).reshape(-1, 3).T)


def copies(*rows: tuple[int, int, float]) -> Copies:
    """Pairs with a score each."""
    first, second, score = (np.array([row[at] for row in rows]) for at in range(3))
    zeros = np.zeros(len(rows), np.int64)
    maps = np.zeros((len(rows), 2, 3), np.float32)
    return Copies(first.astype(np.int64), second.astype(np.int64), zeros, score.astype(np.float32), zeros, maps)


# --- where a part lies


def test_windows() -> None:
    windows = alignment.Windows(10, 1, slack=0, tolerance=0.1)  # the whole; and 9/10 of both sides at four places
    corners = [[0, 0, 9, 9], [1, 0, 10, 9], [0, 1, 9, 10], [1, 1, 10, 10]]
    assert (windows.rectangles * 10).round(4).tolist() == [[0, 0, 10, 10], *corners]
    assert len(alignment.Windows(10, 1, slack=1, tolerance=0.1)) == 9  # and 9/10 of one side
    assert len(alignment.coarse()) == 30
    assert len(alignment.fine()) == 364


def test_a_windows_direction_is_that_of_the_part_cut_out(originals: list[np.ndarray]) -> None:
    picture = np.asarray(Image.fromarray(originals[0]).resize((320, 320)))
    windows = alignment.Windows(10, 2, slack=0, tolerance=0.1)
    views = windows.directions(look(picture).thumbnail[None])[0]
    for view, (left, top, right, bottom) in zip(views, (windows.rectangles * 320).astype(int), strict=True):
        cut = alignment.directions(spectra(look(picture[top:bottom, left:right]).thumbnail[None]))[0]
        assert view @ cut > 0.97  # the window is sampled from 32 pixels, the part from 256


@pytest.mark.parametrize("turn", range(8))
def test_a_part_is_found_where_it_lies_however_it_lies(originals: list[np.ndarray], turn: int) -> None:
    picture = originals[0]
    height, width = picture.shape[:2]
    part = picture[height * 2 // 14 : height * 12 // 14, width * 1 // 14 : width * 11 // 14]
    turned = np.ascontiguousarray(np.moveaxis(laid(np.moveaxis(part, 2, 0), TURNS[turn]), 0, 2))
    works = seen([turned, picture])
    fit = alignment.fit(works.pictures, pairs((0, 1, turn)), alignment.fine())
    assert fit.structure[0] > 0.95
    assert fit.inner.tolist() == [1]
    assert fit.window[0] * 14 == pytest.approx([1, 2, 11, 12], abs=1.01)
    back = alignment.inverse(np.array([turn]))
    other = alignment.fit(works.pictures, Pairs(np.array([1]), np.array([0]), back), alignment.fine())
    assert (other.inner.tolist(), other.structure[0]) == ([2], pytest.approx(fit.structure[0]))


def test_a_part_of_another_shape_is_no_part(originals: list[np.ndarray]) -> None:
    height, width = originals[0].shape[:2]
    works = seen([originals[0][height // 7 : -height // 7, width // 7 : -width // 7], originals[0]])
    stretched = works.pictures._replace(aspects=works.pictures.aspects + np.array([0.5, 0], np.float32))
    asked = pairs((0, 1, 0))
    assert alignment.fit(works.pictures, asked, alignment.fine()).inner.tolist() == [1]
    assert alignment.fit(stretched, asked, alignment.fine()).inner.tolist() == [0]


def test_inverse_turns_undo() -> None:
    picture = np.arange(12).reshape(3, 4)
    for number, turn in enumerate(TURNS):
        back = TURNS[int(alignment.inverse(np.array([number]))[0])]
        assert np.array_equal(laid(laid(picture, turn), back), picture)


# --- laid over each other


def test_a_map_is_found_again(originals: list[np.ndarray]) -> None:
    outer = np.stack([look(picture).thumbnail for picture in originals[:8]]).astype(np.float32)
    true = np.array([[0.8, 0.03, 0.05], [-0.03, 0.75, -0.04]], np.float32)
    inner, within = registration.sample(outer, np.tile(true, (8, 1, 1)))
    assert within.all()
    begun = registration.into_windows(np.tile(np.array([[0.14, 0.07, 0.93, 0.8]], np.float32), (8, 1)))
    before = registration.register(outer, inner, begun, 0)
    after = registration.register(outer, inner, begun, 8)
    assert np.array_equal(before.maps, begun)
    assert (after.score >= before.score).all()
    assert np.median(after.score) > 0.99
    assert np.median(np.abs(after.maps - true).max(axis=(1, 2))) < 0.01


def test_sampling_by_hand() -> None:
    ramp = np.repeat(np.arange(32, dtype=np.float32)[None], 32, axis=0)[None]
    same = registration.into_windows(np.array([[0, 0, 1, 1]], np.float32))
    values, within = registration.sample(ramp, same)
    assert np.allclose(values, ramp, atol=0.01)
    assert within.all()
    right_half = registration.into_windows(np.array([[0.5, 0, 1, 1]], np.float32))
    values, _ = registration.sample(ramp, right_half)
    assert values[0, 5, :3] == pytest.approx([15.75, 16.25, 16.75], abs=1e-3)  # middles of half pixels from 16 on
    beyond = same + np.array([[[0, 0, 0.5], [0, 0, 0]]], np.float32)
    values, within = registration.sample(ramp, beyond)
    assert within[0].sum() == 16 * 32
    assert values[0, 0, -1] == pytest.approx(31, abs=0.01)  # the edge


def test_correlation_is_numpys_and_weighted() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 3, 50)).astype(np.float32)
    weights = np.ones((3, 50), np.float32)
    expected = [np.corrcoef(x, y)[0, 1] for x, y in zip(a, b, strict=True)]
    assert registration.correlation(a, b, weights) == pytest.approx(expected, abs=1e-4)
    weights[:, 25:] = 0
    expected = [np.corrcoef(x[:25], y[:25])[0, 1] for x, y in zip(a, b, strict=True)]
    assert registration.correlation(a, b, weights) == pytest.approx(expected, abs=1e-4)
    assert registration.correlation(a * 0, b, weights).tolist() == [0, 0, 0]


def test_tones_are_no_details(originals: list[np.ndarray]) -> None:
    picture = look(originals[0]).thumbnail[None].astype(np.float32)
    darker = 0.5 * picture + 20
    whole = registration.into_windows(np.array([[0, 0, 1, 1]], np.float32))
    assert registration.register(picture, darker, whole, 0).score[0] > 0.99
    nothing = np.zeros((0, 32, 32), np.float32)
    assert registration.register(nothing, nothing, np.zeros((0, 2, 3), np.float32), 2).score.shape == (0,)


# --- candidates


def test_pairs_the_other_way_round_are_the_same_pair() -> None:
    quarter = next(n for n, turn in enumerate(TURNS) if turn == (True, True, False))
    back = int(alignment.inverse(np.array([quarter]))[0])
    first, second, turn = np.array([[3, 1, quarter], [1, 3, back], [2, 2, 0], [1, 3, 0], [0, 1, 5]]).T
    found = candidates.unique(first, second, turn)
    assert list(zip(*(column.tolist() for column in found), strict=True)) == [(0, 1, 5), (1, 3, 0), (1, 3, back)]
    assert [len(column) for column in candidates.unique(NOTHING, NOTHING, NOTHING)] == [0, 0, 0]


def test_nearest_embeddings_are_those_of_brute_force() -> None:
    matrix = np.random.default_rng(0).normal(size=(300, 12)).astype(np.float32)
    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    matrix[7] = 0
    projected = candidates.project(matrix)
    assert projected.shape == (300, 12)
    assert np.linalg.norm(projected, axis=1) == pytest.approx(np.ones(300), abs=1e-4)
    embedded = np.arange(300) != 7
    found = candidates.near_embeddings(projected, embedded, 3)
    similarities = projected @ projected.T
    similarities[:, 7] = similarities[7] = -1
    np.fill_diagonal(similarities, -1)
    nearest = np.argsort(-similarities, axis=1)[:, :3]
    expected = {
        (min(row, other), max(row, other))
        for row in range(300)
        for other in nearest[row].tolist()
        if similarities[row, other] >= candidates.SIMILARITY_MIN
    }
    assert set(zip(found.first.tolist(), found.second.tolist(), strict=True)) == expected


def test_cells_find_nearly_what_all_comparisons_find(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(3_000, 32)).astype(np.float32)
    matrix[1::2] = matrix[::2] + rng.normal(size=(1_500, 32)) * 0.2  # pairs
    projected = candidates.project(matrix)
    every = np.ones(len(matrix), bool)
    monkeypatch.setattr(candidates, "EXACT_ROWS", 1_000)
    found = candidates.near_embeddings(projected, every, 1)
    linked = set(zip(found.first.tolist(), found.second.tolist(), strict=True))
    assert sum((row, row + 1) in linked for row in range(0, 3_000, 2)) > 1_350


# --- groups


def members(count: int, found: Copies, pixels: Sequence[int] | None = None) -> list[list[int]]:
    groups = duplicates.groups(count, found, np.array(pixels if pixels is not None else [1] * count))
    assert (groups.pair < 0).tolist() == [row == 0 or g != groups.group[row - 1] for row, g in enumerate(groups.group)]
    return [groups.member[groups.group == group].tolist() for group in range(int(groups.group.max(initial=-1)) + 1)]


def test_who_has_most_copies_represents_the_group() -> None:
    assert members(5, copies((0, 2, 0.9), (1, 2, 0.9), (2, 4, 0.9))) == [[2, 0, 1, 4]]
    assert members(3, copies()) == []
    assert members(2, copies((0, 1, 0.9))) == [[0, 1]]
    assert members(2, copies((0, 1, 0.9)), [10, 20]) == [[1, 0]]  # the larger picture


def test_chains_are_cut() -> None:
    chain = copies(*((row, row + 1, 0.9) for row in range(9)))
    groups = members(10, chain)
    assert max(map(len, groups)) <= 4
    assert sorted(itertools.chain(*groups)) == list(range(10))  # nobody with a copy is left alone


def test_a_picture_whose_copies_are_others_members_joins_the_most_alike() -> None:
    # 0 and 5 have three copies each; 4 is like a copy of either, more like the second's
    found = copies(*((0, other, 0.9) for other in (1, 2, 3)), *((5, other, 0.9) for other in (6, 7, 8)))
    found = duplicates._merged([found, copies((3, 4, 0.91), (4, 8, 0.95))])
    assert members(9, found) == [[0, 1, 2, 3], [5, 4, 6, 7, 8]]
    groups = duplicates.groups(9, found, np.ones(9, np.int64))
    link = groups.pair[groups.member.tolist().index(4)]
    assert (found.first[link], found.second[link]) == (4, 8)


def test_components() -> None:
    assert duplicates.components(6, copies((4, 5, 1), (1, 3, 1), (0, 3, 1))).tolist() == [0, 0, 2, 0, 4, 4]
    ring = copies(*((min(n, (n + 1) % 50), max(n, (n + 1) % 50), 1) for n in range(50)))
    assert duplicates.components(50, ring).tolist() == [0] * 50


# --- all of it


def test_copies_are_found_and_told_apart(originals: list[np.ndarray]) -> None:
    kinds = [
        "JPEG",
        "cropped 20 %",
        "border",
        "mirrored",
        "turned 90 to 270°",
        "turned 1 to 5°",
        "old photograph",
        "grey",
    ]
    pictures = list(originals)
    pictures += [made(originals[number], kind, number) for number, kind in enumerate(kinds)]
    works = seen(pictures)
    found = duplicates.find(works)
    told = dict(zip(found.second.tolist(), found.first.tolist(), strict=True))
    assert told == {20 + number: number for number in range(len(kinds))}
    words = [each.split(", ") for each in why(works, found)]
    expected = ["same", "cropped", "framed", "mirrored", "turned", "skewed", None, "colour"]
    for row, number in enumerate(found.first.tolist()):
        assert set(words[row]) <= set(WORDS)
        assert expected[number] is None or words[row] == [expected[number]], kinds[number]
    assert duplicates.find(works, threads=3).score.tolist() == found.score.tolist()


def test_copies_of_copies_are_compared_with_the_representative(originals: list[np.ndarray]) -> None:
    works = seen([made(originals[0], kind, 0) for kind in KINDS if kind != "text"])
    found = duplicates.find(works)
    groups = duplicates.groups(len(works.files), found, works.pixels)
    assert groups.group.tolist() == [0] * (len(KINDS) - 1)


def test_equal_files_are_copies_even_without_structure() -> None:
    blank = np.full((40, 30, 3), 250, np.uint8)
    works = seen([blank, blank, blank])
    assert len(duplicates.find(works).first) == 0  # nothing says that they show the same
    found = duplicates.find(works._replace(files=np.array([4, 4, 9])))
    assert (found.first.tolist(), found.second.tolist(), found.score.tolist()) == ([0], [1], [1.0])
    assert why(works._replace(files=np.array([4, 4, 9])), found) == ["identical"]


def test_no_pictures_and_one() -> None:
    for pictures in ([], [np.zeros((20, 20, 3), np.uint8)]):
        works = seen(pictures)
        found = duplicates.find(works)
        assert len(found.first) == 0 == len(why(works, found))
        assert len(duplicates.groups(len(pictures), found, works.pixels).member) == 0
