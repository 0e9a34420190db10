"""Landings of any size: made up, so that a million objects need no storage, and what the tables then know of them.

The last days hold the same in each, and all the rest lies in the days before: what arrives is one thing, what ever
arrived another. Only the listing is made up. The rows are in a real table, and Dagster knows a run of each day.
"""

import hashlib
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import pyarrow as pa
from obstore.store import LocalStore

from adapters.lake import Lake
from adapters.objects import Objects
from adapters.settings import load_settings
from adapters.tables import DayRows
from lakehouse.arrivals import LANDING, Arrival, ObjectFact, build_original_key
from lakehouse.schemas import RAW_IMAGES
from sensors.arrivals import IMAGES_JOB

OBJECTS_A_DAY = 1000
WATCHED_DAYS = 3
BUCKET = "benchmark"
_SOURCE = f"{LANDING}phone/"
_SIZE_BYTES = 2_000_000


class SimulatedLanding(Objects):
    """The objects of a folder, beside a landing that is made up.

    Attributes:
        new: Objects that landed today beside those that the table knows.
    """

    def __init__(self, folder: Path, today: date, older_days: int) -> None:
        super().__init__(LocalStore(folder, mkdir=True), str(folder), folder)
        self.new: list[ObjectFact] = []
        self._today = today
        self._counts = count_objects(today, older_days)

    @property
    def bucket_and_prefix(self) -> tuple[str, str]:
        """The bucket that events name."""
        return BUCKET, ""

    def list(self, prefix: str) -> list[ObjectFact]:
        """Return the objects below a prefix.

        Raises:
            RuntimeError: If landing is asked for as a whole, which no tick may do.
        """
        if not prefix.startswith(LANDING):
            return super().list(prefix)
        if prefix in {LANDING, _SOURCE}:
            raise RuntimeError("all of landing was listed, whose cost grows with history: the measurement is void")
        day = datetime.strptime(prefix.removeprefix(_SOURCE), "%Y/%m/%d/").replace(tzinfo=UTC).date()
        return [*make_facts(day, self._counts.get(day, 0)), *(self.new if day == self._today else [])]

    def list_folders(self, prefix: str) -> Iterator[str]:
        """Yield the one source's prefix."""
        return iter([_SOURCE] if prefix == LANDING else [])


def count_objects(today: date, older_days: int) -> dict[date, int]:
    """Return how many objects landed on each day: a thousand on the watched ones together, a thousand on each older."""
    share, rest = divmod(OBJECTS_A_DAY, WATCHED_DAYS)
    watched = {today - timedelta(days=back): share + (rest if back == 0 else 0) for back in range(WATCHED_DAYS)}
    older = [today - timedelta(days=WATCHED_DAYS + back) for back in range(older_days)]
    return watched | dict.fromkeys(older, OBJECTS_A_DAY)


def make_facts(day: date, count: int, kind: str = "old") -> list[ObjectFact]:
    """Return objects that landed in the first seconds of a day."""
    midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
    return [
        ObjectFact(
            f"{_SOURCE}{day:%Y/%m/%d}/{kind}-{number:06}.jpg", midnight + timedelta(milliseconds=number), _SIZE_BYTES
        )
        for number in range(count)
    ]


def open_lake(landing: SimulatedLanding, home: Path, queue_url: str | None) -> Lake:
    """Open a lake over a made-up landing; without a queue the landing is listed."""
    lake = Lake(load_settings(home=home, queue_url=queue_url, watch_days=WATCHED_DAYS))
    lake.objects = landing
    return lake


def write_history(lake: Lake, arrivals_by_day: Mapping[date, Sequence[Arrival]]) -> None:
    """Commit rows of arrivals to `raw_images` in one append, as if every one had been taken in.

    Args:
        lake: Its table is empty.
        arrivals_by_day: By the day that the rows are of.
    """
    rows = pa.concat_tables([build_rows(day, arrivals) for day, arrivals in arrivals_by_day.items()])
    nothing = DayRows(RAW_IMAGES.empty_table(), frozenset())
    lake.tables.commit_day("raw_images", None, read=nothing, rows=rows)


def build_rows(day: date, arrivals: Sequence[Arrival]) -> pa.Table:
    """Return rows of `raw_images` for arrivals, each the first of an image of its own."""
    count = len(arrivals)
    arrival_ids = [arrival.arrival_id for arrival in arrivals]
    image_ids = [hashlib.sha256(arrival_id.encode()).hexdigest() for arrival_id in arrival_ids]
    columns = {
        "arrival_id": arrival_ids,
        "image_id": image_ids,
        "ingest_date": [day] * count,
        "object_key": [arrival.object_key for arrival in arrivals],
        "source": [arrival.source for arrival in arrivals],
        "landed_at": [arrival.landed_at for arrival in arrivals],
        "size_bytes": [arrival.size_bytes for arrival in arrivals],
        "original_key": [build_original_key(image_id) for image_id in image_ids],
        "consent": ["unknown"] * count,
        "is_first": [True] * count,
        "first_arrival_id": arrival_ids,
        "first_ingest_date": [day] * count,
        "fingerprint": arrival_ids,
    }
    return pa.table([columns.get(name, [None] * count) for name in RAW_IMAGES.names], schema=RAW_IMAGES)


def record_runs(instance: dg.DagsterInstance, days: Iterable[date]) -> None:
    """Have Dagster know of a run that succeeded on each day."""
    for day in days:
        tags = {"dagster/partition": day.isoformat(), "farmy/attempt": "1", "farmy/notes": "taken in"}
        run = dg.DagsterRun(IMAGES_JOB, str(uuid.uuid4()), status=dg.DagsterRunStatus.SUCCESS, tags=tags)
        instance.add_run(run)
