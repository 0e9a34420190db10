"""The search for near-duplicate leaders among all earlier days: exact, and without an index to keep."""

import numpy as np
import pyarrow as pa

from adapters.duckdb_engine import create_view, open_engine
from adapters.tables import Tables
from lakehouse.perceptual_hash import BAND_BITS, list_flips, split_bands


def find_near_leaders(tables: Tables, images: pa.Table, max_distance: int) -> pa.Table:
    """Find the near-duplicate leaders of earlier days that images nearly equal; exact for distances up to 8.

    Two hashes at a distance of at most `max_distance` differ by at most a third of it in one of their three bands, so
    joining on every band value with that many flips misses none.

    Args:
        tables: The tables; `near_duplicates` is searched.
        images: `image_id, ingest_date, perceptual_hash` of the images, all of one day.
        max_distance: Bits in which two hashes may differ, 0 to 8.

    Returns:
        `image_id, leader_image_id, leader_ingest_date, leader_landed_at, distance`.
    """
    with open_engine() as connection:
        create_view(connection, tables, "near_duplicates", "near_duplicates", None)
        connection.register("images", images)
        connection.register("probes", _build_probes(images, max_distance))
        return connection.sql(_NEAR_LEADERS, params={"max_distance": max_distance}).to_arrow_table()


_NEAR_LEADERS = """
WITH leaders AS (
    SELECT image_id, ingest_date, landed_at, perceptual_hash, unnest([hash_band_0, hash_band_1, hash_band_2]) AS value,
           unnest([0, 1, 2]) AS band
    FROM near_duplicates
    WHERE image_id = leader_image_id AND ingest_date < (SELECT min(ingest_date) FROM images)
)
SELECT DISTINCT images.image_id, leaders.image_id AS leader_image_id, leaders.ingest_date AS leader_ingest_date,
       leaders.landed_at AS leader_landed_at,
       bit_count(xor(images.perceptual_hash, leaders.perceptual_hash))::INTEGER AS distance
FROM images
JOIN probes ON probes.image_id = images.image_id
JOIN leaders ON leaders.band = probes.band AND leaders.value = probes.value
WHERE bit_count(xor(images.perceptual_hash, leaders.perceptual_hash)) <= $max_distance
"""
_PROBES = pa.schema([("image_id", pa.string()), ("band", pa.int32()), ("value", pa.int32())])


def _build_probes(images: pa.Table, max_distance: int) -> pa.Table:
    """Return `image_id, band, value` for every band value that a hash within the distance may have."""
    image_ids = images.column("image_id").to_numpy()
    probes = []
    for band, values in enumerate(split_bands(images.column("perceptual_hash").combine_chunks())):
        flips = list_flips(BAND_BITS[band], max_distance // len(BAND_BITS))
        columns = {
            "image_id": np.repeat(image_ids, len(flips)),
            "band": np.full(len(image_ids) * len(flips), band, np.int32),
            "value": (values.to_numpy()[:, None] ^ flips[None, :]).ravel(),
        }
        probes.append(pa.table(columns, schema=_PROBES))
    return pa.concat_tables(probes)
