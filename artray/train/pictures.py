"""Batches of pictures, as an epoch shows them or as they are judged."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from artray.archive.sample.drawing import to_drawing
from artray.config import Views
from artray.models.cards import Input
from artray.train import transforms
from artray.train.devices import sent
from artray.train.epochs import Epoch, Ints
from artray.train.loading import Ahead, Place, loaded
from artray.train.profile import TrainProfile
from artray.train.sampling import Share, in_order
from artray.train.transforms import Image

Planned: TypeAlias = Callable[[int], tuple[Epoch, list[Share]]]
"""An epoch and this worker's parts of its batches, by its number."""


class Pictures:
    """Batches of a profile's pictures; see artray.train.trainer.Inputs.

    Args:
        profile: crops, augmentations, precision and processes.
        spec: the network's input.
        read: an image's pixels uint8[H, W, 3] by its row; it is sent to the processes.
    """

    def __init__(self, profile: TrainProfile, spec: Input, read: Callable[[int], Image]) -> None:
        self.profile, self.spec, self.read = profile, spec, read
        self.device = torch.device(profile.workers.device)
        dtype = torch.float64 if profile.training.precision == "float64" else torch.float32
        self.normalise = transforms.Normalise(spec, self.device, dtype)
        transform, training = transforms.Training(spec, profile.crop, profile.augment), profile.training
        self.size_px = transform.spec.size_px
        self._ahead = Ahead(_Shown(read, transform, training.seed), profile.workers, training.epochs)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one picture in training."""
        return 3, self.size_px, self.size_px

    def training(self, number: int, first: int, planned: Planned) -> Iterator[Tensor]:
        """float[n, 3, S, S] per share, augmented; of a mixed epoch each is mixed with its partner."""
        epoch, shares = planned(number)
        left = shares[first:]
        batches = self._ahead.batches(number, first, len(left), lambda later: _shows(*planned(later)))
        for share, batch in zip(left, batches, strict=True):
            images = self._ready(batch)
            if epoch.mix is not None:
                parts = torch.from_numpy(epoch.mix.parts[share.positions])
                own = sent(parts.to(images.dtype), images.device)[:, None, None, None]
                images = own * images[:, 0] + (1 - own) * images[:, 1]
            yield images

    def validation(self, rows: Ints, batch_size: int) -> Iterator[Tensor]:
        """float[n, 3, S, S] as the pipeline shows them, in order."""
        judged = Looks(self.read, self.spec, rows)
        for batch in loaded(judged, in_order(len(rows), batch_size), self.profile.workers):
            yield self._ready(batch[:, 0])

    def judged(self, rows: Ints, batch_size: int) -> Iterator[Tensor]:
        """float[n * V, 3, S, S]: the V views of the profile's test, image by image."""
        cfg = self.profile.test
        views = Looks(self.read, self.spec, rows, cfg.views, cfg.resize_px)
        for batch in loaded(views, in_order(len(rows), batch_size), self.profile.workers):
            yield self._ready(batch.flatten(0, 1))

    def close(self) -> None:
        """End the processes that prepare what would be learned from next."""
        self._ahead.close()

    def _ready(self, batch: Tensor) -> Tensor:
        """float[..., 3, S, S] on the worker's device, of uint8[..., S, S, 3]."""
        return self.normalise(sent(batch, self.device))


class Show(NamedTuple):
    """Which picture is shown, and how."""

    place: Place
    drawn: bool  # as a drawing


def _shows(epoch: Epoch, shares: Sequence[Share]) -> Iterator[list[tuple[Show, ...]]]:
    """Of the shares' positions; of a mixed epoch with their partners."""

    def show(position: int) -> Show:
        return Show(Place(epoch.number, position, int(epoch.indices[position])), bool(epoch.drawn[position]))

    def with_partner(position: int) -> tuple[Show, ...]:
        own = show(position)
        return (own,) if epoch.mix is None else (own, show(int(epoch.mix.positions[position])))

    for share in shares:
        yield [with_partner(position) for position in share.positions.tolist()]


class _Shown(Dataset[Tensor]):
    """Pictures as an epoch shows them: uint8[S, S, 3]; with a partner both, uint8[2, S, S, 3]."""

    def __init__(self, read: Callable[[int], Image], transform: transforms.Training, seed: int) -> None:
        self.read, self.transform, self.seed = read, transform, seed

    def __getitem__(self, shows: tuple[Show, ...]) -> Tensor:
        seen = [self._shown(show) for show in shows]
        return seen[0] if len(seen) == 1 else torch.stack(seen)

    def _shown(self, show: Show) -> Tensor:
        number, position, row = show.place
        image = self.read(row)
        if show.drawn:
            image = to_drawing(image)
        return torch.from_numpy(self.transform(image, (self.seed, number, position)))


class Looks(Dataset[Tensor]):
    """Some images' views uint8[V, S, S, 3], in order; see artray.train.transforms.views."""

    def __init__(
        self,
        read: Callable[[int], Image],
        spec: Input,
        rows: Ints,
        kind: Views = "one",
        resize_px: int | None = None,
    ) -> None:
        self.read, self.spec, self.rows, self.kind, self.resize_px = read, spec, rows, kind, resize_px

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Tensor:
        return torch.from_numpy(
            transforms.views(self.read(int(self.rows[index])), self.spec, self.kind, self.resize_px)
        )


class Embeddings:
    """Batches of stored embeddings; see artray.train.trainer.Inputs. Nothing is augmented: no image is read.

    Args:
        rows: float32[N, D].
        dtype: what the network takes.
    """

    def __init__(self, rows: np.ndarray[Any, np.dtype[np.float32]], dtype: torch.dtype = torch.float32) -> None:
        self.rows, self.dtype = torch.from_numpy(rows), dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one embedding."""
        return tuple(self.rows.shape[1:])

    def training(self, number: int, first: int, planned: Planned) -> Iterator[Tensor]:
        """float[n, D] per share; of a mixed epoch each is mixed with its partner."""
        epoch, shares = planned(number)
        for share in shares[first:]:
            batch = self._at(epoch.indices[share.positions])
            if epoch.mix is not None:
                parts = torch.from_numpy(epoch.mix.parts[share.positions]).to(batch.dtype)[:, None]
                others = self._at(epoch.indices[epoch.mix.positions[share.positions]])
                batch = parts * batch + (1 - parts) * others
            yield batch

    def validation(self, rows: Ints, batch_size: int) -> Iterator[Tensor]:
        """float[n, D], in order."""
        for start in range(0, len(rows), batch_size):
            yield self._at(rows[start : start + batch_size])

    def judged(self, rows: Ints, batch_size: int) -> Iterator[Tensor]:
        """An embedding has one view."""
        return self.validation(rows, batch_size)

    def close(self) -> None:
        """There are no processes."""

    def _at(self, rows: Ints) -> Tensor:
        return self.rows[torch.from_numpy(rows)].to(self.dtype)
