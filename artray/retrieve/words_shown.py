"""A sheet of visual words: for each, regions of pictures that are said by it (the report's Figure 9)."""

import heapq
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from artray.classify.inputs import Image, resized
from artray.errors import ConfigError
from artray.retrieve import descriptors, vocabulary
from artray.retrieve.regions import RegionSettings

Floats: TypeAlias = NDArray[np.float32]
Doubles: TypeAlias = NDArray[np.float64]

Patches: TypeAlias = list[Image]
"""Of one word: uint8[S, S, 3] RGB each."""

GAP_PX: Final = 4
GROUND: Final = 255


def sheet(
    pictures: Iterable[Image],
    words: Floats,
    chosen: Sequence[int],
    settings: RegionSettings,
    *,
    columns: int = 6,
    rows: int = 6,
    patch_px: int = 64,
    seed: int = 0,
) -> PillowImage.Image:
    """A panel per chosen word, side by side: at most ``columns * rows`` regions of it, as they look.

    Args:
        pictures: uint8[H, W, 3] RGB of any sizes, read once.
        words: float32[K, 128] of :func:`artray.retrieve.vocabulary.learn`.
        chosen: words by their index in it, at least one.
        settings: as the card has them.
        columns: of patches in a panel.
        rows: likewise.
        patch_px: side of a patch.
        seed: of the choice among a word's regions: each picture that has the word shows one.

    Returns:
        An RGB image; a word that no picture has gets an empty panel.

    Raises:
        ConfigError: no word is chosen, or one that is not in the vocabulary.

    Source: report, Image Retrieval, section 7.2 and Figure 9.
    """
    if not chosen or min(chosen) < 0 or max(chosen) >= len(words):
        raise ConfigError(f"words: expected some of 0 to {len(words) - 1}, got {', '.join(map(str, chosen)) or 'none'}")
    found = examples(pictures, words, chosen, settings, columns * rows, patch_px, seed)
    step = patch_px + GAP_PX
    panels = [panel(found[word], columns, rows, patch_px) for word in chosen]
    ground = np.full((rows * step + GAP_PX, GAP_PX, 3), GROUND, np.uint8)
    joined = [part for one in panels for part in (one, ground)][:-1]
    return PillowImage.fromarray(np.concatenate(joined, axis=1))


def examples(
    pictures: Iterable[Image],
    words: Floats,
    chosen: Sequence[int],
    settings: RegionSettings,
    most: int,
    patch_px: int,
    seed: int = 0,
) -> dict[int, Patches]:
    """Of each chosen word at most ``most`` regions, of pictures chosen at random among those that have it."""
    random = np.random.default_rng(seed)
    kept: dict[int, list[tuple[float, int, Image]]] = {word: [] for word in chosen}
    for number, picture in enumerate(pictures):
        for word, patch in _of(picture, words, chosen, settings, patch_px, random):
            entry = (float(random.random()), number, patch)
            if len(kept[word]) < most:
                heapq.heappush(kept[word], entry)
            else:
                heapq.heappushpop(kept[word], entry)
    return {word: [patch for _, _, patch in sorted(kept[word], key=lambda entry: entry[1])] for word in chosen}


def panel(patches: Sequence[Image], columns: int, rows: int, patch_px: int) -> Image:
    """uint8[H, W, 3]: patches uint8[S, S, 3] row by row, with gaps between and around them."""
    step = patch_px + GAP_PX
    ground = np.full((rows * step + GAP_PX, columns * step + GAP_PX, 3), GROUND, np.uint8)
    for number, patch in enumerate(patches[: columns * rows]):
        y, x = (GAP_PX + step * at for at in divmod(number, columns))
        ground[y : y + patch_px, x : x + patch_px] = patch
    return ground


def patch_of(picture: Image, centre_xy: Doubles, frame: Doubles, patch_px: int) -> Image:
    """uint8[S, S, 3]: what a region shows, its ellipse drawn as the circle within the square.

    Args:
        picture: uint8[H, W, 3].
        centre_xy: float64[2] px of the picture.
        frame: float64[2, 2] px, see :class:`artray.retrieve.regions.Regions`.
        patch_px: S.
    """
    finer = max(1, round(float(np.linalg.norm(frame, 2)) * 2 / patch_px))
    side = patch_px * finer
    scaled = frame * (2 / side)
    corner = centre_xy - scaled @ np.full(2, (side - 1) / 2)
    matrix = np.concatenate([scaled, corner[:, None]], axis=1)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    drawn = cv2.warpAffine(picture, matrix, (side, side), flags=flags, borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(cv2.resize(drawn, (patch_px, patch_px), interpolation=cv2.INTER_AREA), np.uint8)


def _of(
    picture: Image,
    words: Floats,
    chosen: Sequence[int],
    settings: RegionSettings,
    patch_px: int,
    random: np.random.Generator,
) -> Iterator[tuple[int, Image]]:
    """One region of the picture for each chosen word that it has."""
    found, described = descriptors.describe(picture, settings)
    ids = vocabulary.nearest(described, words)
    sized = resized(picture, settings.longer_side_px, "longer")
    for word in dict.fromkeys(chosen):
        if len(rows := np.flatnonzero(ids == word)):
            row = random.choice(rows)
            yield word, patch_of(sized, found.centres_xy[row], found.frames[row], patch_px)
