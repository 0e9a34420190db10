"""Runs that are killed between every two steps: the next one goes on, and in the end nothing differs.

A run that was killed is found out in one of two ways. The daemon notices, and repeats it: then no reconcile is needed.
Or nobody does: then reconcile finds what is missing or stale.
"""

from datetime import date

import pytest

from adapters import inbox
from adapters.lake import Lake
from lakehouse.arrivals import Hint
from tests.faults.counted_kills import PreparedHome, assert_every_change_is_a_step, kill_before_every_step
from tests.faults.recovery import (
    IMAGE_STAGES,
    assert_recovers,
    read_rows,
    run_day,
    run_waiting_days,
)
from tests.graph.lakes import DAY_1, DAY_2, land, list_notes, make_picture, recompress

pytestmark = pytest.mark.usefixtures("images_alone")


def prepare(home: PreparedHome) -> None:
    """Prepare three images, a copy, a near duplicate, one without consent, and one deleted since it was taken in."""
    with home.open() as lake:
        doomed = land(lake, "doomed.jpg", make_picture(1), DAY_1, hour=7)
        inbox.note_all_arrivals(lake)
        run_waiting_days(lake)
        for number in (2, 3, 4):
            land(lake, f"{number}.jpg", make_picture(number), DAY_1, hour=6 + number)
        land(lake, "copy.jpg", make_picture(2), DAY_1, hour=12)
        land(lake, "near.jpg", recompress(make_picture(3)), DAY_1, hour=13)
        land(lake, "refused.jpg", make_picture(5), DAY_1, hour=14)
        land(lake, "refused.jpg.json", b'{"consent": "withdrawn"}', DAY_1, hour=14)
        inbox.note_all_arrivals(lake)
        lake.objects.delete([doomed])
        inbox.note_hints(lake, {DAY_1: [Hint(doomed, occasion="removed")]})
    home.save()


def test_a_run_killed_before_any_of_its_steps_ends_up_equal_after_a_reconcile(home: PreparedHome) -> None:
    prepare(home)
    assert_every_change_is_a_step(home, run_waiting_days)
    with home.open() as lake:
        expected = read_rows(lake)
        assert all(expected.values()), "every table has rows"

    def check() -> None:
        with home.open() as lake:
            assert_recovers(lake, expected)

    kills = kill_before_every_step(home, run_waiting_days, check)

    assert kills > 40, "objects, files, commits, index and notes are all steps"


def run_both_days(lake: Lake) -> None:
    """Take in two days, each of which changes what is first on the other."""
    run_day(lake, DAY_2, IMAGE_STAGES[:1])
    run_day(lake, DAY_1, IMAGE_STAGES[:1])
    run_waiting_days(lake, IMAGE_STAGES[:1])


def test_a_killed_run_that_is_repeated_leaves_no_image_with_two_firsts_or_none(home: PreparedHome) -> None:
    """The first of one image is displaced by an earlier day's, that of another is withdrawn."""
    with home.open() as lake:
        land(lake, "later.jpg", make_picture(1), DAY_2)
        leaving = land(lake, "leaving.jpg", make_picture(2), DAY_1, hour=7)
        land(lake, "staying.jpg", make_picture(2), DAY_2, hour=7)
        inbox.note_all_arrivals(lake)
        run_waiting_days(lake)
        land(lake, "earlier.jpg", make_picture(1), DAY_1)
        inbox.note_all_arrivals(lake)
        lake.objects.delete([leaving])
        inbox.note_hints(lake, {DAY_1: [Hint(leaving, occasion="removed")]})
    home.save()
    with home.open() as lake:
        run_waiting_days(lake)
        expected = read_rows(lake)
        firsts = lake.tables.read("raw_images").filter(lake.tables.read("raw_images").column("is_first"))
        assert sorted(firsts.column("object_key").to_pylist()) == [key_of("earlier.jpg", DAY_1), key_of("staying.jpg")]

    def check() -> None:
        """Look at `raw_images` alone, from which the other tables follow."""
        with home.open() as lake:
            run_both_days(lake)
            assert read_rows(lake, ["raw_images"]) == {"raw_images": expected["raw_images"]}
            assert list_notes(lake) == []

    kills = kill_before_every_step(home, run_both_days, check)

    assert kills > 15, "two days are committed, and one of them again"
    with home.open() as lake:
        assert_recovers(lake, expected)


def key_of(name: str, day: date = DAY_2) -> str:
    return f"landing/phone/{day:%Y/%m/%d}/{name}"
