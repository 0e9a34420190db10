"""Day-partitioned stages as Dagster assets: partitions, backfills, metadata, failures. What they do is `day_runs`."""

import logging
import warnings
from collections.abc import Sequence
from datetime import date
from typing import Any

import dagster as dg

from adapters.inbox import list_days_with_arrivals
from adapters.lake import Lake
from adapters.logs import log_context
from farmy_assets.day_runs import DayOutcome, DayStage, Markdown, update_day
from farmy_assets.partitions import day_partitions
from lakehouse.errors import FarmyError, PermanentError

FORCE_TAG = "farmy/force"
"""A run with this tag set to `true` computes every row of its days again."""
MOST_DAYS_OF_A_RUN = 100
"""A run per day would cost twenty times as much. Before a run starts, Dagster writes an event for each of its days and
assets, which takes minutes for a job over 500 days, and times out for thousands (dagster issue 32242)."""
OWNERS = ["team:farmy"]
_log = logging.getLogger("farmy.runs")
_RETRY_TAG = "dagster/retry_on_asset_or_op_failure"


def build_day_asset(stage: DayStage) -> dg.AssetsDefinition:
    """Return the asset that brings a stage's days up to date."""
    with warnings.catch_warnings():
        # Backfill policies are called beta.
        warnings.simplefilter("ignore", dg.BetaWarning)

        @dg.asset(
            name=stage.table,
            description=stage.description,
            partitions_def=day_partitions,
            backfill_policy=dg.BackfillPolicy.multi_run(MOST_DAYS_OF_A_RUN),
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


def record_failure(context: dg.AssetExecutionContext | dg.OpExecutionContext, error: FarmyError) -> dg.Failure:
    """Log what stopped a step, tell Dagster whether repeating the run can help, and return the failure to raise.

    Dagster repeats whole runs without regard to `allow_retries`, but does regard the run's tag. Of several steps that
    fail, the last one decides.
    """
    failure = build_failure(error)
    context.instance.add_run_tags(context.run.run_id, {_RETRY_TAG: str(failure.allow_retries).lower()})
    with log_context(run_id=context.run.run_id):
        _log.error("%s failed.", context.run.job_name, exc_info=error)
    return failure


def _bring_up_to_date(context: dg.AssetExecutionContext, stage: DayStage, lake: Lake) -> dg.MaterializeResult[Any]:
    """Bring every day of the run up to date, earliest first, and report each.

    Raises:
        dg.Failure: Saying what went wrong and what to do; repeated by Dagster only where that can help.
    """
    with log_context(run_id=context.run.run_id, asset=stage.table):
        try:
            days = _select_days(lake, stage, context.partition_keys)
        except FarmyError as error:
            raise record_failure(context, error) from error
        outcomes = [_update_day(context, stage, lake, day) for day in days]
    if len(outcomes) == 1:
        return dg.MaterializeResult(data_version=dg.DataVersion(outcomes[0].content_hash))
    return dg.MaterializeResult(metadata={"days": len(outcomes)})


def _update_day(context: dg.AssetExecutionContext, stage: DayStage, lake: Lake, day: date) -> DayOutcome:
    force = context.run.tags.get(FORCE_TAG) == "true"
    with log_context(day=day):
        try:
            outcome = update_day(lake, stage, day, run_id=context.run.run_id, force=force)
        except FarmyError as error:
            raise record_failure(context, error) from error
        context.add_asset_metadata(_build_metadata(outcome), partition_key=day.isoformat())
        for remark in outcome.remarks:
            context.log.warning(remark)
            _log.warning(remark)
        context.log.info(str(outcome))
        _log.info(outcome)
    return outcome


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
