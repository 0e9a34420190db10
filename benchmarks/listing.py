"""Finding a hundred new objects among 100,000, as often as a sensor ticks: ours beside `get_objects` of dagster-aws.

The objects are real, on SeaweedFS, and both list through it, by turns. A server says when an object landed, so all of
them landed just now, whatever day their key names: the rows of those in watched folders are of today, all others of the
day of their key, as they would be had they landed on it.
"""

import asyncio
import tempfile
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from importlib.metadata import version
from pathlib import Path

import boto3
import obstore
from dagster_aws.s3.sensor import get_objects
from obstore.store import S3Store

from adapters.inbox import note_watched_arrivals
from adapters.lake import Lake
from adapters.settings import load_settings
from benchmarks.environments import bare_environment
from benchmarks.landings import WATCHED_DAYS, write_history
from benchmarks.results import Result
from benchmarks.s3_server import BUCKET, S3Server, start_s3_server
from lakehouse.arrivals import ARRIVAL_NOTES, LANDING, Arrival, list_watched_prefixes, select_arrivals

GET_OBJECTS_GOAL_TIMES = 50

DAYS = 100
OBJECTS_A_DAY = 1000
NEW_OBJECTS = 100
RUNS = 3
_AT_ONCE = 64
_SOURCE = f"{LANDING}phone/"
_CURSOR = f"{_SOURCE}cursor.jpg"
_RESOLUTION_S = 1.1
"""After which a server that counts whole seconds gives another LastModified."""


def measure_listing() -> list[Result]:
    """Measure both at finding the same objects."""
    with tempfile.TemporaryDirectory(prefix="farmy-benchmark-") as folder, start_s3_server(Path(folder)) as server:
        variables = {"FARMY_OBJECTS": f"s3://{BUCKET}", "FARMY_S3_ENDPOINT": server.endpoint}
        with bare_environment(server.environment | variables):
            return _measure(Path(folder) / "home", server)


def _measure(home: Path, server: S3Server) -> list[Result]:
    today = datetime.now(UTC).date()
    days = [today - timedelta(days=back) for back in range(DAYS)]
    asyncio.run(
        _put([f"{_build_folder(day)}old-{number:06}.jpg" for day in days for number in range(OBJECTS_A_DAY)], server)
    )
    with Lake(load_settings(home=home)) as lake:
        write_history(lake, _group_by_day(lake, today))
    time.sleep(_RESOLUTION_S)
    asyncio.run(_put([_CURSOR], server))
    rounds = [_measure_round(home, server, today) for _ in range(RUNS)]
    ours, theirs = (tuple(costs) for costs in zip(*rounds, strict=True))
    what = f"{NEW_OBJECTS} new objects found among {DAYS * OBJECTS_A_DAY:,}"
    peer = f"get_objects of dagster-aws {version('dagster-aws')}"
    times = tuple(their / our for our, their in rounds)
    return [
        Result(f"{what}: Farmy, noted durably", "CPU s", ours),
        Result(f"{what}: {peer}", "CPU s", theirs),
        Result(f"{what}: {peer} over Farmy", "times", times, at_least=GET_OBJECTS_GOAL_TIMES),
    ]


def _measure_round(home: Path, server: S3Server, today: date) -> tuple[float, float]:
    """Land new objects, have both find them, and take them away."""
    _look(home, today)
    time.sleep(_RESOLUTION_S)
    new = [f"{_build_folder(today)}new-{number:03}.jpg" for number in range(NEW_OBJECTS)]
    asyncio.run(_put(new, server))
    ours, theirs = _time_ours(home, today, new), _time_get_objects(server, new)
    with Lake(load_settings(home=home)) as lake:
        lake.objects.delete([*new, *(fact.key for fact in lake.objects.list(ARRIVAL_NOTES))])
    return ours, theirs


def _look(home: Path, today: date) -> int:
    with Lake(load_settings(home=home, watch_days=WATCHED_DAYS)) as lake:
        return note_watched_arrivals(lake, today)


async def _put(keys: Iterable[str], server: S3Server) -> None:
    """Put objects, each of a few bytes, several at a time."""
    store = S3Store(
        BUCKET, endpoint=server.endpoint, virtual_hosted_style_request=False, client_options={"allow_http": True}
    )
    limit = asyncio.Semaphore(_AT_ONCE)

    async def put(key: str) -> None:
        async with limit:
            await obstore.put_async(store, key, key.encode(), use_multipart=False)

    await asyncio.gather(*map(put, keys))


def _build_folder(day: date) -> str:
    return f"{_SOURCE}{day:%Y/%m/%d}/"


def _group_by_day(lake: Lake, today: date) -> dict[date, list[Arrival]]:
    """Return all arrivals by the day that their rows are of."""
    watched = tuple(list_watched_prefixes([_SOURCE], today, WATCHED_DAYS))
    grouped: dict[date, list[Arrival]] = {}
    for arrival in select_arrivals(lake.objects.list(LANDING)):
        key = arrival.object_key
        folder_day = datetime.strptime(key.removeprefix(_SOURCE)[:10], "%Y/%m/%d").replace(tzinfo=UTC).date()
        grouped.setdefault(arrival.ingest_date if key.startswith(watched) else folder_day, []).append(arrival)
    return grouped


def _time_ours(home: Path, today: date, new: Sequence[str]) -> float:
    """Return the processor time of one look, opening the lake included."""
    started = time.process_time()
    found = _look(home, today)
    taken = time.process_time() - started
    _check("Farmy", found, new)
    return taken


def _time_get_objects(server: S3Server, new: Sequence[str]) -> float:
    """Return the processor time of one look from the newest old object on, with a client that is there already."""
    client = boto3.client("s3", endpoint_url=server.endpoint)
    started = time.process_time()
    found = get_objects(BUCKET, prefix=LANDING, since_key=_CURSOR, client=client)
    taken = time.process_time() - started
    _check("get_objects", len({entry["Key"] for entry in found} & set(new)), new)
    return taken


def _check(name: str, found: int, new: Sequence[str]) -> None:
    if found != len(new):
        raise RuntimeError(f"{name} found {found} of {len(new)} new objects: the measurement is void")
