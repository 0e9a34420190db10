"""Raw images: what landed, taken in.

One row is one landed object: the image that it holds (sha256 of its bytes), who landed it, when and on what terms,
whether it is the first of that image or a copy of an earlier one, and whether it was taken back since. Comes from the
notes that the arrivals sensor and the reconcile leave under `inbox/`; read by `cleansed_images` and `image_catalog`.
The bytes are kept in `raw/`, unchanged, once per image.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from operator import attrgetter

import pyarrow as pa

from adapters import inbox
from adapters.lake import Lake
from adapters.objects import FetchedObject
from farmy_assets.day_runs import DayStage, Wanted
from lakehouse.arrivals import (
    FACTS,
    MAX_OBJECT_BYTES,
    FirstArrival,
    Hint,
    ParkedObject,
    TakenIn,
    apply_terms,
    build_arrival,
    build_arrival_hint,
    build_notes,
    build_original_key,
    judge_firsts,
    list_first_candidates,
    merge_hints,
    update_facts,
)
from lakehouse.errors import FarmyError, NotFoundError, PermanentError, UnusableObjectError, find_outage
from lakehouse.fingerprints import with_fingerprints
from lakehouse.schemas import RAW_IMAGES
from lakehouse.sources import MAX_SIDECAR_BYTES, SIDECAR_SUFFIX

CODE_VERSION = "2"


@dataclass(frozen=True)
class _Look:
    """One look at a hinted object: it is there, it is gone (neither image nor failure), or it could not be read.

    Attributes:
        image: The object and its bytes.
        image_id: sha256 of the bytes, once it is known.
        sidecar: The sidecar beside it, if there is one.
        failure: Why it could not be read.
    """

    image: FetchedObject | None = None
    image_id: str = ""
    sidecar: FetchedObject | None = None
    failure: FarmyError | None = None


@dataclass(frozen=True)
class _Found:
    """What is to be known of a hinted object: as `_Look`, without its bytes."""

    hint: Hint
    taken_in: TakenIn | None = None
    failure: FarmyError | None = None

    @property
    def is_gone(self) -> bool:
        return self.taken_in is None and self.failure is None


def select_arrivals(lake: Lake, day: date) -> Wanted:
    """Return every arrival of the day, with what its notes hint at as it is now, each judged first or copy."""
    notes = inbox.read_notes(lake, day)
    found = _look_at(lake, merge_hints(notes))
    taken_in = [result.taken_in for result in found if result.taken_in is not None]
    _note_other_days(lake, day, taken_in)
    again = _note_failures(lake, day, found)
    facts = update_facts(
        lake.tables.read("raw_images", day=day, columns=FACTS.names),
        [own for own in taken_in if own.arrival.ingest_date == day],
        [result.hint.object_key for result in found if result.is_gone],
    )
    done = {note.key for note in notes} - again | _list_unparked(lake, day, found)
    remarks = [str(result.failure) for result in found if result.failure is not None]
    return Wanted(_judge(lake, day, facts), sorted(done), remarks)


def select_standing(lake: Lake, day: date) -> Wanted:
    """Return every arrival of the day that the table holds, on the terms and judged as they would be now."""
    return Wanted(_judge(lake, day, lake.tables.read("raw_images", day=day, columns=FACTS.names)))


def _judge(lake: Lake, day: date, facts: pa.Table) -> pa.Table:
    arrivals = apply_terms(facts, lake.settings.sources)
    judged = judge_firsts(arrivals, _find_firsts_of_other_days(lake, arrivals, day))
    columns = [name for name in RAW_IMAGES.names if name != "fingerprint"]
    return with_fingerprints(judged.select(columns), columns, CODE_VERSION)


def _look_at(lake: Lake, hints: Sequence[Hint]) -> list[_Found]:
    """Read every hinted object and keep its bytes; one that cannot be read does not keep the others from it.

    Raises:
        FarmyError: If none of several could be read for a reason that lies outside of them.
    """
    results = lake.compute.pipe(
        hints,
        read=partial(_read, lake),
        work=_identify,
        write=partial(_keep, lake),
        size_bytes=attrgetter("size_bytes"),
    )
    found = list(results)
    outage = find_outage([result.failure for result in found if result.failure is not None], len(found))
    if outage is not None:
        raise outage
    return found


def _read(lake: Lake, hint: Hint) -> _Look:
    try:
        image = lake.objects.fetch(hint.object_key, MAX_OBJECT_BYTES)
    except NotFoundError:
        return _Look()
    except FarmyError as error:
        return _Look(failure=error)
    if image.data is None:
        return _Look(
            failure=UnusableObjectError(
                f"{hint.object_key} has {image.fact.size_bytes / 1e6:,.0f} MB and cannot be taken in: "
                f"{MAX_OBJECT_BYTES / 1e6:,.0f} MB are the most. Take it out of landing."
            )
        )
    try:
        return _Look(image, sidecar=lake.objects.fetch(f"{hint.object_key}{SIDECAR_SUFFIX}", MAX_SIDECAR_BYTES))
    except NotFoundError:
        return _Look(image)
    except FarmyError as error:
        return _Look(failure=error)


def _identify(look: _Look) -> _Look:
    if look.image is None or look.image.data is None:
        return look
    return replace(look, image_id=hashlib.sha256(look.image.data).hexdigest())


def _keep(lake: Lake, hint: Hint, look: _Look) -> _Found:
    """Keep an object's bytes in raw/ and return what it is."""
    if look.image is None or look.image.data is None:
        return _Found(hint, failure=look.failure)
    lake.objects.create(build_original_key(look.image_id), look.image.data)
    sidecar, text = None, None
    if look.sidecar is not None:
        sidecar = look.sidecar.fact
        text = None if look.sidecar.data is None else look.sidecar.data.decode(errors="replace")
    return _Found(hint, TakenIn(build_arrival(look.image.fact, sidecar), look.image_id, text))


def _note_other_days(lake: Lake, day: date, taken_in: Sequence[TakenIn]) -> None:
    """Leave hints at what is of another day than it was noted for: LastModified decides, and an event may differ."""
    hints: dict[date, list[Hint]] = {}
    for arrival in (own.arrival for own in taken_in if own.arrival.ingest_date != day):
        hints.setdefault(arrival.ingest_date, []).append(build_arrival_hint(arrival, f"noted for {day}"))
    inbox.note_hints(lake, hints)


def _note_failures(lake: Lake, day: date, found: Sequence[_Found]) -> set[str]:
    """Leave notes of what could not be read: for the next run, or parked where trying again cannot help.

    Returns:
        The keys of the notes for the next run, one of which this run may just have read.
    """
    parked, hints = [], []
    for result in found:
        if isinstance(result.failure, PermanentError):
            parked.append(ParkedObject(result.hint.object_key, day, str(result.failure)))
        elif result.failure is not None:
            hints.append(replace(result.hint, occasion="could not be read"))
    inbox.park(lake, parked)
    inbox.note_hints(lake, {day: hints})
    return {note.key for note in build_notes({day: hints})}


def _list_unparked(lake: Lake, day: date, found: Sequence[_Found]) -> set[str]:
    """Return the keys of notes of parked objects that this run could look at."""
    seen = {result.hint.object_key for result in found if result.failure is None}
    return {parked.note_key for parked in inbox.list_parked(lake, day) if parked.object_key in seen} if seen else set()


def _find_firsts_of_other_days(lake: Lake, arrivals: pa.Table, day: date) -> dict[str, FirstArrival]:
    """Look the day's images up in the index, and believe it only where the table confirms it."""
    hits = lake.index.find_firsts(arrivals.column("image_id").unique().to_pylist())
    elsewhere = {image_id: first for image_id, first in hits.items() if first.ingest_date != day}
    confirmed: set[str] = set()
    for other_day in {first.ingest_date for first in elsewhere.values()}:
        ids = [first.arrival_id for first in elsewhere.values() if first.ingest_date == other_day]
        found = lake.tables.read("raw_images", day=other_day, columns=["arrival_id"], where={"arrival_id": ids})
        confirmed |= set(found.column("arrival_id").to_pylist())
    return {image_id: first for image_id, first in elsewhere.items() if first.arrival_id in confirmed}


def record_firsts(lake: Lake, arrivals: pa.Table) -> None:
    """Make the day's firsts known, and leave a hint at every arrival that is thereby no longer, or newly, the first.

    The hints come before the index: a run that is killed in between must not leave an image with two firsts. They come
    again afterwards, because the other day's run may have taken them in before the index knew better.
    """
    firsts = list_first_candidates(arrivals.filter(arrivals.column("is_first")))
    held = lake.index.find_firsts([first.image_id for first in firsts])
    displaced = [held[first.image_id] for first in firsts if first.order < held.get(first.image_id, first).order]
    withdrawn = [first for first in firsts if first.is_withdrawn and first != held.get(first.image_id)]
    day = arrivals.column("ingest_date")[0].as_py() if arrivals.num_rows else None
    inbox.note_again(lake, displaced, f"before the first of {day}")
    inbox.note_rivals_of_withdrawn(lake, withdrawn, f"before the first of {day} is withdrawn")
    displaced = lake.index.record_firsts(firsts)
    inbox.note_again(lake, displaced, f"after the first of {day}")
    inbox.note_rivals_of_withdrawn(lake, withdrawn, f"after the first of {day} is withdrawn")


STAGE = DayStage(
    table="raw_images",
    description=__doc__,
    group="images",
    deps=(),
    kind="python",
    code_version=CODE_VERSION,
    select=select_arrivals,
    settle=record_firsts,
    select_standing=select_standing,
)
