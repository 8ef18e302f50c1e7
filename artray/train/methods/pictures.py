"""Pictures that a retrieval method learns from: in batches for epochs, or one by one for what is learned at once."""

from collections.abc import Callable, Iterator, Sequence
from typing import overload

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from artray.models.cards import Input
from artray.train import transforms
from artray.train.methods.profile import MethodProfile
from artray.train.pictures import Looks, loaded
from artray.train.sampling import Share, in_order
from artray.train.transforms import Image
from artray.train.works import Ints


class Pictures:
    """Batches of a profile's pictures.

    Args:
        profile: crops, augmentations, precision and processes.
        spec: the network's input.
        read: a picture's pixels uint8[H, W, 3] by its row; it is sent to the processes.
    """

    def __init__(self, profile: MethodProfile, spec: Input, read: Callable[[int], Image]) -> None:
        self.profile, self.spec, self.read = profile, spec, read
        self.dtype = torch.float64 if profile.training.precision == "float64" else torch.float32
        self.device = torch.device(profile.workers.device)
        self.normalise = transforms.Normalise(spec, self.device)

    def training(self, number: int, rows: Ints, shares: Sequence[Share]) -> Iterator[Tensor]:
        """float[n, 3, S, S] per share of the epoch ``number``, whose pictures are ``rows`` in order; augmented."""
        batches = [share.positions.tolist() for share in shares]
        for batch in loaded(_Shown(self, number, rows), batches, self.profile.workers):
            yield self._ready(batch)

    def validation(self, rows: Ints, batch_size: int) -> Iterator[Tensor]:
        """float[n, 3, S, S] as the method shows them to its network, in order."""
        looks = Looks(self.read, self.spec, rows)
        for batch in loaded(looks, in_order(len(rows), batch_size), self.profile.workers):
            yield self._ready(batch[:, 0])

    def _ready(self, batch: Tensor) -> Tensor:
        """On the worker's device, of uint8[n, S, S, 3]."""
        return self.normalise(batch.to(self.device, non_blocking=True)).to(self.dtype)


class _Shown(Dataset[Tensor]):
    """The pictures of an epoch, by position: uint8[S, S, 3]."""

    def __init__(self, pictures: Pictures, number: int, rows: Ints) -> None:
        profile = pictures.profile
        self.read, self.number, self.rows, self.seed = pictures.read, number, rows, profile.training.seed
        self.transform = transforms.Training(pictures.spec, profile.crop, profile.augment)

    def __getitem__(self, position: int) -> Tensor:
        image = self.read(int(self.rows[position]))
        return torch.from_numpy(self.transform(image, (self.seed, self.number, position)).copy())


class Lot(Sequence[Image]):
    """Pictures uint8[H, W, 3] in the cache's size, read when they are asked for, in an order by lot.

    Its beginning is a sample of all.

    Args:
        rows: int64[N].
        seed: of the lot.
        read: a picture's pixels by its row.
    """

    def __init__(self, rows: Ints, seed: int, read: Callable[[int], Image]) -> None:
        self.rows, self.seed, self.read = np.random.default_rng(seed).permutation(rows), seed, read

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, at: int) -> Image: ...

    @overload
    def __getitem__(self, at: slice) -> Sequence[Image]: ...

    def __getitem__(self, at: int | slice) -> Image | Sequence[Image]:
        if isinstance(at, slice):
            return [self.read(row) for row in self.rows[at].tolist()]
        return self.read(int(self.rows[at]))
