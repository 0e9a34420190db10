"""Reconcile: once a day, listings repair whatever events and polls lost."""

import dagster as dg

RECONCILE_JOB = "reconcile_job"

reconcile_schedule = dg.ScheduleDefinition(
    name="reconcile_schedule",
    job_name=RECONCILE_JOB,
    cron_schedule="30 2 * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description=__doc__,
)
