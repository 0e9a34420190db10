"""Annotation progress: answers in Label Studio start a run of their day."""

import dagster as dg

from adapters.inbox import list_days_with_progress, note_annotation_progress
from adapters.lake import Lake
from sensors.requests import request_runs

LABELS_JOB = "labels_job"


@dg.sensor(job_name=LABELS_JOB, minimum_interval_seconds=20, default_status=dg.DefaultSensorStatus.RUNNING)
def annotation_progress_sensor(
    context: dg.SensorEvaluationContext, lake: dg.ResourceParam[Lake]
) -> dg.SensorResult | dg.SkipReason:
    """Notes which tasks changed since the last look, and asks for a run of each day with notes."""
    if not lake.is_label_studio_up():
        return dg.SkipReason("Label Studio does not run, so nobody can have answered: `farmy up` starts it.")
    noted = note_annotation_progress(lake)
    context.log.info(f"{noted} changed tasks in Label Studio")
    return request_runs(context, LABELS_JOB, list_days_with_progress(lake))
