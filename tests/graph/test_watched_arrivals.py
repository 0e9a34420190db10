"""Looks at the landing prefixes that can still change: each notes what the one before did not list."""

from collections.abc import Mapping

from adapters import inbox
from adapters.lake import Lake
from tests.graph.lakes import DAY_1, land, list_notes, make_picture, open_lake, take_in


def list_hinted_objects(lake: Lake) -> list[str]:
    notes = inbox.read_notes(lake, DAY_1)
    return sorted(hint.object_key.rpartition("/")[2] for note in notes for hint in note.hints)


def drop_notes(lake: Lake) -> None:
    lake.objects.delete(list_notes(lake))


def reopen(lake: Lake, settings: Mapping[str, int]) -> Lake:
    return open_lake(lake.settings.home, **settings)


def test_a_look_notes_only_what_the_last_one_did_not_list(lake: Lake) -> None:
    land(lake, "1.jpg", make_picture(1), DAY_1)
    assert inbox.note_watched_arrivals(lake, DAY_1) == 1
    drop_notes(lake)

    assert inbox.note_watched_arrivals(lake, DAY_1) == 0
    land(lake, "2.jpg", make_picture(2), DAY_1)
    assert inbox.note_watched_arrivals(lake, DAY_1) == 1
    assert list_hinted_objects(lake) == ["2.jpg"]


def test_the_first_look_passes_over_what_the_tables_hold(lake: Lake) -> None:
    land(lake, "1.jpg", make_picture(1), DAY_1)
    take_in(lake, [DAY_1], ["raw_images"])
    land(lake, "2.jpg", make_picture(2), DAY_1)

    assert inbox.note_watched_arrivals(lake, DAY_1) == 1
    assert list_hinted_objects(lake) == ["2.jpg"]


def test_a_look_over_more_days_than_the_last_one_passes_over_what_the_tables_hold(lake: Lake) -> None:
    land(lake, "1.jpg", make_picture(1), DAY_1)
    take_in(lake, [DAY_1], ["raw_images"])
    assert inbox.note_watched_arrivals(lake, DAY_1) == 0

    assert inbox.note_watched_arrivals(reopen(lake, {"watch_days": 30}), DAY_1) == 0


def test_an_image_whose_sidecar_changed_is_noted_again(lake: Lake) -> None:
    land(lake, "1.jpg", make_picture(1), DAY_1)
    inbox.note_watched_arrivals(lake, DAY_1)
    drop_notes(lake)
    land(lake, "1.jpg.json", b"{}", DAY_1, hour=10)

    assert inbox.note_watched_arrivals(lake, DAY_1) == 1
    assert list_hinted_objects(lake) == ["1.jpg"]


def test_a_look_at_an_empty_landing_counts_as_one(lake: Lake) -> None:
    assert inbox.note_watched_arrivals(lake, DAY_1) == 0
    land(lake, "1.jpg", make_picture(1), DAY_1)

    assert inbox.note_watched_arrivals(lake, DAY_1) == 1
