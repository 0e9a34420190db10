"""The search for near-duplicate leaders among all earlier days: exact, and without an index to keep.

DuckDB streams the leaders' perceptual hashes from the table's own files, a column of eight bytes a row, and
`lakehouse.hamming_search` finds those near an image. Only of these, and only from the files of their days, is read
whose they are and whether their other hashes agree.
"""

from datetime import date

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from adapters.duckdb_engine import create_view, open_engine
from adapters.tables import Tables
from lakehouse.hamming_search import HammingSearch, Integers
from lakehouse.near_duplicates import NearDuplicateSettings

_ROWS_AT_A_TIME = 122_880 * 2
"""Two of DuckDB's row groups: enough to make NumPy's calls cheap, little enough to stay in the processor's cache."""


def find_near_leaders(tables: Tables, images: pa.Table, settings: NearDuplicateSettings) -> pa.Table:
    """Find the near-duplicate leaders of earlier days that images nearly equal.

    Args:
        tables: The tables; `near_duplicates` is searched.
        images: `image_id, ingest_date` and the hashes of the images, all of one day.
        settings: What is near.

    Returns:
        `image_id, leader_image_id, leader_ingest_date, leader_landed_at, distance`.
    """
    hashed = images.filter(pc.is_valid(images.column("perceptual_hash")))
    if hashed.num_rows == 0:
        return _FOUND.empty_table()
    day = hashed.column("ingest_date")[0].as_py()
    probes = np.unique(hashed.column("perceptual_hash").to_numpy())
    with open_engine() as connection:
        create_view(connection, tables, "near_duplicates", "near_duplicates", None)
        pairs, days = _find_near_hashes(connection, probes, settings.max_distance, day)
        if not days:
            return _FOUND.empty_table()
        connection.register("images", hashed)
        connection.register("pairs", pairs)
        query = _LEADERS_OF_PAIRS.format(days=", ".join(f"DATE '{day}'" for day in days))
        found = connection.sql(query, params={"max_detail_distance": settings.max_detail_distance})
        return found.to_arrow_table().cast(_FOUND)


_FOUND = pa.schema(
    [
        ("image_id", pa.string()),
        ("leader_image_id", pa.string()),
        ("leader_ingest_date", pa.date32()),
        ("leader_landed_at", pa.timestamp("us", "UTC")),
        ("distance", pa.int32()),
    ]
)
_PAIRS = pa.schema([("image_hash", pa.int64()), ("leader_hash", pa.int64())])
_LEADER_HASHES = """
SELECT perceptual_hash, ingest_date
FROM near_duplicates
WHERE ingest_date < $before
"""
# The days stand in the text, where DuckDB leaves out the files of all others.
_LEADERS_OF_PAIRS = """
SELECT images.image_id, leaders.image_id AS leader_image_id, leaders.ingest_date AS leader_ingest_date,
       leaders.landed_at AS leader_landed_at,
       bit_count(xor(images.perceptual_hash, leaders.perceptual_hash))::INTEGER AS distance
FROM near_duplicates AS leaders
JOIN pairs ON pairs.leader_hash = leaders.perceptual_hash
JOIN images ON images.perceptual_hash = pairs.image_hash
WHERE leaders.ingest_date IN ({days})
  AND bit_count(xor(images.detail_hash, leaders.detail_hash))
    + bit_count(xor(images.strength_hash, leaders.strength_hash)) <= $max_detail_distance
"""


def _find_near_hashes(
    connection: duckdb.DuckDBPyConnection, probes: Integers, max_distance: int, before: date
) -> tuple[pa.Table, list[date]]:
    """Return every two hashes that are near, one of an image and one of a leader, and the days of these leaders."""
    search = HammingSearch(probes, max_distance)
    leaders = connection.sql(_LEADER_HASHES, params={"before": before}).to_arrow_reader(_ROWS_AT_A_TIME)
    pairs = [_PAIRS.empty_table()]
    days: set[date] = set()
    for batch in leaders:
        # Arrow leaves out the others, who have no hashes, for less than DuckDB does.
        hashed = batch.drop_null() if batch.column(0).null_count else batch
        hashes = hashed.column(0).to_numpy()
        places, probe_places = search.find(hashes)
        if len(places):
            # Pictures by the thousand may share one perceptual hash: their pairs are kept once, not as often.
            pairs.append(_drop_repeats(pa.table([probes[probe_places], hashes[places]], schema=_PAIRS)))
            days.update(hashed.column(1).take(pa.array(places)).unique().to_pylist())
    return _drop_repeats(pa.concat_tables(pairs)), sorted(days)


def _drop_repeats(pairs: pa.Table) -> pa.Table:
    return pairs.group_by(pairs.column_names).aggregate([])
