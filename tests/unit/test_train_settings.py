"""What workers take of a machine where the profile says nothing."""

import pytest

from artray.train import settings
from artray.train.settings import WorkersConfig


@pytest.mark.parametrize(
    ("given", "threads", "processes"),
    [
        ({}, 8, 0),
        ({"workers": 3}, 2, 0),
        ({"workers": 16}, 1, 0),
        ({"loader_processes": 2}, 6, 2),
        ({"threads": 5}, 5, 0),
        ({"device": "cuda"}, 1, 7),
        ({"device": "cuda", "workers": 2, "threads": 2}, 2, 3),
        ({"device": "cuda", "workers": 9}, 1, 1),
        ({"device": "cuda", "loader_processes": 0}, 1, 0),
    ],
)
def test_cores_are_shared(given: dict[str, object], threads: int, processes: int, monkeypatch) -> None:
    monkeypatch.setattr(settings, "cores", lambda: 8)
    cfg = WorkersConfig.model_validate(given)
    assert (cfg.arithmetic, cfg.processes) == (threads, processes)
