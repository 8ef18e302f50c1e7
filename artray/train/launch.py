"""Training on a cluster: the only module of training that knows Ray.

The driver reads labels, never a picture: pictures are prepared by Ray Data's actors and read by Ray Train's workers.
"""

import contextlib
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import pyarrow as pa
import ray
from ray import train
from ray.data import ActorPoolStrategy
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer

from artray.errors import ArtrayError, ConfigError, TransientError
from artray.location import Location, first_line
from artray.schema import Batch
from artray.train import devices, fit
from artray.train.cache import Cache
from artray.train.detectors import fit as detector_fit
from artray.train.detectors.folder import DetectorFolder
from artray.train.exchange import distributed
from artray.train.loop import Result
from artray.train.methods import fit as method_fit
from artray.train.methods.folder import KIND as METHOD
from artray.train.methods.folder import MethodFolder
from artray.train.prepare import PREPARED, Prepare
from artray.train.rundir import RunFolder
from artray.train.settings import WorkersConfig

BATCH: Final = 32
POLL_S: Final = 0.5


class _Preparer:
    """Prepare as an actor of Ray Data; an error of ours is handed on as a row."""

    def __init__(self, cache: Cache, max_file_bytes: int) -> None:
        self.prepare = Prepare(cache, max_file_bytes)

    def __call__(self, batch: dict[str, Any]) -> pa.Table:
        columns: Batch = {name: list(values) for name, values in batch.items()}
        return self.prepare(columns)


def prepared(works: pa.Table, cache: Cache, actors: int, each: Callable[[int], None]) -> pa.Table:
    """Every work's row of artray.train.prepare.PREPARED; ``each`` is told how many more are done.

    Raises:
        ConfigError: the cache cannot be written.
        TransientError: the storage of the pictures, or the cluster, is down.
    """
    if not works.num_rows:
        return PREPARED.empty_table()
    rows = ray.data.from_arrow(works.select(["work_id", "uri", "version"])).repartition(target_num_rows_per_block=BATCH)
    done = rows.map_batches(
        _Preparer,
        fn_constructor_args=(cache, fit.MAX_FILE_BYTES),
        batch_size=BATCH,
        compute=ActorPoolStrategy(min_size=1, max_size=actors),
        num_cpus=1,
    )
    tables: list[pa.Table] = []
    with _errors():
        for batch in done.iter_batches(batch_size=None, batch_format="pyarrow"):
            table: Any = batch
            tables.append(table.cast(PREPARED))
            each(table.num_rows)
    return pa.concat_tables(tables) if tables else PREPARED.empty_table()


def fitted(folder: RunFolder, cfg: WorkersConfig, tell: Callable[[Result], None]) -> None:
    """Train in a folder that was begun, on so many workers; lost ones are replaced, and go on from the checkpoint.

    Args:
        folder: begun, where all workers reach it.
        cfg: how many workers, and what each has.
        tell: is told every epoch.

    Raises:
        ConfigError: something that is the user's to mend.
        TransientError: workers were lost more often than the profile allows; run again to go on.
    """
    gpus = cfg.device.startswith("cuda")
    workers: Any = cfg.workers if cfg.min_workers is None else (cfg.min_workers, cfg.workers)
    trainer = TorchTrainer(
        _loop,
        train_loop_config={"folder": folder.location.uri, "workers": cfg.model_dump(mode="json")},
        scaling_config=ScalingConfig(
            num_workers=workers,
            use_gpu=gpus,
            resources_per_worker={"CPU": cfg.cpus_per_worker} | ({"GPU": 1} if gpus else {}),
        ),
        torch_config=TorchConfig(backend="nccl" if gpus else "gloo"),
        run_config=RunConfig(
            name=uuid.uuid4().hex,  # what there is to resume from is in the folder, and Ray need not look for it
            storage_path=(folder.location / "ray").root,
            storage_filesystem=folder.location.filesystem,
            failure_config=FailureConfig(max_failures=cfg.max_failures),
        ),
    )
    folder.fail(None)
    try:
        with _Watch(folder, tell), _errors():
            trainer.fit()
    finally:
        if (failure := folder.failure) is not None:
            folder.fail(None)
            raise ConfigError(failure)


def check_room(cfg: WorkersConfig, resources: Mapping[str, float]) -> None:
    """Make sure that the workers can start on a cluster that will not grow: Ray would wait for room.

    Args:
        cfg: how many workers, and what each has.
        resources: of the cluster.

    Raises:
        ConfigError: there is no room; says what there is.
    """
    least = cfg.min_workers or cfg.workers
    cpus, gpus = resources.get("CPU", 0.0), resources.get("GPU", 0.0)
    if least * cfg.cpus_per_worker > cpus:
        raise ConfigError(
            f"workers: expected room for {least} workers of {cfg.cpus_per_worker:g} CPUs, got {cpus:g} CPUs; "
            "lower workers.workers or workers.cpus_per_worker"
        )
    if cfg.device.startswith("cuda") and least > gpus:
        raise ConfigError(
            f"workers.device: expected a GPU for each of {least} workers, got {gpus:g}; "
            "lower workers.workers, or set workers.device=cpu"
        )


def _loop(config: dict[str, Any]) -> None:
    """What each of Ray Train's workers does; after an error that is the user's to mend it is not tried again."""
    folder, workers = RunFolder(Location.of(config["folder"])), WorkersConfig.model_validate(config["workers"])
    if folder.failure is not None:
        return
    if workers.device == "cpu":
        devices.keep_freed()
    try:
        _fit(folder, workers)
    except ConfigError as error:
        folder.fail(str(error))
        raise


def _fit(folder: RunFolder, workers: WorkersConfig) -> None:
    """What the folder's training is of."""

    def tell(result: Result) -> None:
        train.report(_reported(result))

    if folder.kind == "detector":
        detector_fit.fit(DetectorFolder(folder.location), distributed(), tell, workers)
    elif folder.kind == METHOD:
        method_fit.fit(MethodFolder(folder.location), distributed(), tell, workers)
    else:
        fit.fit(folder, distributed(), tell, workers)


def _reported(result: Result) -> dict[str, Any]:
    return {"epoch": result.epoch, "loss": result.loss, "val_loss": result.val_loss, "chosen": result.chosen}


@contextlib.contextmanager
def _errors() -> Iterator[None]:
    """What workers raised, as our own errors, however deep Ray has wrapped them."""
    try:
        yield
    except Exception as error:
        for cause in causes(error):
            if isinstance(cause, ArtrayError):
                raise cause.plain() from error
        raise TransientError(f"ray: {first_line(error)}; run again to go on from the last checkpoint") from error


def causes(error: BaseException) -> list[BaseException]:
    """An error and what led to it, those of Ray Train's workers among them."""
    found: list[BaseException] = []
    todo: list[Any] = [error]
    while todo:
        each = todo.pop()
        if isinstance(each, BaseException) and each not in found:
            found.append(each)
            todo += [each.__cause__, getattr(each, "cause", None), *getattr(each, "worker_failures", {}).values()]
    return found


class _Watch:
    """Tells epochs as they come, from the folder that the first worker writes them to; a context manager."""

    def __init__(self, folder: RunFolder, tell: Callable[[Result], None]) -> None:
        self.folder, self.tell = folder, tell
        self._told, self._ended = len(folder.history()), threading.Event()
        self._thread = threading.Thread(target=self._run, name="artray-epochs", daemon=True)

    def __enter__(self) -> "_Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._look()

    def _run(self) -> None:
        while not self._ended.wait(POLL_S):
            with contextlib.suppress(ArtrayError):
                self._look()

    def _look(self) -> None:
        for result in self.folder.history()[self._told :]:
            self._told += 1
            self.tell(result)
