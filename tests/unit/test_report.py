"""A run's report is there from its beginning, and tells how it ended."""

from typing import Any

import pytest

from artray import config
from artray.errors import Interrupted, TransientError
from artray.models import cards
from artray.pipeline.report import Report
from artray.store.layout import Store


def report(store: Store) -> Report:
    return Report(store, "/archive", "20240101T000000-abc", config.load("bundled"), [cards.load("mtcnn")])


def told(store: Store) -> dict[str, Any]:
    return store.runs()[-1]


def test_all_that_made_the_records_is_in_it(any_store: Store) -> None:
    with report(any_store) as made:
        assert told(any_store)["state"] == "running"
        assert told(any_store)["ended_at"] is None
        made.summary.images, made.summary.pending = 5, 5
        made.save()
        assert told(any_store)["pending"] == 5  # known even if it is killed now
        made.summary.errors = {"corrupt": 1}
    found = told(any_store)
    assert (found["state"], found["images"], found["errors"], found["failure"]) == ("done", 5, {"corrupt": 1}, None)
    assert found["ended_at"] > found["started_at"]
    assert found["profile"] == config.load("bundled").model_dump(mode="json")
    assert found["cards"]["mtcnn"]["fingerprint"] == cards.load("mtcnn").fingerprint()
    assert {"artray", "python", "torch", "ray", "deltalake"} <= set(found["versions"])
    assert made.summary.report == f"{any_store.uri}/runs/20240101T000000-abc.json"


@pytest.mark.parametrize(
    ("error", "state", "failure"),
    [
        (Interrupted("x"), "interrupted", None),
        (KeyboardInterrupt(), "interrupted", None),
        (TransientError("s3 is down"), "failed", "TransientError: s3 is down"),
        (SystemExit(1), "failed", "SystemExit: 1"),
    ],
)
def test_however_it_ends(store: Store, error: BaseException, state: str, failure: str | None) -> None:
    with pytest.raises(type(error)), report(store):
        raise error
    assert (told(store)["state"], told(store)["failure"]) == (state, failure)


def test_the_first_error_is_the_one_that_is_seen(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    made = report(store)

    def fails(*_: object) -> None:
        raise TransientError("the report cannot be written")

    made.__enter__()
    monkeypatch.setattr(Store, "write_json", fails)
    made.__exit__(ValueError, ValueError("first"), None)  # raises nothing: the first one goes on
    with pytest.raises(TransientError, match="the report cannot be written"), report(store):
        pass
