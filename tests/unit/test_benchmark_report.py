"""The benchmarks' own arithmetic: medians, ratios, and the page that shows them."""

import os
from typing import Any

import pytest

from tests.benchmarks import contest, observe, report, work


def once(images_per_s: float, wall_s: float) -> dict[str, Any]:
    return {"images_per_s": images_per_s, "wall_s": wall_s, "processing_s": 1.0, "busy_cores": 2.0}


KNOWN = {
    "artray": contest.Contestant("artray", "ours", contest.artray),
    "loop": contest.Contestant("loop", "theirs", contest.rival("bare_loop"), 1.5),
    "gone": contest.Contestant("gone", "not there", contest.rival("bare_loop"), 1.0, "no-such-package"),
}


def measured() -> dict[str, Any]:
    rounds = {
        "artray": [once(8, 30), once(100, 1), once(9, 20)],  # the median is 9, whatever the outlier
        "loop": [once(4, 10), {"failure": "fell over"}, once(6, 12)],  # a failed round is left out
        "gone": [{"failure": "no-such-package is not installed"}],
    }
    return contest.summarise(rounds, KNOWN)


def test_ratios_are_within_rounds_and_failed_rounds_do_not_count() -> None:
    result = measured()
    assert result["artray"]["median"]["images_per_s"] == 9
    assert result["loop"]["ratio"] == pytest.approx((8 / 4 + 9 / 6) / 2)  # within rounds, then the median
    assert "ratio" not in result["artray"]
    assert "ratio" not in result["gone"]


def test_the_page_says_what_is_met_and_what_could_not_run() -> None:
    page = report.throughput(measured(), images=10, rounds=3)
    assert "| loop | 5.00 (4.00 to 6.00) | 11.0 | 2.00 | 1.75 x | 1.5 x | met |" in page
    assert "no-such-package is not installed" in page


def test_sections_that_were_not_measured_stay_and_say_when_they_were() -> None:
    before = "# B\n\n## Machine\n\nThen; X.\n\n## Speed: 3 runs\n\nFast.\n\n| a |\n\n## Size: 2 GB\n\nSmall.\n"
    page = report.kept("# B\n\nNew.\n\n## Machine\n\nNow; X.\n\n## Speed: 4 runs\n\nFaster.\n", before)
    assert page == (
        "# B\n\nNew.\n\n## Machine\n\nNow; X.\n\n## Speed: 4 runs\n\nFaster.\n\n"
        "## Size: 2 GB\n\nSmall. Measured on another day: Then.\n"
    )
    assert report.kept("# B\n\n## Machine\n\nLater; X.\n", page).endswith("Measured on another day: Then.\n")


def test_memory_that_grows_too_much_is_missed() -> None:
    runs = [{"images": 10, "peak_bytes": 100 * 2**20, "wall_s": 1.0}, {"images": 99, "peak_bytes": 0, "wall_s": 1.0}]
    assert "+16.0%; at most 15%: missed" in report.memory({"runs": runs, "growth": 0.16, "growth_max": 0.15})


def test_a_picture_opened_is_seen_from_outside(tmp_path: Any) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.JPG").write_bytes(b"x")
    (tmp_path / "works.csv").write_bytes(b"x")
    with observe.FirstRead(tmp_path) as first:
        (tmp_path / "works.csv").read_bytes()  # not a picture
        list((tmp_path / "a").iterdir())  # a folder
        assert first.at is None
        (tmp_path / "a" / "1.JPG").read_bytes()
        first._thread.join(5)
    assert first.at is not None


def test_memory_of_a_tree_counts_this_process() -> None:
    assert observe.tree_bytes(os.getpid()) > 2**20


def test_fit_keeps_small_pictures_and_shrinks_large_ones() -> None:
    import numpy as np

    small = np.zeros((10, 20, 3), np.uint8)
    assert work.fit(small, 20) is small
    assert work.fit(np.zeros((100, 200, 3), np.uint8), 20).shape == (10, 20, 3)
