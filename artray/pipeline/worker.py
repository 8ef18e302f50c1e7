"""What one worker does with a part of the work list; knows nothing of Ray.

    WORK rows -> Decode -> Classify -> Detect -> Look -> RECORD rows -> a Parquet part beside the table

``Decoder`` and ``Models`` are the two halves; ``Worker`` is both in one process, where pixels never leave it and
decoding runs ahead of the models by one slice.
"""

import ctypes
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import datetime, timezone
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from artray import schema
from artray.pipeline.decode import Decode
from artray.pipeline.messages import Spec
from artray.schema import Batch

T = TypeVar("T")
R = TypeVar("R")

PIXELS = pa.struct([("data", pa.large_binary()), ("height", pa.int32()), ("width", pa.int32())])
"""How pixels travel between processes: uint8[height, width, 3] as bytes."""

RECORD_AND_STATE = schema.RECORD.append(pa.field("recorded", pa.bool_()))

DECODED_WORK = schema.join(schema.ARCHIVE, schema.DECODED, pa.schema([("recorded", pa.bool_()), ("pixels", PIXELS)]))


class Decoder:
    """Rows of the work list in, slices of decoded rows out, each bounded in images and bytes."""

    def __init__(self, spec: Spec) -> None:
        cfg = spec.profile.decode
        self.cfg = cfg
        self._exit = ExitStack()
        self._decode = self._exit.enter_context(Decode(cfg, spec.profile.archive.max_file_bytes))

    def close(self) -> None:
        """End the decoding processes."""
        self._exit.close()

    def slices(self, work: pa.Table) -> Iterator[Batch]:
        """The decoded rows, in order."""
        sizes = work.column("size_bytes").to_pylist()
        for cut in schema.slices(sizes, self.cfg.batch_images, self.cfg.batch_bytes):
            yield self._decode(schema.batch(work.slice(cut.start, cut.stop - cut.start)))


class Models:
    """Decoded rows in, records out."""

    def __init__(self, spec: Spec) -> None:
        import cv2
        import torch

        from artray.classify.stage import Classify
        from artray.detect.stage import Detect
        from artray.retrieve.look import Look
        from artray.retrieve.stage import Embed

        torch.set_num_threads(spec.profile.pipeline.threads_per_actor)
        cv2.setNumThreads(spec.profile.pipeline.threads_per_actor)
        self.spec = spec
        profile = spec.profile
        self.stages: list[Callable[[Batch], Batch]] = [Classify(profile.classify), Detect(profile.detect)]
        if profile.classify.cards or profile.detect.cards:  # else the records are of another method's embeddings alone
            self.stages.append(Look())
        if profile.retrieve.card is not None:
            self.stages.append(Embed(profile.retrieve))

    def __call__(self, batch: Batch) -> pa.Table:
        """Records of the declared types, with a ``recorded`` column behind."""
        for stage in self.stages:
            batch = stage(batch)
        batch = without_results(batch)
        count = schema.rows(batch)
        stamps: Batch = {
            "models": [self.spec.models] * count,
            "run_id": [self.spec.run_id] * count,
            "processed_at": [datetime.now(timezone.utc)] * count,
        }
        return schema.table(batch | stamps, RECORD_AND_STATE)


def without_results(batch: Batch) -> Batch:
    """A failed image has no results, not even of the stages before the one that failed.

    >>> without_results({"error": ["", "model_failed"], "type": ["drawing", "painting"]})["type"]
    ['drawing', None]
    """
    names = [*schema.LOOK.names, *schema.CLASSIFIED.names, *schema.DETECTED.names]
    return batch | {
        name: [None if error else value for value, error in zip(batch[name], batch["error"], strict=True)]
        for name in names
        if name in batch
    }


class Worker:
    """Both halves in one process."""

    def __init__(self, spec: Spec) -> None:
        self.decoder, self.models = Decoder(spec), Models(spec)
        self._ahead = ThreadPoolExecutor(1, "artray-decode")

    def close(self) -> None:
        """End the threads and the decoding processes."""
        self._ahead.shutdown()
        self.decoder.close()

    def __call__(self, work: pa.Table) -> pa.Table:
        """The records of some rows of the work list, in their order."""
        slices = self.decoder.slices(work)
        return pa.concat_tables([self.models(batch) for batch in ahead(slices, self._ahead)])


def give_back() -> None:
    """Give freed memory back to the system, where its C library can.

    Images of ever other sizes leave holes in the heap that nothing fits into: over 1,000 images a process grew by
    110 MB, all but 7 MB of which this took back.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def ahead(batches: Iterable[T], thread: ThreadPoolExecutor) -> Iterator[T]:
    """The batches, each made in the thread while the one before is used."""
    iterator = iter(batches)
    done = object()
    waiting = thread.submit(next, iterator, done)
    while (batch := waiting.result()) is not done:
        waiting = thread.submit(next, iterator, done)
        yield batch  # type: ignore[misc]


def pack(batches: Iterable[Batch]) -> bytes:
    """Decoded rows as bytes that :func:`unpack` reads without copying a pixel."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, DECODED_WORK) as writer:
        for batch in batches:
            pixels = [
                None if p is None else {"data": p.tobytes(), "height": p.shape[0], "width": p.shape[1]}
                for p in batch["pixels"]
            ]
            writer.write_table(schema.table(batch | {"pixels": pixels}, DECODED_WORK))
    return bytes(sink.getvalue())


def unpack(data: Any) -> Iterator[Batch]:
    """The batches that were packed; their pixels are read-only views of ``data``."""
    with pa.ipc.open_stream(pa.py_buffer(data)) as reader:
        for record_batch in reader:
            table = pa.Table.from_batches([record_batch])
            yield schema.batch(table.drop_columns(["pixels"])) | {"pixels": _views(record_batch.column("pixels"))}


def _views(column: pa.StructArray) -> list[np.ndarray | None]:
    sizes = zip(column.field("height").to_pylist(), column.field("width").to_pylist(), strict=True)
    cells = zip(column.is_valid().to_pylist(), column.field("data"), sizes, strict=True)  # a null's fields are not null
    return [
        np.frombuffer(data.as_buffer(), np.uint8).reshape(*size_hw, 3) if valid else None
        for valid, data, size_hw in cells
    ]
