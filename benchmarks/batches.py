"""What taking in a batch of images costs beside decoding: listing, notes, the tick, Dagster's run, tables and index.

The images are small texts, each another one, and the decoder is replaced by one that says of each, at no cost, what it
would say of a clean image with hashes of its own. All else is what a run does: objects are read, hashed, kept in raw/,
two pictures for each are written, and four tables are committed. A batch lands today in a lake that holds an equal one
of the day before.

Start-up is measured apart: a run on one machine has a process of its own, which imports everything anew.
"""

import hashlib
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from unittest.mock import patch

import dagster as dg
import numpy as np

from adapters.cpu_time import measure_cpu_seconds
from adapters.lake import Lake
from adapters.settings import load_settings
from benchmarks.environments import build_bare_environment
from benchmarks.results import Result
from benchmarks.ticks import evaluate_arrivals, open_instance
from farmy_assets import cleansed_images
from farmy_assets.definitions import build_definitions
from lakehouse.cleansing import CleansedImage
from lakehouse.quality import CLEAN, CleansingRecipe
from sensors.arrivals import IMAGES_JOB

IMAGES = 1000
RUNS = 5
COST_GOAL_MS = 2
ASSETS = ("raw_images", "cleansed_images", "near_duplicates", "image_catalog")
_IMPORTS = """
import adapters.image_index, adapters.near_leaders, adapters.tables
from farmy_assets.definitions import build_definitions
build_definitions()
"""
_CHECKOUT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class BatchCost:
    """Processor time of one batch, in seconds.

    Attributes:
        tick_s: From landing to notes and a request for a run.
        run_s: Of the run that was asked for.
    """

    tick_s: float
    run_s: float

    @property
    def all_s(self) -> float:
        """Of both."""
        return self.tick_s + self.run_s


def measure_batches() -> list[Result]:
    """Measure batches in this process, after one that warms it up, and the start of a process that could run them."""
    measure_batch()
    costs = [measure_batch() for _ in range(RUNS)]
    what = "taking in an image beside decoding"
    ms = 1000 / IMAGES
    return [
        Result(f"{what}, batches of {IMAGES:,}", "CPU ms", tuple(cost.all_s * ms for cost in costs), COST_GOAL_MS),
        Result(f"{what}: listing, notes and tick", "CPU ms", tuple(cost.tick_s * ms for cost in costs)),
        Result(f"{what}: Dagster's run of {len(ASSETS)} assets", "CPU ms", tuple(cost.run_s * ms for cost in costs)),
        Result(
            "start of a run's process, which a batch pays once", "CPU s", tuple(_measure_start() for _ in range(RUNS))
        ),
    ]


def _measure_start() -> float:
    """Return the processor time of a process that imports what a run needs, and ends."""
    process = subprocess.Popen([sys.executable, "-c", _IMPORTS], env=build_bare_environment(), cwd=_CHECKOUT)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise RuntimeError(f"A process of{_IMPORTS}ended with {process.returncode}: see what it wrote above.")
    return usage.ru_utime + usage.ru_stime


def measure_batch() -> BatchCost:
    """Take in two batches in a new lake, and measure the second.

    Raises:
        RuntimeError: If the tables do not hold what landed.
    """
    today = datetime.now(UTC).date()
    with (
        tempfile.TemporaryDirectory(prefix="farmy-benchmark-") as folder,
        open_instance() as instance,
        patch.object(cleansed_images, "cleanse_isolated", describe_without_decoding),
    ):
        home = Path(folder)
        for day in (today - timedelta(days=1), today):
            land_batch(home, day, IMAGES)
            cost = _take_in(instance, home, day)
    return cost


def land_batch(home: Path, day: date, count: int) -> None:
    """Put a batch into landing, as if it had landed in the first second of a day."""
    folder = home / "lake" / "landing" / "phone" / f"{day:%Y/%m/%d}"
    folder.mkdir(parents=True)
    moment = datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()
    for number in range(count):
        path = folder / f"{number:06}.jpg"
        path.write_text(f"image {number} of {day} ".ljust(300, "."))
        os.utime(path, (moment, moment))


def _take_in(instance: dg.DagsterInstance, home: Path, day: date) -> BatchCost:
    tick = evaluate_arrivals(instance, lambda: _open_lake(home))
    if tick.days != [day.isoformat()]:
        raise RuntimeError(f"the sensor asked for runs of {tick.days} where {day} waits: the measurement is void")
    with _open_lake(home) as lake:
        job = build_definitions(lake).resolve_job_def(IMAGES_JOB)
        assets = [dg.AssetKey(asset) for asset in ASSETS]
        started = measure_cpu_seconds()
        job.execute_in_process(instance=instance, partition_key=day.isoformat(), asset_selection=assets)
        run_s = measure_cpu_seconds() - started
    with _open_lake(home) as lake:
        _check(lake, day)
    return BatchCost(tick.cpu_s, run_s)


def _open_lake(home: Path) -> Lake:
    return Lake(load_settings(home=home))


def _check(lake: Lake, day: date) -> None:
    status = lake.tables.read("image_catalog", day=day, columns=["status"]).column("status").to_pylist()
    if status != [CLEAN] * IMAGES or lake.objects.list("inbox/"):
        raise RuntimeError(f"of {IMAGES} images that landed {status.count(CLEAN)} are clean: the measurement is void")


def describe_without_decoding(data: bytes, recipe: CleansingRecipe) -> CleansedImage:  # noqa: ARG001
    """Return what cleansing might say of a clean image, with hashes and pictures that no other bytes have."""
    digest = hashlib.sha256(data).digest()
    hashes = np.frombuffer(digest, np.int64)
    return CleansedImage(
        format="jpeg",
        width_px=1600,
        height_px=1200,
        orientation=1,
        has_location=False,
        brightness_mean=120.0,
        contrast_std=50.0,
        entropy_bits=7.0,
        saturation_mean=0.4,
        edge_sharpness=0.6,
        detail_brightness=180.0,
        burnt_share=0.0,
        perceptual_hash=int(hashes[0]),
        detail_hash=int(hashes[1]),
        strength_hash=int(hashes[2]),
        standard_width_px=1600,
        standard_height_px=1200,
        standard_jpeg=b"standard " + digest,
        thumbnail_jpeg=b"thumbnail " + digest,
    )
