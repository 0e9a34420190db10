"""Checks: what Dagster's page shows beside `raw_images` when something in landing could not be taken in."""

from collections import Counter
from typing import Any

import dagster as dg

from adapters import inbox
from adapters.lake import Lake
from lakehouse.arrivals import ParkedObject
from lakehouse.errors import FarmyError

_SHOWN = 20


@dg.asset_check(asset="raw_images", description="Whether every message of the event queue could be read.")
def no_dead_letters(lake: dg.ResourceParam[Lake]) -> dg.AssetCheckResult:
    """Fail, as a warning, while messages wait in the dead-letter queue."""
    if lake.event_queue is None:
        return dg.AssetCheckResult(passed=True, metadata={"arrivals": "found by listing landing: there is no queue"})
    try:
        depth = lake.event_queue.measure()
    except FarmyError as error:
        # What was taken in was taken in, whether or not the queue can be looked at now.
        return dg.AssetCheckResult(passed=False, severity=dg.AssetCheckSeverity.WARN, description=str(error))
    return dg.AssetCheckResult(
        passed=depth.dead == 0,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"dead": depth.dead, "waiting": depth.waiting, "in_flight": depth.in_flight},
    )


@dg.asset_check(asset="raw_images", description="Whether every object in landing could be taken in.")
def nothing_parked(lake: dg.ResourceParam[Lake]) -> dg.AssetCheckResult:
    """Fail, as a warning, while objects are parked because somebody has to change something first."""
    parked = inbox.list_parked(lake)
    metadata: dict[str, Any] = {f"parked on {day}": count for day, count in _count_days(parked).items()}
    if parked:
        lines = [f"- `{held.object_key}`: {held.reason}" for held in parked[:_SHOWN]]
        metadata["objects"] = dg.MetadataValue.md("\n".join(lines))
    return dg.AssetCheckResult(passed=not parked, severity=dg.AssetCheckSeverity.WARN, metadata=metadata)


def _count_days(parked: list[ParkedObject]) -> dict[str, int]:
    return dict(sorted(Counter(held.day.isoformat() for held in parked).items()))


CHECKS = (no_dead_letters, nothing_parked)
