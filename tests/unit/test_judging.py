"""Campaigns, judgements, and what they say of methods."""

import json
import os
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from artray.errors import ConfigError
from artray.metrics import retrieval
from artray.metrics.resampling import comparisons
from artray.retrieve import judged, judging
from artray.retrieve.judging import Campaign, Judgements, Ranked, Task

FOUND = {
    ("q1", "first"): ["a", "b", "c"],
    ("q1", "second"): ["b", "d", "a"],
    ("q2", "first"): ["e", "q1", "f"],
    ("q2", "second"): ["q1", "f", "e"],
}
"""Two queries, two methods, three results each: four different ones for q1, three for q2."""

RATED = {"a": 3, "b": 2, "c": 1, "d": 1, "e": 3, "f": 1, "q1": 2}


def rows() -> list[Ranked]:
    return [
        Ranked(query, method, rank, name, 1 - rank / 10)
        for (query, method), names in FOUND.items()
        for rank, name in enumerate(names, 1)
    ]


@pytest.fixture
def made() -> Campaign:
    return judging.campaign(rows(), 3, seed=1, store="/store")


def everything(made: Campaign, *judges: str) -> Judgements:
    return Judgements({by: {task: RATED[task.image_id] for task in made.pooled} for by in judges})


def test_a_campaign_pools_what_was_found_without_what_was_found_twice(made: Campaign) -> None:
    assert (made.queries, made.methods, made.k) == (("q1", "q2"), ("first", "second"), 3)
    assert made.pool("q1") == ["a", "b", "c", "d"]
    assert made.pool("q2") == ["e", "f", "q1"]
    assert made.found["q2", "second"] == ("q1", "f", "e")
    assert len(made.pooled) == 7


def test_tasks_are_in_a_random_order_of_each_judge_and_query_by_query(made: Campaign) -> None:
    shown = made.tasks("one")
    assert sorted(shown) == sorted(made.pooled)
    assert shown == judging.campaign(rows(), 3, seed=1, store="/store").tasks("one")
    queries = [task.query for task in shown]
    assert len([1 for one, other in pairwise(queries) if one != other]) == 1
    orders = {tuple(made.tasks(f"judge {number}")) for number in range(40)}
    assert len(orders) > 30  # of 2 * 4! * 3! = 288
    first = Counter(made.tasks(f"judge {number}")[0] for number in range(400))
    assert len(first) == 7  # any picture may be the first
    assert judging.campaign(rows(), 3, seed=2).tasks("one") != shown


def test_the_order_says_nothing_of_methods_and_ranks(made: Campaign) -> None:
    """Blind: what the first method alone found is not seen earlier than what the second alone found."""
    places = []
    for number in range(2000):
        pool = [task.image_id for task in made.tasks(f"judge {number}") if task.query == "q1"]
        places.append(pool.index("c") - pool.index("d"))
    assert abs(np.mean(places)) < 0.17  # 4 standard errors of about 0.04


def test_retrieve_asks_every_method(made: Campaign) -> None:
    told: list[tuple[int, int]] = []
    methods = {
        "plain": lambda query: [name for name in "abcq" if name != query],
        "scored": lambda query: [(query, 1.0), ("c", 0.5), ("b", 0.25)],
    }
    found = judging.retrieve(methods, ["q", "a"], 2, lambda *so_far: told.append(so_far))
    assert found == [
        Ranked("q", "plain", 1, "a"),
        Ranked("q", "plain", 2, "b"),
        Ranked("q", "scored", 1, "c", 0.5),
        Ranked("q", "scored", 2, "b", 0.25),
        Ranked("a", "plain", 1, "b"),
        Ranked("a", "plain", 2, "c"),
        Ranked("a", "scored", 1, "c", 0.5),
        Ranked("a", "scored", 2, "b", 0.25),
    ]
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
    with pytest.raises(ConfigError, match="scored: expected 3 works like q, found 2; ask for fewer with -k"):
        judging.retrieve({"scored": methods["scored"]}, ["q"], 3)


def test_a_table_may_come_as_dicts_in_any_order(made: Campaign) -> None:
    table = [row._asdict() for row in rows()]
    assert judging.campaign(table, 3, 1, "/store") == made
    by_rank = sorted(rows(), key=lambda row: -row.rank)
    turned = judging.campaign([*by_rank, Ranked("q1", "first", 4, "z")], 3, 1, "/store")
    assert turned.found == made.found  # rank 4 is left out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: [], "campaign: expected results"),
        (lambda table: table[1:], r"first: expected ranks 1 to 3 for q1, got 2, 3"),
        (lambda table: [row for row in table if (row.query, row.method) != ("q2", "first")], "for q2, got none"),
        (lambda table: [*table, table[0]], r"got 1, 1, 2, 3"),
        (lambda table: [row._replace(image_id="a") for row in table], "expected 3 different works for q1"),
        (lambda table: [row._replace(query=row.image_id) for row in table], "expected"),
        (lambda table: [{"query": "q"}], "campaign: expected rows of query, method, rank, image_id, score"),
        (lambda table: [row._asdict() | {"rank": "first"} for row in table], "campaign: expected rows of"),
        (lambda table: [None], "campaign: expected rows of"),
    ],
)
def test_tables_that_are_no_campaign(change, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        judging.campaign(change(rows()), 3)


def test_a_query_is_not_its_own_result() -> None:
    with pytest.raises(ConfigError, match="and not itself"):
        judging.campaign([Ranked("q", "first", 1, "q")], 1)


def test_a_campaign_is_kept(made: Campaign, tmp_path: Path) -> None:
    path = tmp_path / "it's kin.json"
    judging.save(made, path)
    assert judging.load(path) == made
    assert judging.load(path).tasks("one") == made.tasks("one")
    document = json.loads(path.read_text())
    assert document["rankings"][0] == {"query": "q1", "method": "first", "rank": 1, "image_id": "a", "score": 0.9}
    with pytest.raises(ConfigError, match="expected a new file"):
        judging.save(made, path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read .*; artray judge start makes a campaign"),
        ("{", "expected a campaign, got no JSON"),
        ("[1]", "expected a campaign of version 1, got None"),
        ('{"artray_campaign": 9}', "expected a campaign of version 1, got 9"),
        ('{"artray_campaign": 1, "k": 3}', "got one that lacks 'rankings'"),
    ],
)
def test_files_that_are_no_campaign(tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / "kin.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match=message):
        judging.load(path)


def test_a_campaign_that_was_changed_is_refused(made: Campaign, tmp_path: Path) -> None:
    path = tmp_path / "kin.json"
    judging.save(made, path)
    path.write_text(path.read_text().replace('"second"', '"other"'))
    with pytest.raises(ConfigError, match="it was changed after it was made"):
        judging.load(path)


def test_ratings_are_kept_and_the_last_word_counts(made: Campaign, tmp_path: Path) -> None:
    path = tmp_path / "kin.judgements.jsonl"
    assert judging.judgements(made, [path]) == Judgements({})
    judging.judge(path, made, " one ", Task("q1", "a"), 3)
    judging.judge(path, made, "Öztürk", Task("q1", "a"), 1)
    judging.judge(path, made, "one", Task("q1", "b"), 2)
    said = judging.judge(path, made, "one", Task("q1", "a"), 2)
    assert (said.by, said.rating) == ("one", 2)
    assert said.at.endswith("+00:00")
    told = judging.judgements(made, [path])
    assert told.ratings == {
        "one": {Task("q1", "a"): 2, Task("q1", "b"): 2},
        "Öztürk": {Task("q1", "a"): 1},
    }
    assert told.broken == 0
    assert len(path.read_text().splitlines()) == 4  # nothing is taken away


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_a_line_that_a_crash_cut_short_costs_itself_only(made: Campaign, tmp_path: Path, cut: int) -> None:
    path = tmp_path / "kin.judgements.jsonl"
    judging.judge(path, made, "Kellér", Task("q1", "a"), 3)
    whole = path.stat().st_size
    judging.judge(path, made, "Kellér", Task("q1", "b"), 2)
    os.truncate(path, whole + cut)
    told = judging.judgements(made, [path])
    assert told == Judgements({"Kellér": {Task("q1", "a"): 3}}, 1)
    judging.judge(path, made, "Kellér", Task("q1", "b"), 1)  # and the next line is not spoilt by it
    told = judging.judgements(made, [path])
    assert told == Judgements({"Kellér": {Task("q1", "a"): 3, Task("q1", "b"): 1}}, 1)


def test_a_line_without_its_end_is_read(made: Campaign, tmp_path: Path) -> None:
    path = tmp_path / "kin.judgements.jsonl"
    judging.judge(path, made, "one", Task("q1", "a"), 3)
    os.truncate(path, path.stat().st_size - 1)
    judging.judge(path, made, "one", Task("q1", "b"), 2)
    assert judging.judgements(made, [path]) == Judgements({"one": {Task("q1", "a"): 3, Task("q1", "b"): 2}}, 0)


@pytest.mark.parametrize(
    ("rating", "task", "by", "message"),
    [
        (0, Task("q1", "a"), "K", r"expected a rating of 3 \(good match\), 2 \(okayish match\), 1 \(no match\), got 0"),
        (4, Task("q1", "a"), "K", "got 4"),
        (True, Task("q1", "a"), "K", "got True"),
        (3, Task("q1", "e"), "K", "e was not found for q1"),
        (3, Task("q9", "a"), "K", "a was not found for q9"),
        (3, Task("q1", "a"), "  ", "expected a judge's name"),
    ],
)
def test_judgements_that_are_refused(
    made: Campaign, tmp_path: Path, rating: int, task: Task, by: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        judging.judge(tmp_path / "x.jsonl", made, by, task, rating)
    assert not (tmp_path / "x.jsonl").exists()


def test_lines_of_another_campaign_or_of_none_are_named(made: Campaign, tmp_path: Path) -> None:
    path, other = tmp_path / "x.jsonl", judging.campaign(rows(), 3, seed=2)
    judging.judge(path, made, "K", Task("q1", "a"), 3)
    judging.judge(path, other, "K", Task("q1", "a"), 3)
    with pytest.raises(ConfigError, match=rf"x.jsonl, line 2: expected .* {made.name}, got one of {other.name}"):
        judging.judgements(made, [path])
    line = json.loads(path.read_text().splitlines()[0])
    for change, message in (
        ({"rating": 5}, "line 1: expected a rating of"),
        ({"rating": "3"}, "line 1: expected a rating of"),
        ({"rating": [3]}, "line 1: expected a rating of"),
        ({"image_id": "z"}, "line 1: z was not found for q1"),
        ({"by": ""}, "line 1: expected a judge's name"),
    ):
        path.write_text(json.dumps(line | change) + "\n")
        with pytest.raises(ConfigError, match=message):
            judging.judgements(made, [path])
    for text in ("3", "[]", '{"campaign": 1}'):
        path.write_text(f"{text}\n")
        with pytest.raises(ConfigError, match="line 1: expected a judgement"):
            judging.judgements(made, [path])
    path.unlink()
    path.mkdir()
    with pytest.raises(ConfigError, match="cannot be read"):
        judging.judgements(made, [path])
    with pytest.raises(ConfigError, match="cannot be written"):
        judging.judge(path, made, "K", Task("q1", "a"), 3)


def test_judges_may_write_files_of_their_own(made: Campaign, tmp_path: Path) -> None:
    judging.judge(tmp_path / "a.jsonl", made, "K", Task("q1", "a"), 3)
    judging.judge(tmp_path / "b.jsonl", made, "L", Task("q1", "a"), 1)
    told = judging.judgements(made, [tmp_path / "a.jsonl", tmp_path / "b.jsonl", tmp_path / "none.jsonl"])
    assert set(told.ratings) == {"K", "L"}


def test_votes() -> None:
    for ratings, expected in (([3], 3), ([3, 3, 1], 3), ([1, 2, 3], 2), ([3, 1], 1), ([3, 2], 2), ([1, 1, 3, 3, 2], 1)):
        assert judged.majority(ratings) == expected
    task = Task("q", "a")
    said = Judgements({"K": {task: 3}, "L": {task: 3}, "M": {task: 1}})
    assert judged.relevances(said) == {task: 3.0}
    assert judged.relevances(said, "mean") == {task: pytest.approx(7 / 3)}
    assert judged.relevances(Judgements({})) == {}


def test_measures_by_hand(made: Campaign) -> None:
    told = judged.measured(made, judged.relevances(everything(made, "K")))
    assert (told.queries, told.not_judged) == (("q1", "q2"), ())
    # q1: first has a, b, c = 3, 2, 1 and second b, d, a = 2, 1, 3; the pool's best three are 3, 2, 1
    # q2: first has e, q1, f = 3, 2, 1 and second q1, f, e = 2, 1, 3; the pool's best three are 3, 2, 1
    first, second = told.measures["first"], told.measures["second"]
    assert first["accumulated"].tolist() == second["accumulated"].tolist() == [6, 6]
    assert first["ndcg_report"].tolist() == second["ndcg_report"].tolist() == [1, 1]  # the same works, in any order
    assert first["ndcg"].tolist() == [1, 1]
    best, other = 3 + 2 * 0.63093 + 1 / 2, 2 + 0.63093 + 3 / 2
    assert second["ndcg"] == pytest.approx([other / best] * 2, abs=1e-4)
    assert second["ndcg_exponential"] == pytest.approx(
        [(3 + 0.63093 + 7 / 2) / (7 + 3 * 0.63093 + 1 / 2)] * 2, abs=1e-4
    )
    assert first["precision"] == pytest.approx([2 / 3, 2 / 3])
    assert first["precision_good"] == pytest.approx([1 / 3, 1 / 3])


def test_the_ideal_is_of_the_pool_or_of_what_was_retrieved() -> None:
    table = [Ranked("q", "poor", 1, "a"), Ranked("q", "poor", 2, "b")]
    table += [Ranked("q", "rich", 1, "c"), Ranked("q", "rich", 2, "d")]
    made = judging.campaign(table, 2)
    relevances = {Task("q", name): rating for name, rating in (("a", 1.0), ("b", 1.0), ("c", 3.0), ("d", 3.0))}
    pool, own = judged.measured(made, relevances), judged.measured(made, relevances, "retrieved")
    assert pool.measures["poor"]["ndcg"].tolist() == pytest.approx([1 / 3])  # a third of what could be had
    assert pool.measures["poor"]["ndcg_report"].tolist() == pytest.approx([1 / 3])
    assert own.measures["poor"]["ndcg"].tolist() == [1]  # in the best order of what it has
    assert pool.measures["rich"] == own.measures["rich"]


def test_queries_that_are_not_fully_judged_are_named_and_left_out(made: Campaign) -> None:
    said = everything(made, "K", "L")
    for by in said.ratings:
        del said.ratings[by][Task("q2", "f")]
    told = judged.score(made, said, resamples=50)
    assert (told["queries"], told["judged"], told["not_judged"]) == (2, 1, ["q2"])
    assert told["judges"] == {"K": 6, "L": 6}
    said.ratings["L"][Task("q2", "f")] = 1  # one judge is enough
    assert judged.score(made, said, resamples=50)["not_judged"] == []


def test_score(made: Campaign) -> None:
    said = everything(made, "K", "L")
    said.ratings["L"][Task("q1", "c")] = 2
    told = judged.score(made, said, "mean", resamples=100)
    assert told["agreement"] == pytest.approx(
        retrieval.agreement([[r[task] for task in sorted(made.pooled)] for r in said.ratings.values()])
    )
    assert 0.5 < told["agreement"] < 1
    assert told["methods"]["first"]["accumulated"]["value"] == pytest.approx((6.5 + 6) / 2)
    assert told["ratings"] == {"good match": 4, "okayish match": 5, "no match": 5}
    assert (told["campaign"], told["store"], told["k"], told["pictures"]) == (made.name, "/store", 3, 7)
    rows = {row["measure"]: row for row in told["comparisons"]}
    assert set(rows) == set(told["methods"]["first"])
    assert (rows["ndcg"]["first"], rows["ndcg"]["second"]) == ("first", "second")
    assert rows["ndcg"]["difference"] == pytest.approx(
        told["methods"]["first"]["ndcg"]["value"] - told["methods"]["second"]["ndcg"]["value"]
    )
    assert rows["ndcg_report"]["difference"] == pytest.approx(0.5 / 6.5 / 2)
    json.dumps(told, allow_nan=False)
    assert judged.score(made, said, "mean", resamples=100) == told


def test_a_campaign_that_nobody_has_judged(made: Campaign) -> None:
    told = judged.score(made, Judgements({}))
    assert (told["judged"], told["methods"], told["comparisons"], told["agreement"]) == (0, {}, [], None)
    assert told["not_judged"] == ["q1", "q2"]
    alone = judged.score(made, everything(made, "K"), resamples=10)
    assert alone["agreement"] is None  # there is nobody to agree with


def test_pairs_are_corrected_for_how_many_there_are() -> None:
    random = np.random.default_rng(0)
    table, told = [], {}
    for number in range(12):
        for method in "abc":
            name = f"{number}{method}"
            table.append(Ranked(f"q{number}", method, 1, name))
            told[Task(f"q{number}", name)] = float(random.integers(1, 4) if method != "c" else 3)
    rows = comparisons(judged.measured(judging.campaign(table, 1), told).measures, resamples=200)
    assert len(rows) == 3 * 6  # pairs, measures
    assert all(row["p"] <= row["p_holm"] <= 1 for row in rows)
