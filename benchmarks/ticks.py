"""The arrivals sensor as the daemon has it evaluated: the real function, on a real instance, over a lake just opened.

`python -m benchmarks.ticks` evaluates it again and again, over the lake and the queue that the environment names, until
the queue is empty: in a process of its own, so that its memory can be told.
"""

import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import dagster as dg
import psutil

from adapters.lake import Lake
from adapters.settings import load_settings
from farmy_assets.definitions import build_definitions
from sensors.arrivals import arrivals_sensor

_STATUS = Path("/proc/self/status")
_BYTES_PER_UNIT = 1 if sys.platform == "darwin" else 1024


@dataclass(frozen=True)
class Tick:
    """One evaluation of the sensor.

    Attributes:
        days: Partitions of the runs that it asked for.
        cpu_s: Processor time.
        wall_s: Time on the clock.
        peak_bytes: The most memory that the process ever held until the tick's end.
    """

    days: Sequence[str]
    cpu_s: float
    wall_s: float
    peak_bytes: int


def evaluate_arrivals(instance: dg.DagsterInstance, open_lake: Callable[[], Lake]) -> Tick:
    """Evaluate the sensor once, and measure it with the opening of the lake, which every tick pays."""
    definitions = _load_definitions()
    started, cpu_started = time.perf_counter(), time.process_time()
    with open_lake() as lake:
        context = dg.build_sensor_context(instance=instance, definitions=definitions, resources={"lake": lake})
        result = arrivals_sensor.evaluate_tick(context)
    cpu_s, wall_s = time.process_time() - cpu_started, time.perf_counter() - started
    days = [str(request.partition_key) for request in result.run_requests or []]
    return Tick(days, cpu_s, wall_s, read_peak_bytes())


@cache
def _load_definitions() -> dg.Definitions:
    """Return what the daemon's code server loads once, and no tick pays."""
    return build_definitions()


def read_peak_bytes() -> int:
    """Return the most memory that this process ever held."""
    if _STATUS.exists():
        # Linux counts to `ru_maxrss` what the parent held when it started this process.
        (line,) = (line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _BYTES_PER_UNIT


@contextmanager
def open_instance() -> Iterator[dg.DagsterInstance]:
    """Open a Dagster instance that keeps its records in files, as the daemon's does; they go at the end."""
    with (
        tempfile.TemporaryDirectory(prefix="farmy-benchmark-") as folder,
        dg.DagsterInstance.local_temp(folder) as opened,
    ):
        yield opened


def drain_queue(instance: dg.DagsterInstance) -> list[Tick]:
    """Evaluate the sensor, over the home and the queue that the environment names, until it finds the queue empty."""
    budget_s = load_settings().tick_seconds
    ticks = [evaluate_arrivals(instance, open_configured_lake)]
    while ticks[-1].wall_s >= budget_s:
        ticks.append(evaluate_arrivals(instance, open_configured_lake))
    return ticks


def open_configured_lake() -> Lake:
    """Open the lake that the environment names."""
    return Lake(load_settings())


if __name__ == "__main__":
    held_bytes = psutil.Process().memory_info().rss
    with open_instance() as own:
        print(json.dumps({"held_bytes": held_bytes, "ticks": [asdict(tick) for tick in drain_queue(own)]}))
