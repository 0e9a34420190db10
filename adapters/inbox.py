"""The inbox: notes of what arrived and what changed, from the places where that can be seen.

Whoever looks (sensor, `farmy run`, reconcile) only leaves notes; the runs that take them in delete them. Writing a note
twice changes nothing.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date

import pyarrow as pa

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
    PARKED_NOTES,
    Arrival,
    FirstArrival,
    Hint,
    Note,
    ParkedObject,
    build_arrival_hint,
    build_notes,
    build_notes_prefix,
    decode_note,
    list_first_candidates,
    list_watched_prefixes,
    select_arrivals,
    select_new_arrivals,
)
from lakehouse.fingerprints import hash_values

_PROGRESS = "annotation_progress"
_WATCHED = "watched_arrivals"


def note_hints(lake: Lake, hints: Mapping[date, Iterable[Hint]]) -> None:
    """Leave hints for the runs of their days, durably; the same hints twice change nothing."""
    for note in build_notes(hints):
        lake.objects.create(note.key, note.encode())


def read_notes(lake: Lake, day: date) -> list[Note]:
    """Return the notes of arrivals that wait for a run of the day."""
    keys = [fact.key for fact in lake.objects.list(build_notes_prefix(day))]
    return [decode_note(key, lake.objects.read(key)) for key in keys]


def note_watched_arrivals(lake: Lake, today: date) -> int:
    """Leave hints for every new object in the day prefixes that can still change; return how many.

    New is what the last look did not list. Only the first look asks the tables, whose answers cost more the larger they
    grow: that somebody else has noted an object meanwhile costs no more than a second look at it.
    """
    sources = lake.objects.list_folders(LANDING)
    prefixes = list_watched_prefixes(sources, today, lake.settings.watch_days)
    arrivals = select_arrivals(fact for prefix in prefixes for fact in lake.objects.list(prefix))
    listed = {hash_values(arrival.arrival_id, arrival.sidecar_id): arrival for arrival in arrivals}
    last = lake.index.read_cursor(_WATCHED)
    days, *seen = (last or "none").split()
    # A look over other days than the last one lists what may have been taken in long ago, as the first one does.
    if days != str(lake.settings.watch_days):
        noted = note_new_arrivals(lake, arrivals)
    else:
        noted = _note_arrivals(lake, [listed[state] for state in listed.keys() - set(seen)])
    now = " ".join([str(lake.settings.watch_days), *listed])
    if now != last:
        lake.index.write_cursor(_WATCHED, now)
    return noted


def note_all_arrivals(lake: Lake) -> int:
    """Leave hints for every new object anywhere in landing; return how many."""
    return note_new_arrivals(lake, select_arrivals(lake.objects.list(LANDING)))


def note_new_arrivals(lake: Lake, arrivals: Sequence[Arrival], occasion: str = "") -> int:
    """Leave hints for those arrivals that the tables do not know as they are; return how many.

    Args:
        lake: The lake.
        arrivals: What a listing of landing shows.
        occasion: Why they are looked at; another one has the same arrivals tried again.
    """
    columns = ["arrival_id", "sidecar_id", "withdrawal"]
    by_day: dict[date, list[Arrival]] = {}
    for arrival in arrivals:
        by_day.setdefault(arrival.ingest_date, []).append(arrival)
    new: list[Arrival] = []
    for day, own in by_day.items():
        new += select_new_arrivals(own, lake.tables.read("raw_images", day=day, columns=columns))
    return _note_arrivals(lake, new, occasion)


def _note_arrivals(lake: Lake, arrivals: Sequence[Arrival], occasion: str = "") -> int:
    hints: dict[date, list[Hint]] = {}
    for arrival in arrivals:
        hints.setdefault(arrival.ingest_date, []).append(build_arrival_hint(arrival, occasion))
    note_hints(lake, hints)
    return len(arrivals)


def find_days_of_objects(lake: Lake, object_keys: Iterable[str]) -> dict[str, set[date]]:
    """Return the days on which the tables hold an arrival of each object; none of most days' files are opened."""
    keys = sorted(set(object_keys))
    if not keys:
        return {}
    rows = lake.tables.read("raw_images", columns=["object_key", "ingest_date"], where={"object_key": keys})
    days: dict[str, set[date]] = {}
    for key, day in zip(*(rows.column(name).to_pylist() for name in rows.column_names), strict=True):
        days.setdefault(key, set()).add(day)
    return days


def park(lake: Lake, objects: Iterable[ParkedObject]) -> None:
    """Remember objects that cannot be taken in until somebody changes something."""
    for parked in objects:
        lake.objects.create(parked.note_key, parked.encode())


def list_parked(lake: Lake, day: date | None = None) -> list[ParkedObject]:
    """Return the objects, of one day or of all, that cannot be taken in until somebody changes something."""
    prefix = PARKED_NOTES if day is None else f"{PARKED_NOTES}{day}/"
    return [ParkedObject.decode(lake.objects.read(fact.key)) for fact in lake.objects.list(prefix)]


def retry_parked(lake: Lake, occasion: str) -> int:
    """Leave hints for the objects that could not be taken in; return how many.

    Args:
        lake: The lake.
        occasion: When this is: the same objects are tried once for each occasion.
    """
    parked = list_parked(lake)
    hints: dict[date, list[Hint]] = {}
    for held in parked:
        hints.setdefault(held.day, []).append(Hint(held.object_key, occasion=occasion))
    note_hints(lake, hints)
    lake.objects.delete([held.note_key for held in parked])
    return len(parked)


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
    columns = ["arrival_id", "image_id", "ingest_date", "object_key", "landed_at", "withdrawal", "is_first"]
    rows = lake.tables.read("raw_images", columns=columns)
    candidates = list_first_candidates(rows.filter(rows.column("is_first")))
    earliest: dict[str, FirstArrival] = {}
    for candidate in sorted(candidates, key=lambda candidate: candidate.order):
        earliest.setdefault(candidate.image_id, candidate)
    lake.index.replace_firsts(earliest.values())
    displaced = [candidate for candidate in candidates if candidate != earliest[candidate.image_id]]
    note_again(lake, displaced, "another one is first")
    withdrawn = [first for first in earliest.values() if first.is_withdrawn]
    note_rivals_of_withdrawn(lake, withdrawn, "the first is withdrawn")
    return len(earliest)


def note_again(lake: Lake, arrivals: Iterable[FirstArrival], occasion: str) -> None:
    """Leave hints for arrivals that the tables hold already, so that they are judged again."""
    hints: dict[date, list[Hint]] = {}
    for arrival in arrivals:
        hints.setdefault(arrival.ingest_date, []).append(Hint(arrival.object_key, occasion=occasion))
    note_hints(lake, hints)


def note_rivals_of_withdrawn(lake: Lake, withdrawn: Sequence[FirstArrival], occasion: str) -> None:
    """Leave hints for the arrivals that come before a withdrawn first of their image: one of them is the first now."""
    order = {first.image_id: first.order for first in withdrawn}
    copies = list_first_candidates(read_copies(lake, list(order)))
    note_again(lake, [copy for copy in copies if copy.order < order[copy.image_id]], occasion)


def read_copies(lake: Lake, image_ids: Sequence[str]) -> pa.Table:
    """Return the rows of all arrivals of images, as far as they are compared."""
    columns = ["arrival_id", "image_id", "ingest_date", "object_key", "landed_at", "withdrawal"]
    if not image_ids:
        return lake.tables.read("raw_images", columns=columns).slice(0, 0)
    return lake.tables.read("raw_images", columns=columns, where={"image_id": image_ids})


def wake_day(lake: Lake, day: date) -> None:
    """Have the arrivals sensor ask for a run of a day, though nothing arrived."""
    rows = lake.tables.read("raw_images", day=day, columns=["object_key"]).slice(0, 1)
    note_hints(lake, {day: [Hint(key, occasion="not up to date") for key in rows.column("object_key").to_pylist()]})


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
