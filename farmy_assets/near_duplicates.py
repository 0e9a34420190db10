"""Near duplicates: groups of images that nearly equal one another, across all days.

One row is one clean image and the leader of its group: the earliest image that it nearly equals, or itself. Comes
from `cleansed_images`, searched against the leaders of all earlier days; read by `annotation_tasks`, so that people
see each picture once, and by releases, so that copies never straddle a split.
"""

from datetime import date

import pyarrow.compute as pc

from adapters.lake import Lake
from farmy_assets.day_runs import DayStage, Wanted
from lakehouse.fingerprints import with_fingerprints
from lakehouse.near_duplicates import HASHES, collect_leaders, group_near_duplicates
from lakehouse.quality import CLEAN

CODE_VERSION = "2"


def select_groups(lake: Lake, day: date) -> Wanted:
    """Return each clean image of the day with its leader; the search itself tells what is stale."""
    from adapters.near_leaders import find_near_leaders

    settings = lake.settings.near_duplicates
    columns = ["image_id", "ingest_date", "landed_at", *HASHES, "status"]
    cleansed = lake.tables.read("cleansed_images", day=day, columns=columns)
    clean = cleansed.filter(pc.equal(cleansed.column("status"), CLEAN)).drop_columns(["status"])
    earlier = collect_leaders(find_near_leaders(lake.tables, clean, settings))
    groups = group_near_duplicates(clean, earlier, settings)
    return Wanted(with_fingerprints(groups, groups.column_names, CODE_VERSION))


STAGE = DayStage(
    table="near_duplicates",
    description=__doc__,
    group="images",
    deps=("cleansed_images",),
    kind="duckdb",
    code_version=CODE_VERSION,
    select=select_groups,
)
