"""Batches prepared beside the training, in processes of their own where the profile says so."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import cv2
from torch.utils.data import DataLoader, Dataset

from artray.errors import ConfigError, TransientError
from artray.train.sampling import Share
from artray.train.settings import WorkersConfig


class Place(NamedTuple):
    """Which picture is shown, and where in a training: all that is random of how it is shown follows from that."""

    epoch: int
    position: int
    row: int


def places(number: int, shares: Iterable[Share]) -> Iterator[list[Place]]:
    """Of this worker's parts of an epoch's batches."""
    for share in shares:
        yield [Place(number, *each) for each in zip(share.positions.tolist(), share.indices.tolist(), strict=True)]


class Ahead:
    """A data set's batches, one epoch after another.

    The processes live until the last epoch's last batch, or until :meth:`close`. While the last batches of an epoch are
    learned from, and while it is judged, they prepare the first of the next.

    Args:
        dataset: is sent to the processes; knows nothing of epochs.
        workers: processes, and where batches go to.
        epochs: how many there are.
        collate: makes a batch of items; None stacks tensors.
    """

    def __init__(
        self,
        dataset: "Dataset[Any]",
        workers: WorkersConfig,
        epochs: int,
        collate: Callable[[list[Any]], Any] | None = None,
    ) -> None:
        self.dataset, self.workers, self.epochs, self.collate = dataset, workers, epochs, collate
        self._due: int | None = None
        self._stream: Iterator[Any] = iter(())

    def batches(
        self, number: int, first: int, count: int, planned: Callable[[int], Iterable[list[Any]]]
    ) -> Iterator[Any]:
        """An epoch's batches.

        Args:
            number: of the epoch; if it is not the one after the last, or the last one was not seen to its end, the
                processes start anew.
            first: the batch to begin with, where the epoch was interrupted.
            count: how many there are from that one on.
            planned: an epoch's batches of the data set's indices, by its number.

        Raises:
            ConfigError: a picture cannot be used any more.
            TransientError: a storage failed.
        """
        if self._due != number or first:
            self._stream = loaded(self.dataset, self._indices(number, first, planned), self.workers, self.collate)
        self._due = None
        for _ in range(count):
            yield next(self._stream)
        self._due = number + 1
        if self._due >= self.epochs:
            next(self._stream, None)  # which ends the processes

    def close(self) -> None:
        """End the processes, and drop what they prepared; for a training that ends before its last epoch."""
        self._due, self._stream = None, iter(())

    def _indices(self, number: int, first: int, planned: Callable[[int], Iterable[list[Any]]]) -> Iterator[list[Any]]:
        yield from itertools.islice(planned(number), first, None)
        for later in range(number + 1, self.epochs):
            yield from planned(later)


def loaded(
    dataset: "Dataset[Any]",
    batches: Iterable[list[Any]],
    workers: WorkersConfig,
    collate: Callable[[list[Any]], Any] | None = None,
) -> Iterator[Any]:
    """Batches of a data set, prepared in as many processes as the profile says.

    Args:
        dataset: is sent to the processes.
        batches: its indices, a batch each.
        workers: processes, and where batches go to.
        collate: makes a batch of items; None stacks tensors.

    Raises:
        ConfigError: a picture cannot be used any more.
        TransientError: a storage failed.
    """
    processes = workers.processes
    if processes:  # each would resize with a thread per core; and OpenCV's threads do not survive a fork
        cv2.setNumThreads(1)
    loader: Any = DataLoader(
        dataset,
        batch_sampler=batches,
        num_workers=processes,
        pin_memory=workers.device.startswith("cuda"),
        prefetch_factor=4 if processes else None,
        collate_fn=collate,
    )
    try:
        yield from loader
    except (ConfigError, TransientError) as error:  # a process's comes with its traceback as text
        raise type(error)(str(error).strip().splitlines()[-1].partition("Error: ")[2] or str(error)) from error
