"""Cleansing a folder as a run does it, and nothing else, in a process whose memory another one watches.

`python -m benchmarks.batch FOLDER WORKERS`. What a run needs besides, Dagster and the tables, is not loaded.
"""

import sys
from functools import partial
from pathlib import Path

from adapters.compute import ThreadCompute
from adapters.isolated_cleansing import cleanse_isolated
from lakehouse.cleansing import CleansedImage
from lakehouse.quality import CleansingRecipe


def cleanse_folder(folder: Path, workers: int) -> list[CleansedImage]:
    """Cleanse every file of a folder and return the facts, without the pictures.

    Args:
        folder: Holds files only.
        workers: Images that are worked on at once.
    """
    cleansed = ThreadCompute(workers).pipe(
        sorted(folder.iterdir()),
        read=Path.read_bytes,
        work=partial(cleanse_isolated, recipe=CleansingRecipe()),
        write=_drop_pictures,
        size_bytes=_get_size,
    )
    return list(cleansed)


def _drop_pictures(_: Path, image: CleansedImage) -> CleansedImage:
    return image.without_pictures()


def _get_size(path: Path) -> int:
    return path.stat().st_size


if __name__ == "__main__":
    cleanse_folder(Path(sys.argv[1]), int(sys.argv[2]))
