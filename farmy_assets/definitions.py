"""Everything that Dagster loads: assets, jobs, sensors, schedules and the lake they work with."""

import sys

import dagster as dg

from adapters.lake import Lake
from farmy_assets.checks import CHECKS
from farmy_assets.dataset_releases import dataset_releases
from farmy_assets.day_assets import build_day_asset
from farmy_assets.jobs import build_jobs
from farmy_assets.label_model import label_model
from farmy_assets.reprocessing import look_for_work
from farmy_assets.stages import STAGES
from resources.lake import lake_resource
from sensors.annotation_progress import annotation_progress_sensor
from sensors.arrivals import arrivals_sensor
from sensors.failures import failure_sensor
from sensors.reconcile import reconcile_schedule
from sensors.training import training_sensor

_CODE_SERVER = ["api", "grpc"]
"""How Dagster calls the process that tells its page of the definitions. To code that loads them in another process, in
`dg check` for one, Dagster says the same of itself."""
ASSETS = [*(build_day_asset(stage) for stage in STAGES), label_model, dataset_releases]


def build_definitions(lake: Lake | None = None, *, shows_work: bool = False) -> dg.Definitions:
    """Return the definitions.

    Args:
        lake: The lake to work with; by default each run opens the one of its process's settings.
        shows_work: Whether the jobs that people launch show what is stale, which takes seconds to look at.
    """
    return dg.Definitions(
        assets=ASSETS,
        asset_checks=CHECKS,
        jobs=build_jobs(look_for_work().describe if shows_work else None),
        sensors=[arrivals_sensor, annotation_progress_sensor, training_sensor, failure_sensor],
        schedules=[reconcile_schedule],
        resources={"lake": lake or lake_resource},
        # Steps are light and share one process: a process per step would cost seconds each.
        executor=dg.in_process_executor,
    )


@dg.definitions
def defs() -> dg.Definitions:
    """Return what Dagster loads; what is stale is looked at where a page shows it, not for each run or check."""
    return build_definitions(shows_work=sys.argv[1:3] == _CODE_SERVER)
