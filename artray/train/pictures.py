"""Batches of pictures, prepared beside the training, in processes of their own where the profile says so."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from artray.archive.sample.drawing import to_drawing
from artray.config import Views
from artray.errors import ConfigError, TransientError
from artray.models.cards import Input
from artray.train import transforms
from artray.train.devices import sent
from artray.train.epochs import Epoch, Ints
from artray.train.profile import TrainProfile, WorkersConfig
from artray.train.sampling import Share, in_order
from artray.train.transforms import Image


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
        self.transform = transforms.Training(spec, profile.crop, profile.augment)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one picture in training."""
        return 3, self.transform.spec.size_px, self.transform.spec.size_px

    def training(self, epoch: Epoch, shares: Sequence[Share]) -> Iterator[Tensor]:
        """float[n, 3, S, S] per share, augmented; of a mixed epoch each is mixed with its partner."""
        batches = [share.positions.tolist() for share in shares]
        for share, batch in zip(shares, loaded(_Shown(self, epoch), batches, self.profile.workers), strict=True):
            images = self._ready(batch)
            if epoch.mix is not None:
                parts = epoch.mix.parts[share.positions]
                own = sent(torch.from_numpy(parts).to(images.dtype), images.device)[:, None, None, None]
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

    def _ready(self, batch: Tensor) -> Tensor:
        """float[..., 3, S, S] on the worker's device, of uint8[..., S, S, 3]."""
        return self.normalise(sent(batch, self.device))


def loaded(
    dataset: "Dataset[Any]",
    batches: list[list[int]],
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
    processes = workers.loader_processes
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


class _Shown(Dataset[Tensor]):
    """The pictures of an epoch, by position: uint8[S, S, 3]; of a mixed one with their partners, uint8[2, S, S, 3]."""

    def __init__(self, pictures: Pictures, epoch: Epoch) -> None:
        profile = pictures.profile
        self.read, self.epoch, self.seed = pictures.read, epoch, profile.training.seed
        self.transform = pictures.transform

    def __getitem__(self, position: int) -> Tensor:
        own, mix = self._shown(position), self.epoch.mix
        return own if mix is None else torch.stack([own, self._shown(int(mix.positions[position]))])

    def _shown(self, position: int) -> Tensor:
        image = self.read(int(self.epoch.indices[position]))
        if self.epoch.drawn[position]:
            image = to_drawing(image)
        return torch.from_numpy(self.transform(image, (self.seed, self.epoch.number, position)))


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

    def training(self, epoch: Epoch, shares: Sequence[Share]) -> Iterator[Tensor]:
        """float[n, D] per share; of a mixed epoch each is mixed with its partner."""
        for share in shares:
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

    def _at(self, rows: Ints) -> Tensor:
        return self.rows[torch.from_numpy(rows)].to(self.dtype)
