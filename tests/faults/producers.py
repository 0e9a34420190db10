"""Producers that land, overwrite, delete and annotate images over some days, and the events that tell of it.

What a scenario leads to is well defined whatever becomes of its events, because it keeps to two rules. An object that
no run has seen may be overwritten or deleted at once, within one step: no run comes in between. One that runs have
seen is overwritten or deleted only after a reconcile that followed its last change: every lake has then taken the
former version in, whose row stays by design.
"""

import json
import os
import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

from adapters.event_notes import note_queued_events
from adapters.event_queue import EventQueue
from adapters.lake import Lake
from adapters.objects import Objects
from tests.contracts.memory_queue import MemoryQueue
from tests.graph.lakes import make_picture, open_lake, recompress

BUCKET, PREFIX = "farmy-test", "a lake"
BEGINNING = datetime(2026, 11, 2, tzinfo=UTC)
DAYS = 5
STEPS_A_DAY = 2
IMAGES_A_STEP = 6
NIGHTS_WITH_RECONCILE = (2, 4)
SOURCES = ("phone", "archive")


@dataclass(frozen=True)
class Deed:
    """One object that is written, or deleted where there are no bytes."""

    key: str
    at: datetime
    data: bytes | None


@dataclass(frozen=True)
class Step:
    """Deeds between which nobody looks, and whether the day ends with a reconcile after them."""

    deeds: tuple[Deed, ...]
    ends_with_reconcile: bool


@dataclass
class Scenario:
    """A producer's week.

    Attributes:
        steps: What it does, in order.
        versions: Every version of an image that a run can have seen: key and time, and whether its object is deleted.
    """

    steps: list[Step] = field(default_factory=list)
    versions: dict[tuple[str, datetime], bool] = field(default_factory=dict)


class ScenarioWriter:
    """Makes up a scenario.

    Args:
        seed: Decides everything.
    """

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._seed = seed
        self._moment = BEGINNING
        self._images: dict[str, bytes] = {}
        self._pictures: list[bytes] = []
        self._sidecars: set[str] = set()
        self._settled: list[str] = []
        self._changed: set[str] = set()
        self._deeds: list[Deed] = []
        self._made = 0

    def write(self) -> Scenario:
        scenario = Scenario()
        for day in range(DAYS):
            for step in range(STEPS_A_DAY):
                self._moment = BEGINNING + timedelta(days=day, hours=1 + 11 * step)
                self._deeds = []
                for _ in range(IMAGES_A_STEP):
                    self._land_an_image()
                self._add_a_late_sidecar()
                self._change_settled_objects()
                ends_with_reconcile = step == STEPS_A_DAY - 1 and day + 1 in NIGHTS_WITH_RECONCILE
                scenario.steps.append(Step(tuple(self._deeds), ends_with_reconcile))
                _record_versions(scenario.versions, self._deeds)
                if ends_with_reconcile:
                    self._settled = sorted(self._images)
                    self._changed = set()
        return scenario

    def _land_an_image(self) -> None:
        self._made += 1
        source = self._random.choice(SOURCES)
        key = f"landing/{source}/{self._moment:%Y/%m/%d}/picture {self._made}+\u00e4%.jpg"
        if self._random.random() < 0.3:
            self._write_sidecar(key)  # before its image, as often as not
        if self._random.random() < 0.15:
            self._do(key, make_picture(10_000 + self._made))  # overwritten at once
        self._do(key, self._make_bytes())
        if self._random.random() < 0.1:
            self._delete(key)

    def _make_bytes(self) -> bytes:
        chance = self._random.random()
        if self._images and chance < 0.2:
            return self._random.choice(list(self._images.values()))
        if self._pictures and chance < 0.35:
            return recompress(self._random.choice(self._pictures))
        picture = make_picture(1_000 * self._seed + self._made)
        if chance < 0.42:
            return picture[:700]
        self._pictures.append(picture)
        return picture

    def _add_a_late_sidecar(self) -> None:
        key = self._random.choice(sorted(self._images) or [""])
        if key:
            self._write_sidecar(key)
            self._changed.add(key)

    def _change_settled_objects(self) -> None:
        for change in (self._overwrite, self._delete, self._delete_sidecar):
            unchanged = [key for key in self._settled if key not in self._changed and key in self._images]
            if unchanged and self._random.random() < 0.5:
                key = self._random.choice(unchanged)
                self._changed.add(key)
                change(key)

    def _overwrite(self, key: str) -> None:
        self._do(key, self._make_bytes())

    def _delete(self, key: str) -> None:
        self._do(key, None)
        self._delete_sidecar(key)

    def _delete_sidecar(self, key: str) -> None:
        if f"{key}.json" in self._sidecars:
            self._do(f"{key}.json", None)

    def _write_sidecar(self, key: str) -> None:
        consent = self._random.choice(["granted", "granted", "withdrawn", "nonsense"])
        text = json.dumps({"consent": consent, "licence": "CC0-1.0", "take": self._random.randrange(1_000)})
        self._do(f"{key}.json", text.encode())

    def _do(self, key: str, data: bytes | None) -> None:
        self._moment += timedelta(minutes=self._random.randrange(1, 10), microseconds=self._random.randrange(10**6))
        self._deeds.append(Deed(key, self._moment, data))
        if key.endswith(".json"):
            (self._sidecars.discard if data is None else self._sidecars.add)(key)
        elif data is None:
            del self._images[key]
        else:
            self._images[key] = data


def _record_versions(versions: dict[tuple[str, datetime], bool], deeds: Iterable[Deed]) -> None:
    """Add what a run after these deeds can see: of each object the last version."""
    last = {deed.key: deed for deed in deeds if not deed.key.endswith(".json")}
    for deed in last.values():
        if deed.data is not None:
            versions[deed.key, deed.at] = False
            continue
        for key, at in versions:
            if key == deed.key:
                versions[key, at] = True


class BucketInFolder(Objects):
    """Objects in a folder that say they are a bucket, so that events can be about them."""

    @property
    def bucket_and_prefix(self) -> tuple[str, str]:
        return BUCKET, PREFIX


def open_event_lake(home: Path, queue: EventQueue, **overrides: Any) -> Lake:
    """Open a lake in a folder that learns from a queue what lands."""
    lake = open_lake(home, **overrides)
    pose_as_bucket(lake)
    lake.event_queue = queue
    return lake


def drain_queue(lake: Lake) -> None:
    """Do what the arrivals sensor does before it asks for runs."""
    assert lake.event_queue is not None
    note_queued_events(lake, lake.event_queue, budget_s=30)


def pose_as_bucket(lake: Lake) -> None:
    """Have a lake in a folder take itself for one in a bucket where it reads events."""
    objects = lake.objects
    lake.objects = BucketInFolder(objects._store, objects.root, objects.folder)


def carry_out(lake: Lake, deed: Deed) -> None:
    """Do what a deed says, with its own LastModified."""
    assert lake.objects.folder is not None
    path = lake.objects.folder / deed.key
    if deed.data is None:
        path.unlink()
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(deed.data)
    # Whole microseconds: what a float would make of them depends on its size.
    nanoseconds = (deed.at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1_000
    os.utime(path, ns=(nanoseconds, nanoseconds))


def build_event(deed: Deed) -> dict[str, object]:
    """Return the record that S3 sends of a deed, as the Amazon S3 User Guide has it under "Event message structure"."""
    stored: dict[str, object] = {
        "key": quote_plus(f"{PREFIX}/{deed.key}", safe="/"),
        "sequencer": f"{int(deed.at.timestamp() * 1e6):018X}",
    }
    if deed.data is not None:
        stored["size"] = len(deed.data)
    return {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "eventName": "ObjectCreated:Put" if deed.data is not None else "ObjectRemoved:Delete",
        "eventTime": deed.at.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "s3": {"bucket": {"name": BUCKET}, "object": stored},
    }


def build_message(*deeds: Deed) -> str:
    """Return the message that S3 sends of deeds."""
    return json.dumps({"Records": [build_event(deed) for deed in deeds]})


@dataclass
class Channel:
    """Brings events to a queue, some of them never, twice or late.

    Attributes:
        queue: The queue.
        random: Decides which.
        lost: Share that never comes.
        doubled: Share that comes twice.
        delayed: Share that comes up to two days later.
        counts: How many there were of each kind.
    """

    queue: MemoryQueue
    random: random.Random
    lost: float = 0
    doubled: float = 0
    delayed: float = 0
    counts: dict[str, int] = field(default_factory=lambda: {"sent": 0, "lost": 0, "doubled": 0, "delayed": 0})
    _waiting: list[tuple[int, str]] = field(default_factory=list)

    def bring(self, step: int, deeds: Iterable[Deed]) -> None:
        """Send what is due at a step: late events of earlier deeds, and those of these deeds that are in time."""
        for message in (build_message(deed) for deed in deeds):
            if self._happens("lost", self.lost):
                continue
            for _ in range(2 if self._happens("doubled", self.doubled) else 1):
                delay = self.random.randint(1, 2 * STEPS_A_DAY) if self._happens("delayed", self.delayed) else 0
                self._waiting.append((step + delay, message))
        due = [message for at, message in self._waiting if at <= step]
        self._waiting = [held for held in self._waiting if held[0] > step]
        self.counts["sent"] += len(due)
        self.random.shuffle(due)
        self.queue.send(*due)

    def _happens(self, kind: str, share: float) -> bool:
        happens = self.random.random() < share
        self.counts[kind] += happens
        return happens
