"""The shipped pictures and what works.csv says of them."""

import numpy as np
import pytest
from PIL import Image

from artray.archive.sample import make_drawings
from artray.archive.sample.works import FOLDER, shipped
from artray.taxonomy import GENRES

MEGABYTE = 1_000_000


def test_every_picture_has_one_row_and_every_row_its_picture():
    files = [work.file for work in shipped()]
    assert len(files) == len(set(files)) == 61
    assert set(files) == {path.name for path in (FOLDER / "images").iterdir()}


def test_the_package_stays_small():
    assert sum(work.path.stat().st_size for work in shipped()) < 8 * MEGABYTE


def test_rows_are_complete():
    for work in shipped():
        assert all((work.title, work.artist, work.type, work.licence, work.source, work.note)), work
        assert work.type in ("painting", "drawing", "print"), work
        assert work.genre in ("", *GENRES), work


def test_the_first_few_show_every_type():
    assert {work.type for work in shipped()[:6]} == {"painting", "drawing", "print"}


def test_every_picture_decodes():
    for work in shipped():
        with Image.open(work.path) as image:
            image.load()
            assert image.format == {".jpg": "JPEG", ".png": "PNG"}[work.path.suffix]


def test_made_drawings_say_so_and_keep_their_origins_licence():
    by_file = {work.file: work for work in shipped()}
    origins = make_drawings.origins()
    assert len(origins) == 20
    for file, origin in origins.items():
        work = by_file[file]
        assert (work.type, origin.type) == ("drawing", "painting")
        assert work.note.startswith(f"made from {origin.file} by the report's painting-to-drawing conversion")
        assert (work.artist, work.year, work.genre, work.licence, work.source) == (
            *(origin.artist, origin.year, origin.genre),
            *(origin.licence, origin.source),
        )


@pytest.mark.parametrize("file", ["drawing_fc_mon_pierre.jpg", "drawing_wp_morisot_daffodils.jpg"])
def test_the_recipe_makes_the_shipped_drawings(file):
    shipped_drawing = np.asarray(Image.open(FOLDER / "images" / file).convert("RGB"), np.int16)
    made = make_drawings.convert(make_drawings.origins()[file].path).astype(np.int16)
    assert made.shape == shipped_drawing.shape
    assert np.abs(made - shipped_drawing).mean() < 5  # levels of 255: what JPEG of quality 85 does to fine strokes


def test_the_recipe_writes_every_drawing(tmp_path):
    make_drawings.main(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(make_drawings.origins())
