"""Where the work of a batch is done: on a pool of threads of this machine."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class Compute(Protocol):
    """Applies a function to many items."""

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Yield the function's results in the order of the items; the first error that it raises is raised here."""
        ...


class ThreadCompute:
    """Threads: decoding, hashing and reading release Python's lock.

    At most `4 * workers` items are in flight, so that memory does not grow with the batch.
    """

    def __init__(self, workers: int) -> None:
        self._workers = workers

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Yield the function's results in the order of the items; the first error that it raises is raised here."""
        in_flight: deque[Future[Result]] = deque()
        with ThreadPoolExecutor(self._workers, thread_name_prefix="compute") as pool:
            try:
                for item in items:
                    in_flight.append(pool.submit(function, item))
                    if len(in_flight) >= 4 * self._workers:
                        yield in_flight.popleft().result()
                while in_flight:
                    yield in_flight.popleft().result()
            finally:
                for future in in_flight:
                    future.cancel()
