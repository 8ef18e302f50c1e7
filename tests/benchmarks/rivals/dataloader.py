"""A PyTorch DataLoader decodes in as many workers as there are cores; the models run in the main process."""

from pathlib import Path

from torch.utils.data import DataLoader, Dataset

from artray.archive.formats import Decoded, decode_bytes
from artray.config import DecodeConfig
from tests.benchmarks import work


class Pictures(Dataset[tuple[str, Decoded]]):
    """Name and decoded picture of every image."""

    def __init__(self, archive: Path, cfg: DecodeConfig) -> None:
        self.archive, self.cfg, self.paths = archive, cfg, work.pictures(archive)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[str, Decoded]:
        path = self.paths[index]
        return str(path.relative_to(self.archive)), decode_bytes(path.read_bytes(), self.cfg)


def main() -> None:
    task = work.task()
    models = work.Models(task.profile, threads=task.cores)
    work.ready(task.out)
    loader = DataLoader(
        Pictures(task.archive, task.profile.decode),
        batch_size=work.BATCH_IMAGES,
        num_workers=task.cores,
        collate_fn=list,
    )
    tables = []
    for batch in loader:
        ids, decoded = zip(*batch, strict=True)
        tables.append(models(ids, [d.pixels for d in decoded], [(d.width_px, d.height_px) for d in decoded]))
    work.write(tables, task.out)
    work.finished()


if __name__ == "__main__":
    main()
