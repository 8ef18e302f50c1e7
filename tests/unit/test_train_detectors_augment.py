"""What a training shows of a picture: boxes stay around what they are of."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from artray.detect.composite import CutOut
from artray.errors import ConfigError
from artray.train.detectors import augment
from artray.train.detectors.augment import Scene
from artray.train.detectors.cutouts import CutOuts
from artray.train.detectors.profile import AugmentBoxes, PasteConfig

NOTHING = {"mirrored": 0, "cropped": 0, "toned": 0, "artify": 0, "greyscale": 0, "canvas_share": [1, 1]}
WHITE = 255


def scene(size: tuple[int, int] = (80, 120), box: tuple[int, int, int, int] = (30, 20, 70, 50)) -> Scene:
    """A white rectangle on black, whose box is known."""
    image = np.zeros((*size, 3), np.uint8)
    image[box[1] : box[3], box[0] : box[2]] = WHITE
    return Scene(image, np.array([box], float), np.array([3]), np.zeros(1, bool))


def around(image: np.ndarray) -> list[int]:
    """The box around what is white."""
    rows, columns = np.nonzero(image.min(axis=2) > 200)
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize(
    "changes",
    [{}, {"mirrored": 1}, {"canvas_share": [0.3, 0.9]}, {"cropped": 1, "crop_share": [0.8, 1], "mirrored": 0.5}],
)
def test_the_box_is_around_the_rectangle(changes: dict[str, object], seed: int) -> None:
    cfg = AugmentBoxes.model_validate(NOTHING | changes)
    shown = augment.shown(scene(), 160, cfg, np.random.default_rng(seed))
    assert shown.image.shape == (160, 160, 3)
    if len(shown.boxes_xyxy) and not shown.ignored[0]:
        assert shown.boxes_xyxy[0] == pytest.approx(around(shown.image), abs=1.5)
        assert shown.class_ids.tolist() == [3]


def test_it_is_shown_as_the_detector_shows_it_where_nothing_is_done() -> None:
    plain, drawn_wh = augment.plain(scene(), 160)
    assert drawn_wh == (160, 107)
    assert plain.boxes_xyxy[0] == pytest.approx(around(plain.image), abs=1)
    assert plain.boxes_xyxy[0] == pytest.approx(np.array([30, 20, 70, 50]) * 160 / 120, abs=1)
    assert (plain.image[-1] == 114).all()


def test_what_a_crop_shows_too_little_of_is_ignored_and_what_it_does_not_show_is_gone() -> None:
    wide = Scene(
        np.zeros((100, 100, 3), np.uint8),
        np.array([[0.0, 0, 100, 100], [0, 0, 30, 30], [45, 45, 55, 55]]),
        np.arange(3),
        np.zeros(3, bool),
    )
    cfg = AugmentBoxes(crop_share=(0.5, 0.5), seen_min=0.35)
    ids, ignored = set[int](), set[int]()
    for seed in range(40):
        shown = augment.cropped(wide, np.random.default_rng(seed), cfg)
        assert shown.image.shape == (50, 50, 3)
        ids |= {len(shown.class_ids)}
        ignored |= set(shown.class_ids[shown.ignored].tolist())
        assert shown.ignored[shown.class_ids == 0].all()  # a quarter of it is seen
        assert (shown.boxes_xyxy >= 0).all()
        assert (shown.boxes_xyxy <= 50).all()
    assert len(ids) > 1
    assert 0 in ignored


def test_the_same_lot_shows_the_same() -> None:
    cfg = AugmentBoxes(artify=0.5)
    first, second = (augment.shown(scene(), 96, cfg, np.random.default_rng(5)) for _ in range(2))
    assert (first.image == second.image).all()
    assert (first.boxes_xyxy == second.boxes_xyxy).all()


def test_pasted_objects_have_boxes_and_what_they_hide_is_ignored() -> None:
    cut = CutOut(np.full((40, 40, 4), WHITE, np.uint8), 7)
    cfg = AugmentBoxes(paste=PasteConfig(cutouts="none", side_share=(0.99, 1.0)))
    shown = augment.pasted(scene((80, 80), (30, 30, 40, 40)), [cut], np.random.default_rng(0), cfg)
    assert shown.class_ids.tolist() == [3, 7]
    assert shown.ignored.tolist() == [True, False]
    assert shown.boxes_xyxy[1, 2] - shown.boxes_xyxy[1, 0] == pytest.approx(79, abs=1)


def write_cutouts(folder: Path) -> Path:
    for name, alpha in (("dog", 0), ("solid", 255)):
        pixels = np.full((20, 20, 4), WHITE, np.uint8)
        pixels[:5, :, 3] = alpha
        Image.fromarray(pixels).save(folder / f"{name}.png")
    rows = ("file,class", "dog.png,Animal-Dog", "solid.png,Animal-Dog", "away.png,Animal-Dog", "dog.png,Book")
    (folder / "cutouts.csv").write_text("\n".join(rows) + "\n")
    return folder / "cutouts.csv"


def test_cut_outs_that_are_none_are_told(tmp_path: Path) -> None:
    table = write_cutouts(tmp_path)
    found = CutOuts(PasteConfig(cutouts=str(table), most=2), ["cat", "dog"])
    assert {class_id: len(files) for class_id, files in found.files.items()} == {1: 1}
    assert [line.partition(": ")[0] for line in found.left_out] == [
        "cutouts.csv line 3 (solid.png)",
        "cutouts.csv line 4 (away.png)",
    ]
    drawn = [found(np.random.default_rng(seed)) for seed in range(20)]
    assert {len(each) for each in drawn} == {1, 2}
    assert {(cut.class_id, cut.pixels.shape) for each in drawn for cut in each} == {(1, (20, 20, 4))}
    with pytest.raises(ConfigError, match=r"^augment.paste: expected cut-outs of ship, found none in "):
        CutOuts(PasteConfig(cutouts=str(table)), ["ship"])
