"""Landing that changes between an event, its note and the run that reads the object."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from adapters.lake import Lake
from tests.contracts.memory_queue import MemoryQueue
from tests.faults.producers import Deed, build_message, carry_out, drain_queue, open_event_lake
from tests.faults.recovery import (
    assert_equal,
    assert_nothing_is_left,
    assert_recovers,
    read_rows,
    recover,
    run_waiting_days,
)
from tests.graph.lakes import make_picture

pytestmark = pytest.mark.usefixtures("images_alone")
KEY = "landing/phone/2026/11/02/field.jpg"
OTHER = Deed("landing/phone/2026/11/02/other.jpg", datetime(2026, 11, 2, 8, tzinfo=UTC), make_picture(1))
FIRST = Deed(KEY, datetime(2026, 11, 2, 9, tzinfo=UTC), make_picture(2))
SECOND = Deed(KEY, datetime(2026, 11, 3, 9, tzinfo=UTC), make_picture(3))
REMOVAL = Deed(KEY, datetime(2026, 11, 3, 10, tzinfo=UTC), None)


@pytest.fixture
def queue() -> MemoryQueue:
    return MemoryQueue()


@pytest.fixture
def lake(tmp_path: Path, queue: MemoryQueue) -> Iterator[Lake]:
    with open_event_lake(tmp_path / "home", queue) as lake:
        yield lake


def read_undisturbed_rows(home: Path, *deeds: Deed) -> dict[str, list[str]]:
    """Return what a lake holds that finds everything at once."""
    with open_event_lake(home, MemoryQueue()) as lake:
        for deed in deeds:
            carry_out(lake, deed)
        recover(lake)
        return read_rows(lake)


def test_an_object_that_vanishes_between_its_note_and_the_run_leaves_no_trace(
    lake: Lake, queue: MemoryQueue, tmp_path: Path
) -> None:
    carry_out(lake, OTHER)
    carry_out(lake, FIRST)
    queue.send(build_message(OTHER), build_message(FIRST))
    drain_queue(lake)
    carry_out(lake, REMOVAL)

    run_waiting_days(lake)

    assert_equal(lake, read_undisturbed_rows(tmp_path / "undisturbed", OTHER))
    assert_nothing_is_left(lake)


def test_an_object_overwritten_between_its_event_and_the_run_is_taken_in_as_it_is_then(
    lake: Lake, queue: MemoryQueue, tmp_path: Path
) -> None:
    """Its new version is of another day: the run of the old one passes it on, though its own event never comes."""
    carry_out(lake, OTHER)
    carry_out(lake, FIRST)
    queue.send(build_message(OTHER), build_message(FIRST))
    drain_queue(lake)
    carry_out(lake, SECOND)

    run_waiting_days(lake)

    assert_equal(lake, read_undisturbed_rows(tmp_path / "undisturbed", OTHER, SECOND))
    assert_nothing_is_left(lake)


def test_an_event_that_comes_before_its_object_is_made_good_by_a_reconcile(
    lake: Lake, queue: MemoryQueue, tmp_path: Path
) -> None:
    carry_out(lake, OTHER)
    queue.send(build_message(OTHER), build_message(FIRST))
    drain_queue(lake)
    run_waiting_days(lake)
    assert lake.tables.count_rows("raw_images") == 1

    carry_out(lake, FIRST)

    assert_recovers(lake, read_undisturbed_rows(tmp_path / "undisturbed", OTHER, FIRST))


def test_events_of_an_object_that_come_in_reverse_change_nothing(
    lake: Lake, queue: MemoryQueue, tmp_path: Path
) -> None:
    carry_out(lake, OTHER)
    carry_out(lake, FIRST)
    queue.send(build_message(OTHER))
    queue.send(build_message(REMOVAL))
    drain_queue(lake)
    run_waiting_days(lake)
    queue.send(build_message(FIRST))
    drain_queue(lake)
    run_waiting_days(lake)

    assert_equal(lake, read_undisturbed_rows(tmp_path / "undisturbed", OTHER, FIRST))
    assert_nothing_is_left(lake)
