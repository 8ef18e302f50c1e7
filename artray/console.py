"""What a person reads: tables and lines on stdout, free of what an archive's texts could do to a terminal."""

import sys
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

BIDI: Final = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c")
UNSAFE: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Unicode's categories of characters that control, that are none, or that end a line."""

CELL_CHARACTERS: Final = 60
WIDE: Final = 240


class _Console(Console):
    """Leaves it to the command what a reader who has seen enough means."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def console() -> Console:
    """Standard output; where it is no terminal, lines are as long as they need to be."""
    return _Console(highlight=False, emoji=False, width=None if sys.stdout.isatty() else WIDE)


def safe(value: object) -> str:
    r"""A value as one line of text: characters that could move a cursor, end a line or turn writing round are shown.

    >>> safe("a\x1b[31mb\n"), safe(None), safe(0.5)
    ('a\\x1b[31mb\\n', '', '0.5')
    """
    text = "" if value is None else str(value)
    return "".join(_escaped(c) if c in BIDI or unicodedata.category(c) in UNSAFE else c for c in text)


def safe_lines(text: str) -> str:
    """Like :func:`safe`, of text whose line breaks are artray's own."""
    return "\n".join(map(safe, text.split("\n")))


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    """A plain table; long cells are cut."""
    made = Table(*columns, box=box.SIMPLE_HEAD, pad_edge=False)
    for row in rows:
        made.add_row(*[Text(_short(safe(value)), overflow="fold") for value in row])
    return made


def record(values: Mapping[str, Any]) -> Table:
    """One record, a line per column that says something, nothing cut but the embedding."""
    made = Table(box=None, show_header=False, pad_edge=False)
    for name, value in values.items():
        if value not in (None, "", [], {}):
            made.add_row(Text(name, style="bold"), Text(safe(_whole(value)), overflow="fold"))
    return made


def _whole(value: Any) -> str:
    """A value of a record in words.

    >>> _whole({"painting": 0.93751}), _whole([{"class_name": "face", "score": 0.98}]), _whole([0.0] * 1280)
    ('painting 0.938', 'face 0.980', '1280 numbers')
    """
    if isinstance(value, dict):
        return ", ".join(f"{key} {_number(entry)}" for key, entry in value.items())
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return ", ".join(_scored_name(found) for found in value)
    if isinstance(value, list):
        return f"{len(value)} numbers" if len(value) > 8 else ", ".join(map(_number, value))
    return _number(value)


def _scored_name(found: Mapping[str, Any]) -> str:
    """An object or a duplicate in words."""
    words = (found.get("class_name") or found.get("image_id"), found.get("score"), found.get("why"))
    return " ".join(_number(word) for word in words if word is not None)


def _short(text: str) -> str:
    return text if len(text) <= CELL_CHARACTERS else f"{text[: CELL_CHARACTERS - 1]}…"


def works(found: Sequence[Mapping[str, Any]], first: Sequence[str] = ()) -> Table:
    """Works as people look at them: what it is, how sure artray is, what is on it, what the museum says."""
    columns = [*first, "image", "type", "genre", "objects", "title", "artist"]
    return table(columns, [[*[_number(work[name]) for name in first], *_cells(work)] for work in found])


def _cells(work: Mapping[str, Any]) -> list[str]:
    if work.get("error"):
        reason = f"({': '.join(filter(None, (work['error'], work.get('error_detail'))))})"
        return [work["image_id"], "", reason, "", _said(work, "title"), _said(work, "artist")]
    return [
        work["image_id"],
        _scored(work, "type"),
        _scored(work, "genre"),
        _objects(work.get("objects") or []),
        _said(work, "title"),
        _said(work, "artist"),
    ]


def _scored(work: Mapping[str, Any], name: str) -> str:
    return f"{work[name]} {work[f'{name}_score']:.2f}" if work.get(name) else ""


def _said(work: Mapping[str, Any], key: str) -> str:
    return str((work.get("metadata") or {}).get(key) or "")


def _objects(objects: Sequence[Mapping[str, Any]]) -> str:
    """Counts by class.

    >>> _objects([{"class_name": "face"}, {"class_name": "dog"}, {"class_name": "face"}])
    '2 face, 1 dog'
    """
    names = [found["class_name"] for found in objects]
    return ", ".join(f"{names.count(name)} {name}" for name in dict.fromkeys(names))


def _number(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def counts(title: str, found: Mapping[str, int]) -> Table:
    """Names and how often they occur."""
    return table(
        [title, "boxes" if title == "objects" else "images"], [[name, f"{count:,}"] for name, count in found.items()]
    )
