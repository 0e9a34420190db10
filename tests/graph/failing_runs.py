"""Assets that fail in every way, as a code server loads them, with the sensor that tells of it."""

import os
import time
from typing import Any

import dagster as dg

from farmy_assets.day_assets import record_failure
from farmy_assets.partitions import day_partitions
from lakehouse.errors import AccessRefusedError, StorageError


@dg.asset(partitions_def=day_partitions)
def refused(context: dg.AssetExecutionContext) -> None:
    """Fail for good."""
    error = AccessRefusedError("Cannot read landing/phone/1.jpg: access denied. See to the rights.")
    raise record_failure(context, error) from error


@dg.asset(partitions_def=day_partitions)
def troubled(context: dg.AssetExecutionContext) -> None:
    """Fail in a way that may pass."""
    error = StorageError("Cannot read landing/phone/1.jpg: the storage does not answer. Run again.")
    raise record_failure(context, error) from error


@dg.asset(partitions_def=day_partitions)
def mistaken() -> None:
    """Fail as nobody foresaw, and let a secret slip."""
    raise KeyError(f"no such key, only {os.environ['AWS_SECRET_ACCESS_KEY']}")


@dg.asset(partitions_def=day_partitions)
def endless() -> None:
    """Never end."""
    time.sleep(3600)


NAMES = ("refused", "troubled", "mistaken", "endless")

defs = dg.Definitions(
    assets=[refused, troubled, mistaken, endless],
    jobs=[dg.define_asset_job(f"{name}_job", [name]) for name in NAMES],
    executor=dg.in_process_executor,
)


def get_job(name: str) -> Any:
    """Return the job of one asset."""
    return defs.resolve_job_def(f"{name}_job")
