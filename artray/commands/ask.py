"""Verbs that ask a store, and put it right: find, sql, similar, show, correct, evaluate, export."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from artray import api
from artray.commands.guard import (
    GenreOption,
    Json,
    ObjectOption,
    StoreArgument,
    TextOption,
    TypeOption,
    WhereOption,
    print_json,
    print_parts,
    verb,
)
from artray.errors import ConfigError


@verb(
    "artray find /store --type drawing --object faces:0.9x2",
    "artray find /store --where 'year>=1880' --where 'artist~gogh' --json",
)
def find(
    store: StoreArgument,
    type: TypeOption = None,
    genre: GenreOption = None,
    object: ObjectOption = None,
    text: TextOption = None,
    where: WhereOption = None,
    error: Annotated[str | None, typer.Option(help="A kind of error, any, or none.")] = None,
    limit: Annotated[int, typer.Option(help="At most so many works.")] = 20,
    offset: Annotated[int, typer.Option(help="Leave out the first so many.")] = 0,
    sort: Annotated[str, typer.Option(help="A column, -column for falling order, or metadata.KEY.")] = "image_id",
    as_json: Json = False,
) -> None:
    """Find works by type, genre, objects and words; all filters must hold."""
    from artray import console

    found = api.find(
        store,
        type=type,
        genre=genre,
        object=object or (),
        text=text,
        error=error,
        where=where or (),
        limit=limit,
        offset=offset,
        sort=sort,
    )
    if as_json:
        return print_json(found)
    print_parts(console.works(found["works"]), f"{len(found['works']):,} of {found['count']:,} works")
    return None


@verb('artray sql /store "SELECT genre, count(*) FROM works GROUP BY genre"')
def sql(
    store: StoreArgument,
    statement: Annotated[str, typer.Argument(metavar="STATEMENT", help="A SELECT over works, objects and duplicates.")],
    max_rows: Annotated[int, typer.Option(help="At most so many rows.")] = 1_000,
    timeout_s: Annotated[float, typer.Option("--timeout", help="Seconds.")] = 30.0,
    memory: Annotated[str, typer.Option(help="For example 512MB or 4GB.")] = "1GB",
    as_json: Json = False,
) -> None:
    """Ask in SQL (DuckDB's); read-only, bounded in time and memory."""
    from artray import console

    answer = api.sql(store, statement, max_rows=max_rows, timeout_s=timeout_s, memory=memory)
    if as_json:
        return print_json(answer)
    print_parts(console.table(answer["columns"], answer["rows"]))
    if answer["more"]:
        print_parts(f"the first {max_rows:,} rows; --max-rows shows more")
    return None


@verb(
    "artray similar /store a/b.jpg -k 10",
    "artray similar /store photo.jpg --region 100,50,400,300 --type painting",
    "artray similar /store a/b.jpg c/d.jpg --unlike e/f.jpg",
    "artray similar /store a/b.jpg --expand 3",
    "artray similar /store a/b.jpg --method embedding --method colours",
    "artray similar /store --words 'a ship in a storm' --method clip-vit-b-32",
    "artray similar /store --colour '#1e3a5f:2' --colour '#d9c27e' --where 'year<1700'",
)
def similar(
    store: StoreArgument,
    query: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="IMAGE_OR_ID...", help="Image_ids of the store, or any image files; several are meant together."
        ),
    ] = None,
    unlike: Annotated[
        list[str] | None, typer.Option(metavar="IMAGE_OR_ID", help="What they are not to be like.")
    ] = None,
    words: Annotated[list[str] | None, typer.Option(help="What is to be seen, of a --method that knows words.")] = None,
    colour: Annotated[
        list[str] | None, typer.Option(metavar="#RRGGBB[:SHARE]", help="By colours, in the place of pictures.")
    ] = None,
    k: Annotated[int, typer.Option("-k", help="How many.")] = 5,
    region: Annotated[str | None, typer.Option(metavar="x1,y1,x2,y2", help="Pixels of the upright original.")] = None,
    method: Annotated[
        list[str] | None, typer.Option(help="Compare by a method that artray embed added; several are fused.")
    ] = None,
    offset: Annotated[int, typer.Option(help="Leave out so many of the most similar: the next page.")] = 0,
    expand: Annotated[int, typer.Option(help="Add so many of the best works to the query, and ask again.")] = 0,
    type: TypeOption = None,
    genre: GenreOption = None,
    object: ObjectOption = None,
    text: TextOption = None,
    where: WhereOption = None,
    as_json: Json = False,
) -> None:
    """Find works like those of the store, like any pictures, or like a region of one; score 1 is the same."""
    from artray import console
    from artray.store.find import Filters

    filters = Filters(type, genre, tuple(object or ()), text, where=tuple(where or ()))
    found = api.similar(
        store,
        query or (),
        unlike=unlike or (),
        words=words or (),
        colour=colour or (),
        k=k,
        region=_region(region),
        filters=filters,
        method=method,
        offset=offset,
        expand=expand,
    )
    if as_json:
        return print_json(found)
    print_parts(console.works(found["works"], first=("rank", "score")))
    if found.get("note"):
        print_parts(found["note"])
    return None


def _region(text: str | None) -> list[float] | None:
    if text is None:
        return None
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) != 4:
        raise ConfigError(f"--region: expected four numbers x1,y1,x2,y2, got {text}")
    return values


@verb("artray show /store a/b.jpg", "artray show /store a/b.jpg --out boxes.jpg")
def show(
    store: StoreArgument,
    image_id: Annotated[str, typer.Argument(metavar="ID", help="An image_id of the store.")],
    out: Annotated[Path | None, typer.Option(help="Write the picture with its boxes here (.jpg or .png).")] = None,
    as_json: Json = False,
) -> None:
    """One record, and its picture with what was found in it."""
    from artray import console

    record = api.show(store, image_id, out=out)
    if as_json:
        return print_json(record)
    print_parts(console.record(record))
    if out is not None:
        print_parts(f"picture: {out}")
    return None


@verb(
    "artray correct /store a/b.jpg c/d.jpg --type drawing",
    "artray correct /store a/print.jpg --type none --genre portrait --by 'your name'",
)
def correct(
    store: StoreArgument,
    image_ids: Annotated[list[str], typer.Argument(metavar="ID...", help="Image_ids of the store.")],
    type: Annotated[str | None, typer.Option("--type", help="painting, drawing, or none of these.")] = None,
    genre: Annotated[str | None, typer.Option("--genre", help="For example portrait, or none.")] = None,
    by: Annotated[str | None, typer.Option(help="Who says so; by default the user's name.")] = None,
    as_json: Json = False,
) -> None:
    """Put types and genres right: kept beside the records, shown with them, and learned from (kind: corrections)."""
    images = api.correct(store, image_ids, type=type, genre=genre, by=by)
    print_json({"images": images}) if as_json else print_parts(f"{images:,} images put right")


@verb(
    "artray evaluate /store --labels labels.csv",
    "artray evaluate /store --labels labels.csv --out mistakes.jpg",
    "artray evaluate /store --boxes annotations.json --label-map coco",
)
def evaluate(
    store: StoreArgument,
    labels: Annotated[
        str | None, typer.Option(help="CSV, JSONL or Parquet with the images' file, type and genre.")
    ] = None,
    boxes: Annotated[str | None, typer.Option(help="Labelled boxes, to judge objects instead.")] = None,
    kind: Annotated[
        str, typer.Option(help="Of the boxes: coco, csv, label-studio, open-images, photo-art-50, store, voc or yolo.")
    ] = "coco",
    label_map: Annotated[
        str | None, typer.Option(help="What their labels are called here: coco, pascal-voc, ..., or a CSV file.")
    ] = None,
    images: Annotated[str | None, typer.Option(help="Their pictures, if not in the store's archive.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Write a picture here: the most confident mistakes; the worst and best images.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Judge the store's types and genres by labels of your own, or its objects by boxes, with 95 % intervals."""
    from artray import console

    if (labels is None) == (boxes is None):
        raise ConfigError("expected one of --labels and --boxes")
    if boxes is not None:
        judged = api.evaluate_boxes(store, boxes, kind=kind, label_map=label_map, images=images, out=out)
        return _boxes_judged(judged, as_json)
    assert labels is not None
    told = api.evaluate(store, labels, out=out)
    if as_json:
        return print_json(told)
    for head, metrics in told["metrics"].items():
        rows = [[name, *_interval(found)] for name, found in metrics.items()]
        rows += [
            [f"F1 {name} ({entry['n']:,})", *_interval(entry["f1"])]
            for name, entry in told["classes"].items()
            if entry["head"] == head
        ]
        print_parts(console.table([head, "", "95 %"], rows))
    if told["unknown"]:
        unknown = ", ".join(f"{name} {count:,}" for name, count in told["unknown"].items())
        print_parts(f"left out, for the store's model does not know them: {unknown}")
    print_parts(f"{told['n']:,} works with a label, {len(told['mistakes']):,} mistakes")
    if out is not None:
        print_parts(f"the most confident ones: {out}")
    return None


def _boxes_judged(told: dict[str, Any], as_json: bool) -> None:
    from artray import console
    from artray.metrics.detection_errors import KINDS

    if as_json:
        return print_json(told)
    shown = [name for name in told["classes"] if told["counts"][name]]
    rows = [["all classes", told["boxes"], *_interval(told["intervals"]["ap50"]), _share(told["fine"]["ap"])]]
    for name in shown:
        interval, ap = _interval(told["intervals"][f"ap50 {name}"]), _share(told["fine"][f"ap {name}"])
        rows.append([name, told["counts"][name], *interval, ap])
    print_parts(console.table(["class", "boxes", "AP@.5", "95 %", "AP"], rows))
    coarse = [[name[5:], _share(value)] for name, value in told["coarse"].items() if name.startswith("ap50 ")]
    print_parts(console.table(["category", "AP@.5"], [row for row in coarse if row[1]]))
    kinds = [*(kind for kind in KINDS if kind != "ignored"), "missed"]
    print_parts(
        console.table(["boxes", *kinds], [[name, *(told["errors"][name][kind] for kind in kinds)] for name in shown])
    )
    print_parts(f"{told['images']:,} images with labelled boxes, {len(told['left_out']):,} things in the set left out")
    if setting := thresholds_setting(told["thresholds"]):
        print_parts(
            "The scores of the best F1, as a setting of a profile (choose it on boxes that you do not judge by):\n  "
            f"--set '{setting}'"
        )
    return None


def thresholds_setting(thresholds: Mapping[str, float | None]) -> str:
    """Scores per class as ``section.key=value``, rounded down; "" where there is none.

    >>> thresholds_setting({"dog": 0.4567, "persons (others)": 0.3, "cat": None})
    'detect.fuse.class_score_min={dog: 0.456, persons (others): 0.300}'
    """
    known = (f"{name}: {int(score * 1000) / 1000:.3f}" for name, score in thresholds.items() if score is not None)
    told = ", ".join(known)
    return f"detect.fuse.class_score_min={{{told}}}" if told else ""


def _share(value: float) -> str:
    return f"{value:.3f}" if value >= 0 else ""


def _interval(found: float | dict[str, float]) -> tuple[str, str]:
    if isinstance(found, float):
        return f"{found:.3f}", ""
    return f"{found['value']:.3f}", f"{found['low']:.3f} to {found['high']:.3f}"


@verb("artray export /store works.csv --format csv", "artray export /store works.parquet --embeddings")
def export(
    store: StoreArgument,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The file to write.")],
    format: Annotated[str, typer.Option(help="parquet, csv or jsonl.")] = "parquet",
    embeddings: Annotated[
        bool, typer.Option("--embeddings", help="Write the embeddings and thumbnails, too (not in CSV).")
    ] = False,
    as_json: Json = False,
) -> None:
    """Write the records as one file."""
    written = api.export(store, out, format=format, embeddings=embeddings)
    print_json(written) if as_json else print_parts(f"{written['rows']:,} rows in {out}")
