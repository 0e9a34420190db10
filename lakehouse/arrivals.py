"""Arrivals: from hints that something happened in landing to rows of `raw_images`.

A *hint* names an object of landing that should be looked at again. Hints wait in *notes*, small durable objects under
`inbox/`, one or more for a day. A run reads each hinted object as it is then: what it is, not what was said of it,
becomes a row. So hints may be doubled, late and in any order. Notes are deleted after the commit that took them in.
"""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.errors import SchemaMismatchError
from lakehouse.fingerprints import hash_values
from lakehouse.landing_events import LandingEvent
from lakehouse.schemas import RAW_IMAGES
from lakehouse.sources import SIDECAR_SUFFIX, Consent, Source, Withdrawal, find_subject, find_terms, is_sidecar

LANDING = "landing/"
ARRIVAL_NOTES = "inbox/arrivals/"
PARKED_NOTES = "inbox/parked/"
_FACT_NAMES = (
    *("arrival_id", "image_id", "ingest_date", "object_key", "source", "landed_at", "size_bytes", "original_key"),
    *("sidecar_id", "sidecar_json", "withdrawal"),
)
FACTS = pa.schema([RAW_IMAGES.field(name) for name in _FACT_NAMES])
"""What is known of an arrival by itself; the other columns of `raw_images` follow from these, from the settings and
from the arrivals of all days."""
BEGINNING = datetime(2020, 1, 1, tzinfo=UTC)
"""The first day of every table's partitions: an object that claims to be older counts as having arrived then."""
MAX_OBJECT_BYTES = 500_000_000
"""A larger object is not taken in: it would have to be held in memory whole."""
OBJECT_DELETED: Withdrawal = "object_deleted"
CONSENT_WITHDRAWN: Withdrawal = "consent_withdrawn"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_HINTS_PER_NOTE = 1_000


@dataclass(frozen=True)
class Hint:
    """An image of landing to be looked at again.

    Attributes:
        object_key: Its key; never that of a sidecar.
        size_bytes: About its size, 0 if unknown, by which memory is bounded.
        occasion: What happened. The same occasion makes the same note; a new one a note that no run has read yet.
    """

    object_key: str
    size_bytes: int = 0
    occasion: str = ""


@dataclass(frozen=True)
class Note:
    """Hints that wait for a run of their day.

    Attributes:
        key: Its key, which follows from the hints.
        hints: The hints.
    """

    key: str
    hints: tuple[Hint, ...]

    def encode(self) -> bytes:
        """Return the note's bytes."""
        return json.dumps([vars(hint) for hint in self.hints], ensure_ascii=False).encode()


@dataclass(frozen=True)
class ParkedObject:
    """An object that cannot be taken in until somebody changes something.

    Attributes:
        object_key: Its key in landing.
        day: The day whose run gave it up.
        reason: Why, and what to do.
    """

    object_key: str
    day: date
    reason: str

    @property
    def note_key(self) -> str:
        """Key of the note that remembers it."""
        return f"{PARKED_NOTES}{self.day}/{hash_values(self.object_key)}.json"

    def encode(self) -> bytes:
        """Return the note's bytes."""
        fields = {"object_key": self.object_key, "day": self.day.isoformat(), "reason": self.reason}
        return json.dumps(fields, ensure_ascii=False).encode()

    @classmethod
    def decode(cls, data: bytes) -> "ParkedObject":
        """Return what a note's bytes tell of.

        Raises:
            SchemaMismatchError: If the bytes are not such a note.
        """
        try:
            fields = json.loads(data)
            return cls(str(fields["object_key"]), date.fromisoformat(fields["day"]), str(fields["reason"]))
        except (ValueError, KeyError, TypeError) as error:
            raise _build_note_error(PARKED_NOTES, error) from error


@dataclass(frozen=True)
class ObjectFact:
    """What a listing says of one object.

    Attributes:
        key: Its key.
        modified_at: Its LastModified.
        size_bytes: Its size.
    """

    key: str
    modified_at: datetime
    size_bytes: int


@dataclass(frozen=True)
class Arrival:
    """One version of one image in landing.

    Attributes:
        object_key: Its key, `landing/<source>/<yyyy>/<mm>/<dd>/<name>`.
        landed_at: Its LastModified, or the `BEGINNING` if that is later.
        size_bytes: Its size.
        sidecar_id: Which version of the producer's `<name>.json` lies beside it; None if there is none.
    """

    object_key: str
    landed_at: datetime
    size_bytes: int
    sidecar_id: str | None = None

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


@dataclass(frozen=True)
class FirstArrival:
    """The earliest arrival of an image, as the index keeps it."""

    image_id: str
    arrival_id: str
    ingest_date: date
    landed_at_us: int
    object_key: str
    is_withdrawn: bool = False

    @property
    def order(self) -> tuple[bool, int, str]:
        """Of two arrivals of an image the one with the smaller order came first; any comes before a withdrawn one."""
        return self.is_withdrawn, self.landed_at_us, self.object_key


@dataclass(frozen=True)
class TakenIn:
    """One arrival as a run found it.

    Attributes:
        arrival: The version that was read.
        image_id: sha256 of its bytes.
        sidecar_json: The text of its sidecar; None if there is none, or it is too large to be read.
    """

    arrival: Arrival
    image_id: str
    sidecar_json: str | None


def build_arrival(image: ObjectFact, sidecar: ObjectFact | None) -> Arrival:
    """Return the arrival that an object and the sidecar beside it make."""
    sidecar_id = None if sidecar is None else hash_values(sidecar.modified_at.isoformat(), sidecar.size_bytes)
    return Arrival(image.key, max(image.modified_at, BEGINNING), image.size_bytes, sidecar_id)


def select_arrivals(listed: Iterable[ObjectFact]) -> list[Arrival]:
    """Return the arrivals that a listing of landing shows, by key; sidecars are none of their own."""
    objects = {fact.key: fact for fact in listed}
    return [
        build_arrival(fact, objects.get(f"{key}{SIDECAR_SUFFIX}"))
        for key, fact in sorted(objects.items())
        if not is_sidecar(key)
    ]


def list_orphaned_sidecars(listed: Iterable[ObjectFact]) -> list[str]:
    """Return the keys of sidecars beside which no image lies, by key."""
    keys = {fact.key for fact in listed}
    return sorted(key for key in keys if is_sidecar(key) and key.removesuffix(SIDECAR_SUFFIX) not in keys)


def build_arrival_hint(arrival: Arrival, occasion: str = "") -> Hint:
    """Return the hint at an arrival that a listing shows; on another occasion it is another one."""
    return Hint(arrival.object_key, arrival.size_bytes, hash_values(arrival.arrival_id, arrival.sidecar_id, occasion))


def build_notes(hints_by_day: Mapping[date, Iterable[Hint]]) -> list[Note]:
    """Return the notes that hold the hints: the same hints of a day make the same notes."""
    notes = []
    for day, hints in sorted(hints_by_day.items()):
        ordered = sorted(set(hints), key=lambda hint: (hint.object_key, hint.occasion, hint.size_bytes))
        for start in range(0, len(ordered), _HINTS_PER_NOTE):
            chunk = tuple(ordered[start : start + _HINTS_PER_NOTE])
            digest = hash_values(*map(vars, chunk))
            notes.append(Note(f"{build_notes_prefix(day)}{digest}.json", chunk))
    return notes


def build_notes_prefix(day: date) -> str:
    """Return the prefix of a day's notes."""
    return f"{ARRIVAL_NOTES}{day}/"


def decode_note(key: str, data: bytes) -> Note:
    """Return a note.

    Raises:
        SchemaMismatchError: If the bytes are not a note's.
    """
    try:
        hints = tuple(
            Hint(str(fields["object_key"]), int(fields["size_bytes"]), str(fields["occasion"]))
            for fields in json.loads(data)
        )
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise _build_note_error(key, error) from error
    return Note(key, hints)


def _build_note_error(place: str, error: Exception) -> SchemaMismatchError:
    return SchemaMismatchError(f"A note at {place} is not one that Farmy wrote: {error}. Delete it.")


def merge_hints(notes: Iterable[Note]) -> list[Hint]:
    """Return one hint per object, by key."""
    merged: dict[str, Hint] = {}
    for hint in (hint for note in notes for hint in note.hints):
        held = merged.get(hint.object_key)
        if held is None or hint.size_bytes > held.size_bytes:
            merged[hint.object_key] = hint
    return [hint for _, hint in sorted(merged.items())]


def list_watched_prefixes(source_prefixes: Iterable[str], today: date, days: int) -> list[str]:
    """Return the day prefixes of landing in which objects may still appear: today's and those of the days before.

    Args:
        source_prefixes: `landing/<source>/` of every source.
        today: The present UTC date.
        days: How many days back, at least 1 for today alone.
    """
    dates = [today + timedelta(days=1 - back) for back in range(days + 1)]
    return [f"{prefix}{day:%Y/%m/%d}/" for prefix in source_prefixes for day in dates]


def select_new_arrivals(arrivals: Iterable[Arrival], known: pa.Table) -> list[Arrival]:
    """Return the arrivals that no row knows, knows with another sidecar, or knows as deleted.

    Args:
        arrivals: What a listing shows.
        known: `arrival_id, sidecar_id, withdrawal` of rows.
    """
    columns = (known.column(name).to_pylist() for name in ("arrival_id", "sidecar_id", "withdrawal"))
    held = {arrival_id: (sidecar_id, withdrawal) for arrival_id, sidecar_id, withdrawal in zip(*columns, strict=True)}
    return [
        arrival
        for arrival in arrivals
        if arrival.arrival_id not in held
        or held[arrival.arrival_id][0] != arrival.sidecar_id
        or held[arrival.arrival_id][1] == OBJECT_DELETED
    ]


def build_original_key(image_id: str) -> str:
    """Return the key under which an image's original bytes are kept."""
    return f"raw/{image_id[:2]}/{image_id}"


def update_facts(standing: pa.Table, taken_in: Sequence[TakenIn], gone: Iterable[str]) -> pa.Table:
    """Return a day's facts with what a run found in landing.

    Args:
        standing: The day's rows as they are, `FACTS`.
        taken_in: The day's arrivals that were read; they replace what is known of the same arrivals.
        gone: Keys of objects that are no longer there: their rows stay, as withdrawn.

    Returns:
        `FACTS`.
    """
    found = _build_facts(taken_in)
    kept = standing.filter(
        pc.invert(pc.is_in(standing.column("arrival_id"), found.column("arrival_id").combine_chunks()))
    )
    is_gone = pc.is_in(kept.column("object_key"), value_set=pa.array(sorted(gone), pa.string()))
    withdrawal = pc.if_else(is_gone, pa.scalar(OBJECT_DELETED, pa.string()), kept.column("withdrawal"))
    place = kept.schema.get_field_index("withdrawal")
    return pa.concat_tables([kept.set_column(place, FACTS.field("withdrawal"), withdrawal), found])


def _build_facts(taken_in: Iterable[TakenIn]) -> pa.Table:
    rows = [
        {
            "arrival_id": found.arrival.arrival_id,
            "image_id": found.image_id,
            "ingest_date": found.arrival.ingest_date,
            "object_key": found.arrival.object_key,
            "source": found.arrival.source,
            "landed_at": found.arrival.landed_at,
            "size_bytes": found.arrival.size_bytes,
            "original_key": build_original_key(found.image_id),
            "sidecar_id": found.arrival.sidecar_id,
            "sidecar_json": found.sidecar_json,
            "withdrawal": None,
        }
        for found in taken_in
    ]
    return pa.Table.from_pylist(rows, schema=FACTS)


def apply_terms(facts: pa.Table, sources: Iterable[Source]) -> pa.Table:
    """Return facts with the terms on which the images are here, and with the withdrawals that follow from them.

    Args:
        facts: `FACTS`, whose `withdrawal` tells of deleted objects.
        sources: Who may land images; one that is not named has unknown terms.

    Returns:
        The facts with `licence, consent, retain_until, sidecar_problem`.
    """
    named = {source.name: source for source in sources}
    names = ("source", "sidecar_id", "sidecar_json", "ingest_date", "withdrawal")
    rows = list(zip(*(facts.column(name).to_pylist() for name in names), strict=True))
    terms = [
        find_terms(named.get(name, _UNNAMED), has_sidecar=sidecar_id is not None, sidecar_json=sidecar, ingest_date=day)
        for name, sidecar_id, sidecar, day, _ in rows
    ]
    withdrawals = [
        _find_withdrawal(named.get(name, _UNNAMED), held, own.consent)
        for (name, *_, held), own in zip(rows, terms, strict=True)
    ]
    place = facts.schema.get_field_index("withdrawal")
    with_withdrawals = facts.set_column(place, FACTS.field("withdrawal"), pa.array(withdrawals, pa.string()))
    columns = {
        "licence": pa.array([own.licence for own in terms], pa.string()),
        "consent": pa.array([own.consent for own in terms], pa.string()),
        "retain_until": pa.array([own.retain_until for own in terms], pa.date32()),
        "sidecar_problem": pa.array([own.problem for own in terms], pa.string()),
    }
    for name, column in columns.items():
        with_withdrawals = with_withdrawals.append_column(RAW_IMAGES.field(name), column)
    return with_withdrawals


_UNNAMED = Source("unnamed")


def _find_withdrawal(source: Source, held: Withdrawal | None, consent: Consent) -> Withdrawal | None:
    if held == OBJECT_DELETED and not source.keeps_deleted:
        return OBJECT_DELETED
    return CONSENT_WITHDRAWN if consent == "withdrawn" else None


def judge_firsts(arrivals: pa.Table, known_firsts: Mapping[str, FirstArrival]) -> pa.Table:
    """Decide which arrivals are the first of their image, and which are copies of which.

    Args:
        arrivals: All arrivals of one day: `arrival_id, image_id, ingest_date, object_key, landed_at, withdrawal`.
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


def list_first_candidates(arrivals: pa.Table) -> list[FirstArrival]:
    """Return each arrival in the form in which arrivals of one image are compared."""
    columns = (
        arrivals.column(name).to_pylist()
        for name in ("image_id", "arrival_id", "ingest_date", "landed_at", "object_key", "withdrawal")
    )
    return [
        FirstArrival(
            image_id,
            arrival_id,
            day,
            (landed_at - _EPOCH) // timedelta(microseconds=1),
            object_key,
            withdrawal is not None,
        )
        for image_id, arrival_id, day, landed_at, object_key, withdrawal in zip(*columns, strict=True)
    ]


def list_withdrawn_images(arrivals: pa.Table) -> list[str]:
    """Return the images whose first arrival is withdrawn, which says that every arrival of them is.

    Args:
        arrivals: `image_id, is_first, withdrawal` of rows of `raw_images`.
    """
    withdrawn = arrivals.filter(pc.and_(arrivals.column("is_first"), pc.is_valid(arrivals.column("withdrawal"))))
    return sorted(withdrawn.column("image_id").to_pylist())


def build_event_hints(
    events: Iterable[tuple[str, LandingEvent]], days_of_objects: Mapping[str, Collection[date]]
) -> dict[date, list[Hint]]:
    """Return the hints that events give, by the day whose run should look.

    An image that was written is of about the day of its event; if that proves wrong, the run passes it on. One that was
    removed, or whose sidecar was written or removed, is of the days on which the tables hold it.

    Args:
        events: Events, each with the key below the lake's root of the object it is about.
        days_of_objects: The days of the images of `list_looked_up`, as far as the tables hold them.
    """
    hints: dict[date, list[Hint]] = {}
    for key, event in events:
        subject = find_subject(key)
        if subject.endswith("/"):  # a sidecar of nothing
            continue
        is_about_the_past = event.is_removal or is_sidecar(key)
        size_bytes = 0 if is_about_the_past else event.size_bytes or 0
        occasion = event.sequencer or hash_values(event.occurred_at.isoformat(), event.version_id, event.etag)
        held_on = days_of_objects.get(subject, ()) if is_about_the_past else ()
        happened_on = max(event.occurred_at, BEGINNING).astimezone(UTC).date()
        for day in {happened_on, *held_on}:
            hints.setdefault(day, []).append(Hint(subject, size_bytes, f"{key.removeprefix(subject)} {occasion}"))
    return hints


def list_looked_up(events: Iterable[tuple[str, LandingEvent]]) -> list[str]:
    """Return the images of which the tables have to say on which days they hold them, for `build_event_hints`."""
    return sorted({find_subject(key) for key, event in events if event.is_removal or is_sidecar(key)})
