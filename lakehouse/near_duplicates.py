"""Near duplicates: groups of images that nearly equal one another, each around its earliest member.

Images are taken in the order of their arrival. One that is near leaders found so far joins the nearest of them (of
equally near ones the earliest); one that is not becomes a leader itself. So a leader is always the earliest of its
group, every member is near to it, and the order of runs does not matter. An image too plain to have hashes is near to
none.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Annotated

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from annotated_types import Interval

from lakehouse.hamming_search import MAX_DISTANCE

HASHES = ("perceptual_hash", "detail_hash", "strength_hash")
"""The columns that hold what `lakehouse.perceptual_hash` makes of an image; all null, or none."""

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class NearDuplicateSettings:
    """How much two images may differ and still be near.

    Attributes:
        max_distance: Bits in which their perceptual hashes may differ, 0 to 8.
        max_detail_distance: Bits in which their detail and strength hashes together may differ, 0 to 128.
    """

    max_distance: Annotated[int, Interval(ge=0, le=MAX_DISTANCE)] = 8
    max_detail_distance: Annotated[int, Interval(ge=0, le=128)] = 20


@dataclass(frozen=True)
class Leader:
    """A leader that one image nearly equals."""

    image_id: str
    ingest_date: date
    landed_at: datetime
    distance: int

    @property
    def rank(self) -> tuple[int, datetime, str]:
        """Of several leaders the one with the smallest rank is joined."""
        return self.distance, self.landed_at, self.image_id


def group_near_duplicates(
    images: pa.Table, earlier: Mapping[str, list[Leader]], settings: NearDuplicateSettings
) -> pa.Table:
    """Give every image of a day its leader.

    Args:
        images: One row per image of the day: `image_id, ingest_date, landed_at` and the hashes.
        earlier: For each image of the day, the leaders of earlier days that it is near.
        settings: What is near.

    Returns:
        The columns of `near_duplicates` without the fingerprint, in the order of arrival.
    """
    ordered = images.sort_by([("landed_at", "ascending"), ("image_id", "ascending")])
    found = _LeadersOfDay(ordered.num_rows, settings)
    chosen = []
    for row in ordered.select(["image_id", "ingest_date", "landed_at", *HASHES]).to_pylist():
        itself = Leader(row["image_id"], row["ingest_date"], row["landed_at"], 0)
        hashes = tuple(row[name] for name in HASHES)
        if None in hashes:
            chosen.append(itself)
            continue
        candidates = found.find_near(hashes) + earlier.get(itself.image_id, [])
        if not candidates:
            found.add(itself, hashes)
        chosen.append(min(candidates, key=lambda leader: leader.rank, default=itself))
    return _build_rows(ordered, chosen)


class _LeadersOfDay:
    """The leaders of a day so far, with their hashes."""

    def __init__(self, capacity: int, settings: NearDuplicateSettings) -> None:
        self._leaders: list[Leader] = []
        self._hashes = np.empty((len(HASHES), capacity), np.int64)
        self._settings = settings

    def add(self, leader: Leader, hashes: Sequence[int]) -> None:
        self._hashes[:, len(self._leaders)] = hashes
        self._leaders.append(leader)

    def find_near(self, hashes: Sequence[int]) -> list[Leader]:
        distances = count_differing_bits(self._hashes[0, : len(self._leaders)], np.int64(hashes[0]))
        places = np.flatnonzero(distances <= self._settings.max_distance)
        others = self._hashes[1:, places]
        detail = count_differing_bits(others, np.array(hashes[1:], np.int64)[:, None]).sum(axis=0)
        return [
            replace(self._leaders[place], distance=int(distances[place]))
            for place in places[detail <= self._settings.max_detail_distance]
        ]


def count_differing_bits(ones: Integers, others: Integers | np.int64) -> npt.NDArray[np.int64]:
    """Return in how many of their 64 bits integers differ, 0 to 64."""
    return np.bitwise_count((ones ^ others).view(np.uint64)).astype(np.int64)


def _build_rows(images: pa.Table, chosen: list[Leader]) -> pa.Table:
    leader_ids = pa.array([leader.image_id for leader in chosen], pa.string())
    is_leader = [
        image_id == leader.image_id
        for image_id, leader in zip(images.column("image_id").to_pylist(), chosen, strict=True)
    ]
    nothing = pa.scalar(None, pa.int64())
    return pa.table(
        {
            "image_id": images.column("image_id"),
            "ingest_date": images.column("ingest_date"),
            "landed_at": images.column("landed_at"),
            "leader_image_id": leader_ids,
            "leader_ingest_date": pa.array([leader.ingest_date for leader in chosen], pa.date32()),
            "distance": pa.array([leader.distance for leader in chosen], pa.int32()),
        }
        | {name: pc.if_else(pa.array(is_leader, pa.bool_()), images.column(name), nothing) for name in HASHES}
    )


def collect_leaders(found: pa.Table) -> dict[str, list[Leader]]:
    """Return the leaders found for each image.

    Args:
        found: `image_id, leader_image_id, leader_ingest_date, leader_landed_at, distance`.
    """
    leaders: dict[str, list[Leader]] = {}
    for row in found.to_pylist():
        leader = Leader(row["leader_image_id"], row["leader_ingest_date"], row["leader_landed_at"], row["distance"])
        leaders.setdefault(row["image_id"], []).append(leader)
    return leaders
