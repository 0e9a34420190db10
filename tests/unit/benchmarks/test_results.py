import pytest

from benchmarks.results import Result


def test_a_figure_may_have_a_least_goal_as_well_as_a_greatest() -> None:
    faster = Result("ratio", "times", (19.0, 21.0, 25.0), at_least=20)
    smaller = Result("memory", "MB", (350.0,), at_most=400)
    assert (faster.value, faster.is_met, smaller.is_met) == (21.0, True, True)
    assert Result("ratio", "times", (19.0,), at_least=20).is_met is False
    assert Result("memory", "MB", (401.0,), at_most=400).is_met is False


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (Result("a", "s", (1.0,)), {"goal": None, "at_most": None, "at_least": None, "met": None}),
        (Result("a", "s", (1.0,), at_least=2), {"goal": 2, "at_most": None, "at_least": 2, "met": False}),
        (Result("a", "s", (1.0,), at_most=2), {"goal": 2, "at_most": 2, "at_least": None, "met": True}),
    ],
)
def test_machines_read_the_goal_and_which_side_of_it_is_good(result: Result, expected: dict[str, object]) -> None:
    assert result.as_json() == {"name": "a", "value": 1.0, "unit": "s", "runs": [1.0], **expected}
