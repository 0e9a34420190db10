"""Near duplicates: groups of images that nearly equal one another, each around its earliest member.

Images are taken in the order of their arrival. One that is within the distance of the leaders found so far joins the
nearest of them (of equally near ones the earliest); one that is not becomes a leader itself. So a leader is always the
earliest of its group, every member is within the distance of it, and the order of runs does not matter.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime

import numpy as np
import pyarrow as pa

from lakehouse.perceptual_hash import split_bands


@dataclass(frozen=True)
class Leader:
    """A leader of an earlier day that one image nearly equals."""

    image_id: str
    ingest_date: date
    landed_at: datetime
    distance: int

    @property
    def rank(self) -> tuple[int, datetime, str]:
        """Of several leaders the one with the smallest rank is joined."""
        return self.distance, self.landed_at, self.image_id


def group_near_duplicates(images: pa.Table, earlier: Mapping[str, list[Leader]], max_distance: int) -> pa.Table:
    """Give every image of a day its leader.

    Args:
        images: One row per image of the day: `image_id, ingest_date, landed_at, perceptual_hash`.
        earlier: For each image of the day, the leaders of earlier days within the distance.
        max_distance: Bits in which two hashes of a group may differ, 0 to 64.

    Returns:
        The columns of `near_duplicates` without the fingerprint, in the order of arrival.
    """
    ordered = images.sort_by([("landed_at", "ascending"), ("image_id", "ascending")])
    hashes = ordered.column("perceptual_hash").to_numpy()
    leaders: list[Leader] = []
    leader_hashes = np.empty(len(hashes), np.int64)
    chosen = []
    for row, row_hash in zip(ordered.select(["image_id", "ingest_date", "landed_at"]).to_pylist(), hashes, strict=True):
        distances = np.bitwise_count((leader_hashes[: len(leaders)] ^ row_hash).view(np.uint64))
        near = np.flatnonzero(distances <= max_distance)
        candidates = [replace(leaders[position], distance=int(distances[position])) for position in near]
        candidates += earlier.get(row["image_id"], [])
        if candidates:
            chosen.append(min(candidates, key=lambda candidate: candidate.rank))
        else:
            itself = Leader(row["image_id"], row["ingest_date"], row["landed_at"], 0)
            leader_hashes[len(leaders)] = row_hash
            leaders.append(itself)
            chosen.append(itself)
    return _build_rows(ordered, chosen)


def _build_rows(images: pa.Table, chosen: list[Leader]) -> pa.Table:
    bands = split_bands(images.column("perceptual_hash").combine_chunks())
    return pa.table(
        {
            "image_id": images.column("image_id"),
            "ingest_date": images.column("ingest_date"),
            "landed_at": images.column("landed_at"),
            "leader_image_id": pa.array([leader.image_id for leader in chosen], pa.string()),
            "leader_ingest_date": pa.array([leader.ingest_date for leader in chosen], pa.date32()),
            "distance": pa.array([leader.distance for leader in chosen], pa.int32()),
            "perceptual_hash": images.column("perceptual_hash"),
            "hash_band_0": bands[0],
            "hash_band_1": bands[1],
            "hash_band_2": bands[2],
        }
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
