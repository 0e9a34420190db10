"""Partitions: one per UTC day, the day on which an object arrived."""

import dagster as dg

from lakehouse.arrivals import BEGINNING

day_partitions = dg.DailyPartitionsDefinition(start_date=BEGINNING.date().isoformat(), end_offset=1)
"""The open day can be run: images that arrived this morning do not wait for midnight."""
