"""Arrivals: from objects in landing to notes, and from notes to rows of `raw_images`.

A note is a small durable object under `inbox/` that says "this object arrived, on this day". Notes have deterministic
names, so that writing one twice changes nothing; they are deleted after the commit that took them in.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import pyarrow as pa

from lakehouse.errors import SchemaMismatchError
from lakehouse.fingerprints import hash_values
from lakehouse.schemas import RAW_IMAGES

LANDING = "landing/"
ARRIVAL_NOTES = "inbox/arrivals/"
FACTS = pa.schema(
    [
        RAW_IMAGES.field(name)
        for name in (
            "arrival_id",
            "image_id",
            "ingest_date",
            "object_key",
            "source",
            "landed_at",
            "size_bytes",
            "original_key",
            "sidecar_json",
        )
    ]
)
"""What is known of an arrival by itself; the other columns of `raw_images` follow from the arrivals of all days."""
BEGINNING = datetime(2020, 1, 1, tzinfo=UTC)
"""The first day of every table's partitions: an object that claims to be older counts as having arrived then."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Arrival:
    """One version of one object in landing.

    Attributes:
        object_key: Its key, `landing/<source>/<yyyy>/<mm>/<dd>/<name>`.
        landed_at: Its LastModified.
        size_bytes: Its size.
        sidecar_key: Key of the producer's `<name>.json` beside it, if there is one.
    """

    object_key: str
    landed_at: datetime
    size_bytes: int
    sidecar_key: str | None = None

    @property
    def arrival_id(self) -> str:
        """Identity of this version of the object: the same bytes landed again later are another arrival."""
        return hash_values(self.object_key, self.landed_at.astimezone(UTC).isoformat(), self.size_bytes)

    @property
    def ingest_date(self) -> date:
        """UTC date of the arrival, which is the day that it belongs to in every table."""
        return self.landed_at.astimezone(UTC).date()

    @property
    def source(self) -> str:
        """Who landed it: the first folder below landing/."""
        return self.object_key.removeprefix(LANDING).partition("/")[0]

    @property
    def note_key(self) -> str:
        """Key of the note that asks for this arrival to be taken in."""
        return f"{ARRIVAL_NOTES}{self.ingest_date}/{self.arrival_id}.json"


@dataclass(frozen=True)
class FirstArrival:
    """The earliest arrival of an image, as the index keeps it."""

    image_id: str
    arrival_id: str
    ingest_date: date
    landed_at_us: int
    object_key: str

    @property
    def order(self) -> tuple[int, str]:
        """Of two arrivals of an image the one with the smaller order came first."""
        return self.landed_at_us, self.object_key


def encode_note(arrival: Arrival) -> bytes:
    """Return a note's bytes."""
    return json.dumps(
        {
            "object_key": arrival.object_key,
            "landed_at": arrival.landed_at.astimezone(UTC).isoformat(),
            "size_bytes": arrival.size_bytes,
            "sidecar_key": arrival.sidecar_key,
        },
        ensure_ascii=False,
    ).encode()


def decode_note(data: bytes) -> Arrival:
    """Return the arrival that a note tells of.

    Raises:
        SchemaMismatchError: If the bytes are not a note.
    """
    try:
        fields = json.loads(data)
        return Arrival(
            object_key=str(fields["object_key"]),
            landed_at=datetime.fromisoformat(fields["landed_at"]),
            size_bytes=int(fields["size_bytes"]),
            sidecar_key=fields["sidecar_key"],
        )
    except (ValueError, KeyError, TypeError) as error:
        raise SchemaMismatchError(
            f"A note under {ARRIVAL_NOTES} is not one that Farmy wrote: {error}. Delete it."
        ) from error


def select_arrivals(listed: Iterable[tuple[str, datetime, int]]) -> list[Arrival]:
    """Decide which listed objects are arrivals of their own.

    A `<name>.json` beside an object `<name>` is that object's sidecar and no arrival of its own.

    Args:
        listed: Key, LastModified and size in bytes of objects in landing.
    """
    objects = {key: (modified_at, size_bytes) for key, modified_at, size_bytes in listed}
    arrivals = []
    for key, (modified_at, size_bytes) in sorted(objects.items()):
        if key.endswith(".json") and key.removesuffix(".json") in objects:
            continue
        sidecar = f"{key}.json"
        sidecar_key = sidecar if sidecar in objects else None
        arrivals.append(Arrival(key, max(modified_at, BEGINNING), size_bytes, sidecar_key))
    return arrivals


def list_watched_prefixes(source_prefixes: Iterable[str], today: date, days: int) -> list[str]:
    """Return the day prefixes of landing in which objects may still appear: today's and those of the days before.

    Args:
        source_prefixes: `landing/<source>/` of every source.
        today: The present UTC date.
        days: How many days back, at least 1 for today alone.
    """
    dates = [today + timedelta(days=1 - back) for back in range(days + 1)]
    return [f"{prefix}{day:%Y/%m/%d}/" for prefix in source_prefixes for day in dates]


def judge_firsts(arrivals: pa.Table, known_firsts: Mapping[str, FirstArrival]) -> pa.Table:
    """Decide which arrivals are the first of their image, and which are copies of which.

    Args:
        arrivals: All arrivals of one day: `arrival_id, image_id, ingest_date, object_key, landed_at`.
        known_firsts: By image, the earliest arrival on other days, as far as one is known.

    Returns:
        The arrivals with `is_first`, `first_arrival_id`, `first_ingest_date`.
    """
    firsts = dict(known_firsts)
    candidates = list_first_candidates(arrivals)
    for candidate in candidates:
        held = firsts.get(candidate.image_id)
        if held is None or candidate.order < held.order:
            firsts[candidate.image_id] = candidate
    judged = [firsts[candidate.image_id] for candidate in candidates]
    is_first = [first.arrival_id == own.arrival_id for first, own in zip(judged, candidates, strict=True)]
    return (
        arrivals.append_column("is_first", pa.array(is_first, pa.bool_()))
        .append_column("first_arrival_id", pa.array([first.arrival_id for first in judged], pa.string()))
        .append_column("first_ingest_date", pa.array([first.ingest_date for first in judged], pa.date32()))
    )


def build_original_key(image_id: str) -> str:
    """Return the key under which an image's original bytes are kept."""
    return f"raw/{image_id[:2]}/{image_id}"


def build_raw_rows(taken_in: Iterable[tuple[Arrival, str, str | None]]) -> pa.Table:
    """Return the rows of `raw_images`, as far as they are known before firsts are judged.

    Args:
        taken_in: Each arrival, its image id and its sidecar's text.
    """
    rows = [
        {
            "arrival_id": arrival.arrival_id,
            "image_id": image_id,
            "ingest_date": arrival.ingest_date,
            "object_key": arrival.object_key,
            "source": arrival.source,
            "landed_at": arrival.landed_at,
            "size_bytes": arrival.size_bytes,
            "original_key": build_original_key(image_id),
            "sidecar_json": sidecar,
        }
        for arrival, image_id, sidecar in taken_in
    ]
    return pa.Table.from_pylist(rows, schema=FACTS)


def rebuild_arrivals(rows: pa.Table) -> list[Arrival]:
    """Return the arrivals that rows of `raw_images` tell of, to write notes for them again."""
    columns = (rows.column(name).to_pylist() for name in ("object_key", "landed_at", "size_bytes"))
    return [Arrival(*values) for values in zip(*columns, strict=True)]


def list_first_candidates(arrivals: pa.Table) -> list[FirstArrival]:
    """Return each arrival in the form in which arrivals of one image are compared."""
    columns = (
        arrivals.column(name).to_pylist()
        for name in ("image_id", "arrival_id", "ingest_date", "landed_at", "object_key")
    )
    return [
        FirstArrival(image_id, arrival_id, day, (landed_at - _EPOCH) // timedelta(microseconds=1), object_key)
        for image_id, arrival_id, day, landed_at, object_key in zip(*columns, strict=True)
    ]
