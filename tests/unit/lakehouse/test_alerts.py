from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.alerts import (
    MAX_DELIVERIES,
    AlertState,
    Fate,
    RunFailure,
    UndecidedRun,
    WaitingAlert,
    describe_days,
    find_fate,
    parse_alert_state,
    select_due_alerts,
    shorten_error,
)

FAILURE = RunFailure("0a1b", "images_job", "2026-11-02", "raw_images", "The disk is full. Make room.", None)
MOMENTS = st.floats(0, 1e10)
STATES = st.builds(
    AlertState,
    st.integers(0, 2**62),
    st.lists(st.builds(UndecidedRun, st.text(), MOMENTS)).map(tuple),
    st.lists(st.builds(WaitingAlert, st.text(), st.text(), st.integers(0, 99), MOMENTS)).map(tuple),
)


def test_an_alert_names_job_day_asset_error_and_run() -> None:
    assert FAILURE.text == (
        "Farmy: images_job failed on 2026-11-02 at raw_images\nThe disk is full. Make room.\nRun 0a1b"
    )


def test_an_alert_leads_to_the_run_where_the_page_is_known() -> None:
    assert replace(FAILURE, url="https://farm.example.org/runs/0a1b").text.endswith(
        "Run https://farm.example.org/runs/0a1b"
    )


def test_what_is_about_no_day_and_no_asset_says_nothing_of_them() -> None:
    assert replace(FAILURE, days="", asset=None).title == "Farmy: images_job failed"


@pytest.mark.parametrize(
    ("tags", "days"),
    [
        ({}, ""),
        ({"dagster/partition": "2026-11-02"}, "2026-11-02"),
        (
            {
                "dagster/asset_partition_range_start": "2026-11-02",
                "dagster/asset_partition_range_end": "2026-11-04",
            },
            "2026-11-02..2026-11-04",
        ),
    ],
)
def test_the_days_of_a_run_follow_from_its_tags(tags: dict[str, str], days: str) -> None:
    assert describe_days(tags) == days


def test_a_long_error_is_cut_and_a_short_one_is_not() -> None:
    assert shorten_error("x" * 1_000) == "x" * 1_000
    assert shorten_error("x" * 1_001) == "x" * 999 + "…"


@pytest.mark.parametrize(
    ("tags", "fate"),
    [
        ({}, Fate.UNDECIDED),
        ({"dagster/will_retry": "true"}, Fate.UNDECIDED),
        ({"dagster/will_retry": "true", "dagster/auto_retry_run_id": "b"}, Fate.RETRIED),
        ({"dagster/will_retry": "false"}, Fate.FINAL),
    ],
)
def test_a_run_is_retried_only_when_its_retry_is_there(tags: dict[str, str], fate: Fate) -> None:
    assert find_fate(tags, are_runs_retried=True) is fate


def test_where_nothing_is_retried_every_failure_is_final() -> None:
    assert find_fate({}, are_runs_retried=False) is Fate.FINAL


@given(STATES)
def test_a_state_is_read_as_it_was_written(state: AlertState) -> None:
    assert parse_alert_state(state.to_text()) == state


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "null",
        "[]",
        "{",
        "3",
        '{"last_event": null, "undecided": [], "waiting": []}',
        '{"last_event": 1, "undecided": [3], "waiting": []}',
        '{"last_event": 1, "undecided": [], "waiting": [{"run": "a"}]}',
    ],
)
def test_what_is_no_state_is_none(text: str | None) -> None:
    assert parse_alert_state(text) is None


def test_an_alert_is_due_when_its_pause_is_over() -> None:
    late, due = WaitingAlert("a", "webhook", 1, 200.0), WaitingAlert("b", "webhook", 1, 100.0)

    assert select_due_alerts([late, due], 100.0) == [due]


def test_alerts_that_never_failed_are_sent_first_in_the_order_in_which_they_came() -> None:
    again, first, second = WaitingAlert("a", "x", 3), WaitingAlert("b", "x"), WaitingAlert("c", "x")

    assert select_due_alerts([again, first, second], 0.0) == [first, second, again]


def test_pauses_double_until_an_alert_is_given_up_after_some_hours() -> None:
    alert, now, pauses = WaitingAlert("a", "webhook"), 0.0, []
    while not alert.is_given_up:
        alert = alert.postpone(now)
        pauses.append(alert.not_before - now)
        now = alert.not_before

    assert pauses[:3] == [30, 60, 120]
    assert len(pauses) == MAX_DELIVERIES
    assert 4 * 3600 < sum(pauses[:-1]) < 5 * 3600
