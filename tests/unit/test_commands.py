"""The command line in this process: exit codes, one line per error, and the shapes of --json."""

import json
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import typer
from typer.testing import CliRunner, Result

from artray import api, schema
from artray.cli import app
from artray.config import Profile
from artray.errors import ConfigError, Interrupted, InvariantError, StoreBusyError, TransientError
from artray.store.layout import Store
from artray.store.records import Records
from artray.store.vectors import opened
from tests import made_store

COMMAND: Any = typer.main.get_command(app)


def verbs(command: Any = COMMAND, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    if hasattr(command, "commands"):
        for name, below in command.commands.items():
            yield from verbs(below, (*path, name))
    else:
        yield path, command


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def answer(*arguments: str) -> Any:
    done = run(*arguments, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Store:
    made = made_store.store(tmp_path_factory.mktemp("commands") / "store", 100)
    with opened(made) as index:
        index.sync(Records.open(made))
    run = {"run_id": "20240101T000000-abc", "state": "done", "images": 100, "profile": Profile(name="x").model_dump()}
    made.write_json("runs/20240101T000000-abc.json", run)
    return made


def test_the_verbs() -> None:
    assert {" ".join(path) for path, _ in verbs()} >= {
        *("demo", "sample", "process", "index", "status", "verify", "find", "sql", "similar", "show", "export"),
        *("models list", "models show", "models add", "models verify"),
    }


@pytest.mark.parametrize("path", [path for path, _ in verbs()], ids=" ".join)
def test_every_verb_has_help_with_examples_that_it_takes(path: tuple[str, ...]) -> None:
    shown = run(*path, "--help")
    assert shown.exit_code == 0
    assert "--json" in shown.stdout
    assert "Traceback" not in shown.output
    command = dict(verbs())[path]
    examples = re.findall(r"^ {4}(artray .*)$", command.help, re.MULTILINE)
    assert examples
    for example in examples:
        words = shlex.split(example)[1:]
        assert tuple(words[: len(path)]) == path
        command.make_context(example, words[len(path) :])  # fails where it has no such option or argument


def test_every_option_says_what_it_does() -> None:
    silent = [
        f"{' '.join(path)} {parameter.name}"
        for path, command in verbs()
        for parameter in command.params
        if not (parameter.help or "").strip()
    ]
    assert silent == []


def test_without_a_verb_there_is_help() -> None:
    assert "process" in run().output
    assert "verify" in run("models").output
    assert run("--version").stdout.startswith("artray 0.")


def one_line(done: Result) -> str:
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("artray: ")
    return lines[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("status", "NOWHERE"), "no artray store here"),
        (("verify", "NOWHERE"), "no artray store here"),
        (("find", "STORE", "--type", "sculpture"), "expected one of drawing, painting"),
        (("find", "STORE", "--limit", "-1"), "--limit"),
        (("find", "STORE", "--sort", "nothing"), "--sort nothing"),
        (("find", "STORE", "--error", "bad"), "--error bad"),
        (("find", "gs://bucket/x"), "expected a path or s3://bucket/prefix"),
        (("sql", "STORE", "DROP TABLE works"), "sql: "),
        (("sql", "STORE", "SELECT nothing FROM works"), "sql: "),
        (("show", "STORE", "nothing.jpg"), "nothing.jpg"),
        (("similar", "STORE", "nothing.jpg"), "nothing.jpg"),
        (("similar", "STORE", "00/0000000.jpg", "--region", "1,2,3"), "--region: expected four numbers"),
        (("similar", "STORE", "00/0000000.jpg", "--region", "a,b,c,d"), "--region: expected four numbers"),
        (("similar", "STORE", "00/0000000.jpg", "--expand", "-1"), "--expand: expected 0 to 100, got -1"),
        (("export", "STORE", "/tmp/out", "--format", "xml"), "xml"),
        (("verify", "STORE", "NOWHERE"), "expected a folder of images"),
        (("process", "NOWHERE", "OTHER"), "expected a folder of images"),
        (
            ("process", "NOWHERE", "OTHER", "--profile", "nothing"),
            "one of: bundled, ensemble-iconart, ensemble-resnext, ensemble-yolo, report, thorough",
        ),
        (("process", "NOWHERE", "OTHER", "--set", "x"), "expected section.key=value"),
        (("process", "NOWHERE", "OTHER", "--set", "a.b=c"), "known keys"),
        (("process", "NOWHERE", "OTHER", "--limit", "0"), "--limit: expected at least 1, got 0"),
        (("process", "NOWHERE", "OTHER", "--set", "detect.device=gpu"), "detect.device: expected cpu, cuda or cuda:N"),
        (("process", "NOWHERE", "OTHER", "--set", "decode.plugins=[no_such_module]"), "decode.plugins: no_such_module"),
        (("sql", "STORE", "SELECT 1", "--memory", "much"), "memory: expected an amount"),
        (("models", "show", "nothing"), "nothing"),
        (("models", "add", "nothing.yaml"), "nothing.yaml"),
    ],
)
def test_what_the_user_gave_is_wrong(made: Store, tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    places = {"STORE": made.uri, "NOWHERE": str(tmp_path / "nowhere"), "OTHER": str(tmp_path / "other")}
    done = run(*[places.get(argument, argument) for argument in arguments])
    assert message in one_line(done)
    assert done.exit_code == 2
    assert list(tmp_path.iterdir()) == []  # nothing is left behind


@pytest.mark.parametrize(
    "arguments", [("nothing",), ("find",), ("find", "s", "--nothing"), ("find", "s", "--limit", "x")]
)
def test_usage(arguments: tuple[str, ...]) -> None:
    done = run(*arguments)
    assert done.exit_code == 2
    assert done.stdout == ""
    assert "Usage" in done.stderr


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (ConfigError("store: wrong"), 2, "artray: store: wrong"),
        (TransientError("s3: down"), 3, "artray: s3: down"),
        (StoreBusyError("store: busy"), 3, "artray: store: busy"),
        (Interrupted("stopped"), 3, "artray: stopped"),
        (KeyboardInterrupt(), 3, "artray: interrupted; run the same command again to go on"),
        (InvariantError("rows: lost"), 1, "artray: rows: lost"),
        (ConfigError("a\x1b[2J\nb"), 2, "artray: a\\x1b[2J\\nb"),
        (
            RuntimeError("what"),
            1,
            "artray: RuntimeError: what; this is a defect of artray: ARTRAY_TRACEBACK=1 shows where",
        ),
    ],
)
def test_exit_codes(monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, message: str) -> None:
    monkeypatch.setattr(api, "status", fails(error))
    done = run("status", "/store")
    assert one_line(done) == message
    assert done.exit_code == code


def fails(error: BaseException) -> Callable[..., Any]:
    def function(*_: object, **__: object) -> None:
        raise error

    return function


def test_tracebacks_are_for_those_who_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "status", fails(RuntimeError("what")))
    monkeypatch.setenv("ARTRAY_TRACEBACK", "1")
    done = run("status", "/store")
    assert isinstance(done.exception, RuntimeError)


def test_status(made: Store) -> None:
    found = answer("status", made.uri)
    assert set(found) >= {"images", "done", "failed", "pending", "vanished", "types", "genres", "objects", "errors"}
    assert set(found["vectors"]) >= {"count", "lag"}
    assert (found["images"], found["failed"], found["runs"][0]["state"]) == (100, 2, "done")
    text = run("status", made.uri).stdout
    for part in ("100 images, 97 done, 2 failed", "painting", "truncated", "20240101T000000-abc", "vectors: 97, 0 to"):
        assert part in text


def test_verify(made: Store, tmp_path: Path) -> None:
    found = answer("verify", made.uri)
    assert found["ok"] is True
    assert all(set(promise) == {"name", "ok", "detail"} for promise in found["promises"])
    done = run("verify", made.uri, str(tmp_path), "--json")  # an archive without one of its images
    assert done.exit_code == 1
    assert json.loads(done.stdout)["ok"] is False
    done = run("verify", made.uri, str(tmp_path))
    assert done.exit_code == 1
    assert "BROKEN" in done.stdout


def test_find_sql_and_show(made: Store) -> None:
    found = answer("find", made.uri, "--type", "drawing", "--limit", "2")
    assert found["count"] > 2
    assert len(found["works"]) == 2
    keys = {"image_id", "uri", "type", "type_score", "genre", "genre_score", "objects", "mean_rgb", "metadata", "error"}
    assert set(found["works"][0]) >= keys
    assert answer("find", made.uri, "--limit", "0") == {"count": 99, "works": []}
    told = answer("sql", made.uri, "SELECT count(*) AS n, max(image_id) AS m FROM works")
    assert (told["columns"], told["rows"]) == (["n", "m"], [[99, "99/0000099.jpg"]])
    assert answer("show", made.uri, "07/0000007.jpg")["image_id"] == "07/0000007.jpg"
    assert "2 of " in run("find", made.uri, "--type", "drawing", "--limit", "2").stdout
    assert "the first 2 rows; --max-rows shows more" in run("sql", made.uri, "FROM works", "--max-rows", "2").stdout
    assert "0000007.jpg" in run("show", made.uri, "07/0000007.jpg").stdout


def test_export(made: Store, tmp_path: Path) -> None:
    assert answer("export", made.uri, str(tmp_path / "w.jsonl"), "--format", "jsonl")["rows"] >= 99
    assert "rows in" in run("export", made.uri, str(tmp_path / "w.csv"), "--format", "csv").stdout
    for asked, there in (((), False), (("--embeddings",), True)):
        run("export", made.uri, str(tmp_path / "w.parquet"), *asked)
        assert ("embedding" in pq.read_schema(tmp_path / "w.parquet").names) == there


def test_models() -> None:
    found = answer("models", "list")
    assert {"name", "task", "licence"} <= set(found[0])
    assert answer("models", "show", "mtcnn")["name"] == "mtcnn"
    assert "mtcnn" in run("models", "list").stdout


def test_a_wrong_card_hides_no_right_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from artray.models import cards

    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    folder = tmp_path / "artray" / "cards"
    folder.mkdir(parents=True)
    (folder / "broken.yaml").write_text("name: broken\n")
    listed = run("models", "list")
    assert "mtcnn" in listed.stdout
    assert "card broken: task: Field required" in listed.stderr
    assert listed.exit_code == 2
    assert run("models", "verify", "broken").exit_code == 2
    names = {"broken": folder / "broken.yaml", "resnet50-type": cards.shipped()["resnet50-type"]}
    monkeypatch.setattr(cards, "known", lambda: names)
    verified = run("models", "verify", "--json")
    assert [found["ok"] for found in json.loads(verified.stdout)] == [False, None]
    assert verified.exit_code == 1


def test_an_unknown_architecture_is_told_before_anything_is_made(tmp_path: Path) -> None:
    from artray.models import cards

    card = cards.load("efficientnet-lite2-art").model_dump(mode="json", exclude_defaults=True)
    card |= {"name": "own", "architecture": "efficientnet-lite7"}
    (tmp_path / "own.yaml").write_text(json.dumps(card))
    cards_set = f"classify.cards=[{tmp_path / 'own.yaml'}]"
    done = run("process", str(tmp_path), str(tmp_path / "store"), "--set", cards_set)
    assert "card own: architecture: expected one of " in one_line(done)
    assert done.exit_code == 2
    assert not (tmp_path / "store").exists()


SUMMARY = {
    **{"run_id": "r", "images": 1200, "done": 1000, "failed": 3, "skipped": 100, "pending": 97, "vanished": 0},
    **{"seconds": 61.0, "images_per_s": 16.4, "errors": {"corrupt": 3}, "report": "/s/runs/r\x1b.json", "notes": []},
}


def test_process_tells_and_strict_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}

    def process(archive: str, store: str, **options: Any) -> dict[str, Any]:
        given.update(options, archive=archive, store=store)
        return SUMMARY

    monkeypatch.setattr(api, "process", process)
    done = run("process", "a", "s", "--limit", "5", "--set", "x.y=1", "--set", "x.z=2", "--metadata", "a: b.csv")
    assert done.exit_code == 0
    assert done.stdout.splitlines() == [
        "1,200 images: 1,000 done, 3 failed (corrupt 3), 100 unchanged, 97 left for the next run; "
        "1 min 1 s, 16.4 images/s",
        "report: /s/runs/r\\x1b.json",
    ]
    assert (given["set"], given["limit"], given["metadata"]) == (["x.y=1", "x.z=2"], 5, "a: b.csv")
    assert run("process", "a", "s", "--strict").exit_code == 1
    assert json.loads(run("process", "a", "s", "--json").stdout) == SUMMARY
    monkeypatch.setattr(api, "process", lambda *_, **__: SUMMARY | {"failed": 0})
    assert run("process", "a", "s", "--strict").exit_code == 0


def test_what_an_archive_says_cannot_do_anything_to_a_terminal(store: Store) -> None:
    evil = "\x1b]0;owned\x07\x1b[2J[red]:cat:\u202e\n"
    batch = {name: [None] for name in schema.RECORD.names} | {
        **{"image_id": [f"{evil}.jpg"], "uri": [f"/{evil}.jpg"], "error": ["corrupt"], "error_detail": [evil]},
        "metadata": [{"title": evil, evil: evil, "artist": "[bold]x"}],
    }
    Records.create(store).append(schema.table(batch, schema.RECORD))
    for arguments in (("find",), ("sql", "SELECT * FROM works"), ("show", f"{evil}.jpg"), ("status",), ("verify",)):
        verb, *more = arguments
        shown = run(verb, store.uri, *more).stdout
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", shown), verb
    assert "[red]:cat:" in run("find", store.uri).stdout
    assert answer("find", store.uri)["works"][0]["metadata"]["title"] == evil
