"""Training: enough new labels start the training of a label model, which then predicts every day anew."""

import dagster as dg

from adapters.lake import Lake
from lakehouse.training import count_accepted_images, decide_training

TRAINING_JOB = "training_job"


@dg.sensor(job_name=TRAINING_JOB, minimum_interval_seconds=60, default_status=dg.DefaultSensorStatus.RUNNING)
def training_sensor(lake: dg.ResourceParam[Lake]) -> dg.SensorResult:
    """Asks for training when people have labelled enough images more than the newest model saw."""
    days = lake.tables.read_days("raw_images")
    snapshot_id = lake.tables.snapshot_id("labelled_dataset")
    if snapshot_id is None or not days:
        return dg.SensorResult(skip_reason=dg.SkipReason("Nobody has labelled anything yet."))
    columns = ["image_id", "kind", "class_id", "phase"]
    accepted = count_accepted_images(lake.tables.read("labelled_dataset", columns=columns))
    decision = decide_training(accepted, lake.label_models.find_newest(), lake.settings.label_model)
    if not decision.is_due:
        return dg.SensorResult(skip_reason=dg.SkipReason(decision.reason))
    request = dg.RunRequest(
        run_key=f"{TRAINING_JOB}-{snapshot_id}",
        tags={
            "dagster/asset_partition_range_start": min(days).isoformat(),
            "dagster/asset_partition_range_end": max(days).isoformat(),
        },
    )
    return dg.SensorResult(run_requests=[request])
