"""From days with waiting notes to run requests: what the sensors have in common."""

from collections.abc import Mapping
from datetime import date

import dagster as dg

from lakehouse.run_requests import PastRun, decide_runs

_NOTES_TAG = "farmy/notes"
_ATTEMPT_TAG = "farmy/attempt"
_PARTITION_TAG = "dagster/partition"
_ACTIVE = {
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
}
_RUNS_LOOKED_AT = 20


def request_runs(context: dg.SensorEvaluationContext, job_name: str, waiting: Mapping[date, str]) -> dg.SensorResult:
    """Ask for one run of the job per waiting day, unless one is under way or the same notes failed too often."""
    decision = decide_runs(waiting, _list_past_runs(context.instance, job_name, waiting))
    for day in decision.given_up:
        context.log.error(
            f"{job_name} failed on {day} as often as it may on the same notes: look at its runs, mend the cause, then "
            f"start it by hand; `farmy run --days {day}` does it without the daemon."
        )
    requests = [
        dg.RunRequest(
            run_key=f"{job_name}-{need.run_key}",
            job_name=job_name,
            partition_key=need.day.isoformat(),
            tags={_NOTES_TAG: need.digest, _ATTEMPT_TAG: str(need.attempt)},
        )
        for need in decision.needs
    ]
    reason = None if requests else dg.SkipReason("Nothing waits that no run is taking in.")
    return dg.SensorResult(run_requests=requests, skip_reason=reason)


def _list_past_runs(instance: dg.DagsterInstance, job_name: str, days: Mapping[date, str]) -> list[PastRun]:
    return [
        PastRun(day, run.tags.get(_NOTES_TAG, ""), run.status in _ACTIVE)
        for day in days
        for run in instance.get_runs(
            dg.RunsFilter(job_name=job_name, tags={_PARTITION_TAG: day.isoformat()}), limit=_RUNS_LOOKED_AT
        )
    ]
