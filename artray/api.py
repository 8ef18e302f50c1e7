"""The verbs of the command line as functions: plain arguments in, JSON-shaped dicts out.

    import artray
    artray.process("/photos", "/store")
    artray.find("/store", type="drawing", object=["faces:0.9"])

Each raises the errors of artray.errors; none prints.
"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from artray.pipeline.progress import Reporter
    from artray.store.find import Filters

DEMO_ARCHIVE: Final = "demo-archive"
DEMO_STORE: Final = "demo-store"
PICTURE_SIDE_PX: Final = 1600
"""Longer side of a picture that ``show`` draws on."""


def sample(
    folder: str | Path,
    *,
    images: int | None = None,
    seed: int = 0,
    defects: int = 0,
    reporter: "Reporter | None" = None,
) -> dict[str, Any]:
    """Write a sample archive: the shipped works, then variations of them; see artray.archive.sample."""
    from artray.archive.sample import make, works
    from artray.pipeline.progress import Silent, counting

    count = len(works.shipped()) if images is None else images
    with reporter or Silent() as told:
        written = make.write_archive(Path(folder), count, seed, defects, counting(told, "writing"))
    return {"folder": str(folder), "images": written.images, "size_bytes": written.size_bytes} | {
        "defects": [{"path": str(d.path), "kind": d.kind, "expected": d.expected_kind} for d in written.defects]
    }


def process(
    archive: str | Path,
    store: str | Path,
    *,
    profile: str | Path = "bundled",
    set: Sequence[str] = (),
    metadata: str | Path | None = None,
    limit: int | None = None,
    retry_errors: bool = False,
    moved: bool = False,
    reporter: "Reporter | None" = None,
) -> dict[str, Any]:
    """Process what is new or changed in an archive; see artray.pipeline.run.process."""
    from artray import config

    resolved = config.load(profile, set)
    if metadata is not None:  # not an override: those are YAML, and a path may be anything
        resolved = resolved.with_metadata(str(metadata))
    from artray.pipeline.progress import Silent
    from artray.pipeline.run import Options, process

    options = Options(limit=limit, retry_errors=retry_errors, moved=moved)
    with reporter or Silent() as told:
        return asdict(process(str(archive), str(store), resolved, told, options))


def plan(
    images: int,
    *,
    profile: str | Path = "bundled",
    set: Sequence[str] = (),
    measure: bool = False,
    reporter: "Reporter | None" = None,
) -> dict[str, Any]:
    """What an archive of so many images takes; see artray.pipeline.estimate. ``measure``: by a short run here."""
    from artray import config
    from artray.pipeline import estimate

    resolved = config.load(profile, set)
    told = estimate.estimate(images, resolved, estimate.published(profile, set))  # fails before a minute goes by
    return estimate.estimate(images, resolved, estimate.measured(resolved, reporter)) if measure else told


def demo(folder: str | Path = ".", *, reporter: "Reporter | None" = None) -> dict[str, Any]:
    """Process the sample archive: FOLDER/demo-archive into FOLDER/demo-store."""
    archive, store = Path(folder) / DEMO_ARCHIVE, Path(folder) / DEMO_STORE
    if not archive.exists():
        sample(archive)
    return process(str(archive), str(store), metadata=str(archive / "works.csv"), reporter=reporter)


def embed(
    archive: str | Path,
    store: str | Path,
    method: str,
    *,
    set: Sequence[str] = (),
    limit: int | None = None,
    retry_errors: bool = False,
    moved: bool = False,
    reporter: "Reporter | None" = None,
) -> dict[str, Any]:
    """Add an embedding method to a finished store; see artray.pipeline.embed.

    Args:
        archive: the store's.
        store: which store.
        method: the name or the file of a card that yields an embedding.
        set: ``section.key=value`` each, of the profile of the store's latest run.
        limit: at most so many images now.
        retry_errors: also those that failed before.
        moved: the archive lies at another place than last time.
        reporter: is told how far it is.
    """
    from artray.pipeline import embed as work
    from artray.pipeline.progress import Silent
    from artray.pipeline.run import Options
    from artray.store import layout

    options = Options(limit=limit, retry_errors=retry_errors, moved=moved)
    with reporter or Silent() as told:
        return asdict(work.embed(str(archive), layout.open_store(store), method, set, told, options))


def index(store: str, *, milvus_uri: str | None = None, reporter: "Reporter | None" = None) -> dict[str, Any]:
    """Bring the vectors up to date with the records, also those of every other method."""
    from artray.pipeline.progress import Silent, counting
    from artray.store import layout, vectors

    opened = layout.open_store(store)
    cfg = vectors.configured(opened)
    cfg = cfg if milvus_uri is None else cfg.model_copy(update={"milvus_uri": milvus_uri})
    with reporter or Silent() as told:
        synced = vectors.sync(opened, cfg, counting(told, "indexing"))
        methods = {
            name: vectors.sync(opened.method(name), None, counting(told, f"indexing {name}"))._asdict()
            for name in opened.methods()
        }
    return synced._asdict() | {"methods": methods}


def rehead(store: str, card: str, *, index: bool = True, reporter: "Reporter | None" = None) -> dict[str, Any]:
    """New types and genres from the stored embeddings, by a card's heads; see artray.pipeline.rehead.

    Args:
        store: which store.
        card: a card's name or file, with the trunk of the store's own.
        index: bring the vectors up to date afterwards, so that searches can filter by the new labels.
        reporter: is told how far it is.
    """
    from artray.pipeline import rehead as work
    from artray.pipeline.progress import Silent, counting
    from artray.store import layout, vectors

    opened = layout.open_store(store)
    with reporter or Silent() as told:
        done = work.rehead(opened, card, told)._asdict()
        if index:
            vectors.sync(opened, None, counting(told, "indexing"))
    return done


def status(store: str) -> dict[str, Any]:
    """Counts by state, type, genre, object and error kind; runs; lag of the vectors."""
    from artray.store import layout
    from artray.store import status as told

    return told.status(layout.open_store(store))


def verify(store: str, archive: str | None = None) -> dict[str, Any]:
    """Whether every promise is kept; see artray.store.verify."""
    from artray.store import layout
    from artray.store import verify as proof

    return proof.verify(layout.open_store(store), archive)


def find(
    store: str,
    *,
    type: str | None = None,
    genre: str | None = None,
    object: Sequence[str] = (),
    text: str | None = None,
    error: str | None = None,
    where: Sequence[str] = (),
    limit: int = 20,
    offset: int = 0,
    sort: str = "image_id",
) -> dict[str, Any]:
    """Works that pass the filters; see artray.store.find."""
    from artray.store import find as search
    from artray.store import layout

    filters = search.Filters(type, genre, tuple(object), text, error, tuple(where))
    found = search.find(layout.open_store(store), filters, limit=limit, offset=offset, sort=sort)
    return {"count": found.count, "works": found.works}


def sql(
    store: str, statement: str, *, max_rows: int = 10_000, timeout_s: float = 30.0, memory: str = "1GB"
) -> dict[str, Any]:
    """A read-only SELECT over the views ``works``, ``objects`` and ``duplicates``; see artray.store.sql."""
    from artray.store import layout
    from artray.store import sql as ask

    answer = ask.query(layout.open_store(store), statement, timeout_s=timeout_s, memory=memory, max_rows=max_rows)
    return {"columns": answer.columns, "rows": answer.rows, "more": answer.more}


def similar(
    store: str,
    query: str | Sequence[str] = (),
    *,
    unlike: Sequence[str] = (),
    words: Sequence[str] = (),
    colour: Sequence[str] = (),
    k: int = 5,
    region: Sequence[float] | None = None,
    filters: "Filters | None" = None,
    method: str | Sequence[str] | None = None,
    offset: int = 0,
    expand: int = 0,
) -> dict[str, Any]:
    """Works like some of the store, like any pictures, or like a region of one, and unlike others.

    Args:
        store: which store.
        query: image_ids of the store, or else paths of pictures.
        unlike: likewise, what they are not to be like.
        words: what is to be seen, of a method that knows words.
        colour: "#rrggbb" or "#rrggbb:SHARE" each, in the place of pictures; needs the method colours.
        k: how many.
        region: x1, y1, x2, y2 in pixels of the first upright original.
        filters: what the works must be.
        method: whose embeddings: the store's own by default, or those of methods that were added; several are fused.
        offset: leave out so many of the most similar ones: the next page.
        expand: add so many of the best works to what is asked, and ask again: 0 to 100.
    """
    import contextlib

    from artray.store import asking, layout, vectors
    from artray.store.find import Filters
    from artray.store.similar import METHOD, source

    opened = layout.open_store(store)
    methods = (method,) if isinstance(method, str) else tuple(method or (METHOD,))
    like = (query,) if isinstance(query, str) else tuple(query)
    question = asking.Question(
        like, tuple(unlike), region, tuple(words), tuple(colour), methods, k, offset, filters or Filters(), expand
    )
    with contextlib.ExitStack() as stack:
        indexes = {name: stack.enter_context(vectors.opened(source(opened, name))) for name in question.asked_methods}
        instant = {name: index for name, index in indexes.items() if index.instant and index.dim}
        return asking.answer(opened, question, instant)


def show(store: str, image_id: str, *, out: str | Path | None = None) -> dict[str, Any]:
    """One record; with ``out``, also its picture with the boxes drawn on it."""
    from artray.store import layout
    from artray.store import show as record

    opened = layout.open_store(store)
    shown = record.show(opened, image_id)
    if out is not None:
        record.save(opened, shown, Path(out), PICTURE_SIDE_PX)
    return shown


def duplicates(store: str, **options: Any) -> dict[str, Any]:
    """Groups of works that show the same; see artray.store.duplicates_out.answer, which takes the same options."""
    from artray.store.duplicates_out import answer

    return answer(store, **options)


def correct(
    store: str, image_ids: Sequence[str], *, type: str | None = None, genre: str | None = None, by: str | None = None
) -> int:
    """Put images' types and genres right; see artray.store.corrections. ``by``: who says so, or the user's name."""
    import getpass

    from artray.store import corrections, layout

    labels = {head: label for head, label in (("type", type), ("genre", genre)) if label is not None}
    return corrections.correct(layout.open_store(store), image_ids, labels, by or getpass.getuser())


def export(store: str, out: str | Path, *, format: str = "parquet", embeddings: bool = False) -> dict[str, Any]:
    """The records as one file: parquet, csv or jsonl; with ``embeddings``, these too (not in CSV)."""
    from artray.store import export as write
    from artray.store import layout

    rows = write.export(layout.open_store(store), Path(out), format, embedding=embeddings)
    return {"path": str(out), "format": format, "rows": rows}


def train(
    profile: str | Path,
    out: str | Path | None = None,
    *,
    data: str | None = None,
    set: Sequence[str] = (),
    reporter: "Reporter | None" = None,
) -> dict[str, Any]:
    """Train a classifier, a detector or a retrieval method; see ``run.train`` of artray.train, .detectors and .methods.

    Args:
        profile: a YAML file, or the name of a model that artray ships.
        out: the training's folder; by default runs/NAME, of the profile's name.
        data: the folder that its sets' paths are below; by default the profile's own.
        set: ``section.key=value`` each.
        reporter: is told how far it is.
    """
    from artray.location import Location
    from artray.pipeline.progress import Silent
    from artray.train import run
    from artray.train.detectors import run as detectors
    from artray.train.methods import run as methods

    of: Any = methods if run.is_of_method(profile) else detectors if run.is_of_detector(profile) else run
    resolved = of.load(profile, set, data)
    with reporter or Silent() as told:
        trained: dict[str, Any] = of.train(resolved, Location.of(out or Path("runs") / resolved.name), told)
    return trained


def evaluate_boxes(
    store: str,
    boxes: str | Path,
    *,
    kind: str = "coco",
    label_map: str | None = None,
    images: str | None = None,
    out: str | Path | None = None,
) -> dict[str, Any]:
    """The store's objects against labelled boxes; see artray.store.evaluate_boxes. ``out``: a picture to look at."""
    from artray.config import parse
    from artray.detect.datasets.sources import BoxSource
    from artray.store import evaluate_boxes as judge
    from artray.store import layout

    given = {"kind": kind, "path": str(boxes), "labels": label_map, "images": images}
    opened = layout.open_store(store)
    told = judge.evaluate(opened, parse(BoxSource, given, "--boxes"))
    if out is not None:
        judge.save_sheet(opened, told["looked_at"], Path(out))
    return told


def evaluate(store: str, labels: str | Path, *, out: str | Path | None = None) -> dict[str, Any]:
    """The store's types and genres against labels; see artray.store.evaluate. ``out``: a picture of the mistakes."""
    from artray.store import evaluate as judge
    from artray.store import layout

    opened = layout.open_store(store)
    told = judge.evaluate(opened, str(labels))
    if out is not None:
        judge.save_sheet(opened, told["mistakes"], Path(out))
    return told


def labels(profile: str | Path, *, data: str | None = None, set: Sequence[str] = ()) -> dict[str, Any]:
    """What the sets of a training's profile hold, without reading a picture: counts, and what cannot be used."""
    from artray.train import run
    from artray.train.detectors import run as detectors
    from artray.train.methods import run as methods

    if run.is_of_detector(profile):
        return detectors.told(detectors.read(detectors.load(profile, set, data)))
    if run.is_of_method(profile):
        return methods.told(run.read(methods.load(profile, set, data)))
    found = run.read(run.load(profile, set, data))
    return {"works": found.works.num_rows, "sets": found.sets, "left_out": found.left_out}


def experiment(
    name: str | Path,
    out: str | Path | None = None,
    *,
    data: str | None = None,
    small: bool = False,
    set: Sequence[str] = (),
    reporter: "Reporter | None" = None,
) -> dict[str, Any]:
    """Redo a table of the report; see artray.train.grid. The folder is by default experiments/NAME."""
    from artray.location import Location
    from artray.pipeline.progress import Silent
    from artray.train import experiment, grid, tables

    loaded = experiment.load(str(name), set, small=small, data=data)
    folder = Location.of(out or Path("experiments") / loaded.name)
    with reporter or Silent() as told:
        lines = grid.conduct(loaded, folder, told)
    return {"folder": folder.uri, **tables.told(loaded, lines)}
