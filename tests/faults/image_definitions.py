"""A code location with the arrivals sensor and the image tables alone: real daemons that need no Label Studio."""

import dagster as dg

from farmy_assets.definitions import ASSETS
from resources.lake import lake_resource
from sensors.arrivals import IMAGES_JOB, arrivals_sensor
from tests.graph.lakes import IMAGE_TABLES

defs = dg.Definitions(
    assets=[asset for asset in ASSETS if asset.key.to_user_string() in IMAGE_TABLES],
    jobs=[dg.define_asset_job(IMAGES_JOB, list(IMAGE_TABLES))],
    sensors=[arrivals_sensor],
    resources={"lake": lake_resource},
    executor=dg.in_process_executor,
)
