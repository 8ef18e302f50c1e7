"""A run: an archive goes in, committed records come out.

    list -> plan -> process (Ray) -> commit -> tidy -> report

The driver moves names of finished parts into the records' log and nothing else; what it holds does not grow with the
archive. A run that ends early, by a signal or a failure, has committed all but its last seconds: the next one goes on.
"""

import contextlib
import hashlib
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import pyarrow as pa

from artray.archive import listing, metadata
from artray.config import Profile
from artray.errors import ArtrayError, ConfigError, Interrupted, InvariantError, TransientError
from artray.location import Location
from artray.models import cards, registry, weights
from artray.models.cards import Card
from artray.pipeline import plan, results
from artray.pipeline.messages import Spec
from artray.pipeline.plan import Work
from artray.pipeline.progress import Reporter, Tally, counting
from artray.pipeline.report import Report, Summary, embedding_of, new_run_id
from artray.pipeline.sink import Committer
from artray.store import rewrite, vectors, views
from artray.store.layout import Store, create_store
from artray.store.lease import Lease
from artray.store.records import Records

SMALL_PARTS: Final = 8
"""A table of more files than this is looked through for small ones, which become few large ones."""

MANY_PARTS: Final = 1_000
"""More parts than this are put together while a run goes on: every question looks into each of them."""


@dataclass(frozen=True)
class Options:
    """What a user asks of one run, beside its profile."""

    limit: int | None = None  # at most so many images
    retry_errors: bool = False  # also those that failed before
    moved: bool = False  # the archive lies at another place than last time

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise ConfigError(f"--limit: expected at least 1, got {self.limit}")


def process(archive: str, store: str, profile: Profile, reporter: Reporter, options: Options, **told: str) -> Summary:
    """Process what is new or changed in an archive.

    Args:
        archive: a folder or ``s3://bucket/prefix``.
        store: likewise; made if there is none.
        profile: models, sizes and layout.
        reporter: is told how it goes.
        options: what this run alone does.
        told: what store.json says of a new store besides.

    Returns:
        The summary; its report is in the store.

    Raises:
        ConfigError: something that the user gave is wrong; no image was touched.
        StoreBusyError: another run writes to the store.
        TransientError: storage, network or cluster failed; run again to resume.
        Interrupted: SIGINT or SIGTERM came; run again to resume.
    """
    profile = _present(profile, reporter)
    described = _cards(profile)
    if profile.decode.plugins:
        from artray.archive import formats

        formats.load_plugins(profile.decode.plugins)
    source = Location.of(archive)
    listing.check(source)
    known = metadata.read(Location.of(profile.archive.metadata)) if profile.archive.metadata else None
    target = create_store(store, **told)
    check_archive(source, target, moved=options.moved)
    run_id = new_run_id()
    spec = Spec(profile, run_id, fingerprint(profile, described))
    with (
        _stopping() as stop,
        Lease(target, run_id, reporter.note),
        Report(target, source.uri, run_id, profile, described) as report,
    ):
        _describe(source, target, described)
        run = _Run(source, target, spec, reporter, report.summary, Records.create(target), stop)
        work = run.prepare(options, known)
        try:
            report.save()
            if work.images:
                run.process(work)
        finally:
            work.location.remove()
        run.tidy()
        report.summary.notes = list(reporter.notes)
    return report.summary


def fingerprint(profile: Profile, described: Sequence[Card]) -> str:
    """What determines a record, beside its image: cards, views, fusion, and the size that it was decoded to."""
    made_by = [f"{card.name}@{card.fingerprint()}" for card in described]
    if profile.classify.views != "one":
        made_by.append(f"views@{profile.classify.views}")
    for name in ("views", "fuse"):
        section = getattr(profile.detect, name)
        if section != type(section)():
            told = section.model_dump_json().encode()
            made_by.append(f"detect.{name}@{hashlib.sha256(told).hexdigest()[:12]}")
    return ",".join([*made_by, f"decode@{profile.decode.max_side_px}"])


def _present(profile: Profile, reporter: Reporter) -> Profile:
    """The profile with those detectors whose weights there are, where it says that others may be skipped.

    Raises:
        ConfigError: an unknown card, or not one of the detectors is there.
    """
    detect = profile.detect
    if detect.absent == "error":
        return profile
    kept: dict[str, str] = {}  # as the profile has it, a name or a path, to the card's own name
    for name in detect.cards:
        card = cards.load(name)
        try:
            for file in card.weights.values():
                weights.check_here(file, f"card {card.name}")
            kept[name] = card.name
        except ConfigError as error:
            reporter.note(f"detect: {name} takes no part: {error}")
    if detect.cards and not kept:
        raise ConfigError(f"detect.cards: expected weights of at least one of {', '.join(detect.cards)}, found none")
    given = {
        key: {card: value for card, value in getattr(detect.fuse, key).items() if card in kept.values()}
        for key in ("weights", "score_min")
    }
    fuse = detect.fuse.model_copy(update=given)
    return profile.model_copy(update={"detect": detect.model_copy(update={"cards": tuple(kept), "fuse": fuse})})


def _cards(profile: Profile) -> list[Card]:
    """The profile's cards, checked as far as that takes no download and no model.

    Raises:
        ConfigError: no such card, one in the wrong place, an unknown architecture, or weights that are not there.
    """
    classifiers = [cards.load(name) for name in profile.classify.cards]
    detectors = [cards.load(name) for name in profile.detect.cards]
    methods = [] if profile.retrieve.card is None else [cards.load(profile.retrieve.card)]
    cards.check_classifiers(classifiers)
    cards.check_detectors(detectors)
    for card in methods:
        cards.check_embedder(card)
        if other := next((each.name for each in classifiers if "embedding" in each.yields), None):
            raise ConfigError(
                f"retrieve.card: expected one card that yields an embedding, got {other} and {card.name}; leave one "
                f"out, or add {card.name} to the finished store: artray embed"
            )
    described = [*classifiers, *detectors, *methods]
    named = {*profile.classify.cards, *profile.detect.cards, profile.retrieve.card}
    for card in described:
        for file in card.weights.values():
            weights.check_here(file, f"card {card.name}")
        if card.name not in cards.shipped() or card.name not in named:  # else it is right, and asking takes seconds
            registry.check_architecture(card)
    return described


def check_archive(source: Location, target: Store, *, moved: bool) -> None:
    """Make sure that the store is this archive's, or new.

    Raises:
        ConfigError: it belongs to another archive, of which every image would be held to have vanished.
    """
    held = target.read_json("store.json") or {}
    if held.get("archive", source.uri) != source.uri and not moved:
        raise ConfigError(
            f"{target.uri}: belongs to the archive {held['archive']}, got {source.uri}; "
            "name another store, or add --moved if that archive lies there now"
        )


def _describe(source: Location, target: Store, described: Sequence[Card]) -> None:
    """Tie the store to its archive and its embedding."""
    held = target.read_json("store.json") or {}
    embedding = next((embedding_of(card) for card in described if "embedding" in card.yields), None)
    target.write_json("store.json", held | {"archive": source.uri, "embedding": embedding})


@dataclass(frozen=True)
class _Run:
    """The steps of a run, and what they share."""

    source: Location
    target: Store
    spec: Spec
    reporter: Reporter
    summary: Summary
    records: Records
    stop: threading.Event

    def go_on(self) -> None:
        """Nothing, unless the user wants to stop.

        Raises:
            Interrupted: SIGINT or SIGTERM came.
        """
        if self.stop.is_set():
            raise Interrupted("stopped; what was committed stays: run the same command again to go on")

    def prepare(self, options: Options, known: pa.Table | None) -> Work:
        """List the archive, find out what is to do, and mark what is gone, back again or described anew."""
        manifest = self._manifest()
        self._remove_leavings()
        self._compact()
        with views.reading(self.records), plan.Planner(manifest, self.records, known) as planner:
            self.go_on()
            self.reporter.phase("planning")
            target = self.target.run(self.spec.run_id) / "work.arrow"
            work = planner.write_work(target, self.spec.models, retry_errors=options.retry_errors, limit=options.limit)
            if known is not None and not planner.described():
                self.reporter.note(f"{self.spec.profile.archive.metadata}: names no image of this archive")
            vanished = planner.vanished()
            for changed in (vanished, planner.returned(), planner.relabelled()):
                if changed.num_rows:
                    self.reporter.phase(f"updating {changed.num_rows:,} records")
                    rewrite.update(self.records, changed, self.spec.run_id, self.go_on)
        self.summary.vanished = vanished.num_rows
        self.summary.pending, self.summary.skipped = work.pending, self.summary.images - work.pending
        return work

    def _manifest(self) -> plan.Manifest:
        problems: list[str] = []
        self.reporter.phase("listing")
        manifest = plan.write_manifest(
            listing.entries(self.source, self.spec.profile.archive, problems.append),
            self.target.run(self.spec.run_id) / "manifest.parquet",
            problems,
            self._listed,
        )
        for problem in problems:
            self.reporter.note(problem)
        if not manifest.images and self.records.count():
            raise ConfigError(f"{self.source}: expected images, found none, and the store has some; is it mounted?")
        self.summary.images = manifest.images
        return manifest

    def _listed(self, images: int) -> None:
        self.go_on()
        self.reporter.phase(f"listing: {images:,} images")

    def process(self, work: Work) -> None:
        """Run the graph over the work list and commit what comes out of it."""
        from artray.pipeline import cluster, graph

        self.go_on()
        self.reporter.phase("starting Ray")
        with cluster.connected() as shared:
            self._check_room(grows=shared)
            running = graph.dataset(work, self.spec, self.target.records, grows=shared)
            tally, meters = Tally(work.images), cluster.Meters(self.spec.run_id, work.images)
            committer = Committer(self.records, self.spec.run_id, self.spec.profile.store)
            self.reporter.start(tally)
            finished = results.finished(lambda: graph.run(running), graph.End.wanted, self.go_on)
            try:
                for done in finished:
                    if done is not None:
                        committer.add(done)
                        tally.add(done.part.rows, done.errors)
                        meters.add(done)
                    if committer.due:
                        committer.flush()
                        self._compact(MANY_PARTS)
                    self.reporter.update(tally)
            finally:
                finished.close()
                committer.flush()
                self._count(tally)
        if tally.done != work.images:
            raise InvariantError(f"{self.spec.run_id}: {work.images:,} images were to do, {tally.done:,} came out")

    def _check_room(self, *, grows: bool) -> None:
        """Refuse what could never run on a Ray of one's own; a cluster may grow, which can take a while."""
        from artray.pipeline import graph

        cfg = self.spec.profile.pipeline
        if graph.actors_that_fit(cfg, graph.resources()):
            return
        if not grows:
            raise ConfigError(
                f"pipeline: expected an actor to fit on this machine, got {graph.needs(cfg)}; ask for less"
            )
        self.reporter.note(
            f"no node of the cluster has room for an actor ({graph.needs(cfg)}) yet; "
            "`ray status` says whether one comes"
        )

    def _count(self, tally: Tally) -> None:
        self.summary.done, self.summary.failed = tally.done - tally.failed, tally.failed
        self.summary.errors = dict(tally.errors.most_common())
        self.summary.pending -= tally.done
        self.summary.images_per_s, steady = round(tally.images_per_s, 2), tally.steady_images_per_s
        self.summary.steady_images_per_s = None if steady is None else round(steady, 2)

    def tidy(self) -> None:
        """Make few large parts of many small ones, and bring the vectors up to date; neither can lose a row."""
        self._compact()
        self._vacuum()
        if self.spec.profile.store.index:
            self.reporter.phase("indexing")
            try:
                with vectors.opened(self.target, self.records, self.spec.profile.store) as index:
                    index.sync(self.records, self._indexed())
            except Interrupted:
                raise
            except ArtrayError as error:
                self.reporter.note(f"vectors: {error}; bring them up to date with: artray index {self.target.uri}")

    def _compact(self, most: int = SMALL_PARTS) -> None:
        if len(self.records.parts().names) > most:
            self.reporter.phase("compacting")
            rewrite.compact(self.records, self.spec.run_id)

    def _vacuum(self) -> None:
        """Delete what no version needs any more; if that fails, the run is none the worse."""
        try:
            self.records.vacuum(self.spec.profile.store.keep_hours)
        except TransientError as error:
            self.reporter.note(f"{error}; the next run tries again")

    def _remove_leavings(self) -> None:
        """Remove the work list of a run before this one that was killed."""
        for report in self.target.runs(2):
            if report["run_id"] != self.spec.run_id:
                (self.target.run(report["run_id"]) / "work.arrow").remove()

    def _indexed(self) -> Callable[[int, int], None]:
        told = counting(self.reporter, "indexing")

        def indexed(done: int, total: int) -> None:
            told(done, total)
            self.go_on()

        return indexed


@contextlib.contextmanager
def _stopping() -> Iterator[threading.Event]:
    """An event that SIGINT and SIGTERM set; the second signal ends the process as usual."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in numbers}

    def handle(number: int, _frame: object) -> None:
        stop.set()
        signal.signal(number, before[signal.Signals(number)])

    for number in numbers:
        signal.signal(number, handle)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
