"""Jobs: which assets run together, and the one that repairs."""

from datetime import UTC, datetime

import dagster as dg

from adapters.lake import Lake
from farmy_assets.day_assets import record_failure
from farmy_assets.reconciliation import reconcile_lake
from lakehouse.errors import FarmyError
from lakehouse.schemas import LOOP

IMAGE_ASSETS = [
    "raw_images",
    "cleansed_images",
    "near_duplicates",
    "annotation_tasks",
    # Whose answers go with the images that were taken back.
    "annotations",
    # Decided anew where the rule has changed: the reconcile wakes a stale day through this job.
    "labelled_dataset",
    "predicted_labels",
    "task_pre_labels",
    "image_catalog",
]
LABEL_ASSETS = ["annotations", "labelled_dataset", "task_pre_labels", "image_catalog"]
TRAINING_ASSETS = ["label_model", "predicted_labels", "task_pre_labels", "image_catalog"]

images_job = dg.define_asset_job(
    "images_job", IMAGE_ASSETS, description="Takes in what arrived on a day, up to tasks and predictions."
)
labels_job = dg.define_asset_job(
    "labels_job", LABEL_ASSETS, description="Takes in what people answered on a day's images."
)
training_job = dg.define_asset_job(
    "training_job",
    TRAINING_ASSETS,
    description="Trains on all accepted labels, then predicts every day of the run anew.",
)
loop_job = dg.define_asset_job(
    "loop_job", list(LOOP), description="Brings days up to date from landing to the catalogue."
)
release_job = dg.define_asset_job(
    "release_job", ["dataset_releases"], description="Makes an immutable dataset version."
)


@dg.op
def reconcile(context: dg.OpExecutionContext, lake: dg.ResourceParam[Lake]) -> None:
    """Compare what is really there with the tables, and leave notes for whatever is missing, gone or stale."""
    try:
        found = reconcile_lake(lake, datetime.now(UTC))
    except FarmyError as error:
        raise record_failure(context, error) from error
    for name, value in found.describe().items():
        context.log.info(f"{name.replace('_', ' ')}: {value}")


@dg.job(description="Repairs from listings what events and polls lost; the sensors then ask for the runs.")
def reconcile_job() -> None:
    """Run the one op."""
    reconcile()


JOBS = (images_job, labels_job, training_job, loop_job, release_job, reconcile_job)
