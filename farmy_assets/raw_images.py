"""Raw images: what landed, taken in.

One row is one landed object: the image that it holds (sha256 of its bytes), who landed it and when, and whether it
is the first of that image or a copy of an earlier one. Comes from the notes that the arrivals sensor and the
reconcile leave under `inbox/`; read by `cleansed_images` and `image_catalog`. The bytes are kept in `raw/`,
unchanged, once per image.
"""

import hashlib
from datetime import date
from functools import partial
from operator import attrgetter

import pyarrow as pa

from adapters.inbox import note_again
from adapters.lake import Lake
from farmy_assets.day_runs import DayStage, Wanted
from lakehouse.arrivals import (
    ARRIVAL_NOTES,
    FACTS,
    Arrival,
    FirstArrival,
    build_original_key,
    build_raw_rows,
    decode_note,
    judge_firsts,
    list_first_candidates,
)
from lakehouse.errors import NotFoundError
from lakehouse.fingerprints import with_fingerprints

CODE_VERSION = "1"


def select_arrivals(lake: Lake, day: date) -> Wanted:
    """Return every arrival of the day, those of waiting notes taken in first, each judged first or copy."""
    notes = [fact.key for fact in lake.objects.list(f"{ARRIVAL_NOTES}{day}/")]
    standing = lake.tables.read("raw_images", day=day, columns=FACTS.names)
    known = set(standing.column("arrival_id").to_pylist())
    noted = (decode_note(lake.objects.read(key)) for key in notes)
    new = [arrival for arrival in noted if arrival.arrival_id not in known]
    taken_in = lake.compute.pipe(
        new,
        read=partial(_read_arrival, lake),
        work=_identify,
        write=partial(_keep_original, lake),
        size_bytes=attrgetter("size_bytes"),
    )
    arrivals = pa.concat_tables([standing, build_raw_rows([row for row in taken_in if row is not None])])
    judged = judge_firsts(arrivals, _find_firsts_of_other_days(lake, arrivals, day))
    fingerprinted = with_fingerprints(judged, [*FACTS.names, "is_first", "first_arrival_id"], CODE_VERSION)
    return Wanted(fingerprinted, notes)


def _read_arrival(lake: Lake, arrival: Arrival) -> tuple[bytes, bytes | None] | None:
    """Return an object's bytes and those of its sidecar; None if it was deleted before it could be read."""
    try:
        data = lake.objects.read(arrival.object_key)
        return data, lake.objects.read(arrival.sidecar_key) if arrival.sidecar_key else None
    except NotFoundError:
        return None


def _identify(found: tuple[bytes, bytes | None] | None) -> tuple[str, bytes, bytes | None] | None:
    return None if found is None else (hashlib.sha256(found[0]).hexdigest(), *found)


def _keep_original(
    lake: Lake, arrival: Arrival, image: tuple[str, bytes, bytes | None] | None
) -> tuple[Arrival, str, str | None] | None:
    """Keep an object's bytes in raw/ and return what it is."""
    if image is None:
        return None
    image_id, data, sidecar = image
    lake.objects.create(build_original_key(image_id), data)
    return arrival, image_id, None if sidecar is None else sidecar.decode(errors="replace")


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
    """Make the day's firsts known, and leave a note for every arrival that thereby turns out to be a copy.

    The notes come first: a run that is killed in between must not leave an image with two firsts. They come again
    afterwards, because the other day's run may have taken them in before the index knew better.
    """
    firsts = list_first_candidates(arrivals.filter(arrivals.column("is_first")))
    held = lake.index.find_firsts([first.image_id for first in firsts])
    note_again(lake, [held[first.image_id] for first in firsts if first.order < held.get(first.image_id, first).order])
    note_again(lake, lake.index.record_firsts(firsts))


STAGE = DayStage(
    table="raw_images",
    description=__doc__,
    group="images",
    deps=(),
    kind="python",
    code_version=CODE_VERSION,
    select=select_arrivals,
    settle=record_firsts,
    is_hint_free=False,
)
