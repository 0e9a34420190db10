"""Arrivals: what it costs to notice them in a bucket of any size and from a long queue, and to take them in.

`python -m benchmarks.arrivals`, also with `--json`. Processor time is that of the process and of its children.
SeaweedFS and the queue are processes of their own, which count on no side. The peer, `get_objects` of dagster-aws, is
part of Farmy's own environment.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg

from adapters.inbox import list_days_with_arrivals, read_notes
from adapters.lake import Lake
from adapters.settings import load_settings
from benchmarks.batches import measure_batches
from benchmarks.environments import bare_environment, build_bare_environment, silenced_logs
from benchmarks.landings import (
    BUCKET,
    OBJECTS_A_DAY,
    SimulatedLanding,
    count_objects,
    make_facts,
    open_lake,
    record_runs,
    write_history,
)
from benchmarks.latency import measure_latency
from benchmarks.listing import measure_listing
from benchmarks.results import Result, run_benchmarks
from benchmarks.s3_server import BUCKET as S3_BUCKET
from benchmarks.s3_server import S3Server, start_s3_server
from benchmarks.sqs_server import send_messages, start_sqs_server
from benchmarks.ticks import Tick, evaluate_arrivals, open_instance
from lakehouse.arrivals import ARRIVAL_NOTES, ObjectFact, build_arrival
from lakehouse.fingerprints import hash_values

TICK_GOAL_TIMES = 1.2
TICK_LIMIT_S = 60

OLDER_DAYS = 999
NEW_OBJECTS = 100
TICK_RUNS = 9
EVENTS = (10_000, 100_000)
_EVENT_DAYS = 10
_CREDENTIALS = {"AWS_ACCESS_KEY_ID": "farmy-benchmark", "AWS_SECRET_ACCESS_KEY": "farmy-benchmark"}
"""The queue takes any."""


def measure_arrivals(_images: Path | None) -> list[Result]:
    """Measure every row; a folder of images says nothing about any."""
    with bare_environment(_CREDENTIALS), silenced_logs():
        return [*measure_ticks(), *measure_listing(), *measure_queue(), *measure_batches(), *measure_latency()]


class Bucket:
    """A lake over a made-up landing that holds a thousand objects of the last days, and older ones or none.

    Args:
        folder: Of the lake; empty.
        today: The present UTC date.
        older_days: Days before the watched ones, a thousand objects each.
        instance: Dagster's, without any runs.
    """

    def __init__(self, folder: Path, today: date, older_days: int, instance: dg.DagsterInstance) -> None:
        self._home = folder
        self._today = today
        self._instance = instance
        self._landing = SimulatedLanding(folder / "lake", today, older_days)
        days = count_objects(today, older_days)
        arrivals = {day: [build_arrival(fact, None) for fact in make_facts(day, count)] for day, count in days.items()}
        with self._open() as lake:
            write_history(lake, arrivals)
        record_runs(instance, days)

    def tick(self, queue_url: str | None = None, *, is_first: bool = False) -> Tick:
        """Have a hundred new objects found, and then forgotten.

        Args:
            queue_url: Where events tell of them; without, landing is listed.
            is_first: Whether landing was never looked at before.

        Raises:
            RuntimeError: If they are not found.
        """
        if is_first:
            (self._home / "image_index.db").unlink()
        elif queue_url is None:
            evaluate_arrivals(self._instance, self._open)
        self._landing.new = make_facts(self._today, NEW_OBJECTS, "new")
        if queue_url is not None:
            send_messages(queue_url, [describe_event(BUCKET, fact) for fact in self._landing.new])
        tick = evaluate_arrivals(self._instance, lambda: open_lake(self._landing, self._home, queue_url))
        with self._open() as lake:
            found = count_hints(lake)
            lake.objects.delete([fact.key for fact in lake.objects.list(ARRIVAL_NOTES)])
        self._landing.new = []
        if found != NEW_OBJECTS or tick.days != [self._today.isoformat()]:
            raise RuntimeError(f"{found} of {NEW_OBJECTS} new objects were found for runs of {tick.days}: void")
        return tick

    def _open(self) -> Lake:
        return open_lake(self._landing, self._home, None)


def measure_ticks() -> list[Result]:
    """Measure ticks that find a hundred new objects, by turns on a large and a small bucket, in both modes."""
    today = datetime.now(UTC).date()
    with _new_folder() as folder, open_instance() as much, open_instance() as little:
        large, small = Bucket(folder / "large", today, OLDER_DAYS, much), Bucket(folder / "small", today, 0, little)
        empty = folder / "messages"
        empty.touch()
        with start_sqs_server(empty) as queue_url:
            return [
                *_compare("landing listed", lambda: (large.tick(), small.tick()), TICK_GOAL_TIMES),
                *_compare("events", lambda: (large.tick(queue_url), small.tick(queue_url)), TICK_GOAL_TIMES),
                *_compare("first listing ever", lambda: (large.tick(is_first=True), small.tick(is_first=True))),
            ]


def _compare(mode: str, tick: Callable[[], tuple[Tick, Tick]], goal: float | None = None) -> list[Result]:
    """Compare ticks on a large bucket and on a small one, each time one after the other."""
    tick()
    large, small = zip(*(tick() for _ in range(TICK_RUNS)), strict=True)
    what = f"sensor tick, {NEW_OBJECTS} new objects, {mode}"
    costs = [
        Result(f"{what}, bucket of {count:,}", "CPU s", tuple(one.cpu_s for one in ticks))
        for count, ticks in (((OLDER_DAYS + 1) * OBJECTS_A_DAY, large), (OBJECTS_A_DAY, small))
    ]
    times = costs[0].value / costs[1].value
    return [*costs, Result(f"{what}, large bucket over small, medians", "times", (times,), goal)]


def measure_queue() -> list[Result]:
    """Measure how ticks drain a long queue, over a real S3, in a process of their own."""
    results = []
    for count in EVENTS:
        with _new_folder() as folder:
            server_folder = folder / "s3"
            server_folder.mkdir()
            with start_s3_server(server_folder) as server:
                held_bytes, ticks = _drain(folder, server, count)
        what = f"{count:,} queued events"
        growth_mb = (ticks[-1].peak_bytes - held_bytes) / 1e6
        is_whole = count == max(EVENTS)
        longest = max(tick.wall_s for tick in ticks)
        results += [
            Result(f"{what}: longest tick of {len(ticks)}", "s", (longest,), TICK_LIMIT_S if is_whole else None),
            Result(f"{what}: processor time of all ticks", "CPU s", (sum(tick.cpu_s for tick in ticks),)),
            Result(f"{what}: memory at its peak above that before the first tick", "MB", (growth_mb,)),
        ]
    return results


def _drain(folder: Path, server: S3Server, count: int) -> tuple[int, list[Tick]]:
    """Drain a queue of events; return the memory before the first tick, in bytes, and the ticks.

    Raises:
        RuntimeError: If the process fails, or not every event was noted.
    """
    today = datetime.now(UTC).date()
    bodies = folder / "messages"
    facts = (fact for back in range(_EVENT_DAYS) for fact in _make_facts_of_day(today, back, count))
    bodies.write_text("\n".join(describe_event(S3_BUCKET, fact) for fact in facts))
    with start_sqs_server(bodies) as queue_url:
        variables = server.environment | {
            "FARMY_HOME": str(folder / "home"),
            "FARMY_OBJECTS": f"s3://{S3_BUCKET}",
            "FARMY_S3_ENDPOINT": server.endpoint,
            "FARMY_QUEUE_URL": queue_url,
        }
        command = [sys.executable, "-m", "benchmarks.ticks"]
        done = subprocess.run(
            command, env=build_bare_environment(variables), capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise RuntimeError(
                f"{' '.join(command)} ended with {done.returncode}. It said:\n{done.stdout}{done.stderr}"
            )
        with bare_environment(variables), Lake(load_settings()) as lake:
            noted = count_hints(lake)
    if noted != count:
        raise RuntimeError(f"{noted} of {count} events were noted: the measurement is void")
    answer = json.loads(done.stdout.splitlines()[-1])
    return answer["held_bytes"], [Tick(**fields) for fields in answer["ticks"]]


def _make_facts_of_day(today: date, back: int, count: int) -> list[ObjectFact]:
    return make_facts(today - timedelta(days=back), count // _EVENT_DAYS)


def count_hints(lake: Lake) -> int:
    """Return how many hints wait in notes."""
    return sum(len(note.hints) for day in list_days_with_arrivals(lake) for note in read_notes(lake, day))


def describe_event(bucket: str, fact: ObjectFact) -> str:
    """Return the message in which S3 tells that an object was written."""
    record = {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "eventName": "ObjectCreated:Put",
        "eventTime": fact.modified_at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "s3": {
            "bucket": {"name": bucket},
            "object": {
                "key": fact.key,
                "size": fact.size_bytes,
                "eTag": "0" * 32,
                "sequencer": hash_values(fact.key),
            },
        },
    }
    return json.dumps({"Records": [record]})


@contextmanager
def _new_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="farmy-benchmark-") as folder:
        yield Path(folder)


if __name__ == "__main__":
    run_benchmarks("Arrivals", [measure_arrivals])
