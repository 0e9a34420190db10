"""The inbox: notes of what arrived and what changed, from the places where that can be seen.

Whoever looks (sensor, `farmy run`, reconcile) only leaves notes; the runs that take them in delete them. Writing a note
twice changes nothing.
"""

from collections.abc import Iterable
from datetime import date

from adapters.lake import Lake
from lakehouse.annotation_progress import (
    PROGRESS_NOTES,
    ProgressCursor,
    build_progress_note_key,
    select_progress,
)
from lakehouse.arrivals import (
    ARRIVAL_NOTES,
    LANDING,
    FirstArrival,
    encode_note,
    list_first_candidates,
    list_watched_prefixes,
    rebuild_arrivals,
    select_arrivals,
)
from lakehouse.fingerprints import hash_values

_PROGRESS = "annotation_progress"


def note_watched_arrivals(lake: Lake, today: date) -> int:
    """Leave a note for every new object in the day prefixes that can still change; return how many."""
    sources = lake.objects.list_folders(LANDING)
    return _note_arrivals(lake, list_watched_prefixes(sources, today, lake.settings.watch_days))


def note_all_arrivals(lake: Lake) -> int:
    """Leave a note for every new object anywhere in landing; return how many."""
    return _note_arrivals(lake, [LANDING])


def _note_arrivals(lake: Lake, prefixes: Iterable[str]) -> int:
    listed = [fact for prefix in prefixes for fact in lake.objects.list(prefix)]
    arrivals = select_arrivals((fact.key, fact.modified_at, fact.size_bytes) for fact in listed)
    known: set[str] = set()
    for day in {arrival.ingest_date for arrival in arrivals}:
        rows = lake.tables.read("raw_images", day=day, columns=["arrival_id"])
        known.update(rows.column("arrival_id").to_pylist())
    new = [arrival for arrival in arrivals if arrival.arrival_id not in known]
    return sum(lake.objects.create(arrival.note_key, encode_note(arrival)) for arrival in new)


def note_annotation_progress(lake: Lake, *, from_the_beginning: bool = False) -> int:
    """Leave a note for every task that changed in Label Studio since the last look; return how many.

    Args:
        lake: The lake.
        from_the_beginning: Whether to look at every task again.
    """
    cursor = ProgressCursor() if from_the_beginning else ProgressCursor.decode(lake.index.read_cursor(_PROGRESS))
    changed = lake.label_studio.list_changed_tasks(lake.annotation_project_id, cursor.since)
    news, following = select_progress(cursor, changed)
    for task in news:
        lake.objects.create(build_progress_note_key(task), b"{}")
    lake.index.write_cursor(_PROGRESS, following.encode())
    return len(news)


def rebuild_index(lake: Lake) -> int:
    """Rebuild the look-up of first arrivals from the tables; return how many images it holds.

    An arrival that counts as first beside an earlier one of the same image is noted, to be judged again.
    """
    firsts = lake.tables.read(
        "raw_images", columns=["arrival_id", "image_id", "ingest_date", "object_key", "landed_at", "is_first"]
    )
    candidates = list_first_candidates(firsts.filter(firsts.column("is_first")))
    earliest: dict[str, FirstArrival] = {}
    for candidate in sorted(candidates, key=lambda candidate: candidate.order):
        earliest.setdefault(candidate.image_id, candidate)
    lake.index.replace_firsts(earliest.values())
    note_again(lake, [candidate for candidate in candidates if candidate != earliest[candidate.image_id]])
    return len(earliest)


def note_again(lake: Lake, firsts: Iterable[FirstArrival]) -> None:
    """Leave a note for arrivals that the tables hold already, so that they are judged again."""
    for first in firsts:
        rows = lake.tables.read("raw_images", day=first.ingest_date, where={"arrival_id": [first.arrival_id]})
        for arrival in rebuild_arrivals(rows):
            lake.objects.create(arrival.note_key, encode_note(arrival))


def wake_day(lake: Lake, day: date) -> None:
    """Have the arrivals sensor ask for a run of a day, by noting again an arrival that it holds already."""
    rows = lake.tables.read("raw_images", day=day).slice(0, 1)
    for arrival in rebuild_arrivals(rows):
        lake.objects.create(arrival.note_key, encode_note(arrival))


def list_days_with_arrivals(lake: Lake) -> dict[date, str]:
    """Return the days with waiting arrival notes, each with a digest of its notes."""
    return _list_waiting(lake, ARRIVAL_NOTES)


def list_days_with_progress(lake: Lake) -> dict[date, str]:
    """Return the days with waiting notes of changed tasks, each with a digest of its notes."""
    return _list_waiting(lake, PROGRESS_NOTES)


def _list_waiting(lake: Lake, prefix: str) -> dict[date, str]:
    notes: dict[date, list[str]] = {}
    for fact in lake.objects.list(prefix):
        day = date.fromisoformat(fact.key.removeprefix(prefix).partition("/")[0])
        notes.setdefault(day, []).append(fact.key)
    return {day: hash_values(*sorted(keys)) for day, keys in sorted(notes.items())}
