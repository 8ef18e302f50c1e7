"""The verb duplicates: copies and near-duplicates over a whole store."""

from pathlib import Path
from typing import Annotated, Any, Final

import typer

from artray import api
from artray.commands.guard import Json, StoreArgument, print_json, print_parts, verb

SHOWN: Final = 20
"""So many groups are printed where nobody says how many."""


@verb(
    "artray duplicates /store",
    "artray duplicates /store --out copies.csv",
    "artray duplicates /store --out copies.jpg --min-score 0.95",
)
def duplicates(
    store: StoreArgument,
    min_score: Annotated[
        float | None,
        typer.Option(help="What copies score at least, up to 1; by default 0.9. Less finds more, and errs more."),
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Only the largest so many groups.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Write the groups here: a table (.csv), or a picture of the first 20 (.jpg, .png)."),
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Look for them again even if nothing has changed.")] = False,
    as_json: Json = False,
) -> None:
    """Groups of works that show the same: equal, edited, cropped, framed, mirrored, in colour and in grey."""
    from artray import console
    from artray.pipeline.progress import reporter

    found = api.duplicates(store, min_score=min_score, limit=limit, out=out, again=again, reporter=reporter())
    if as_json:
        return print_json(found)
    shown = found["duplicates"] if limit is not None else found["duplicates"][:SHOWN]
    print_parts(console.table(["group", "image", "why", "score"], [_cells(g, w) for g in shown for w in g["works"]]))
    print_parts(f"{found['members']:,} of {found['images']:,} works are in {found['groups']:,} groups")
    if len(shown) < found["groups"]:
        print_parts("these are the largest; --limit and --out give more")
    if found["note"]:
        print_parts(found["note"])
    if out is not None:
        print_parts(f"written: {out}")
    return None


def _cells(group: dict[str, Any], work: dict[str, Any]) -> list[str]:
    if work["of"] is None:
        return [str(group["group_id"]), work["image_id"], "", ""]
    elsewhere = "" if work["of"] == group["representative"] else f" (of {work['of']})"
    return ["", work["image_id"], f"{work['why']}{elsewhere}", f"{work['score']:.3f}"]
