"""Verbs that make and check a store: demo, sample, process, index, status, verify."""

from pathlib import Path
from typing import Annotated, Any, Final

import typer

from artray import api
from artray.commands.guard import (
    EXIT_PROMISE,
    Json,
    Overrides,
    ProfileOption,
    StoreArgument,
    print_json,
    print_parts,
    verb,
)


@verb("artray demo", "artray demo --folder /tmp/tour")
def demo(
    folder: Annotated[Path, typer.Option(help="Where demo-archive and demo-store are made.")] = Path(),
    as_json: Json = False,
) -> None:
    """Process the sample archive of real paintings and drawings, and say what to try next."""
    from artray import console
    from artray.pipeline.progress import reporter

    summary = api.demo(folder, reporter=reporter())
    if as_json:
        return print_json(summary)
    store = str(folder / api.DEMO_STORE)
    found = api.find(store, type="painting", sort="-type_score", limit=6)
    print_parts(_told(summary), console.works(found["works"]), _next_steps(store, found["works"]))
    return None


def _next_steps(store: str, works: list[dict[str, Any]]) -> str:
    example = works[0]["image_id"] if works else "IMAGE"
    steps = (
        f"artray find {store} --type drawing --genre portrait",
        f"artray find {store} --object faces:0.9x2",
        f"artray find {store} --text gogh --sort -genre_score",
        f"artray similar {store} {example}",
        f"artray show {store} {example} --out boxes.jpg",
        f'artray sql {store} "SELECT genre, count(*) AS works FROM works GROUP BY genre ORDER BY works DESC"',  # noqa: S608
        f"artray status {store}",
    )
    return "Try next:\n" + "\n".join(f"  {step}" for step in steps) + "\n"


def _told(summary: dict[str, Any]) -> str:
    from artray.pipeline.progress import duration

    parts = [f"{summary['done']:,} done"]
    if summary["failed"]:
        parts.append(f"{summary['failed']:,} failed ({', '.join(f'{k} {n:,}' for k, n in summary['errors'].items())})")
    parts += [f"{summary[key]:,} {word}" for key, word in LATER.items() if summary[key]]
    rate = f", {summary['images_per_s']:.1f} images/s" if summary["images_per_s"] else ""
    return (
        f"{summary['images']:,} images: {', '.join(parts)}; {duration(summary['seconds'])}{rate}\n"
        f"report: {summary['report']}"
    )


LATEST_RUNS: Final = 5
LATER: Final = {"skipped": "unchanged", "pending": "left for the next run", "vanished": "vanished"}


@verb("artray sample /tmp/archive --images 500 --defects 20")
def sample(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new or an empty folder.")],
    images: Annotated[int | None, typer.Option(help="How many; above the shipped 61, variations of them.")] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same pictures.")] = 0,
    defects: Annotated[int, typer.Option(help="Broken files of every kind beside them.")] = 0,
    as_json: Json = False,
) -> None:
    """Write a sample archive of public-domain works, for trying and for measuring."""
    from artray.pipeline.progress import reporter

    written = api.sample(folder, images=images, seed=seed, defects=defects, reporter=reporter())
    if as_json:
        return print_json(written)
    broken = f" and {len(written['defects']):,} broken files" if written["defects"] else ""
    print_parts(f"{written['images']:,} pictures ({written['size_bytes'] / 1e6:.1f} MB){broken} in {folder}")
    print_parts(f"next: artray process {folder} STORE --metadata {folder / 'works.csv'}")
    return None


@verb("artray plan --images 700000", "artray plan --images 700000 --profile report --measure")
def plan(
    images: Annotated[int, typer.Option(min=1, help="How many pictures the archive has.")],
    profile: ProfileOption = "bundled",
    measure: Annotated[bool, typer.Option("--measure", help="Process some pictures here, for about a minute.")] = False,
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """Say what an archive takes: hours, bytes, and which index its store has."""
    from artray.pipeline.progress import reporter

    told = api.plan(images, profile=profile, set=overrides or (), measure=measure, reporter=reporter())
    print_json(told) if as_json else print_parts(*_planned(told))


def _planned(told: dict[str, Any]) -> list[str]:
    """A plan in lines."""
    from artray.pipeline.progress import duration

    rate, size, index = told["rate"], told["bytes"], told["index"]
    lines = [f"{told['images']:,} images, profile {told['profile']}"]
    if rate is None:
        lines.append("processing  not known for this profile: add --measure, which processes some pictures here")
    else:
        lines.append(f"processing  at {rate['images_per_s']:.1f} images/s on {rate['cores']} cores ({rate['where']})")
    for each in told["processing"]:
        machines = "one such machine" if each["machines"] == 1 else f"{each['machines']} such machines"
        lines.append(f"            {duration(each['seconds']):>10} on {machines}")
    lines.append(
        f"records     {size['records'] / 1e9:.1f} GB, embeddings of {told['embedding_dim']:,} numbers among it"
    )
    lines.append(f"index       {size['vectors'] / 1e9:.1f} GB; {index['why']}")
    if index["question_ms"] is not None:
        lines.append(f"a question  some {index['question_ms']:,.0f} ms")
    lines.append(f"duplicates  {duration(told['duplicates']['processor_s'])} of a processor")
    return lines


@verb(
    "artray process /photos /store",
    "artray process s3://museum/photos s3://museum/store --profile bundled --set pipeline.max_actors=8",
    "artray process /photos /store --metadata catalogue.csv --retry-errors",
)
def process(
    archive: Annotated[str, typer.Argument(metavar="ARCHIVE", help="A folder of images or s3://bucket/prefix.")],
    store: StoreArgument,
    profile: ProfileOption = "bundled",
    metadata: Annotated[
        str | None, typer.Option(help="CSV, JSONL or Parquet with what is known of the images.")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Process at most so many images now.")] = None,
    retry_errors: Annotated[bool, typer.Option("--retry-errors", help="Also those that failed before.")] = False,
    moved: Annotated[bool, typer.Option("--moved", help="The archive lies at another place than last time.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 if an image failed.")] = False,
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """Process what is new or changed in ARCHIVE into STORE. Interrupted, it resumes: run it again."""
    from artray.pipeline.progress import reporter

    summary = api.process(
        archive,
        store,
        profile=profile,
        set=overrides or (),
        metadata=metadata,
        limit=limit,
        retry_errors=retry_errors,
        moved=moved,
        reporter=reporter(),
    )
    print_json(summary) if as_json else print_parts(_told(summary))
    if strict and summary["failed"]:
        raise typer.Exit(EXIT_PROMISE)


@verb(
    "artray embed /photos /store --method colours",
    "artray embed s3://museum/photos s3://museum/store --method my-card.yaml --set pipeline.max_actors=8",
)
def embed(
    archive: Annotated[str, typer.Argument(metavar="ARCHIVE", help="The store's archive.")],
    store: StoreArgument,
    method: Annotated[str, typer.Option(help="The name or the file of a card that yields an embedding.")],
    limit: Annotated[int | None, typer.Option(help="Embed at most so many images now.")] = None,
    retry_errors: Annotated[bool, typer.Option("--retry-errors", help="Also those that failed before.")] = False,
    moved: Annotated[bool, typer.Option("--moved", help="The archive lies at another place than last time.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 if an image failed.")] = False,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="section.key=value", help="Override a field of the latest run's profile."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Add an embedding method to a finished store, for `similar --method`; run again, it does what is new."""
    from artray.pipeline.progress import reporter

    summary = api.embed(
        archive,
        store,
        method,
        set=overrides or (),
        limit=limit,
        retry_errors=retry_errors,
        moved=moved,
        reporter=reporter(),
    )
    print_json(summary) if as_json else print_parts(_told(summary))
    if strict and summary["failed"]:
        raise typer.Exit(EXIT_PROMISE)


@verb("artray index /store")
def index(
    store: StoreArgument,
    milvus_uri: Annotated[str | None, typer.Option(help="A Milvus server; without it, Milvus Lite.")] = None,
    as_json: Json = False,
) -> None:
    """Bring the vectors up to date with the records; process and embed do so at their end."""
    from artray.pipeline.progress import reporter

    synced = api.index(store, milvus_uri=milvus_uri, reporter=reporter())
    told = "{}{upserted:,} vectors written, {deleted:,} removed, {count:,} in all"
    lines = [told.format("", **synced), *(told.format(f"{name}: ", **one) for name, one in synced["methods"].items())]
    print_json(synced) if as_json else print_parts(*lines)


@verb("artray status /store", "artray status s3://museum/store --json")
def status(store: StoreArgument, as_json: Json = False) -> None:
    """Counts by state, type, genre, object and error; the latest runs; the lag of the vectors."""
    from artray import console

    told = api.status(store)
    if as_json:
        return print_json(told)
    states = ", ".join(f"{told[name]:,} {name}" for name in ("images", "done", "failed", "pending", "vanished"))
    print_parts(f"{told['archive']} -> {told['store']}", states)
    print_parts(*[console.counts(name, told[name]) for name in ("types", "genres", "objects", "errors") if told[name]])
    if told["runs"]:
        columns = ("run_id", "state", "done", "failed", "pending", "images_per_s")
        rows = [[run[name] for name in columns] for run in told["runs"][-LATEST_RUNS:]]
        print_parts(console.table(("run", *columns[1:-1], "images/s"), rows))
    vectors = told["vectors"]
    print_parts(vectors.get("note") or f"vectors: {vectors['count']:,}, {vectors['lag']:,} to bring up to date")
    if told["methods"]:
        keys = ("dimension", "metric", "done", "failed", "pending")
        rows = [[name, *(one[key] for key in keys)] for name, one in told["methods"].items()]
        print_parts(console.table(("method", *keys), rows))
    return None


@verb("artray verify /store", "artray verify /store /photos")
def verify(
    store: StoreArgument,
    archive: Annotated[str | None, typer.Argument(metavar="ARCHIVE", help="Also compare with what is there.")] = None,
    as_json: Json = False,
) -> None:
    """Prove that every promise is kept, or say which row breaks one; exits with 1 then."""
    from artray import console

    proof = api.verify(store, archive)
    if as_json:
        print_json(proof)
    else:
        rows = [["ok" if p["ok"] else "BROKEN", p["name"], p["detail"]] for p in proof["promises"]]
        print_parts(console.table(["", "promise", ""], rows))
    if not proof["ok"]:
        raise typer.Exit(EXIT_PROMISE)
