"""Pictures that a retrieval method learns from: in batches for epochs, or one by one for what is learned at once."""

from collections.abc import Callable, Iterator, Sequence
from typing import overload

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from artray.models.cards import Input
from artray.train import transforms
from artray.train.devices import sent
from artray.train.loading import Ahead, Place, loaded, places
from artray.train.methods.profile import MethodProfile
from artray.train.pictures import Looks
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
        self.device = torch.device(profile.workers.device)
        dtype = torch.float64 if profile.training.precision == "float64" else torch.float32
        self.normalise = transforms.Normalise(spec, self.device, dtype)
        transform, training = transforms.Training(spec, profile.crop, profile.augment), profile.training
        self._ahead = Ahead(_Shown(read, transform, training.seed), profile.workers, training.epochs)

    def training(self, number: int, first: int, planned: Callable[[int], Sequence[Share]]) -> Iterator[Tensor]:
        """float[n, 3, S, S] per share of an epoch, from the ``first`` on; augmented."""
        for batch in self._ahead.batches(
            number, first, len(planned(number)) - first, lambda later: places(later, planned(later))
        ):
            yield self._ready(batch)

    def validation(self, rows: Ints, batch_size: int) -> Iterator[Tensor]:
        """float[n, 3, S, S] as the method shows them to its network, in order."""
        looks = Looks(self.read, self.spec, rows)
        for batch in loaded(looks, in_order(len(rows), batch_size), self.profile.workers):
            yield self._ready(batch[:, 0])

    def close(self) -> None:
        """End the processes that prepare what would be learned from next."""
        self._ahead.close()

    def _ready(self, batch: Tensor) -> Tensor:
        """On the worker's device, of uint8[n, S, S, 3]."""
        return self.normalise(sent(batch, self.device))


class _Shown(Dataset[Tensor]):
    """Pictures as an epoch shows them: uint8[S, S, 3]."""

    def __init__(self, read: Callable[[int], Image], transform: transforms.Training, seed: int) -> None:
        self.read, self.transform, self.seed = read, transform, seed

    def __getitem__(self, place: Place) -> Tensor:
        number, position, row = place
        return torch.from_numpy(self.transform(self.read(row), (self.seed, number, position)))


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
