"""artray judge: a campaign from its start to its scores, as a judge would do it, by pipes."""

import base64
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from artray import schema
from artray.archive import listing
from artray.cli import app
from artray.commands.inline import inline, protocol
from artray.config import ArchiveConfig
from artray.errors import ConfigError
from artray.location import Location
from artray.retrieve import judging, results_shown
from artray.retrieve.results_shown import Shown
from artray.store import judge
from artray.store.layout import Store, create_store
from artray.store.records import Records
from artray.taxonomy import GENRES

COUNT = 24
METHODS = ("--method", "embedding", "--method", "other")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Two dozen plain pictures of five genres, one of which failed, with the embeddings of two methods."""
    folder = tmp_path_factory.mktemp("archive")
    for number in range(COUNT):
        Image.new("RGB", (60 + number, 50), (number * 10, 90, 200 - number * 5)).save(folder / f"{number:02}.png")
    entries = sorted(listing.entries(Location.of(folder), ArchiveConfig(), lambda _: None))
    made = create_store(tmp_path_factory.mktemp("judge") / "it's a store")
    method = create_store(made.method("other").uri, method="other", embedding={"metric": "cosine"})
    for seed, target in enumerate((made, method)):
        random = np.random.default_rng(seed)
        rows = [
            {"image_id": entry.image_id, "uri": entry.uri, "version": entry.version, "error": ""}
            | {"type": "painting", "genre": GENRES[number % 5], "embedding": random.normal(size=6).tolist()}
            | {"models": "m", "metadata": {}}
            for number, entry in enumerate(entries)
        ]
        rows[-1] |= {"error": "truncated", "type": None, "genre": None, "embedding": None}
        columns = {name: [row.get(name) for row in rows] for name in schema.RECORD.names}
        Records.create(target).append(schema.table(columns, schema.RECORD))
    return made


@pytest.fixture
def campaign(store: Store, tmp_path: Path) -> Path:
    path = tmp_path / "kin.json"
    answer("start", store.uri, str(path), *METHODS, "--queries", "3", "-k", "2")
    return path


def run(*arguments: str, keys: str = "") -> Result:
    return CliRunner().invoke(app, ["judge", *arguments], input=keys)


def answer(*arguments: str, keys: str = "") -> Any:
    done = run(*arguments, "--json", keys=keys)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def refused(*arguments: str) -> str:
    done = run(*arguments)
    assert (done.exit_code, done.stdout) == (2, ""), done.output
    assert done.stderr.startswith("artray: ")
    return done.stderr


def everything(path: Path) -> str:
    """So many keys as rate every picture."""
    return "3\n2\n1\n" * len(judging.load(path).pooled)


def test_start(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "kin.json"
    told = answer("start", store.uri, str(path), *METHODS, "--queries", "5", "-k", "3")
    made = judging.load(path)
    assert told == {
        "campaign": made.name,
        "file": str(path),
        "queries": 5,
        "methods": ["embedding", "other"],
        "k": 3,
        "pictures": len(made.pooled),
    }
    assert (len(made.queries), made.k, made.store) == (5, 3, store.uri)
    assert "23.png" not in {name for task in made.pooled for name in task}  # it failed
    assert {int(query[:2]) % 5 for query in made.queries} == set(range(5))  # one of each genre
    assert all(0 <= row.score <= 1 or -1 <= row.score <= 0 for row in made.rankings if row.score is not None)
    shown = run("start", store.uri, str(tmp_path / "other.json"), *METHODS)
    assert "20 queries" in shown.stdout
    assert "artray judge rate" in shown.stdout


def test_queries_of_a_file_and_held_out(store: Store, tmp_path: Path) -> None:
    queries = tmp_path / "queries.txt"
    queries.write_text("03.png\n\n07.png\n03.png\n11.png\n")
    answer("start", store.uri, str(tmp_path / "a.json"), *METHODS, "--queries", str(queries), "--held-out")
    made = judging.load(tmp_path / "a.json")
    assert made.queries == ("03.png", "07.png", "11.png")
    assert not {row.image_id for row in made.rankings} & set(made.queries)
    answer("start", store.uri, str(tmp_path / "b.json"), *METHODS, "--queries", str(queries), "-k", "20")
    assert {row.image_id for row in judging.load(tmp_path / "b.json").rankings} & set(made.queries)


def test_the_same_seed_draws_the_same_queries(store: Store, tmp_path: Path) -> None:
    drawn = []
    for number, seed in enumerate(("1", "1", "2")):
        path = tmp_path / f"{number}.json"
        answer("start", store.uri, str(path), "--method", "other", "--queries", "6", "--seed", seed)
        drawn.append(judging.load(path).queries)
    assert drawn[0] == drawn[1] != drawn[2]
    works = [{"image_id": f"{n}", "type": "drawing" if n < 2 else "painting", "genre": None} for n in range(30)]
    assert {"0", "1"} <= set(judge.drawn(works, 4))
    assert len(judge.drawn(works, 99)) == 30


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("start", "NOWHERE", "NEW", *METHODS), "no artray store here"),
        (("start", "STORE", "NEW"), "--method: expected one or more different methods, got none"),
        (("start", "STORE", "NEW", *METHODS, "--method", "other"), "--method: expected one or more different methods"),
        (("start", "STORE", "NEW", "--method", "othr"), "--method othr: expected embedding, other; did you mean other"),
        (("start", "STORE", "NEW", *METHODS, "--queries", "0"), "--queries: expected 1 to 23"),
        (("start", "STORE", "NEW", *METHODS, "--queries", "24"), "--queries: expected 1 to 23"),
        (("start", "STORE", "NEW", *METHODS, "--queries", "nowhere.txt"), "--queries nowhere.txt: expected a number"),
        (("start", "STORE", "NEW", *METHODS, "-k", "23"), "expected more works than results"),
        (("start", "STORE", "NEW", *METHODS, "-k", "0"), "at least 1 result"),
        (("start", "STORE", "NEW", *METHODS, "-k", "20", "--queries", "9", "--held-out"), "ask for fewer with -k"),
        (("start", "EMPTY", "NEW", *METHODS[:2]), "expected more works than results, and at least 1 result, got 0"),
        (("rate", "NEW", "--by", "K"), "artray judge start makes a campaign"),
        (("score", "NEW"), "artray judge start makes a campaign"),
    ],
)
def test_what_is_refused(store: Store, tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    Records.create(create_store(tmp_path / "empty"))
    places = {"STORE": store.uri, "NEW": str(tmp_path / "new.json"), "NOWHERE": str(tmp_path / "nowhere")}
    places["EMPTY"] = str(tmp_path / "empty")
    assert message in refused(*(places.get(word, word) for word in arguments))
    assert not (tmp_path / "new.json").exists()


def test_files_of_queries_that_are_refused(store: Store, tmp_path: Path) -> None:
    queries = tmp_path / "queries.txt"
    for text, message in (("03.png\n3.png\n", "3.png is not a work of the store; did you mean"), ("\n", "got none")):
        queries.write_text(text)
        assert message in refused("start", store.uri, str(tmp_path / "x"), *METHODS, "--queries", str(queries))
    queries.write_bytes(b"\xff\xfe")
    assert "text file" in refused("start", store.uri, str(tmp_path / "x"), *METHODS, "--queries", str(queries))


def test_a_campaign_is_not_overwritten(store: Store, campaign: Path) -> None:
    assert "expected a new file" in refused("start", store.uri, str(campaign), *METHODS)


def test_rating(campaign: Path, tmp_path: Path) -> None:
    out, made = tmp_path / "pair.png", judging.load(campaign)
    tasks = made.tasks("Keller")
    told = answer("rate", str(campaign), "--by", "Keller", "--out", str(out), keys="3\n1\nq\n")
    path = judging.judgements_path(campaign)
    assert told == {
        **{"campaign": made.name, "by": "Keller", "now": 2, "rated": 2, "left": len(tasks) - 2},
        "judgements": str(path),
    }
    assert judging.judgements(made, [path]).ratings == {"Keller": {tasks[0]: 3, tasks[1]: 1}}
    with Image.open(out) as image:  # of the third, which was shown last
        assert image.size == (2 * 560 + 36, 26 + 560 + 22 + 24)
        for x, name in ((200, tasks[2].query), (800, tasks[2].image_id)):
            number = int(name[:2])
            assert image.getpixel((x, 300)) == (number * 10, 90, 200 - number * 5)


def test_rating_is_gone_on_with_where_it_was_left(campaign: Path) -> None:
    made = judging.load(campaign)
    tasks = made.tasks("K")
    run("rate", str(campaign), "--by", "K", keys="3\ns\n2\n")  # the second is passed over; the pipe ends
    done = run("rate", str(campaign), "--by", "K", keys="1\nq\n")
    assert f"1 ratings; {len(tasks) - 3} of {len(tasks)} pictures left for K" in done.stdout
    said = judging.judgements(made, [judging.judgements_path(campaign)]).ratings["K"]
    assert said == {tasks[0]: 3, tasks[2]: 2, tasks[1]: 1}


def test_back_and_keys_that_mean_nothing(campaign: Path) -> None:
    made = judging.load(campaign)
    tasks = made.tasks("K")
    done = run("rate", str(campaign), "--by", "K", keys="b\n3\n4\n\nB\n1\n2\nq\n")
    assert done.stderr.count("expected 3 good match, 2 okayish match") == 2
    assert "rated 3 before" in done.stderr
    said = judging.judgements(made, [judging.judgements_path(campaign)]).ratings["K"]
    assert said == {tasks[0]: 1, tasks[1]: 2}


def test_rating_ends_when_all_is_rated(campaign: Path) -> None:
    told = answer("rate", str(campaign), "--by", "K", keys=everything(campaign))
    assert told["left"] == 0
    again = run("rate", str(campaign), "--by", "K", keys="3\n")
    assert again.stdout.startswith("0 ratings; 0 of ")
    assert "query" not in again.stderr


def test_a_judge_sees_neither_methods_nor_ranks_nor_names(campaign: Path) -> None:
    done = run("rate", str(campaign), "--by", "K", keys=everything(campaign))
    assert not re.search(r"embedding|other|\.png of|score|rank|\d\d\.png", done.stderr.replace("pair.png", ""))
    assert re.search(r"query 1 of 3, picture 1 of \d; ", done.stderr)


def test_pictures_that_cannot_be_had_are_told(store: Store, tmp_path: Path) -> None:
    path, archive = tmp_path / "kin.json", Path(Records.open(store).delta().to_pyarrow_table()["uri"][0].as_py())
    answer("start", store.uri, str(path), *METHODS, "--queries", "1", "-k", "22")
    query = judging.load(path).queries[0]
    picture = Path(str(archive).removeprefix("file://")).with_name(query)
    data = picture.read_bytes()
    picture.unlink()
    try:
        done = run("rate", str(path), "--by", "K", keys="3\nq\n")
    finally:
        picture.write_bytes(data)
    assert f"no picture: {query}: its picture cannot be read" in done.stderr
    assert done.stdout.startswith("1 ratings")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--by", " "), "--by: expected the judge's name, got none"),
        (("--by", "K", "--out", "pair.gif"), "expected a name that ends with"),
        (("--by", "K", "--inline", "sixel"), "--inline: expected auto or kitty or iterm or none, got sixel"),
    ],
)
def test_ratings_that_are_refused(campaign: Path, options: tuple[str, ...], message: str) -> None:
    assert message in refused("rate", str(campaign), *options)


def test_campaigns_without_their_store(campaign: Path, tmp_path: Path) -> None:
    table = judging.load(campaign).rankings
    for name, store, message in (
        ("none", "", "expected a campaign of a store"),
        ("nowhere", str(tmp_path / "gone"), "no artray store here"),
    ):
        judging.save(judging.campaign(table, 2, store=store), tmp_path / f"{name}.json")
        assert message in refused("rate", str(tmp_path / f"{name}.json"), "--by", "K")
    Records.create(create_store(tmp_path / "empty"))
    judging.save(judging.campaign(table, 2, store=str(tmp_path / "empty")), tmp_path / "empty.json")
    assert "the campaign is of another one" in refused("rate", str(tmp_path / "empty.json"), "--by", "K")


def test_score(campaign: Path, tmp_path: Path) -> None:
    assert "no judgements yet" in refused("score", str(campaign))
    run("rate", str(campaign), "--by", "Keller", keys=everything(campaign))
    run("rate", str(campaign), "--by", "Öztürk", keys="3\n2\nq\n")
    told = answer("score", str(campaign))
    assert (told["judged"], told["not_judged"], told["vote"], told["ideal"]) == (3, [], "majority", "pool")
    assert told["judges"] == {"Keller": told["pictures"], "Öztürk": 2}
    assert set(told["methods"]) == {"embedding", "other"}
    assert 2 <= told["methods"]["other"]["accumulated"]["value"] <= 6
    shown = run("score", str(campaign))
    assert shown.exit_code == 0, shown.output
    for text in ("nDCG (report)", "accumulated", "p (Holm)", "3 of 3 queries are fully judged", "Öztürk 2"):
        assert text in shown.stdout
    assert answer("score", str(campaign), "--vote", "mean", "--ideal", "retrieved")["vote"] == "mean"
    assert "--vote: expected majority or mean, got most" in refused("score", str(campaign), "--vote", "most")
    assert "--ideal: expected pool or retrieved" in refused("score", str(campaign), "--ideal", "all")


def test_score_of_what_is_half_judged(campaign: Path) -> None:
    made = judging.load(campaign)
    run("rate", str(campaign), "--by", "K", keys="3\nq\n")
    shown = run("score", str(campaign))
    assert "0 of 3 queries are fully judged" in shown.stdout
    assert all(query in shown.stdout for query in made.queries)
    assert "not defined" in shown.stdout
    with judging.judgements_path(campaign).open("a") as file:
        file.write('{"campaign": "')
    assert "1 lines of the judgements were cut short" in run("score", str(campaign)).stdout
    assert answer("score", str(campaign))["methods"] == {}


def test_judgements_of_others_and_of_another_campaign(store: Store, campaign: Path, tmp_path: Path) -> None:
    made = judging.load(campaign)
    for name in ("a", "b"):
        for task in made.tasks(name):
            judging.judge(tmp_path / f"{name}.jsonl", made, name, task, 2)
    files = ("--judgements", str(tmp_path / "a.jsonl"), "--judgements", str(tmp_path / "b.jsonl"))
    assert set(answer("score", str(campaign), *files)["judges"]) == {"a", "b"}
    other = tmp_path / "other.json"
    answer("start", store.uri, str(other), *METHODS, "--queries", "2")
    assert "a.jsonl, line 1: expected a judgement of campaign" in refused("score", str(other), *files)
    assert "no judgements yet" in refused("score", str(campaign), "--judgements", str(tmp_path / "c.jsonl"))


def test_sheets(campaign: Path, tmp_path: Path) -> None:
    run("rate", str(campaign), "--by", "K", keys=everything(campaign))
    told = answer("score", str(campaign), "--sheets", str(tmp_path / "new" / "sheets"))
    assert [Path(path).name for path in told["sheets"]] == ["query-001.jpg", "query-002.jpg", "query-003.jpg"]
    with Image.open(told["sheets"][0]) as image:
        assert image.size == (12 + 3 * 232 + 12, 12 + 2 * 280)  # a query, two results; two methods
    (tmp_path / "file").write_text("")
    assert "cannot be made" in refused("score", str(campaign), "--sheets", str(tmp_path / "file"))


def test_a_sheet_has_pictures_where_they_belong() -> None:
    def plain(shade: int, width: int = 30, height: int = 40) -> np.ndarray:
        return np.full((height, width, 3), shade, np.uint8)

    rows = {"one": [Shown(plain(10), "1   0.900"), Shown(plain(20, 90, 10), "x" * 400)], "two": [Shown(None, "1")]}
    drawn = np.asarray(results_shown.draw(Shown(plain(200), "query\n\x1b[31m"), rows))
    assert drawn.shape == (12 + 2 * 280, 12 + 3 * 232 + 12, 3)
    centre = 12 + 26 + 110
    assert drawn[centre, 12 + 110].tolist() == [200] * 3  # the query
    left = 24 + 232 + 110
    assert drawn[centre, left].tolist() == [10] * 3
    assert drawn[centre, left + 232].tolist() == [20] * 3
    assert drawn[centre - 40, left + 232].tolist() == [255] * 3  # wide and low: white above
    assert drawn[centre + 280 - 60, left].tolist() == [235] * 3  # no picture
    assert drawn[centre + 280, left + 232].tolist() == [255] * 3  # no second result
    assert results_shown.draw(Shown(None), {}).size == (12 + 232 + 12, 292)
    assert results_shown.pair(Shown(plain(1)), Shown(plain(2))).getpixel((840, 320)) == (2, 2, 2)


def test_a_sheet_of_no_query_of_the_campaign(store: Store, campaign: Path) -> None:
    made = judging.load(campaign)
    with pytest.raises(ConfigError, match="expected a query of the campaign"):
        judge.sheet(judge.Gallery(store, made), made, "nothing.png")


def test_pictures_in_the_terminal() -> None:
    data = bytes(range(256)) * 40
    assert inline(data, "") == ""
    iterm = inline(data, "iterm")
    assert iterm.startswith("\x1b]1337;File=inline=1;size=10240:")
    assert base64.b64decode(iterm.rstrip("\a\n").partition(":")[2]) == data
    parts = re.findall(r"\x1b_G([^;]*);([^\x1b]*)\x1b\\", inline(data, "kitty"))
    assert [keys for keys, _ in parts] == ["a=T,f=100,q=2,m=1", "m=1", "m=1", "m=0"]
    assert all(len(chunk) <= 4096 for _, chunk in parts)
    assert base64.b64decode("".join(chunk for _, chunk in parts)) == data
    assert re.findall("m=.", inline(b"x", "kitty")) == ["m=0"]
    assert protocol({"TERM": "xterm-kitty", "TMUX": "/tmp/x"}) == ""
    assert protocol({"TERM_PROGRAM": "WezTerm"}) == "iterm"


def test_pictures_in_the_terminal_that_is_asked_for(campaign: Path) -> None:
    done = run("rate", str(campaign), "--by", "K", "--inline", "iterm", keys="q\n")
    assert "\x1b]1337;File=inline=1" in done.stderr
    assert "\x1b" not in run("rate", str(campaign), "--by", "K", keys="q\n").stderr
