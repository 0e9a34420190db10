"""Jobs: which assets run together, and the one that repairs."""

from collections.abc import Callable, Collection
from datetime import UTC, datetime
from typing import Any

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

_ASSET_JOBS = {
    "images_job": (IMAGE_ASSETS, "Takes in what arrived on a day, up to tasks and predictions."),
    "labels_job": (LABEL_ASSETS, "Takes in what people answered on a day's images."),
    "training_job": (TRAINING_ASSETS, "Trains on all accepted labels, then predicts every day of the run anew."),
    "loop_job": (list(LOOP), "Brings days up to date from landing to the catalogue."),
    "release_job": (["dataset_releases"], "Makes an immutable dataset version."),
}
_LAUNCHED_BY_PEOPLE = ("images_job", "loop_job")


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


def build_jobs(describe_work: Callable[[Collection[str]], str] | None = None) -> list[Any]:
    """Return the jobs.

    Args:
        describe_work: Tells as Markdown what a run over some assets would do; shown with the jobs that people launch.
    """
    jobs: list[Any] = [reconcile_job]
    for name, (assets, description) in _ASSET_JOBS.items():
        parts = [description]
        if describe_work is not None and name in _LAUNCHED_BY_PEOPLE:
            parts.append(describe_work(assets))
        jobs.append(dg.define_asset_job(name, assets, description="\n\n".join(parts)))
    return jobs
