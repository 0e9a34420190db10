"""The loop as a user meets it: the demo, a run with nothing to do, and what `farmy up` takes while nothing happens.

Every measurement starts the `farmy` command of this environment as a process of its own, in a new home that is removed
at the end; what was started is ended, whatever happens.
"""

import json
import os
import queue
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import psutil

from benchmarks.results import Result, run_benchmarks

FARMY = Path(sys.executable).with_name("farmy")
CHECKOUT = Path(__file__).resolve().parents[1]

DEMO_GOAL_S = 75
IDLE_RUN_GOAL_CPU_S = 3
IDLE_MEMORY_GOAL_BYTES = 1.3e9

IDLE_RUNS = 5
SETTLING_S = 30
MEMORY_SAMPLES = 12
SAMPLE_EVERY_S = 5
_UP_IS_READY = "Ctrl-C stops them all."
_START_TIMEOUT_S = 300
_STOP_TIMEOUT_S = 60


@dataclass(frozen=True)
class Cost:
    """What one command took.

    Attributes:
        wall_s: Time on the clock.
        cpu_s: Processor time of the command and of the processes that it waited for.
        output: What it printed.
    """

    wall_s: float
    cpu_s: float
    output: str


def measure_loop(images: Path | None) -> list[Result]:
    """Measure the demo twice, runs with nothing to do, and the memory of an idle `farmy up`.

    Args:
        images: Land these instead of the samples before the runs with nothing to do; the demo has its own.
    """
    with new_home() as home:
        results = measure_demo(home)
        if images is None:
            return [*results, *measure_idle(home, "the samples")]
    with new_home() as home:
        run_farmy(home, "submit", str(images), "--source", "phone")
        run_farmy(home, "run")
        return [*results, *measure_idle(home, f"images of {images.name}")]


def measure_demo(home: Path) -> list[Result]:
    """Measure the demo in an empty home, then again in the same home."""
    first, second = run_farmy(home, "demo"), run_farmy(home, "demo")
    return [
        Result("demo in an empty home, environments installed", "s", (first.wall_s,)),
        Result("demo in an empty home, processor time, Label Studio's included", "CPU s", (first.cpu_s,)),
        Result("demo again in the same home", "s", (second.wall_s,), DEMO_GOAL_S),
    ]


def measure_idle(home: Path, content: str) -> list[Result]:
    """Measure what it costs to find that there is nothing to do, and to wait for something to do."""
    day = find_busiest_day(home)
    runs = [run_farmy(home, "run", "--days", day) for _ in range(IDLE_RUNS)]
    cpu_s, wall_s = tuple(run.cpu_s for run in runs), tuple(run.wall_s for run in runs)
    command = f"farmy run --days over a day of {content} with nothing to do"
    return [
        Result(f"{command}, processor time", "CPU s", cpu_s, IDLE_RUN_GOAL_CPU_S),
        Result(f"{command}, time", "s", wall_s),
        Result(
            "farmy up while nothing happens, memory of all its processes",
            "bytes",
            sample_idle_memory(home),
            IDLE_MEMORY_GOAL_BYTES,
        ),
    ]


def find_busiest_day(home: Path) -> str:
    """Return the day with most images, as `2026-11-02`."""
    sql = "SELECT ingest_date, count(*) AS images FROM raw_images GROUP BY ingest_date ORDER BY images DESC LIMIT 1"
    rows = json.loads(run_farmy(home, "query", sql, "--json").output)
    return str(rows[0]["ingest_date"])


def sample_idle_memory(home: Path) -> tuple[float, ...]:
    """Return the proportional set size in bytes of `farmy up` and all its descendants, several times a minute."""
    with run_up(home) as process:
        time.sleep(SETTLING_S)
        samples = []
        for _ in range(MEMORY_SAMPLES):
            time.sleep(SAMPLE_EVERY_S)
            samples.append(float(sum(_read_pss(member) for member in _list_family(process.pid))))
    return tuple(samples)


def _read_pss(process: psutil.Process) -> int:
    try:
        memory = process.memory_full_info()
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return 0
    # Only Linux tells the proportional share of what processes have in common; elsewhere what is theirs alone counts.
    return int(getattr(memory, "pss", memory.uss))


def _list_family(pid: int) -> list[psutil.Process]:
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


@contextmanager
def new_home() -> Iterator[Path]:
    """Make an empty home, and remove it."""
    folder = Path(tempfile.mkdtemp(prefix="farmy-benchmark-"))
    try:
        yield folder / "home"
    finally:
        shutil.rmtree(folder)


def build_environment(home: Path, variables: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment of a user who has set nothing but the home."""
    # Without compiled modules every start would be several times slower than what people have.
    unwanted = {"PYTHONDONTWRITEBYTECODE", "PYTHONPATH"}
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith("FARMY_") and name not in unwanted
    }
    return inherited | {"FARMY_HOME": str(home), "OPENBLAS_NUM_THREADS": "1"} | dict(variables or {})


def run_farmy(home: Path, *arguments: str) -> Cost:
    """Run one command to its end.

    Raises:
        RuntimeError: If it fails.
    """
    started = time.perf_counter()
    with (
        tempfile.TemporaryFile() as output,
        tempfile.TemporaryFile() as notices,
        start_farmy(home, arguments, output.fileno(), notices.fileno()) as process,
    ):
        _, status, usage = os.wait4(process.pid, 0)
        wall_s = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        said, noticed = _read_all(output), _read_all(notices)
    if process.returncode != 0:
        raise RuntimeError(f"farmy {' '.join(arguments)} ended with {process.returncode}. It said:\n{said}{noticed}")
    return Cost(wall_s, usage.ru_utime + usage.ru_stime, said)


def _read_all(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")


@contextmanager
def run_up(home: Path, dagster_port: int | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """Run `farmy up` until the block ends.

    Args:
        home: Its home.
        dagster_port: Port of Dagster's page; a free one if not given, as Label Studio's always is.

    Raises:
        RuntimeError: If it does not come up.
    """
    free_port, label_studio_port = find_free_ports(2)
    ports = {"FARMY_DAGSTER_PORT": str(dagster_port or free_port), "FARMY_LABEL_STUDIO_PORT": str(label_studio_port)}
    with start_farmy(home, ["up"], subprocess.PIPE, subprocess.STDOUT, ports) as process:
        _wait_until_ready(process)
        yield process


def _wait_until_ready(process: subprocess.Popen[bytes]) -> None:
    lines: queue.Queue[str | None] = queue.Queue()

    def read() -> None:
        for line in process.stdout or ():
            lines.put(line.decode(errors="replace"))
        lines.put(None)

    threading.Thread(target=read, daemon=True).start()
    said = ""
    deadline = time.monotonic() + _START_TIMEOUT_S
    while _UP_IS_READY not in said:
        try:
            line = lines.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty as error:
            raise RuntimeError(f"farmy up was not ready within {_START_TIMEOUT_S} s. It said:\n{said}") from error
        if line is None:
            raise RuntimeError(f"farmy up ended before it was ready. It said:\n{said}")
        said += line


@contextmanager
def start_farmy(
    home: Path, arguments: Sequence[str], output: int, notices: int, variables: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Start one command, and see at the end of the block that neither it nor anything that it started is left."""
    process = subprocess.Popen(
        [FARMY, *arguments],
        env=build_environment(home, variables),
        cwd=CHECKOUT,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=notices,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.returncode is not None:
        return
    family = _list_family(process.pid)
    process.send_signal(signal.SIGINT)
    try:
        process.wait(_STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    _, alive = psutil.wait_procs(family, timeout=_STOP_TIMEOUT_S)
    for member in alive:
        member.kill()


def find_free_ports(count: int) -> list[int]:
    """Return different ports of loopback on which nothing listens now."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()


if __name__ == "__main__":
    run_benchmarks("The loop", [measure_loop])
