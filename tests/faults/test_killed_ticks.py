"""Ticks and reconciles that are killed between every two steps: the next one goes on, and nothing differs."""

from collections.abc import Iterator
from datetime import UTC, datetime
from multiprocessing.managers import BaseManager
from typing import TYPE_CHECKING

import pytest

from adapters import inbox
from adapters.event_queue import QueueDepth
from adapters.lake import Lake
from farmy_assets.reconciliation import reconcile_lake
from lakehouse.arrivals import ParkedObject
from tests.contracts.memory_queue import MemoryQueue
from tests.faults.counted_kills import PreparedHome, assert_every_change_is_a_step, kill_before_every_step
from tests.faults.producers import Deed, build_message, drain_queue, open_event_lake
from tests.faults.recovery import assert_equal, assert_nothing_is_left, assert_recovers, read_rows, run_waiting_days
from tests.graph.lakes import DAY_1, DAY_2, DAY_3, land, make_picture
from tests.system.killed_runs import build_context

pytestmark = pytest.mark.usefixtures("images_alone")
VISIBILITY_S = 600


def look_into_landing(lake: Lake) -> None:
    inbox.note_watched_arrivals(lake, DAY_2)


def test_a_tick_that_lists_and_is_killed_before_any_of_its_steps_loses_nothing(home: PreparedHome) -> None:
    with home.open() as lake:
        land(lake, "1.jpg", make_picture(1), DAY_1)
        land(lake, "2.jpg", make_picture(2), DAY_2)
        land(lake, "copy.jpg", make_picture(1), DAY_2)
    home.save()
    assert_every_change_is_a_step(home, look_into_landing)
    with home.open() as lake:
        run_waiting_days(lake)
        expected = read_rows(lake)

    def check() -> None:
        with home.open() as lake:
            look_into_landing(lake)
            run_waiting_days(lake)
            assert_equal(lake, expected)
            assert_nothing_is_left(lake)

    kills = kill_before_every_step(home, look_into_landing, check)

    assert kills >= 4, "the index, a note for each day, and the cursor"


if TYPE_CHECKING:

    class QueueServer(BaseManager):
        def open_queue(self, visibility_s: float) -> MemoryQueue: ...

else:

    class QueueServer(BaseManager):
        """A process that holds queues, which other processes may be killed without."""

    QueueServer.register("open_queue", MemoryQueue)


@pytest.fixture
def queue_server() -> Iterator[QueueServer]:
    with QueueServer(ctx=build_context()) as server:
        yield server


def test_a_tick_that_drains_a_queue_and_is_killed_before_any_of_its_steps_loses_no_event(
    home: PreparedHome, queue_server: QueueServer
) -> None:
    with home.open() as lake:
        old = land(lake, "old.jpg", make_picture(1), DAY_1)
        inbox.note_all_arrivals(lake)
        run_waiting_days(lake)
        landed = [land(lake, f"{number}.jpg", make_picture(number), DAY_2, hour=number) for number in (2, 3)]
        lake.objects.delete([old])
    home.save()
    deeds = [Deed(key, datetime(2026, 11, 3, 9, tzinfo=UTC), b"any") for key in landed]
    removal = Deed(old, datetime(2026, 11, 4, 9, tzinfo=UTC), None)
    queues: list[MemoryQueue] = []

    def fill_a_queue() -> MemoryQueue:
        queue = queue_server.open_queue(VISIBILITY_S)
        queue.send(*map(build_message, deeds), build_message(removal), "nonsense", '{"Event": "s3:TestEvent"}')
        queues.append(queue)
        return queue

    assert_every_change_is_a_step(home, drain_queue, fill_a_queue())
    with home.open() as lake:
        assert list(inbox.list_days_with_arrivals(lake)) == [DAY_1, DAY_2, DAY_3]
        run_waiting_days(lake)
        expected = read_rows(lake)

    def check() -> None:
        queue = queues[-1]
        queue.pass_time(VISIBILITY_S)
        with open_event_lake(home.settings["home"], queue) as lake:
            drain_queue(lake)
            assert queue.measure() == QueueDepth(waiting=0, in_flight=0, delayed=0, dead=1)
            run_waiting_days(lake)
            assert_equal(lake, expected)
            assert_nothing_is_left(lake)

    kills = kill_before_every_step(home, drain_queue, check, fill_a_queue)

    assert kills >= 5, "the nonsense, a note for each day, and the messages"


def reconcile(lake: Lake) -> None:
    reconcile_lake(lake, datetime(2026, 11, 4, tzinfo=UTC))


def test_a_reconcile_killed_before_any_of_its_steps_ends_up_equal(home: PreparedHome) -> None:
    """It finds an object whose event was lost, a deleted one, a lost original, a parked one, and a lost index."""
    with home.open() as lake:
        deleted = land(lake, "deleted.jpg", make_picture(1), DAY_1)
        land(lake, "copy.jpg", make_picture(1), DAY_2)
        land(lake, "original.jpg", make_picture(2), DAY_1)
        inbox.note_all_arrivals(lake)
        run_waiting_days(lake)
        land(lake, "new.jpg", make_picture(3), DAY_1)
        lake.objects.delete([deleted, find_original(lake)])
        parked = land(lake, "parked.jpg", make_picture(4), DAY_2)
        inbox.park(lake, [ParkedObject(parked, DAY_2, "nobody may read it")])
    for file in home.settings["home"].glob("image_index.db*"):
        file.unlink()
    home.save()
    assert_every_change_is_a_step(home, reconcile)
    with home.open() as lake:
        run_waiting_days(lake)
        expected = read_rows(lake)
        assert find_original(lake)

    def check() -> None:
        with home.open() as lake:
            assert_recovers(lake, expected)

    kills = kill_before_every_step(home, reconcile, check)

    assert kills >= 5, "the index, a note for each day, and the parked note"


def find_original(lake: Lake) -> str:
    """Return the key of the bytes of original.jpg."""
    rows = lake.tables.read("raw_images").to_pylist()
    key: str = next(row["original_key"] for row in rows if row["object_key"].endswith("original.jpg"))
    return key if lake.objects.exists(key) else ""
