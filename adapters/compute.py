"""Where the work of a batch is done: the interface, and threads of this machine. Ray is `adapters.ray_compute`.

What is given to a `Compute` are module-level functions, or `functools.partial` of them over values that can be pickled
(a `Lake` can): they may be called in another process, and again after a process was lost.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from threading import Semaphore
from typing import Generic, Protocol, TypeVar

Item = TypeVar("Item")
Data = TypeVar("Data")
Result = TypeVar("Result")
Kept = TypeVar("Kept")

ITEMS_PER_WORKER = 8
"""Items of a pipe in flight for each worker: enough to hide 50 ms of waiting at 10 ms of work."""
HELD_BYTES_PER_WORKER = 64_000_000
"""Bytes that a pipe's items in flight hold for each worker; a larger item is in flight alone."""


class Compute(Protocol):
    """Does the work of many items side by side; used by one thread at a time.

    Results come in the order of the items, as they are ready; an error is raised as it is, after the results before it.
    Items are taken as they are needed, so that memory does not grow with the batch. Who stops reading (`close()` on the
    iterator) leaves undone what was not begun.
    """

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Yield `function(item)` of each item. At most `4 * workers` items are in flight."""
        ...

    def pipe(
        self,
        items: Iterable[Item],
        *,
        read: Callable[[Item], Data],
        work: Callable[[Data], Result],
        write: Callable[[Item, Result], Kept],
        size_bytes: Callable[[Item], int],
    ) -> Iterator[Kept]:
        """Yield `write(item, work(read(item)))` of each item, where reading and writing wait for storage.

        While some items wait, others are worked on: at most one a worker, the only ones whose data may be unfolded
        (an image decoded).

        Args:
            items: Any number.
            read: Fetches what an item names.
            work: Computes, with the processor busy.
            write: Puts the result away, and returns what is to be known of it: something small.
            size_bytes: What `read` of an item will return, in bytes.
        """
        ...

    def close(self) -> None:
        """End the processes that were started for this, if any."""
        ...


@dataclass(frozen=True)
class ThreadCompute:
    """Threads of this process: decoding, hashing and reading release Python's lock.

    Attributes:
        workers: Threads that work at once; those that wait for storage come on top.
    """

    workers: int

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Yield `function(item)` of each item. At most `4 * workers` items are in flight."""
        return _Stream(function, self.workers, most_items=4 * self.workers).run(items)

    def pipe(
        self,
        items: Iterable[Item],
        *,
        read: Callable[[Item], Data],
        work: Callable[[Data], Result],
        write: Callable[[Item, Result], Kept],
        size_bytes: Callable[[Item], int],
    ) -> Iterator[Kept]:
        """Yield `write(item, work(read(item)))` of each item, on `ITEMS_PER_WORKER` threads a worker."""
        at_work = Semaphore(self.workers)

        def handle(item: Item) -> Kept:
            data = read(item)
            with at_work:
                result = work(data)
            del data
            return write(item, result)

        threads = ITEMS_PER_WORKER * self.workers
        most_bytes = HELD_BYTES_PER_WORKER * self.workers
        return _Stream(handle, threads, most_items=threads, size_bytes=size_bytes, most_bytes=most_bytes).run(items)

    def close(self) -> None:
        """Do nothing: threads end with the batch."""


@dataclass(frozen=True)
class _Stream(Generic[Item, Result]):
    """A function over items on a pool of threads, with few items in flight."""

    function: Callable[[Item], Result]
    threads: int
    most_items: int
    size_bytes: Callable[[Item], int] = lambda _: 0
    most_bytes: int = 0

    def run(self, items: Iterable[Item]) -> Iterator[Result]:
        in_flight: deque[tuple[Future[Result], int]] = deque()
        held_bytes = 0
        with ThreadPoolExecutor(self.threads, thread_name_prefix="compute") as pool:
            try:
                for item in items:
                    size = self.size_bytes(item)
                    while in_flight and (len(in_flight) >= self.most_items or held_bytes + size > self.most_bytes):
                        future, done_bytes = in_flight.popleft()
                        held_bytes -= done_bytes
                        yield future.result()
                    in_flight.append((pool.submit(self.function, item), size))
                    held_bytes += size
                while in_flight:
                    yield in_flight.popleft()[0].result()
            finally:
                for future, _ in in_flight:
                    future.cancel()
