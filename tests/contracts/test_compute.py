import threading
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.compute import Compute, ThreadCompute

WORKERS = 4


@pytest.fixture(params=["threads"])
def compute(request: pytest.FixtureRequest) -> Compute:
    return {"threads": ThreadCompute(WORKERS)}[request.param]


def sleep_longer_for_smaller(number: int) -> int:
    time.sleep(0.002 * (5 - number % 6))
    return number * number


def test_results_come_in_the_order_of_the_items_whichever_is_ready_first(compute: Compute) -> None:
    assert list(compute.map(sleep_longer_for_smaller, range(50))) == [number * number for number in range(50)]


def test_no_items_have_no_results(compute: Compute) -> None:
    assert list(compute.map(sleep_longer_for_smaller, [])) == []


def test_the_first_error_is_raised_as_it_is_after_the_results_before_it(compute: Compute) -> None:
    def invert(number: int) -> float:
        return 1 / number

    results = compute.map(invert, [1, 2, 0, 4])
    assert next(results) == 1
    assert next(results) == 0.5
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_an_error_while_items_are_made_is_raised(compute: Compute) -> None:
    def list_items() -> Iterator[int]:
        yield 1
        raise OSError("cannot list more")

    with pytest.raises(OSError, match="cannot list more"):
        list(compute.map(sleep_longer_for_smaller, list_items()))


def test_few_items_are_taken_ahead_of_the_results_so_that_memory_does_not_grow() -> None:
    taken: list[int] = []

    def list_items() -> Iterator[int]:
        for number in range(1000):
            taken.append(number)
            yield number

    results = ThreadCompute(WORKERS).map(abs, list_items())
    next(results)
    assert len(taken) == 4 * WORKERS + 1  # one stands at the gate
    results.close()  # type: ignore[attr-defined]


def test_threads_really_work_side_by_side() -> None:
    barrier = threading.Barrier(WORKERS, timeout=10)
    assert list(ThreadCompute(WORKERS).map(lambda _: barrier.wait() >= 0, range(WORKERS))) == [True] * WORKERS


def test_what_was_not_begun_when_the_reader_stops_is_never_begun() -> None:
    begun: list[int] = []

    def work(number: int) -> int:
        begun.append(number)
        time.sleep(0.05)
        return number

    results = ThreadCompute(1).map(work, range(100))
    next(results)
    results.close()  # type: ignore[attr-defined]
    assert len(begun) <= 3


@given(st.lists(st.integers()), st.integers(1, 8))
def test_any_number_of_workers_gives_what_the_builtin_map_gives(items: list[int], workers: int) -> None:
    assert list(ThreadCompute(workers).map(str, items)) == list(map(str, items))
