"""Training of detectors: which pictures an epoch shows, what a batch costs, and how validation is judged."""

import numpy as np
import torch
from torch import Tensor

from artray.detect.found import Found, nothing
from artray.train import sampling
from artray.train.detectors import judging, plan
from artray.train.detectors.labels import Labels
from artray.train.detectors.learner import Learner
from artray.train.detectors.pictures import Batch, Pictures
from artray.train.detectors.profile import DetectorProfile
from artray.train.exchange import Exchange
from artray.train.loop import Loop, Shown
from artray.train.sampling import Share
from artray.train.works import Ints


class Trainer(Loop):
    """Trains a detector; see :class:`artray.train.loop.Loop`.

    Args:
        profile: the training's.
        learner: on its device.
        pictures: of all rows.
        labels: of all rows.
        train: int64: rows that are learned from.
        val: int64: rows that choose the epoch.
        exchange: the other workers.
    """

    def __init__(
        self,
        profile: DetectorProfile,
        learner: Learner,
        pictures: Pictures,
        labels: Labels,
        train: Ints,
        val: Ints,
        exchange: Exchange,
    ) -> None:
        super().__init__(profile.training, profile.optimiser, learner, exchange, profile.chosen_by, learner.groups())
        self.profile, self.learner, self.pictures, self.labels = profile, learner, pictures, labels
        self.train, self.val = train, val
        self.factors = plan.factors(labels, train, profile.balance)

    def shown(self) -> Shown:
        """The epoch, from the batch on where it was interrupted."""
        batches = self.pictures.training(self.epoch, self.batch, self._planned)
        return Shown(len(self._rows(self.epoch)), batches)

    def close(self) -> None:
        """End the processes that prepare pictures."""
        self.pictures.close()

    def _rows(self, number: int) -> Ints:
        """An epoch's pictures."""
        return plan.epoch(self.factors, self.train, self.training.seed, number)

    def _planned(self, number: int) -> list[Share]:
        """This worker's parts of an epoch's batches."""
        size, exchange = self.training.batch_size, self.exchange
        return list(sampling.batches(self._rows(number), size, exchange.rank, exchange.workers))

    def loss(self, batch: Batch) -> Tensor:
        """The detector's loss."""
        with self.autocast():
            loss: Tensor = self.parallel(batch)
        return loss

    def validated(self) -> tuple[float, dict[str, float]]:
        """The loss over validation, and COCO's figures by name."""
        loss, found = self.found(self.val)
        return loss, judging.finely(self.labels, self.val, found)

    def found(self, rows: Ints) -> tuple[float, list[Found]]:
        """The mean loss over pictures, and what the judged network finds in each, pixels of the upright original.

        Every worker sees a part, all get the whole.
        """
        learner, exchange = self.judged.eval(), self.exchange
        assert isinstance(learner, Learner)  # an average's module is one, too
        own, losses, found = rows[exchange.rank :: exchange.workers], 0.0, list[Found]()
        with torch.inference_mode():
            for batch in self.pictures.validation(own, max(1, self.training.batch_size // exchange.workers)):
                with self.autocast():
                    loss, each = learner.judge(batch)
                losses += float(loss) * len(batch.drawn_wh)
                done = len(found)
                found += [
                    self._upright(one, drawn_wh, int(row))
                    for one, drawn_wh, row in zip(each, batch.drawn_wh, own[done : done + len(each)], strict=True)
                ]
        whole: list[Found] = [nothing()] * len(rows)
        parts = exchange.gather((losses, found))
        for rank, (_, given) in enumerate(parts):
            whole[rank :: exchange.workers] = given
        return sum(each for each, _ in parts) / max(len(rows), 1), whole

    def _upright(self, found: Found, drawn_wh: tuple[int, int], row: int) -> Found:
        """Boxes on the canvas, on which a picture is drawn so large, as boxes of the original, within it."""
        sides = self.labels.sizes_wh[row]
        scaled = found.boxes_xyxy * np.tile(sides / drawn_wh, 2)
        return found._replace(boxes_xyxy=np.clip(scaled, 0, np.tile(sides, 2)).astype(np.float32))
