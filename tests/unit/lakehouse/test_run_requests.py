from datetime import date, timedelta

from hypothesis import given
from hypothesis import strategies as st

from lakehouse.run_requests import MAX_ATTEMPTS, PastRun, RunNeed, decide_runs

DAY = date(2026, 11, 2)
NEXT_DAY = date(2026, 11, 3)

days = st.integers(0, 2).map(lambda number: DAY + timedelta(days=number))
past_runs = st.lists(st.builds(PastRun, days, st.sampled_from(["x", "y"]), st.booleans()))


def test_every_waiting_day_has_one_run_earliest_first() -> None:
    decision = decide_runs({NEXT_DAY: "y", DAY: "x"}, [])
    assert decision.needs == (RunNeed(DAY, "x", 1), RunNeed(NEXT_DAY, "y", 1))
    assert decision.given_up == ()


def test_nothing_waiting_asks_for_nothing() -> None:
    assert decide_runs({}, [PastRun(DAY, "x", is_active=False)]).needs == ()


def test_a_day_with_a_run_under_way_waits_even_for_other_notes() -> None:
    decision = decide_runs({DAY: "new", NEXT_DAY: "x"}, [PastRun(DAY, "old", is_active=True)])
    assert [need.day for need in decision.needs] == [NEXT_DAY]


def test_notes_that_were_tried_are_tried_again_under_another_run_key() -> None:
    (need,) = decide_runs({DAY: "x"}, [PastRun(DAY, "x", is_active=False)]).needs
    assert need.attempt == 2
    assert need.run_key != RunNeed(DAY, "x", 1).run_key


def test_notes_that_failed_too_often_are_given_up_until_they_change() -> None:
    failed = [PastRun(DAY, "x", is_active=False)] * MAX_ATTEMPTS
    assert decide_runs({DAY: "x"}, failed) == decide_runs({DAY: "x"}, failed * 2)
    assert decide_runs({DAY: "x"}, failed).given_up == (DAY,)
    assert decide_runs({DAY: "x"}, failed).needs == ()
    assert decide_runs({DAY: "more"}, failed).needs == (RunNeed(DAY, "more", 1),)


@given(st.dictionaries(days, st.sampled_from(["x", "y"])), past_runs)
def test_a_waiting_day_is_busy_asked_for_or_given_up_and_no_name_is_used_twice(
    waiting: dict[date, str], past: list[PastRun]
) -> None:
    decision = decide_runs(waiting, past)
    busy = {run.day for run in past if run.is_active}
    asked = [need.day for need in decision.needs]
    assert {*asked, *decision.given_up} | (busy & waiting.keys()) == waiting.keys()
    assert len(asked) + len(decision.given_up) + len(busy & waiting.keys()) == len(waiting)
    used = {
        f"{run.day}-{run.digest}-{attempt}"
        for run in past
        for attempt in range(1, 1 + sum((other.day, other.digest) == (run.day, run.digest) for other in past))
    }
    assert not used & {need.run_key for need in decision.needs}
    assert all(need.attempt <= MAX_ATTEMPTS for need in decision.needs)


@given(st.sampled_from(["x", "y"]))
def test_a_failing_day_is_tried_a_few_times_and_then_left_alone(digest: str) -> None:
    past: list[PastRun] = []
    for _ in range(10):
        past += [PastRun(need.day, need.digest, is_active=False) for need in decide_runs({DAY: digest}, past).needs]
    assert len(past) == MAX_ATTEMPTS
