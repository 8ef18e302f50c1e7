"""What an epoch shows: which images, in which order, as which class, mixed with which; the same for all workers."""

from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from artray.train import sampling
from artray.train.exchange import Exchange
from artray.train.profile import Task, TrainProfile
from artray.train.sampling import Share
from artray.train.works import PARTS, class_ids, rows_of

Ints: TypeAlias = npt.NDArray[np.int64]
Labels: TypeAlias = dict[Task, Ints]
"""Per head a class id for each of N images; -1 where it has no label."""


class Count(NamedTuple):
    """How many works of a class there are."""

    train: int
    epoch: int  # how many an epoch shows as this class: balanced, and with paintings shown as drawings
    val: int
    test: int


class Epoch(NamedTuple):
    """One epoch of M images."""

    number: int
    indices: Ints  # int64[M]: which of the N images, in order
    labels: Labels  # per head int64[M]
    drawn: npt.NDArray[np.bool_]  # bool[M]: shown as a drawing
    mix: sampling.Mix | None

    def shares(self, batch_size: int, exchange: Exchange) -> list[Share]:
        """This worker's parts of the batches."""
        return list(sampling.batches(self.indices, batch_size, exchange.rank, exchange.workers))


def plan(profile: TrainProfile, labels: Labels, train: Ints, number: int) -> Epoch:
    """An epoch, which depends on the profile's seed and the epoch's number alone.

    Args:
        profile: conversion, balance, mixup and seed.
        labels: of all N images.
        train: int64: which of these are learned from.
        number: of the epoch, from 0.
    """
    seed, alpha = profile.training.seed, profile.training.mixup
    own = {name: ids[train] for name, ids in labels.items()}
    drawn = np.zeros(len(train), bool)
    if part := profile.data.drawings_from_paintings:
        types = profile.outputs("type")
        drawn = sampling.converted(own["type"], types.index("painting"), part, seed, number)
        own["type"] = np.where(drawn, types.index("drawing"), own["type"])
    order = sampling.order(own[profile.balanced_by], profile.balance.rule, seed, number)
    mix = sampling.mixed(len(order), alpha, seed, number) if alpha else None
    return Epoch(number, train[order], {name: ids[order] for name, ids in own.items()}, drawn[order], mix)


def counts(profile: TrainProfile, works: pa.Table) -> dict[Task, dict[str, Count]]:
    """Per head and class how many works there are, before and after balancing."""
    labels, rows = class_ids(works, profile), {part: rows_of(works, part) for part in PARTS}
    shown, told = plan(profile, labels, rows["train"], 0).labels, dict[Task, dict[str, Count]]()
    for task, ids in labels.items():
        names = profile.outputs(task)
        columns = [shown[task] if part is None else ids[rows[part]] for part in ("train", None, "val", "test")]
        counted = [np.bincount(column[column >= 0], minlength=len(names)).tolist() for column in columns]
        told[task] = {name: Count(*values) for name, *values in zip(names, *counted, strict=True)}
    return told
