from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.run_requests import MAX_ATTEMPTS, MAX_REQUESTS, PastRun, RunDecision, RunNeed, decide_runs

DAY = date(2026, 11, 2)
NEXT_DAY = date(2026, 11, 3)
NOW = datetime(2026, 11, 3, 12, tzinfo=UTC)
LONG_AGO = NOW - timedelta(days=1)

days = st.integers(0, 2).map(lambda number: DAY + timedelta(days=number))
digests = st.sampled_from(["x", "y"])
past_runs = st.lists(
    st.builds(
        PastRun,
        days,
        digests,
        st.integers(1, MAX_ATTEMPTS),
        st.none() | st.integers(0, 900).map(lambda seconds: NOW - timedelta(seconds=seconds)),
    ),
    unique_by=lambda run: (run.day, run.digest, run.attempt),
)


def decide(waiting: dict[date, str], *past: PastRun, busy: tuple[date, ...] = (), now: datetime = NOW) -> RunDecision:
    return decide_runs(waiting, past, busy, now)


def test_every_waiting_day_has_one_run_the_newest_first() -> None:
    decision = decide({DAY: "x", NEXT_DAY: "y"})
    assert decision.needs == (RunNeed(NEXT_DAY, "y", 1), RunNeed(DAY, "x", 1))
    assert decision.given_up == ()
    assert decision.paused == {}


def test_nothing_waiting_asks_for_nothing() -> None:
    assert decide({}, PastRun(DAY, "x", 1, LONG_AGO), busy=(DAY,)) == RunDecision((), {}, ())


def test_a_day_that_is_busy_waits_even_with_other_notes() -> None:
    decision = decide({DAY: "new", NEXT_DAY: "x"}, PastRun(DAY, "old", 1, LONG_AGO), busy=(DAY,))
    assert [need.day for need in decision.needs] == [NEXT_DAY]
    assert decision.given_up == ()


def test_notes_that_a_run_is_taking_in_are_not_asked_for_again() -> None:
    assert decide({DAY: "x"}, PastRun(DAY, "x", 1, None)) == RunDecision((), {}, ())


def test_notes_that_were_tried_are_tried_again_under_another_run_key() -> None:
    (need,) = decide({DAY: "x"}, PastRun(DAY, "x", 1, LONG_AGO)).needs
    assert need.attempt == 2
    assert need.run_key != RunNeed(DAY, "x", 1).run_key


@pytest.mark.parametrize(("attempt", "minutes"), [(1, 1), (2, 2), (3, 4)])
def test_the_pause_after_an_attempt_is_twice_that_before_it(attempt: int, minutes: int) -> None:
    failed = PastRun(DAY, "x", attempt, NOW)
    due = NOW + timedelta(minutes=minutes)
    early = decide({DAY: "x"}, failed, now=due - timedelta(microseconds=1))
    assert (early.needs, early.paused) == ((), {DAY: due})
    in_time = decide({DAY: "x"}, failed, now=due)
    assert (in_time.needs, in_time.paused) == ((RunNeed(DAY, "x", attempt + 1),), {})


def test_the_pause_counts_from_the_end_of_the_last_attempt() -> None:
    past = [PastRun(DAY, "x", 1, LONG_AGO), PastRun(DAY, "x", 2, NOW)]
    assert decide({DAY: "x"}, *past).paused == {DAY: NOW + timedelta(minutes=2)}
    assert decide({DAY: "x"}, *reversed(past)) == decide({DAY: "x"}, *past)


def test_notes_that_failed_too_often_are_given_up_until_they_change() -> None:
    failed = [PastRun(DAY, "x", attempt, LONG_AGO) for attempt in range(1, MAX_ATTEMPTS + 1)]
    assert decide({DAY: "x"}, *failed) == RunDecision((), {}, (DAY,))
    assert decide({DAY: "more"}, *failed).needs == (RunNeed(DAY, "more", 1),)


def test_other_notes_do_not_wait_for_those_that_failed() -> None:
    assert decide({DAY: "more"}, PastRun(DAY, "x", 1, NOW)).needs == (RunNeed(DAY, "more", 1),)


def test_of_many_days_the_newest_are_asked_for_and_the_others_at_the_next_look() -> None:
    waiting = {DAY - timedelta(days=back): "x" for back in range(MAX_REQUESTS + 5)}
    first = [need.day for need in decide(waiting).needs]
    assert first == [DAY - timedelta(days=back) for back in range(MAX_REQUESTS)]
    second = [need.day for need in decide(waiting, busy=tuple(first)).needs]
    assert second == [DAY - timedelta(days=MAX_REQUESTS + more) for more in range(5)]


@given(st.dictionaries(days, digests), past_runs, st.sets(days), st.data())
def test_a_waiting_day_is_busy_asked_for_paused_or_given_up_and_no_name_is_used_twice(
    waiting: dict[date, str], past: list[PastRun], busy: set[date], data: st.DataObject
) -> None:
    decision = decide(waiting, *past, busy=tuple(busy))
    asked = [need.day for need in decision.needs]
    told = [*asked, *decision.paused, *decision.given_up]
    under_way = {
        day
        for day, digest in waiting.items()
        if any(run.ended_at is None and (run.day, run.digest) == (day, digest) for run in past)
    }
    assert len(told) == len(set(told))
    assert set(told) <= waiting.keys() - busy
    assert waiting.keys() - set(told) <= busy | under_way
    assert not {f"{run.day}-{run.digest}-{run.attempt}" for run in past} & {need.run_key for need in decision.needs}
    assert all(need.attempt <= MAX_ATTEMPTS for need in decision.needs)
    assert all(due > NOW for due in decision.paused.values())
    assert decide_runs(waiting, data.draw(st.permutations(past)), busy, NOW) == decision


@given(digests)
def test_a_day_that_always_fails_is_tried_four_times_within_seven_minutes_and_then_left_alone(digest: str) -> None:
    past: list[PastRun] = []
    for second in range(0, 3_600, 20):
        now = NOW + timedelta(seconds=second)
        past += [
            PastRun(need.day, need.digest, need.attempt, now)
            for need in decide_runs({DAY: digest}, past, (), now).needs
        ]
    minutes = [(run.ended_at - NOW) / timedelta(minutes=1) for run in past if run.ended_at]
    assert minutes == [0, 1, 3, 7]
