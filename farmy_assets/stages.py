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
from farmy_assets.training import BACKBONE, needs_training
from lakehouse.fingerprints import hash_values
from lakehouse.schemas import LOOP
from lakehouse.training import CODE_VERSION as TRAINING_VERSION

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
_UP_TO_DATE = "up_to_date"


def count_stale_rows(lake: Lake, day: date) -> dict[str, int]:
    """Return how many rows of a day are stale, by table, as far as tables tell: notes may say more."""
    return {stage.table: count_stale(lake, stage, day) for stage in STAGES}


def list_known_days(lake: Lake) -> list[date]:
    """Return the days that a run can have work on, ascending: those with images or with notes of some."""
    return sorted({*lake.tables.read_days("raw_images"), *list_days_with_arrivals(lake)})


def find_work(lake: Lake, days: Sequence[date], assets: Collection[str]) -> str | None:
    """Return the first asset for which a run over the days would have something to do; None if there is none.

    Reads tables and notes alone, and costs a fraction of a run. Where nothing was found, nothing is looked for again
    until a note, a table, a setting or the code is another: then the answer costs the same for any number of days.
    """
    waiting = {"raw_images": list_days_with_arrivals(lake), "annotations": list_days_with_progress(lake)}
    for table, notes in waiting.items():
        if table in assets and not notes.keys().isdisjoint(days):
            return table
    if is_known_up_to_date(lake, days, assets):
        return None
    state = _hash_state(lake, days, assets)
    work = _find_stale_asset(lake, days, assets)
    if work is None:
        lake.index.write_cursor(_UP_TO_DATE, state)
    return work


def is_known_up_to_date(lake: Lake, days: Sequence[date], assets: Collection[str]) -> bool:
    """Tell whether `find_work` found nothing to do and nothing is another since, apart from notes."""
    return lake.index.read_cursor(_UP_TO_DATE) == _hash_state(lake, days, assets)


def _find_stale_asset(lake: Lake, days: Sequence[date], assets: Collection[str]) -> str | None:
    for stage in STAGES:
        if stage.table in assets and any(count_stale(lake, stage, day) for day in days):
            return stage.table
        if stage is labelled_dataset.STAGE and "label_model" in assets and needs_training(lake):
            return "label_model"
    return None


def _hash_state(lake: Lake, days: Sequence[date], assets: Collection[str]) -> str:
    """Return a hash of all that decides whether there is work, apart from notes."""
    return hash_values(
        [day.isoformat() for day in days],
        sorted(assets),
        {stage.table: stage.code_version for stage in STAGES},
        [TRAINING_VERSION, BACKBONE],
        lake.settings.model_dump(mode="json"),
        {table: lake.tables.snapshot_id(table) for table in LOOP},
    )


def list_stale_days(lake: Lake) -> list[date]:
    """Return the days on which anything is stale."""
    return [day for day in lake.tables.read_days("raw_images") if any(count_stale_rows(lake, day).values())]
