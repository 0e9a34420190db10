"""Labelled dataset: what people's answers come to.

One row is one accepted or contested label on one image: the class or box, how many of those who answered support
it, who they are, and whether it is in conflict. Comes from `annotations` by the rule that the settings name; read
by training, releases and the catalogue.
"""

from dataclasses import asdict
from datetime import date

import pyarrow as pa
import pyarrow.compute as pc

from adapters.lake import Lake
from farmy_assets.day_runs import DayStage, Wanted
from lakehouse.consensus import decide_labels
from lakehouse.fingerprints import carry_fingerprints, with_fingerprints
from lakehouse.labelled_dataset import collect_votes, preview_labels

CODE_VERSION = "1"


def select_answered_images(lake: Lake, day: date) -> Wanted:
    """Return the day's images that somebody answered, with what identifies their votes."""
    votes = collect_votes(
        lake.tables.read("annotations", day=day, columns=["image_id", "ingest_date", "fingerprint"]),
        lake.tables.read("annotation_tasks", day=day, columns=["image_id", "assignees"]),
    )
    settings = asdict(lake.settings.consensus)
    return Wanted(with_fingerprints(votes, ["image_id", "votes", "assignees"], CODE_VERSION, settings))


def decide(lake: Lake, stale: pa.Table) -> pa.Table:
    """Apply the rule to the votes on each image."""
    day = stale.column("ingest_date")[0].as_py()
    image_ids = stale.column("image_id").combine_chunks()
    annotations = lake.tables.read("annotations", day=day)
    annotations = annotations.filter(pc.is_in(annotations.column("image_id"), value_set=image_ids))
    labels = decide_labels(annotations, lake.tables.read("annotation_tasks", day=day), lake.settings.consensus)
    return carry_fingerprints(labels, stale, "image_id")


STAGE = DayStage(
    table="labelled_dataset",
    description=__doc__,
    group="labels",
    deps=("annotations", "annotation_tasks"),
    kind="python",
    code_version=CODE_VERSION,
    select=select_answered_images,
    compute=decide,
    preview=lambda _lake, rows: preview_labels(rows),
)
