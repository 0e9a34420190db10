"""Events that are lost, doubled, late and out of order, all at once, while runs and landing go on.

The lake with faults is compared with one that had the same landing, the same runs and reconciles, and perfect events;
and both with what the scenario itself says must be there.
"""

import random
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import pytest

from adapters import inbox
from adapters.event_queue import QueueMessage
from adapters.lake import Lake
from farmy_assets.reconciliation import reconcile_lake
from lakehouse.arrivals import OBJECT_DELETED
from lakehouse.errors import QueueUnavailableError
from lakehouse.sources import Source
from tests.contracts.memory_queue import MemoryQueue
from tests.faults.producers import (
    Channel,
    Scenario,
    ScenarioWriter,
    Step,
    carry_out,
    drain_queue,
    open_event_lake,
)
from tests.faults.recovery import IMAGE_STAGES, assert_recovers, read_rows, run_day, run_waiting_days

pytestmark = pytest.mark.usefixtures("images_alone")
VISIBILITY_S = 60
SOURCES = (Source("phone", licence="CC-BY-4.0"), Source("archive", consent="not_required", keeps_deleted=True))


class SlowReaderQueue(MemoryQueue):
    """A queue whose reader is often too slow: its messages are visible again before it deletes them.

    Args:
        seed: Decides when.
    """

    def __init__(self, seed: int) -> None:
        super().__init__(VISIBILITY_S, max_receives=5, duplicate_share=0.1, seed=seed)
        self.too_late = 0
        self._chance = random.Random(seed)

    def delete(self, messages: Sequence[QueueMessage]) -> int:
        if self._chance.random() < 0.1:
            raise QueueUnavailableError("Could not delete messages: the queue fails, as the test wants.")
        in_time = [message for message in messages if self._chance.random() < 0.8]
        self.too_late += len(messages) - len(in_time)
        return super().delete(in_time)


def live_undisturbed(lake: Lake, scenario: Scenario, channel: Channel) -> None:
    """Land what the scenario says, and take it in before each reconcile: no sooner is anything changed."""
    for number, step in enumerate(scenario.steps):
        _land(lake, step, channel, number)
        drain_queue(lake)
        if step.ends_with_reconcile:
            run_waiting_days(lake)
            _reconcile_and_run(lake, step)
    run_waiting_days(lake)


def live_disturbed(lake: Lake, scenario: Scenario, channel: Channel) -> None:
    """Land what the scenario says; after each step look into the queue, in vain at times, and run some of the days.

    Some of the runs get no further than `raw_images`.
    """
    for number, step in enumerate(scenario.steps):
        _land(lake, step, channel, number)
        with suppress(QueueUnavailableError):  # the tick fails, and the next one finds the messages again
            drain_queue(lake)
        for day in inbox.list_days_with_arrivals(lake):
            if channel.random.random() < 0.5:
                run_day(lake, day, channel.random.choice([IMAGE_STAGES, IMAGE_STAGES[:1]]))
        if step.ends_with_reconcile:
            _reconcile_and_run(lake, step)


def _land(lake: Lake, step: Step, channel: Channel, number: int) -> None:
    for deed in step.deeds:
        carry_out(lake, deed)
    channel.bring(number, step.deeds)
    channel.queue.pass_time(VISIBILITY_S)


def _reconcile_and_run(lake: Lake, step: Step) -> None:
    reconcile_lake(lake, step.deeds[-1].at)
    run_waiting_days(lake)


def read_versions(lake: Lake) -> dict[tuple[str, datetime], bool]:
    columns = ["object_key", "landed_at", "withdrawal"]
    rows = lake.tables.read("raw_images", columns=columns).to_pylist()
    return {(row["object_key"], row["landed_at"]): row["withdrawal"] == OBJECT_DELETED for row in rows}


@pytest.mark.parametrize("seed", range(5))
def test_whatever_becomes_of_events_the_tables_end_up_as_if_all_had_come(tmp_path: Path, seed: int) -> None:
    scenario = ScenarioWriter(seed).write()
    chance = random.Random(seed)
    perfect = Channel(MemoryQueue(VISIBILITY_S), chance)
    with open_event_lake(tmp_path / "undisturbed", perfect.queue, sources=SOURCES) as undisturbed:
        live_undisturbed(undisturbed, scenario, perfect)
        expected = read_rows(undisturbed)
        deleted = {at: is_deleted and "/archive/" not in at[0] for at, is_deleted in scenario.versions.items()}
        assert read_versions(undisturbed) == deleted

    queue = SlowReaderQueue(seed)
    faulty = Channel(queue, chance, lost=0.1, doubled=0.1, delayed=0.1)
    with open_event_lake(tmp_path / "disturbed", queue, sources=SOURCES) as disturbed:
        live_disturbed(disturbed, scenario, faulty)
        assert all(faulty.counts.values()), "every kind of fault happened"
        assert queue.too_late
        assert read_rows(disturbed) != expected, "something was lost that reconcile has to find"

        assert_recovers(disturbed, expected)
