"""Arrivals: new objects in landing start a run of their day."""

from datetime import UTC, datetime

import dagster as dg

from adapters.inbox import list_days_with_arrivals, note_watched_arrivals
from adapters.lake import Lake
from sensors.requests import request_runs

IMAGES_JOB = "images_job"


@dg.sensor(job_name=IMAGES_JOB, minimum_interval_seconds=20, default_status=dg.DefaultSensorStatus.RUNNING)
def arrivals_sensor(context: dg.SensorEvaluationContext, lake: dg.ResourceParam[Lake]) -> dg.SensorResult:
    """Notes what is new in the landing prefixes that can still change, and asks for a run of each day with notes."""
    noted = note_watched_arrivals(lake, datetime.now(UTC).date())
    context.log.info(f"{noted} new objects in landing")
    return request_runs(context, IMAGES_JOB, list_days_with_arrivals(lake))
