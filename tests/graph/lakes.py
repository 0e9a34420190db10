"""Small lakes on disk: pictures made in code, landed on chosen days, and runs over them in this process."""

import os
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from adapters import inbox
from adapters.lake import Lake
from adapters.objects import FetchedObject, Objects
from adapters.settings import load_settings
from cli.runs import run_assets
from farmy_assets.day_runs import DayOutcome
from lakehouse.arrivals import ObjectFact
from lakehouse.errors import StorageError
from lakehouse.schemas import TABLES

DAY_1, DAY_2, DAY_3 = date(2026, 11, 2), date(2026, 11, 3), date(2026, 11, 4)
IMAGE_TABLES = ("raw_images", "cleansed_images", "near_duplicates", "image_catalog")
"""The assets that need neither Label Studio nor a model."""


def make_picture(seed: int, size: tuple[int, int] = (320, 240)) -> bytes:
    """Return a JPEG of coloured fields with some grain: bright, sharp, and unlike that of any other seed."""
    rng = np.random.default_rng(seed)
    fields = Image.fromarray(rng.integers(40, 256, (6, 8, 3), np.uint8)).resize(size, Image.Resampling.NEAREST)
    grain = rng.integers(-12, 13, (size[1], size[0], 1))
    return encode(Image.fromarray(np.clip(np.asarray(fields).astype(int) + grain, 0, 255).astype(np.uint8)))


def encode(image: Image.Image, quality: int = 90) -> bytes:
    buffer = BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def recompress(data: bytes) -> bytes:
    """Return the same picture in other bytes."""
    return encode(Image.open(BytesIO(data)), quality=70)


def open_lake(home: Path, **overrides: Any) -> Lake:
    return Lake(load_settings(home=home, workers=2, **overrides))


def land(lake: Lake, name: str, data: bytes, day: date, hour: int = 9) -> str:
    """Land an object that arrived at an hour of a day, and return its key."""
    key = f"landing/phone/{day:%Y/%m/%d}/{name}"
    assert lake.objects.create(key, data)
    assert lake.objects.folder is not None
    moment = datetime(day.year, day.month, day.day, hour, tzinfo=UTC).timestamp()
    os.utime(lake.objects.folder / key, (moment, moment))
    return key


def take_in(
    lake: Lake, days: Sequence[date], assets: Sequence[str] = IMAGE_TABLES, *, force: bool = False
) -> list[DayOutcome]:
    """Note what landed and bring the days up to date, through Dagster."""
    inbox.note_all_arrivals(lake)
    return run_assets(lake, days, assets, force=force)


def hash_tables(lake: Lake, names: Iterable[str] = IMAGE_TABLES) -> dict[str, str]:
    return {name: lake.tables.hash_content(name) for name in names}


def list_snapshots(lake: Lake) -> dict[str, int | None]:
    return {name: lake.tables.snapshot_id(name) for name in TABLES}


def list_notes(lake: Lake) -> list[str]:
    return [fact.key for fact in lake.objects.list("inbox/")]


class FailingObjects(Objects):
    """The real objects, whose storage fails at the n-th call.

    Args:
        inner: The real objects.
        fail_at: The call that fails, counting from 1; every call after it fails, too.
    """

    def __init__(self, inner: Objects, fail_at: int) -> None:
        super().__init__(inner._store, inner.root, inner.folder)
        self.calls = 0
        self._fail_at = fail_at

    def _count(self, action: str, key: str) -> None:
        self.calls += 1
        if self.calls >= self._fail_at:
            raise StorageError(f"Could not {action} {key}: the storage fails, as the test wants. Run again.")

    def read(self, key: str) -> bytes:
        self._count("read", key)
        return super().read(key)

    def fetch(self, key: str, max_bytes: int) -> FetchedObject:
        self._count("read", key)
        return super().fetch(key, max_bytes)

    def create(self, key: str, data: bytes) -> bool:
        self._count("write", key)
        return super().create(key, data)

    def list(self, prefix: str) -> list[ObjectFact]:
        self._count("list", prefix)
        return super().list(prefix)

    def delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            self._count("delete", key)
            super().delete([key])
