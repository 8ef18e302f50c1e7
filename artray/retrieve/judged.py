"""What judges say of methods: measures per method with intervals, methods compared in pairs, judges compared at all."""

import math
from collections.abc import Mapping, Sequence
from statistics import mean, median_low, multimode
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from artray.metrics import retrieval
from artray.metrics.classification import RESAMPLES
from artray.metrics.resampling import comparisons, intervals
from artray.retrieve.judging import RATINGS, Campaign, Judgements, Task

Vote: TypeAlias = Literal["majority", "mean"]
Ideal: TypeAlias = Literal["pool", "retrieved"]
Floats: TypeAlias = npt.NDArray[np.float64]

GOOD: Final = 3
OKAY: Final = 2
"""Rated so much or better, a result counts for precision."""


class Judged(NamedTuple):
    """The queries whose whole pool was rated, and what they make of each method."""

    queries: tuple[str, ...]  # Q of them
    not_judged: tuple[str, ...]  # those with a result that nobody has rated
    measures: dict[str, dict[str, Floats]]  # by method, then by name: float64[Q]


def majority(ratings: Sequence[int]) -> float:
    """What most judges say; of ratings that are given equally often the middle one, the lower of two.

    Source: report, Image Retrieval, section 3, which does not say what becomes of ties.

    >>> majority([3, 3, 1]), majority([3, 2, 1]), majority([3, 1])
    (3.0, 2.0, 1.0)
    """
    return float(median_low(multimode(ratings)))


def relevances(said: Judgements, vote: Vote = "majority") -> dict[Task, float]:
    """What the judges say together of whatever was rated: a number from 1 to 3."""
    ratings: dict[Task, list[int]] = {}
    for judged in said.ratings.values():
        for task, rating in judged.items():
            ratings.setdefault(task, []).append(rating)
    return {task: majority(given) if vote == "majority" else mean(map(float, given)) for task, given in ratings.items()}


def measured(made: Campaign, told: Mapping[Task, float], ideal: Ideal = "pool") -> Judged:
    """Every measure of every method on every query that is fully judged.

    Args:
        made: the campaign.
        told: of :func:`relevances`.
        ideal: what the ideal DCG is of: ``pool``, the best of all that any method found for the query, or
            ``retrieved``, the method's own results in the best order.
    """
    unknown = {task.query for task in made.pooled - told.keys()}
    queries = tuple(query for query in made.queries if query not in unknown)
    best = [sorted((told[Task(query, name)] for name in made.pool(query)), reverse=True)[: made.k] for query in queries]
    pools = np.array(best).reshape(-1, made.k)
    measures = {}
    for method in made.methods:
        rows = [[told[Task(query, name)] for name in made.found[query, method]] for query in queries]
        table = np.array(rows, np.float64).reshape(-1, made.k)
        measures[method] = _measures(table, pools if ideal == "pool" else table)
    return Judged(queries, tuple(query for query in made.queries if query in unknown), measures)


def _measures(table: Floats, ideal_of: Floats) -> dict[str, Floats]:
    """Of relevances float64[Q, k]: float64[Q] by name."""
    k = table.shape[1]
    return {
        "ndcg_report": retrieval.ndcg(table, k, retrieval.REPORT, ideal_of),
        "accumulated": retrieval.accumulated(table, k),
        "ndcg": retrieval.ndcg(table, k, retrieval.STANDARD, ideal_of),
        "ndcg_exponential": retrieval.ndcg(table, k, retrieval.EXPONENTIAL, ideal_of),
        "precision": retrieval.precision_at(table >= OKAY, k),
        "precision_good": retrieval.precision_at(table >= GOOD, k),
    }


def agreement(said: Judgements) -> float | None:
    """Krippendorff's alpha of the judges; None where it is not defined."""
    tasks = sorted({task for judged in said.ratings.values() for task in judged})
    table = [[float(judged.get(task, math.nan)) for task in tasks] for judged in said.ratings.values()]
    found = retrieval.agreement(table)
    return None if math.isnan(found) else found


def score(
    made: Campaign,
    said: Judgements,
    vote: Vote = "majority",
    ideal: Ideal = "pool",
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Any]:
    """All that a campaign's judgements say, as ``artray judge score --json`` prints it.

    Args:
        made: the campaign.
        said: the judgements.
        vote: how judges are put together: ``majority``, as in the report, or ``mean``.
        ideal: as of :func:`measured`.
        resamples: of the bootstrap over queries, at least 1.
        seed: of the bootstrap.

    Returns:
        ``methods`` by name, each measure with value, low and high (none where no query is fully judged);
        ``comparisons``; ``judges`` with how many pictures each has rated, ``agreement`` between them (null where it is
        not defined), and the ``queries`` that count with the names of those that do not.
    """
    judged = measured(made, relevances(said, vote), ideal)
    methods: dict[str, Any] = {
        method: {name: found._asdict() for name, found in intervals(measures, None, resamples, seed).items()}
        for method, measures in judged.measures.items()
        if judged.queries
    }
    tallies = {by: len(ratings) for by, ratings in sorted(said.ratings.items())}
    ratings = [rating for given in said.ratings.values() for rating in given.values()]
    return {
        "campaign": made.name,
        "store": made.store,
        "k": made.k,
        "vote": vote,
        "ideal": ideal,
        "queries": len(made.queries),
        "judged": len(judged.queries),
        "not_judged": list(judged.not_judged),
        "pictures": len(made.pooled),
        "judges": tallies,
        "ratings": {name: ratings.count(rating) for rating, name in RATINGS.items()},
        "agreement": agreement(said),
        "broken_lines": said.broken,
        "methods": methods,
        "comparisons": comparisons(judged.measures, None, resamples, seed) if judged.queries else [],
    }
