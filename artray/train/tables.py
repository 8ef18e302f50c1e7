"""An experiment's table in the report's layout, measured beside published figures, as Markdown and as CSV."""

import csv
import io
import math
import statistics
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from artray.location import Location

if TYPE_CHECKING:
    from artray.train.grid import Grid, Row


class Line(NamedTuple):
    """What a row of an experiment came to."""

    row: "Row"
    values: list[list[float]]  # per column, of every repeat


class Cell(NamedTuple):
    """A figure and its place in the table."""

    line: str
    column: str
    values: list[float]  # of every repeat
    published: str


def write(grid: "Grid", lines: Sequence[Line], out: Location) -> None:
    """Write OUT/table.md, OUT/table.csv and OUT/repeats.csv."""
    found = list(cells(grid, lines))
    (out / "table.md").write_bytes(markdown(grid, lines).encode())
    (out / "table.csv").write_bytes(table(found).encode())
    (out / "repeats.csv").write_bytes(repeats(found).encode())


def cells(grid: "Grid", lines: Sequence[Line]) -> Iterator[Cell]:
    """Every figure, in the order of the report's table."""
    for row, values in lines:
        for number, (column, measured) in enumerate(zip(grid.columns, values, strict=True)):
            published = (row.published[number] if row.published else None) or ""
            line, title = row.place or (row.name, column.title)
            at = (title, line) if grid.transposed else (line, title)
            yield Cell(*at, measured, published)


def told(grid: "Grid", lines: Sequence[Line]) -> dict[str, Any]:
    """The table as JSON has it; nothing was measured where there is None."""
    rows = [
        {
            "name": line.row.name,
            "measured": [[None if math.isnan(value) else value for value in values] for values in line.values],
            "published": list(line.row.published),
        }
        for line in lines
    ]
    return {"markdown": markdown(grid, lines), "rows": rows, "columns": [column.title for column in grid.columns]}


def markdown(grid: "Grid", lines: Sequence[Line]) -> str:
    """The table as Markdown: measured (mean and deviation over repeats), and published if anything is, by column."""
    found, shows = list(cells(grid, lines)), 2 if any(row.published for row in grid.rows) else 1
    heads = [text for column in _columns(found) for text in (column, "published")[:shows]]
    rows = [f"| | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    for line in dict.fromkeys(cell.line for cell in found):
        at = {cell.column: (shown(cell.values), cell.published) for cell in found if cell.line == line}
        texts = [text for column in _columns(found) for text in at.get(column, ("", ""))[:shows]]
        rows.append(f"| {line} | {' | '.join(texts)} |")
    return "\n".join([f"# {grid.title}", "", *([grid.note, ""] if grid.note else []), *rows, ""])


def table(found: Sequence[Cell]) -> str:
    """The same as CSV: mean, deviation (empty of one repeat) and published, column by column."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["", *(head for name in _columns(found) for head in (name, f"{name}, deviation", "published"))])
    for line in dict.fromkeys(cell.line for cell in found):
        at = {cell.column: cell for cell in found if cell.line == line}
        values: list[str] = []
        for column in _columns(found):
            cell = at.get(column)
            values += ["", "", ""] if cell is None else [*_numbers(cell.values), cell.published]
        writer.writerow([line, *values])
    return text.getvalue()


def repeats(found: Sequence[Cell]) -> str:
    """A line per figure and repeat as CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["line", "column", "repeat", "measured", "published"])
    for cell in found:
        for repeat, value in enumerate(cell.values):
            writer.writerow([cell.line, cell.column, repeat, _number(value), cell.published])
    return text.getvalue()


def shown(values: Sequence[float]) -> str:
    """Mean and standard deviation of repeats; nothing where a figure is not defined.

    >>> shown([0.9, 0.92, 0.94]), shown([0.5]), shown([math.nan])
    ('0.920 ± 0.020', '0.500', '')
    """
    if any(map(math.isnan, values)):
        return ""
    mean = f"{statistics.fmean(values):.3f}"
    return f"{mean} ± {statistics.stdev(values):.3f}" if len(values) > 1 else mean


def _numbers(values: Sequence[float]) -> tuple[str, str]:
    if any(map(math.isnan, values)):
        return "", ""
    return _number(statistics.fmean(values)), _number(statistics.stdev(values)) if len(values) > 1 else ""


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.6f}"


def _columns(found: Sequence[Cell]) -> list[str]:
    return list(dict.fromkeys(cell.column for cell in found))
