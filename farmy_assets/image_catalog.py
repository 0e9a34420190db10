"""Image catalog: every image as it stands now.

One row is one image, joined across all stages: where it came from, its verdict, its task and phase, its accepted
label, and what the model says. Comes from the tables of its day; read by people through SQL, by `farmy label` and
by releases.
"""

from datetime import date

from adapters.lake import Lake
from farmy_assets.day_runs import DayStage, Wanted
from lakehouse.fingerprints import with_fingerprints
from lakehouse.image_catalog import DayTables, build_image_catalog

CODE_VERSION = "1"
_SOURCES = (
    "raw_images",
    "cleansed_images",
    "near_duplicates",
    "annotation_tasks",
    "labelled_dataset",
    "predicted_labels",
)


def select_catalog(lake: Lake, day: date) -> Wanted:
    """Return the day's images as they stand."""
    catalog = build_image_catalog(DayTables(**{name: lake.tables.read(name, day=day) for name in _SOURCES}))
    return Wanted(with_fingerprints(catalog, catalog.column_names, CODE_VERSION))


STAGE = DayStage(
    table="image_catalog",
    description=__doc__,
    group="catalog",
    deps=_SOURCES,
    kind="python",
    code_version=CODE_VERSION,
    select=select_catalog,
)
