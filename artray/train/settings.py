"""What every training's profile says: how weights are changed, for how long, and by whom.

Sections in comments are those of the report's chapter Image Classification.
"""

import os
from typing import Literal

from pydantic import Field

from artray.config import Device, Section


class OptimiserConfig(Section):
    """How weights are changed. Section 4.2.

    Args:
        name: ``adam``, ``adadelta``, ``adamw`` or ``sgd``.
        lr: learning rate at the start.
        weight_decay: as torch has it.
        momentum: of sgd.
        schedule: per epoch: ``constant``, ``step``, ``cosine`` (to 0 at the end) or ``plateau``.
        step_epochs: of ``step``; Table 9: 4.
        step_factor: of ``step`` and ``plateau``, what the rate is multiplied by; torch's default.
        patience_epochs: of ``plateau``, how many epochs without a better validation it waits; torch's default.
        ema_decay: validate and keep an exponential moving average of the weights with this decay per batch; null for
            the weights themselves. Not in the report.
        clip_norm: largest norm of a batch's gradient; null for any. Not in the report.
        warmup_batches: the rate rises evenly over the first so many. Not in the report.
    """

    name: Literal["adam", "adadelta", "adamw", "sgd"] = "adam"
    lr: float = Field(1e-4, gt=0)
    weight_decay: float = Field(0.0, ge=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    schedule: Literal["constant", "step", "cosine", "plateau"] = "cosine"
    step_epochs: int = Field(4, ge=1)
    step_factor: float = Field(0.1, gt=0, lt=1)
    patience_epochs: int = Field(10, ge=0)
    ema_decay: float | None = Field(None, gt=0, lt=1)
    clip_norm: float | None = Field(None, gt=0)
    warmup_batches: int = Field(0, ge=0)


class EpochsConfig(Section):
    """How long is trained, and what is kept.

    Args:
        epochs: how many, at most.
        batch_size: of all workers together. Table 3: 100.
        keep: the ``best`` epoch, or the ``last``, where overfitting is what is wanted (chapter Image Retrieval,
            section 5.4).
        choose_by: the validation metric whose best epoch is kept: micro_f1, macro_f1, accuracy, mcc or "f1 CLASS";
            null for "f1 drawing" of types and macro_f1 of genres.
        patience_epochs: stop after so many epochs without a better one; null to go on.
        mixup: alpha of the Beta distribution that pictures are mixed by; 0 for none. Not in the report.
        precision: ``float32``, ``bfloat16`` (mixed, on a GPU), or ``float64``.
        seed: of everything that is random.
        checkpoint_batches: a checkpoint after so many batches, and after every epoch; null for these alone.
    """

    epochs: int = Field(30, ge=1)
    batch_size: int = Field(100, ge=1)
    keep: Literal["best", "last"] = "best"
    choose_by: str | None = None
    patience_epochs: int | None = Field(None, ge=1)
    mixup: float = Field(0.0, ge=0)
    precision: Literal["float32", "bfloat16", "float64"] = "float32"
    seed: int = Field(0, ge=0, lt=2**32)
    checkpoint_batches: int | None = Field(None, ge=1)


class WorkersConfig(Section):
    """Who trains.

    Args:
        workers: how many share a batch; the result does not depend on it.
        min_workers: go on with so many where the cluster has no more, and take more when it has; null for all or none.
        device: of each.
        cpus_per_worker: reserved for each.
        threads: of each, for arithmetic; null on a CPU for all cores, shared evenly by the workers as if they were on
            one machine, and for one on a GPU.
        loader_processes: of each, which prepare pictures, up to four batches ahead each; while an epoch is judged there
            are as many again. 0 does it in between; null for none on a CPU, and for a GPU all cores but one, likewise
            shared.
        max_failures: how many times lost workers are replaced; -1 for ever.
        cuda_graph: launch a batch's passes as a whole, for many small layers; one worker, a classifier, on a GPU.
    """

    workers: int = Field(1, ge=1)
    min_workers: int | None = Field(None, ge=1)
    device: Device = "cpu"
    cpus_per_worker: float = Field(1.0, gt=0)
    threads: int | None = Field(None, ge=1)
    loader_processes: int | None = Field(None, ge=0)
    max_failures: int = Field(3, ge=-1)
    cuda_graph: bool = False

    @property
    def processes(self) -> int:
        """How many processes of each worker prepare pictures."""
        if self.loader_processes is not None or self.device == "cpu":
            return self.loader_processes or 0
        return self._share(of=cores() - 1)

    @property
    def arithmetic(self) -> int:
        """How many threads each worker calculates with."""
        if self.threads is not None or self.device != "cpu":
            return self.threads or 1
        return self._share(of=cores() - self.processes * self.workers)

    def _share(self, of: int) -> int:
        return max(1, of // self.workers)

    def check(self, training: EpochsConfig) -> None:
        """Raises ValueError where they cannot share such batches."""
        count, device = self.workers, self.device
        if training.batch_size < 2 * count:
            expected = f"at least two images for each of {count} workers"
            raise ValueError(f"training.batch_size: expected {expected}, got {training.batch_size}")
        if (self.min_workers or 0) > count:
            raise ValueError(f"workers.min_workers: expected at most workers.workers, {count}, got {self.min_workers}")
        if count > 1 and device.startswith("cuda:"):
            raise ValueError(f"workers.device: expected cuda, which gives each of {count} workers one, got {device}")
        if self.cuda_graph and (device == "cpu" or count > 1):
            raise ValueError(f"workers.cuda_graph: expected one worker on workers.device cuda, got {count} on {device}")
        if training.precision == "bfloat16" and device == "cpu":
            raise ValueError("training.precision: expected float32 or float64 on workers.device cpu, got bfloat16")


def cores() -> int:
    """Of this machine, those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
