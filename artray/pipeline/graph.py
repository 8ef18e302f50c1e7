"""The Ray Data graph of a run: the only module that knows how Ray moves its rows.

    fused   parts -> [decode + models + sink] on CPU actors           pixels never leave a process
    split   parts -> [decode] on CPU actors -> [models + sink]        pixels cross the object store once

Every row of the graph stands for a part of the work list: its bounds at first, its decoded pictures as one binary
in between (split only), the name of its committed-to-be Parquet file at last. So a task, a retry and a commit are
about the same rows, and no block holds more than one part.
"""

import logging
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy, Dataset, Datasource, ReadTask
from ray.data._internal.execution.execution_callback import ExecutionCallback
from ray.data.block import BlockMetadata
from ray.data.context import DataContext

from artray import schema
from artray.config import PipelineConfig
from artray.errors import ArtrayError
from artray.location import Location
from artray.pipeline import worker
from artray.pipeline.messages import Done, Spec
from artray.pipeline.plan import Work, WorkFile, parts
from artray.store.records import write_part

LEAST_PART_ROWS: Final = 8
PARTS_PER_ACTOR: Final = 16
"""A small work list is cut into smaller parts, so that all actors have some and the bar moves."""

GIVE_BACK_S: Final = 60.0
"""So seldom is freed memory given back: what is asked for again costs a page fault for every 4 KiB of it."""


class Bounds(Datasource):
    """The bounds of every part of a work list, made as they are needed."""

    def __init__(self, work: Work, part_rows: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._work, self._part_rows = work, part_rows

    def estimate_inmemory_data_size(self) -> int | None:
        """16 bytes a part."""
        return 16 * (self._work.images // self._part_rows + 2)

    def get_read_tasks(self, parallelism: int, *_: Any, **__: Any) -> list[ReadTask]:  # noqa: ARG002
        """One task for all: it makes numbers, it reads nothing."""
        work, part_rows = self._work, self._part_rows

        def bounds() -> Iterator[pa.Table]:
            for start, stop in parts(work, part_rows):
                yield pa.table({"start": [start], "stop": [stop]})

        return [ReadTask(bounds, BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None))]


class Sink:
    """Writes a part of records beside the table; the job commits it."""

    def __init__(self, records: Location) -> None:
        self.records = records

    def __call__(self, rows: pa.Table, seconds: float) -> pa.Table:
        """One row that tells what was written."""
        recorded = bool(rows.column("recorded")[0].as_py())
        counts: dict[str, int] = {}
        for kind in rows.column("error").to_pylist():
            if kind:
                counts[kind] = counts.get(kind, 0) + 1
        part = write_part(self.records, rows.select(schema.RECORD.names))
        return Done(part, recorded, counts, seconds).row()


class Actor:
    """What an actor of the graph is: made when it starts, then given one part after the other.

    An error of ours in the making is kept for the first part: Ray hands on what a task raised, but of an actor that
    failed to start it hands on a long text.
    """

    def __init__(self, *arguments: Any) -> None:
        self._failed: ArtrayError | None = None
        self._given_back = time.monotonic()
        try:
            self.make(*arguments)
        except ArtrayError as error:
            self._failed = error

    def __call__(self, row: pa.Table) -> pa.Table:
        """One row of the graph in, one out."""
        if self._failed is not None:
            raise self._failed
        try:
            return self.part(row)
        finally:
            if time.monotonic() - self._given_back >= GIVE_BACK_S:
                worker.give_back()
                self._given_back = time.monotonic()

    def make(self, *arguments: Any) -> None:
        """Load what the parts need."""
        raise NotImplementedError

    def part(self, row: pa.Table) -> pa.Table:
        """Do a part."""
        raise NotImplementedError


class Fused(Actor):
    """Bounds of a part in, what was written out: the fused layout."""

    def make(self, spec: Spec, work: Location, records: Location) -> None:
        """Everything in one process."""
        self.work, self.sink = WorkFile(work), Sink(records)
        self.process = worker.Worker(spec)

    def part(self, row: pa.Table) -> pa.Table:
        """Decode, process, write."""
        begun = time.monotonic()
        return self.sink(self.process(_rows(self.work, row)), time.monotonic() - begun)


class SplitDecode(Actor):
    """Bounds of a part in, its decoded pictures out, as one binary: the split layout's first half."""

    def make(self, spec: Spec, work: Location) -> None:
        """The decoding processes."""
        self.work, self.decoder = WorkFile(work), worker.Decoder(spec)

    def part(self, row: pa.Table) -> pa.Table:
        """Decode."""
        packed = worker.pack(self.decoder.slices(_rows(self.work, row)))
        return pa.table({"decoded": pa.array([packed], pa.large_binary())})


class SplitModels(Actor):
    """Decoded pictures of a part in, what was written out: the split layout's second half, with the GPU."""

    def make(self, spec: Spec, records: Location) -> None:
        """The models."""
        self.models, self.sink = worker.Models(spec), Sink(records)

    def part(self, row: pa.Table) -> pa.Table:
        """Process and write."""
        begun = time.monotonic()
        batches = worker.unpack(row.column("decoded")[0].as_buffer())
        return self.sink(pa.concat_tables([self.models(batch) for batch in batches]), time.monotonic() - begun)


class EndedError(Exception):
    """What a graph raises whose end was wanted."""


class End(ExecutionCallback):
    """Ends a running graph from another thread: Ray asks it after every step of its loop.

    The loop must be over before this process leaves Ray: a thread that is within Ray then, or comes there later, ends
    the process with a segmentation fault (ray-project/ray issue 31145).
    """

    wanted: Final = threading.Event()

    def on_execution_step(self, executor: Any) -> None:  # noqa: ARG002
        """Raises EndedError if the end is wanted."""
        if self.wanted.is_set():
            raise EndedError


def _rows(work: WorkFile, bounds: pa.Table) -> pa.Table:
    return work.rows(bounds.column("start")[0].as_py(), bounds.column("stop")[0].as_py())


def dataset(work: Work, spec: Spec, records: Location, *, grows: bool) -> Dataset:
    """The graph, not yet running.

    Args:
        work: what there is to do.
        spec: what the actors are made from.
        records: the table's folder.
        grows: whether machines may join later: then so many actors as there is room for by then, not now.
    """
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.target_max_block_size = 1  # a block per row: a finished part is told of at once, not with its neighbours
    context.enable_operator_progress_bars = False
    context.raise_original_map_exception = True
    context.custom_execution_callback_classes = [End]
    cfg = spec.profile.pipeline
    now = max(cfg.min_actors, min(actors_that_fit(cfg, resources()), cfg.max_actors or sys.maxsize))
    most = cfg.max_actors or (None if grows else now)
    part_rows = min(cfg.part_rows, max(LEAST_PART_ROWS, work.images // ((most or now) * PARTS_PER_ACTOR)))
    pool = _pool(cfg.min_actors, now, most)
    source = ray.data.read_datasource(Bounds(work, part_rows), num_cpus=0, override_num_blocks=1)
    models = {"num_cpus": cfg.cpus_per_actor, "num_gpus": cfg.gpus_per_actor or None}
    if cfg.layout == "fused":
        graph = _map(source, Fused, (spec, work.location, records), pool, models)
    else:
        decoders = _pool(1, min(now, cfg.decode_actors or now), cfg.decode_actors or most)
        decoded = _map(source, SplitDecode, (spec, work.location), decoders, {"num_cpus": 1})
        graph = _map(decoded, SplitModels, (spec, records), pool, models)
    graph.set_name(f"artray-{spec.run_id}")
    return graph


def _map(
    source: Dataset, stage: type, arguments: tuple[Any, ...], pool: ActorPoolStrategy, needs: dict[str, Any]
) -> Dataset:
    return source.map_batches(
        stage, fn_constructor_args=arguments, batch_size=1, batch_format="pyarrow", compute=pool, **needs
    )


def resources() -> dict[str, float]:
    """What the cluster has at present: CPUs, GPUs, ..."""
    return dict(ray.cluster_resources())  # type: ignore[no-untyped-call]


def needs(cfg: PipelineConfig) -> str:
    """What an actor of the models, and the decoding one beside it in the split layout, reserve.

    >>> needs(PipelineConfig(gpus_per_actor=0.5, layout="split"))
    '2 CPUs and 0.5 GPUs'
    """
    return f"{cfg.cpus_per_actor + (cfg.layout == 'split'):g} CPUs and {cfg.gpus_per_actor:g} GPUs"


def actors_that_fit(cfg: PipelineConfig, resources: Mapping[str, float]) -> int:
    """How many the cluster's CPUs and GPUs carry; in the split layout each has a decoding actor beside it.

    >>> actors_that_fit(PipelineConfig(gpus_per_actor=0.5, layout="split"), {"CPU": 16, "GPU": 2})
    4
    """
    share = cfg.cpus_per_actor + (cfg.layout == "split")
    by_cpus = int(resources.get("CPU", 0) // share)
    if not cfg.gpus_per_actor:
        return by_cpus
    return min(by_cpus, int(resources.get("GPU", 0) / cfg.gpus_per_actor + 1e-9))


def _pool(least: int, first: int, most: int | None) -> ActorPoolStrategy:
    return ActorPoolStrategy(min_size=least, max_size=most, initial_size=first, max_tasks_in_flight_per_actor=2)


def run(graph: Dataset) -> Iterator[Done]:
    """Run the graph; every finished part as it comes, in no order.

    Raises:
        EndedError: ``End.wanted`` was set.
    """
    for block in graph.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
        yield from (Done.of(text) for text in pa.table(block).column("done").to_pylist())


def quiet(names: Iterable[str] = ("ray", "ray.data")) -> None:
    """Keep Ray's own chatter off the user's terminal: its log files have it, and what fails comes out as our error."""
    for name in names:
        logging.getLogger(name).setLevel(logging.CRITICAL)
