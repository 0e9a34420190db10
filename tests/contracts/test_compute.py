import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.compute import HELD_BYTES_PER_WORKER, ITEMS_PER_WORKER, Compute, ThreadCompute
from adapters.ray_compute import CHUNKS_PER_WORKER, MOST_ITEMS_PER_CHUNK
from tests.contracts.ray_cluster import WORKERS

IN_FLIGHT = {
    "threads": {"map": 4 * WORKERS, "pipe": ITEMS_PER_WORKER * WORKERS},
    "ray": dict.fromkeys(("map", "pipe"), (CHUNKS_PER_WORKER * WORKERS + 1) * MOST_ITEMS_PER_CHUNK),
}
DEADLINE_S = 20


@pytest.fixture(params=["threads", "ray"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def compute(kind: str, request: pytest.FixtureRequest) -> Compute:
    if kind == "threads":
        return ThreadCompute(WORKERS)
    return cast("Compute", request.getfixturevalue("ray_compute"))


@pytest.fixture(params=["map", "pipe"])
def apply(request: pytest.FixtureRequest, compute: Compute) -> Callable[..., Iterator[Any]]:
    """One function over items: by `map`, and as the work of a pipe that reads and writes nothing."""
    return compute.map if request.param == "map" else partial(work_in_pipe, compute)


def work_in_pipe(compute: Compute, function: Callable[[Any], Any], items: Any) -> Iterator[Any]:
    return compute.pipe(items, read=return_item, work=function, write=return_result, size_bytes=weigh_nothing)


def return_item(item: Any) -> Any:
    return item


def return_result(_item: Any, result: Any) -> Any:
    return result


def weigh_nothing(_item: Any) -> int:
    return 0


def sleep_longer_for_smaller(number: int) -> int:
    time.sleep(0.002 * (5 - number % 6))
    return number * number


def invert(number: int) -> float:
    return 1 / number


def list_then_fail(count: int) -> Iterator[int]:
    yield from range(count)
    raise OSError("cannot list more")


def mark(folder: Path, number: int) -> int:
    (folder / str(number)).touch()
    time.sleep(0.05)
    return number


def wait_for_each_other(folder: Path, number: int) -> bool:
    """Return whether as many as there are workers were in here at the same time."""
    (folder / str(number)).touch()
    deadline = time.monotonic() + DEADLINE_S
    while len(list(folder.iterdir())) < WORKERS and time.monotonic() < deadline:
        time.sleep(0.01)
    return len(list(folder.iterdir())) == WORKERS


def test_results_come_in_the_order_of_the_items_whichever_is_ready_first(apply: Callable[..., Iterator[Any]]) -> None:
    assert list(apply(sleep_longer_for_smaller, range(50))) == [number * number for number in range(50)]


def test_no_items_have_no_results(apply: Callable[..., Iterator[Any]]) -> None:
    assert list(apply(sleep_longer_for_smaller, [])) == []


def test_the_first_error_is_raised_as_it_is_after_the_results_before_it(apply: Callable[..., Iterator[Any]]) -> None:
    results = apply(invert, [1, 2, 0, 4])
    assert next(results) == 1
    assert next(results) == 0.5
    with pytest.raises(ZeroDivisionError, match="division by zero"):
        next(results)


def test_work_goes_on_after_an_error_with_the_next_batch(apply: Callable[..., Iterator[Any]]) -> None:
    with pytest.raises(ZeroDivisionError):
        list(apply(invert, range(100)))
    assert list(apply(invert, [1, 2])) == [1, 0.5]


@pytest.mark.parametrize("before", [0, 1, 100])
def test_an_error_while_items_are_made_is_raised(apply: Callable[..., Iterator[Any]], before: int) -> None:
    with pytest.raises(OSError, match="cannot list more"):
        list(apply(sleep_longer_for_smaller, list_then_fail(before)))


def test_items_are_taken_as_they_are_needed_so_that_memory_does_not_grow(
    kind: str, apply: Callable[..., Iterator[Any]], request: pytest.FixtureRequest
) -> None:
    taken = results = most_ahead = 0

    def list_items() -> Iterator[int]:
        nonlocal taken
        for number in range(2000):
            taken = number + 1
            yield number

    for _ in apply(abs, list_items()):
        results += 1
        most_ahead = max(most_ahead, taken - results)
    assert results == 2000
    assert most_ahead <= IN_FLIGHT[kind][request.node.callspec.params["apply"]]


def test_workers_really_work_side_by_side(apply: Callable[..., Iterator[Any]], tmp_path: Path) -> None:
    assert list(apply(partial(wait_for_each_other, tmp_path), range(WORKERS))) == [True] * WORKERS


def test_what_was_not_begun_when_the_reader_stops_is_never_begun(
    apply: Callable[..., Iterator[Any]], tmp_path: Path
) -> None:
    results = apply(partial(mark, tmp_path), range(500))
    next(results)
    results.close()  # type: ignore[attr-defined]
    begun = len(list(tmp_path.iterdir()))
    assert begun < 50
    time.sleep(0.3)
    assert len(list(tmp_path.iterdir())) == begun


def read_lock(item: int) -> tuple[int, threading.Lock]:
    return item, threading.Lock()


def double(held: tuple[int, threading.Lock]) -> tuple[int, threading.Lock]:
    with held[1]:
        return 2 * held[0], held[1]


def describe(item: int, held: tuple[int, threading.Lock]) -> str:
    return f"{item} gives {held[0]}"


def test_a_pipe_reads_works_and_writes_where_it_works_so_that_only_what_is_kept_travels(compute: Compute) -> None:
    # A lock cannot be pickled.
    kept = compute.pipe(range(40), read=read_lock, work=double, write=describe, size_bytes=weigh_nothing)
    assert list(kept) == [f"{number} gives {2 * number}" for number in range(40)]


def fail_at_seven(number: int) -> int:
    if number == 7:
        raise ValueError("cannot do 7")
    return number


def fail_to_write_seven(number: int, _result: int) -> int:
    return fail_at_seven(number)


@pytest.mark.parametrize("step", ["read", "work", "write"])
def test_an_error_of_each_step_is_raised_after_the_results_before_it(compute: Compute, step: str) -> None:
    results = compute.pipe(
        range(20),
        read=fail_at_seven if step == "read" else return_item,
        work=fail_at_seven if step == "work" else return_item,
        write=fail_to_write_seven if step == "write" else return_result,
        size_bytes=weigh_nothing,
    )
    assert [next(results) for _ in range(7)] == list(range(7))
    with pytest.raises(ValueError, match="cannot do 7"):
        next(results)


def log_begin(folder: Path, item: int) -> int:
    (folder / f"read-{item}").touch()
    time.sleep(0.1)
    return item


def count_reads(folder: Path, item: int) -> int:
    time.sleep(0.02)
    return len(list(folder.glob("read-*"))) - item


def test_items_are_read_while_others_are_worked_on(compute: Compute, tmp_path: Path) -> None:
    ahead = compute.pipe(
        range(60),
        read=partial(log_begin, tmp_path),
        work=partial(count_reads, tmp_path),
        write=return_result,
        size_bytes=weigh_nothing,
    )
    assert max(ahead) > 2 * WORKERS


class Gauge:
    """Counts how many are inside at once, and the most there ever were."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self.most = 0

    def enter(self, amount: int) -> None:
        with self._lock:
            self._inside += amount
            self.most = max(self.most, self._inside)

    def leave(self, amount: int) -> None:
        with self._lock:
            self._inside -= amount


def test_as_many_items_as_there_are_workers_are_worked_on_at_once() -> None:
    at_work = Gauge()

    def work(item: int) -> int:
        at_work.enter(1)
        time.sleep(0.002)
        at_work.leave(1)
        return item

    list(work_in_pipe(ThreadCompute(WORKERS), work, range(100)))
    assert at_work.most == WORKERS


@pytest.mark.parametrize("size_bytes", [1_000_000, 30_000_000, 2 * HELD_BYTES_PER_WORKER * WORKERS])
def test_the_bytes_in_flight_are_bounded_and_what_is_larger_goes_alone(size_bytes: int) -> None:
    held = Gauge()

    def read(item: int) -> int:
        held.enter(size_bytes)
        time.sleep(0.001)
        return item

    def write(item: int, _result: int) -> int:
        held.leave(size_bytes)
        return item

    kept = ThreadCompute(WORKERS).pipe(
        range(50), read=read, work=return_item, write=write, size_bytes=lambda _item: size_bytes
    )
    assert list(kept) == list(range(50))
    assert held.most <= max(size_bytes, HELD_BYTES_PER_WORKER * WORKERS)
    assert held.most >= min(3 * size_bytes, HELD_BYTES_PER_WORKER * WORKERS - size_bytes)


def test_threads_end_with_their_batch() -> None:
    before = threading.active_count()
    with closing(ThreadCompute(WORKERS).map(abs, range(100))) as results:  # type: ignore[type-var]
        next(results)
        assert threading.active_count() > before
    assert threading.active_count() == before


def test_ray_works_in_other_processes(ray_compute: Compute) -> None:
    assert os.getpid() not in set(ray_compute.map(get_process, range(10)))


def get_process(_item: int) -> int:
    return os.getpid()


@given(st.lists(st.integers()), st.integers(1, 8))
def test_any_number_of_workers_gives_what_the_builtin_map_gives(items: list[int], workers: int) -> None:
    assert list(ThreadCompute(workers).map(str, items)) == list(map(str, items))
