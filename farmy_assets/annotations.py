"""Annotations: what people answered.

One row is one person's one mark on one image: a choice, a box in pixels of the standard image, or a skip. Comes
from Label Studio, for the tasks that the progress sensor saw change; edited and deleted answers change and delete
their rows. Read by `labelled_dataset`.
"""

from datetime import date

import pyarrow as pa
import pyarrow.compute as pc

from adapters.lake import Lake
from farmy_assets.day_runs import DayStage, Wanted
from lakehouse.annotation_progress import (
    combine_answers,
    list_image_sizes,
    list_progress_notes_prefix,
    parse_progress_note_key,
)
from lakehouse.arrivals import list_withdrawn_images

CODE_VERSION = "1"


def select_answers(lake: Lake, day: date) -> Wanted:
    """Return the day's answers: those of tasks that changed as they are now, all others as they stand."""
    standing = select_standing(lake, day)
    notes = [fact.key for fact in lake.objects.list(list_progress_notes_prefix(day))]
    if not notes:
        return standing
    changed = {parse_progress_note_key(key) for key in notes}
    tasks = lake.tables.read("annotation_tasks", day=day)
    answers = lake.label_studio.read_answers(lake.annotation_project_id, sorted(changed))
    rows, remarks = combine_answers(standing.rows, answers, changed, list_image_sizes(tasks), CODE_VERSION)
    return Wanted(rows, notes, remarks)


def select_standing(lake: Lake, day: date) -> Wanted:
    """Return the answers that the table holds, but those on images that were taken back: they stay in its past."""
    raw = lake.tables.read("raw_images", day=day, columns=["image_id", "is_first", "withdrawal"])
    withdrawn = pa.array(list_withdrawn_images(raw), pa.string())
    standing = lake.tables.read("annotations", day=day)
    return Wanted(standing.filter(pc.invert(pc.is_in(standing.column("image_id"), value_set=withdrawn))))


STAGE = DayStage(
    table="annotations",
    description=__doc__,
    group="labels",
    deps=("annotation_tasks",),
    kind="labelstudio",
    code_version=CODE_VERSION,
    select=select_answers,
    select_standing=select_standing,
)
