"""Reconciliation: what is really in landing and raw, compared with what `raw_images` says. A pure decision."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.arrivals import (
    OBJECT_DELETED,
    Arrival,
    Hint,
    ObjectFact,
    build_arrival_hint,
    list_orphaned_sidecars,
    select_arrivals,
    select_new_arrivals,
)
from lakehouse.sources import Source

COMPARED = (
    *("arrival_id", "ingest_date", "object_key", "source", "size_bytes", "original_key", "sidecar_id", "withdrawal"),
)
"""The columns of `raw_images` that are compared."""
ORPHAN_AGE = timedelta(days=1)
"""An original that no row names may be one that a run is just taking in, or that a killed run will find again."""


@dataclass(frozen=True)
class Differences:
    """Where storage and tables differ.

    Attributes:
        new: Arrivals that no row knows as they are.
        deleted: Hints at objects that rows know and that are gone from landing, by day.
        unkept: Hints at objects whose originals are gone from raw and which are still in landing, by day.
        lost_originals: Images whose originals are gone from raw and from landing: keys in raw.
        orphaned_originals: Keys in raw that no row names.
        orphaned_sidecars: Keys of sidecars in landing beside which no image lies.
    """

    new: tuple[Arrival, ...]
    deleted: dict[date, list[Hint]]
    unkept: dict[date, list[Hint]]
    lost_originals: tuple[str, ...]
    orphaned_originals: tuple[str, ...]
    orphaned_sidecars: tuple[str, ...]

    def build_hints(self, occasion: str) -> dict[date, list[Hint]]:
        """Return hints at all that a run can mend.

        Args:
            occasion: When this is: what failed before is tried again on another occasion.
        """
        hints: dict[date, list[Hint]] = {}
        for arrival in self.new:
            hints.setdefault(arrival.ingest_date, []).append(build_arrival_hint(arrival, occasion))
        for found in (self.deleted, self.unkept):
            for day, own in found.items():
                hints.setdefault(day, []).extend(replace(hint, occasion=f"{hint.occasion}, {occasion}") for hint in own)
        return hints


def compare(
    landing: Iterable[ObjectFact], raw: Iterable[ObjectFact], rows: pa.Table, sources: Iterable[Source], now: datetime
) -> Differences:
    """Compare what is listed with what the tables say.

    Args:
        landing: Everything in landing.
        raw: Everything in raw.
        rows: All rows of `raw_images`, the columns `COMPARED`.
        sources: Who may land images: those of some stay when their objects are deleted.
        now: The present time.
    """
    listed = list(landing)
    arrivals = select_arrivals(listed)
    landed_keys = pa.array([arrival.object_key for arrival in arrivals], pa.string())
    kept = {fact.key: fact.modified_at for fact in raw}

    is_landed = pc.is_in(rows.column("object_key"), value_set=landed_keys)
    is_alive = pc.fill_null(pc.not_equal(rows.column("withdrawal"), OBJECT_DELETED), fill_value=True)
    is_kept = pc.is_in(rows.column("original_key"), value_set=pa.array(list(kept), pa.string()))
    keeping = pa.array([source.name for source in sources if source.keeps_deleted], pa.string())
    may_stay = pc.or_(is_landed, pc.is_in(rows.column("source"), value_set=keeping))
    deleted = rows.filter(pc.and_(is_alive, pc.invert(may_stay)))
    unkept = rows.filter(pc.and_(pc.invert(is_kept), is_landed))
    lost = rows.filter(pc.and_(pc.invert(is_kept), pc.invert(is_landed)))
    named = set(rows.column("original_key").to_pylist())
    return Differences(
        new=tuple(select_new_arrivals(arrivals, rows)),
        deleted=_build_hints(deleted, "gone from landing"),
        unkept=_build_hints(unkept, "gone from raw"),
        lost_originals=tuple(sorted(set(lost.column("original_key").to_pylist()))),
        orphaned_originals=tuple(sorted(key for key, at in kept.items() if key not in named and now - at > ORPHAN_AGE)),
        orphaned_sidecars=tuple(list_orphaned_sidecars(listed)),
    )


def _build_hints(rows: pa.Table, occasion: str) -> dict[date, list[Hint]]:
    hints: dict[date, list[Hint]] = {}
    columns = (rows.column(name).to_pylist() for name in ("ingest_date", "object_key", "size_bytes"))
    for day, key, size_bytes in zip(*columns, strict=True):
        hints.setdefault(day, []).append(Hint(key, size_bytes, occasion))
    return hints
