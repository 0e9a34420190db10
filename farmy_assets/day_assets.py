"""Day-partitioned stages as Dagster assets: partitions, backfills, metadata, failures. What they do is `day_runs`."""

import warnings
from collections.abc import Sequence
from datetime import date
from typing import Any

import dagster as dg

from adapters.inbox import list_days_with_arrivals
from adapters.lake import Lake
from farmy_assets.day_runs import DayOutcome, DayStage, Markdown, update_day
from farmy_assets.partitions import day_partitions
from lakehouse.errors import FarmyError, PermanentError

FORCE_TAG = "farmy/force"
"""A run with this tag set to `true` computes every row of its days again."""
OWNERS = ["team:farmy"]


def build_day_asset(stage: DayStage) -> dg.AssetsDefinition:
    """Return the asset that brings a stage's days up to date."""
    with warnings.catch_warnings():
        # Backfill policies are called beta; a run per partition would cost twenty times as much.
        warnings.simplefilter("ignore", dg.BetaWarning)

        @dg.asset(
            name=stage.table,
            description=stage.description,
            partitions_def=day_partitions,
            backfill_policy=dg.BackfillPolicy.single_run(),
            code_version=stage.code_version,
            deps=list(stage.deps),
            group_name=stage.group,
            kinds={"iceberg", stage.kind},
            owners=OWNERS,
        )
        def day_asset(context: dg.AssetExecutionContext, lake: dg.ResourceParam[Lake]) -> dg.MaterializeResult[Any]:
            return _bring_up_to_date(context, stage, lake)

    return day_asset


def build_failure(error: FarmyError) -> dg.Failure:
    """Return the Dagster failure that says what the error says, and is repeated only if that can help."""
    return dg.Failure(description=str(error), allow_retries=not isinstance(error, PermanentError))


def _bring_up_to_date(context: dg.AssetExecutionContext, stage: DayStage, lake: Lake) -> dg.MaterializeResult[Any]:
    """Bring every day of the run up to date, earliest first, and report each.

    Raises:
        dg.Failure: Saying what went wrong and what to do; repeated by Dagster only where that can help.
    """
    force = context.run.tags.get(FORCE_TAG) == "true"
    outcomes = []
    try:
        for day in _select_days(lake, stage, context.partition_keys):
            outcome = update_day(lake, stage, day, run_id=context.run.run_id, force=force)
            context.add_asset_metadata(_build_metadata(outcome), partition_key=day.isoformat())
            for remark in outcome.remarks:
                context.log.warning(remark)
            context.log.info(str(outcome))
            outcomes.append(outcome)
    except FarmyError as error:
        raise build_failure(error) from error
    if len(outcomes) == 1:
        return dg.MaterializeResult(data_version=dg.DataVersion(outcomes[0].content_hash))
    return dg.MaterializeResult(metadata={"days": len(outcomes)})


def _select_days(lake: Lake, stage: DayStage, partition_keys: Sequence[str]) -> list[date]:
    """Return the run's days, earliest first; of several only those on which there is or may be something."""
    days = sorted(date.fromisoformat(key) for key in partition_keys)
    if len(days) == 1:
        return days
    held = {*lake.tables.read_days("raw_images"), *lake.tables.read_days(stage.table), *list_days_with_arrivals(lake)}
    return [day for day in days if day in held]


def _build_metadata(outcome: DayOutcome) -> dict[str, Any]:
    """Return what Dagster's page shows of a day."""
    preview = {
        name: dg.MetadataValue.md(value.text) if isinstance(value, Markdown) else value
        for name, value in outcome.preview.items()
    }
    return {
        "dagster/row_count": outcome.rows,
        "rows_computed": outcome.computed,
        "rows_amended": outcome.amended,
        "rows_dropped": outcome.dropped,
        "keys_unchanged": outcome.unchanged,
        "seconds": round(outcome.seconds, 3),
        **({} if outcome.snapshot_id is None else {"snapshot_id": str(outcome.snapshot_id)}),
        **preview,
    }
