"""Batches of one epoch after another: the same as of each epoch alone, by processes that stay."""

import os
from collections.abc import Iterator
from multiprocessing import active_children
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset

from artray.errors import ConfigError, TransientError
from artray.location import Location
from artray.train import sampling
from artray.train.fit import run
from artray.train.loading import Ahead, Place, places
from artray.train.loop import Result
from artray.train.rundir import MADE, RunFolder
from artray.train.settings import WorkersConfig
from tests import boxes_training, methods_training, training

EPOCHS = 3


class Told(Dataset[Tensor]):
    """What was asked for, and by whom it was prepared."""

    def __getitem__(self, place: Place) -> Tensor:
        if place.row == 99:
            raise ConfigError("b.jpg: is gone")
        return torch.tensor([*place, os.getpid()])


def planned(number: int) -> list[list[Place]]:
    rows = np.random.default_rng(number).permutation(10 + number)
    return list(places(number, sampling.batches(rows, 4)))


def shown(ahead: Ahead, number: int, first: int = 0) -> Iterator[Tensor]:
    return ahead.batches(number, first, len(planned(number)) - first, planned)


def told(batches: Iterator[Tensor]) -> list[list[list[int]]]:
    return [batch[:, :3].tolist() for batch in batches]


def expected(number: int, first: int = 0) -> list[list[list[int]]]:
    return [[list(place) for place in batch] for batch in planned(number)[first:]]


@pytest.mark.parametrize("processes", [0, 2])
def test_an_epoch_after_another(processes: int) -> None:
    ahead = Ahead(Told(), WorkersConfig(loader_processes=processes), EPOCHS)
    for number in range(EPOCHS):
        assert told(shown(ahead, number, 0)) == expected(number)


@pytest.mark.parametrize("processes", [0, 2])
def test_from_where_it_was_interrupted_on_and_anew_where_one_is_left_or_left_out(processes: int) -> None:
    ahead = Ahead(Told(), WorkersConfig(loader_processes=processes), EPOCHS)
    assert told(shown(ahead, 1, 2)) == expected(1, 2)
    left = shown(ahead, 2, 0)
    assert next(left)[:, :3].tolist() == expected(2)[0]
    assert told(shown(ahead, 2, 0)) == expected(2), "whose first batch had been taken"
    assert told(shown(ahead, 0, 0)) == expected(0)


def test_processes_stay_and_end_with_the_last_epoch() -> None:
    ahead = Ahead(Told(), WorkersConfig(loader_processes=2), EPOCHS)
    pids = []
    for number in range(EPOCHS):
        pids.append({int(row[3]) for batch in shown(ahead, number, 0) for row in batch})
    assert pids[0] == pids[1] == pids[2]
    assert os.getpid() not in pids[0]
    for pid in pids[0]:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_processes_end_when_it_is_closed_and_another_epoch_starts_others() -> None:
    ahead = Ahead(Told(), WorkersConfig(loader_processes=2), EPOCHS)
    pids = {int(row[3]) for batch in shown(ahead, 0, 0) for row in batch}
    ahead.close()
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    assert told(shown(ahead, 1, 0)) == expected(1)
    ahead.close()


STILL: dict[str, Any] = {"optimiser": {"lr": 1e-12}, "workers": {"loader_processes": 2}}
"""Nothing is learned, so that no epoch is better than the first."""


def begun(folder: Path) -> RunFolder:
    made = RunFolder(Location.of(folder))
    (made.location / MADE).write_json({"profile": {}, "card": None, "data_sha256": ""})
    return made


@pytest.mark.parametrize("kind", [training, boxes_training, methods_training])
def test_no_process_is_left_of_a_training_that_stops_early(kind: Any, tmp_path: Path) -> None:
    made = kind.trainer(kind.profile(**STILL, training={"epochs": 9, "patience_epochs": 1}))
    run(begun(tmp_path), made, lambda _: None)
    assert len(made.history) < 9
    assert not active_children()


@pytest.mark.parametrize("kind", [training, boxes_training, methods_training])
def test_no_process_is_left_of_a_training_that_fails(kind: Any, tmp_path: Path) -> None:
    made = kind.trainer(kind.profile(**STILL, training={"epochs": 9}))

    def fail(_: Result) -> None:
        raise TransientError("the storage is gone")

    with pytest.raises(TransientError):
        run(begun(tmp_path), made, fail)
    assert not active_children()


def test_what_a_process_cannot_read_is_told_as_it_is() -> None:
    ahead = Ahead(Told(), WorkersConfig(loader_processes=1), 1)
    with pytest.raises(ConfigError, match=r"^b.jpg: is gone$"):
        list(ahead.batches(0, 0, 1, lambda _: [[Place(0, 0, 99)]]))
