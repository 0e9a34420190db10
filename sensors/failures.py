"""Failures: each run that failed for good is told to people, once.

Dagster's own `run_failure_sensor` moves on whether its function raised or not, so that an alert that could not be
delivered would be lost, and it runs before it is known whether the run is retried. This sensor keeps both in its
cursor (`lakehouse.alerts`): what Dagster may still retry is looked at again, and what could not be delivered is sent
again with growing pauses. A tick that dies between a delivery and its end repeats that delivery.
"""

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import dagster as dg
from dagster_shared.error import SerializableErrorInfo

from adapters.alerts import AlertChannel
from adapters.lake import Lake
from adapters.logs import build_redactor, log_context
from adapters.settings import list_secrets
from lakehouse.alerts import (
    DECISION_S,
    AlertState,
    Fate,
    RunFailure,
    UndecidedRun,
    WaitingAlert,
    describe_days,
    find_fate,
    parse_alert_state,
    select_due_alerts,
    shorten_error,
)
from lakehouse.errors import AlertError

_log = logging.getLogger("farmy.failures")
_EVENTS_A_TICK = 100
_SENDING_S = 30
"""Seconds of a tick, which may take 60, after which no further delivery is begun."""


@dg.sensor(minimum_interval_seconds=30, default_status=dg.DefaultSensorStatus.RUNNING)
def failure_sensor(context: dg.SensorEvaluationContext, lake: dg.ResourceParam[Lake]) -> dg.SensorResult:
    """Tells people of each run that failed and is not retried: by FARMY_ALERT_WEBHOOK, FARMY_ALERT_TOPIC, or both."""
    state = parse_alert_state(context.cursor)
    if not lake.alert_channels:
        # Nobody wants to be told later of what failed until then.
        return _finish(_begin(context.instance), "Nobody is to be told: set FARMY_ALERT_WEBHOOK or FARMY_ALERT_TOPIC.")
    if state is None:
        return _finish(_begin(context.instance), "Failures are told from now on.")
    now = _read_clock()
    state = _look_at_failures(context.instance, lake.alert_channels, state, now)
    due = select_due_alerts(state.waiting, now)
    postponed = _send_alerts(context, lake, due)
    state = replace(state, waiting=(*(alert for alert in state.waiting if alert not in due), *postponed))
    return _finish(
        state,
        f"{len(due) - len(postponed)} alerts are done with, {len(state.waiting)} wait; {len(state.undecided)} failed "
        "runs may yet be retried.",
    )


def _read_clock() -> float:
    return time.time()


def _finish(state: AlertState, message: str) -> dg.SensorResult:
    return dg.SensorResult(skip_reason=dg.SkipReason(message), cursor=state.to_text())


def _begin(instance: dg.DagsterInstance) -> AlertState:
    """Return the state in which all failures until now are done with."""
    newest = instance.fetch_run_status_changes(dg.DagsterEventType.RUN_FAILURE, limit=1).records
    return AlertState(newest[0].storage_id if newest else 0)


def _look_at_failures(
    instance: dg.DagsterInstance, channels: Sequence[AlertChannel], state: AlertState, now: float
) -> AlertState:
    """Return the state with what failed since the last look, and with what was decided since."""
    events = instance.fetch_run_status_changes(
        dg.RunStatusChangeRecordsFilter(dg.DagsterEventType.RUN_FAILURE, after_storage_id=state.last_event),
        limit=_EVENTS_A_TICK,
        ascending=True,
    ).records
    candidates = {run.run_id: run for run in state.undecided}
    for event in events:
        candidates.setdefault(event.run_id, UndecidedRun(event.run_id, now + DECISION_S))
    undecided, waiting = [], list(state.waiting)
    for run in _list_launched_runs(instance, candidates):
        candidate = candidates[run.run_id]
        fate = find_fate(run.tags, are_runs_retried=instance.run_retries_enabled)
        if fate is Fate.UNDECIDED and now < candidate.until:
            undecided.append(candidate)
        elif fate is not Fate.RETRIED:
            waiting += [WaitingAlert(run.run_id, channel.name) for channel in channels]
    last_event = events[-1].storage_id if events else state.last_event
    return AlertState(last_event, tuple(undecided), tuple(waiting))


def _list_launched_runs(instance: dg.DagsterInstance, candidates: Mapping[str, UndecidedRun]) -> list[dg.DagsterRun]:
    """Return those runs that Dagster launched; who calls `farmy run` is told by that command."""
    if not candidates:
        return []
    runs = instance.get_runs(dg.RunsFilter(run_ids=list(candidates)))
    return [run for run in reversed(runs) if run.remote_job_origin is not None]


def _send_alerts(context: dg.SensorEvaluationContext, lake: Lake, alerts: Iterable[WaitingAlert]) -> list[WaitingAlert]:
    """Deliver alerts for as long as the tick may take, and return those that are to be delivered later."""
    channels = {channel.name: channel for channel in lake.alert_channels}
    redact = build_redactor(list_secrets(lake.settings))
    deadline = time.monotonic() + _SENDING_S
    postponed = []
    for alert in alerts:
        run = context.instance.get_run_by_id(alert.run_id)
        if run is None or alert.channel not in channels:
            context.log.info(f"Run {alert.run_id} or its receiver, {alert.channel}, is no more: nobody is told of it.")
            continue
        if time.monotonic() > deadline:
            postponed.append(alert)
            continue
        failure = _describe_failure(context.instance, run, lake.settings.dagster_url)
        try:
            channels[alert.channel].send(replace(failure, error=redact(failure.error)))
        except AlertError as error:
            with log_context(run_id=alert.run_id):
                postponed += _postpone(context, alert, error)
    return postponed


def _postpone(context: dg.SensorEvaluationContext, alert: WaitingAlert, error: AlertError) -> list[WaitingAlert]:
    """Record that an alert was not delivered; return it for another time, or nothing if it was sent often enough."""
    later = alert.postpone(_read_clock())
    outlook = "It is given up." if later.is_given_up else f"It is sent again from {_format_time(later.not_before)} on."
    message = f"{error} {outlook}"
    context.log.error(message)
    _log.error(message)
    return [] if later.is_given_up else [later]


def _format_time(moment: float) -> str:
    return time.strftime("%H:%M:%S UTC", time.gmtime(moment))


def _describe_failure(instance: dg.DagsterInstance, run: dg.DagsterRun, dagster_url: str | None) -> RunFailure:
    asset, error = _find_cause(instance, run.run_id)
    return RunFailure(
        run_id=run.run_id,
        job=run.job_name,
        days=describe_days(run.tags),
        asset=asset,
        error=shorten_error(error),
        url=None if dagster_url is None else f"{dagster_url.rstrip('/')}/runs/{run.run_id}",
    )


def _find_cause(instance: dg.DagsterInstance, run_id: str) -> tuple[str | None, str]:
    """Return which step failed first, if one did, and what went wrong."""
    for entry in instance.all_logs(run_id, of_type=dg.DagsterEventType.STEP_FAILURE):
        event = entry.get_dagster_event()
        data = event.step_failure_data
        if data.user_failure_data is not None and data.user_failure_data.description:
            return event.step_key, data.user_failure_data.description
        if data.error is not None and data.error.cls_name != "DagsterExecutionInterruptedError":
            return event.step_key, _find_root(data.error).message.strip()
        return event.step_key, _read_run_message(instance, run_id)
    return None, _read_run_message(instance, run_id)


def _find_root(error: SerializableErrorInfo) -> SerializableErrorInfo:
    return error if error.cause is None else _find_root(error.cause)


def _read_run_message(instance: dg.DagsterInstance, run_id: str) -> str:
    """Return what Dagster says of a run that was ended from outside."""
    failures = instance.all_logs(run_id, of_type=dg.DagsterEventType.RUN_FAILURE)
    messages = (entry.get_dagster_event().message for entry in failures)
    return next((message for message in messages if message), "Dagster does not say why: look at the run.")
