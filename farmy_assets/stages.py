"""The day-partitioned stages, in the order in which they depend on one another."""

from collections.abc import Collection, Sequence
from datetime import date

from adapters.inbox import list_days_with_arrivals, list_days_with_progress
from adapters.lake import Lake
from farmy_assets import (
    annotation_tasks,
    annotations,
    cleansed_images,
    image_catalog,
    labelled_dataset,
    near_duplicates,
    predicted_labels,
    raw_images,
    task_pre_labels,
)
from farmy_assets.day_runs import DayStage, count_stale
from farmy_assets.training import needs_training

STAGES: tuple[DayStage, ...] = (
    raw_images.STAGE,
    cleansed_images.STAGE,
    near_duplicates.STAGE,
    annotation_tasks.STAGE,
    annotations.STAGE,
    labelled_dataset.STAGE,
    predicted_labels.STAGE,
    task_pre_labels.STAGE,
    image_catalog.STAGE,
)


def count_stale_rows(lake: Lake, day: date) -> dict[str, int]:
    """Return how many rows of a day are stale, by table; of the stages that can tell it from tables alone."""
    return {stage.table: count_stale(lake, stage, day) for stage in STAGES if stage.is_hint_free}


def find_work(lake: Lake, days: Sequence[date], assets: Collection[str]) -> str | None:
    """Return the first asset for which a run over the days would have something to do; None if there is none.

    Reads tables and notes alone, and costs a fraction of a run.
    """
    waiting = {"raw_images": list_days_with_arrivals(lake), "annotations": list_days_with_progress(lake)}
    for stage in STAGES:
        if stage.table in assets:
            notes = waiting.get(stage.table, {})
            if any(day in notes or (stage.is_hint_free and count_stale(lake, stage, day)) for day in days):
                return stage.table
        if stage is labelled_dataset.STAGE and "label_model" in assets and needs_training(lake):
            return "label_model"
    return None


def list_stale_days(lake: Lake) -> list[date]:
    """Return the days on which anything is stale."""
    return [day for day in lake.tables.read_days("raw_images") if any(count_stale_rows(lake, day).values())]
