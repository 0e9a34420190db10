"""Arrivals: new objects in landing start a run of their day."""

from datetime import UTC, datetime

import dagster as dg

from adapters.event_notes import note_queued_events
from adapters.inbox import list_days_with_arrivals, note_watched_arrivals
from adapters.lake import Lake
from sensors.requests import request_runs

IMAGES_JOB = "images_job"


@dg.sensor(job_name=IMAGES_JOB, minimum_interval_seconds=20, default_status=dg.DefaultSensorStatus.RUNNING)
def arrivals_sensor(context: dg.SensorEvaluationContext, lake: dg.ResourceParam[Lake]) -> dg.SensorResult:
    """Notes what is new in landing, and asks for a run of each day with notes.

    With a queue (FARMY_QUEUE_URL) it learns from S3's events what is new; without, it lists the landing prefixes that
    can still change.
    """
    if lake.event_queue is None:
        context.log.info(f"{note_watched_arrivals(lake, datetime.now(UTC).date())} new objects in landing")
    else:
        drained = note_queued_events(lake, lake.event_queue, lake.settings.tick_seconds)
        context.log.info(
            f"{drained.events} events, {drained.ignored} messages that tell of nothing in landing, "
            f"{drained.set_aside} messages that make no sense; the queue "
            f"{'is empty' if drained.is_empty else 'holds more for the next look'}"
        )
    return request_runs(context, IMAGES_JOB, list_days_with_arrivals(lake))
