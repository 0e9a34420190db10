"""Task pre-labels: the model's guess shown on each open task.

One row is one guess and priority put on one task in Label Studio, where it replaces the one before. Comes from
`annotation_tasks` and `predicted_labels`; a task that people have closed keeps the guess that they saw.
"""

from datetime import date

import pyarrow as pa

from adapters.lake import Lake
from farmy_assets.day_runs import DayStage, Wanted
from lakehouse.annotations import PreLabel
from lakehouse.fingerprints import with_fingerprints
from lakehouse.tasks import list_closed_images, select_pre_labels

CODE_VERSION = "1"


def select_guesses(lake: Lake, day: date) -> Wanted:
    """Return the guess that each task of the day should show."""
    known_classes = set(lake.settings.class_names)
    guesses = select_pre_labels(
        lake.tables.read("annotation_tasks", day=day),
        lake.tables.read("predicted_labels", day=day),
        lake.tables.read("task_pre_labels", day=day),
        list_closed_images(lake.tables.read("labelled_dataset", day=day, columns=["image_id", "phase"])),
        known_classes,
    )
    models = guesses.column("model_version").to_pylist()
    return Wanted(with_fingerprints(guesses, guesses.column_names, CODE_VERSION, models=models))


def show_guesses(lake: Lake, stale: pa.Table) -> pa.Table:
    """Replace the predictions of the tasks in Label Studio."""
    lake.label_studio.replace_predictions(
        lake.annotation_project_id,
        [
            PreLabel(row["task_id"], row["class_id"], row["confidence"], row["model_version"])
            for row in stale.to_pylist()
        ],
    )
    return stale


STAGE = DayStage(
    table="task_pre_labels",
    description=__doc__,
    group="annotation",
    deps=("annotation_tasks", "predicted_labels", "labelled_dataset"),
    kind="labelstudio",
    code_version=CODE_VERSION,
    select=select_guesses,
    compute=show_guesses,
)
