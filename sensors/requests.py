"""From days with waiting notes to run requests: what the sensors have in common."""

from collections.abc import Collection, Mapping
from datetime import UTC, date, datetime

import dagster as dg

from lakehouse.run_requests import PastRun, decide_runs

_NOTES_TAG = "farmy/notes"
_ATTEMPT_TAG = "farmy/attempt"
_PARTITION_TAG = "dagster/partition"
_RANGE_TAGS = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")
_ACTIVE = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
_RUNS_LOOKED_AT = 20


def request_runs(context: dg.SensorEvaluationContext, job_name: str, waiting: Mapping[date, str]) -> dg.SensorResult:
    """Ask for one run of the job per waiting day, unless one is under way or the same notes failed too often."""
    past = _list_past_runs(context.instance, job_name, waiting)
    busy = _list_busy_days(context.instance, waiting)
    decision = decide_runs(waiting, past, busy, datetime.now(UTC))
    for day in decision.given_up:
        context.log.error(
            f"{job_name} was run on {day} as often as it may on the same notes: look at its runs, mend the cause, then "
            f"start it by hand; `farmy run --days {day}` does it without the daemon."
        )
    for day, due in decision.paused.items():
        context.log.warning(f"{job_name} is tried again on {day} after {due:%H:%M:%S} UTC.")
    requests = [
        dg.RunRequest(
            run_key=f"{job_name}-{need.run_key}",
            job_name=job_name,
            partition_key=need.day.isoformat(),
            tags={_NOTES_TAG: need.digest, _ATTEMPT_TAG: str(need.attempt)},
        )
        for need in decision.needs
    ]
    reason = None if requests else dg.SkipReason("Nothing waits that is not being taken in, or tried again later.")
    return dg.SensorResult(run_requests=requests, skip_reason=reason)


def _list_past_runs(instance: dg.DagsterInstance, job_name: str, days: Mapping[date, str]) -> list[PastRun]:
    """Return the runs that were asked for on the days; Dagster's own repeats bear the tags of what they repeat."""
    return [
        PastRun(day, record.dagster_run.tags.get(_NOTES_TAG, ""), _read_attempt(record), _read_end(record))
        for day in days
        for record in instance.get_run_records(
            dg.RunsFilter(job_name=job_name, tags={_PARTITION_TAG: day.isoformat()}), limit=_RUNS_LOOKED_AT
        )
    ]


def _read_attempt(record: dg.RunRecord) -> int:
    return int(record.dagster_run.tags.get(_ATTEMPT_TAG, "1"))


def _read_end(record: dg.RunRecord) -> datetime | None:
    """Return when a run ended; None while it is active."""
    if record.dagster_run.status in _ACTIVE:
        return None
    return datetime.fromtimestamp(record.end_time or record.update_timestamp.timestamp(), UTC)


def _list_busy_days(instance: dg.DagsterInstance, days: Collection[date]) -> set[date]:
    """Return those days on which a run of any job works or waits: of the day, or of a range of days."""
    runs = instance.get_runs(dg.RunsFilter(statuses=_ACTIVE))
    return {day for day in days if any(_covers(run, day) for run in runs)}


def _covers(run: dg.DagsterRun, day: date) -> bool:
    start, end = (run.tags.get(tag) for tag in _RANGE_TAGS)
    if start is not None and end is not None:
        return start <= day.isoformat() <= end
    return run.tags.get(_PARTITION_TAG) == day.isoformat()
