"""Everything that Dagster loads: assets, jobs, sensors, schedules and the lake they work with."""

import dagster as dg

from adapters.lake import Lake
from farmy_assets.checks import CHECKS
from farmy_assets.dataset_releases import dataset_releases
from farmy_assets.day_assets import build_day_asset
from farmy_assets.jobs import JOBS
from farmy_assets.label_model import label_model
from farmy_assets.stages import STAGES
from resources.lake import lake_resource
from sensors.annotation_progress import annotation_progress_sensor
from sensors.arrivals import arrivals_sensor
from sensors.failures import failure_sensor
from sensors.reconcile import reconcile_schedule
from sensors.training import training_sensor

ASSETS = [*(build_day_asset(stage) for stage in STAGES), label_model, dataset_releases]


def build_definitions(lake: Lake | None = None) -> dg.Definitions:
    """Return the definitions.

    Args:
        lake: The lake to work with; by default each run opens the one of its process's settings.
    """
    return dg.Definitions(
        assets=ASSETS,
        asset_checks=CHECKS,
        jobs=JOBS,
        sensors=[arrivals_sensor, annotation_progress_sensor, training_sensor, failure_sensor],
        schedules=[reconcile_schedule],
        resources={"lake": lake or lake_resource},
        # Steps are light and share one process: a process per step would cost seconds each.
        executor=dg.in_process_executor,
    )


defs = build_definitions()
