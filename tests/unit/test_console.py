"""What reaches a terminal is harmless, whatever an archive's texts hold."""

import io

import pytest
from rich.console import Console

from artray import console


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]0;title\x07\x1b[2J", r"\x1b]0;title\x07\x1b[2J"),  # sets the title, clears the screen
        ("\x9b31m", r"\x9b31m"),  # the same in one character
        ("a\rb\bc\nd\te", r"a\rb\x08c\nd\te"),
        ("gpj.\u202egnp", r"gpj.\u202egnp"),  # shows gnp.jpg
        ("a\u2028b\u2029c", r"a\u2028b\u2029c"),  # line separators
        ("a\u200bb\ufeffc\u00add", r"a\u200bb\ufeffc\xadd"),  # no width
        ("\udcff", r"\udcff"),
        ("\ue000", r"\ue000"),
        ("Dürer 素描 🎨 é e\u0301", "Dürer 素描 🎨 é e\u0301"),
    ],
)
def test_control_characters_are_shown_not_obeyed(text: str, shown: str) -> None:
    assert console.safe(text) == shown


def test_lines_of_our_own_stay_lines() -> None:
    assert console.safe_lines("a\x1b\nb") == "a\\x1b\nb"


def printed(renderable: object) -> str:
    out = Console(file=io.StringIO(), width=200, force_terminal=True, color_system=None)
    out.print(renderable)
    return str(out.file.getvalue())  # type: ignore[attr-defined]


def test_tables_obey_no_markup_and_cut_long_cells() -> None:
    text = printed(console.table(["a"], [["[bold]x[/bold] :cat:"], ["y" * 100], [None], ["z\x1b[31m"]]))
    assert "[bold]x[/bold] :cat:" in text
    assert "y" * 59 + "…" in text
    assert "y" * 60 not in text
    assert "z\\x1b[31m" in text


def test_works_with_and_without_results() -> None:
    good = {
        "image_id": "a.jpg",
        **{"type": "drawing", "type_score": 0.987, "genre": None, "genre_score": None},
        "objects": [{"class_name": "dog"}, {"class_name": "face"}, {"class_name": "dog"}],
        "metadata": {"title": "Hare", "artist": None},
        "error": "",
        "score": 0.123456,
        "rank": 1,
    }
    bad = {"image_id": "b.jpg", "error": "truncated", "metadata": None, "score": 0.1, "rank": 2}
    told = bad | {"image_id": "c.jpg", "error": "corrupt", "error_detail": "jpeg: bad Huffman code"}
    text = printed(console.works([good, bad, told], first=("rank", "score")))
    for part in ("drawing 0.99", "2 dog, 1 face", "Hare", "0.123", "(truncated)", "(corrupt: jpeg: bad Huffman code)"):
        assert part in text
    assert "None" not in text
    assert "image" in printed(console.works([]))


def test_counts_have_separators() -> None:
    assert "12,345" in printed(console.counts("types", {"drawing": 12_345}))
