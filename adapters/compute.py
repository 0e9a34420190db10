"""Where the work of a batch is done: the interface, and threads of this machine. Ray is `adapters.ray_compute`.

What is given to a `Compute` are module-level functions, or `functools.partial` of them over values that can be pickled
(a `Lake` can): they may be called in another process, and again after a process was lost.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from contextvars import copy_context
from dataclasses import dataclass
from typing import Protocol, TypeVar

Item = TypeVar("Item")
Data = TypeVar("Data")
Result = TypeVar("Result")
Kept = TypeVar("Kept")

ITEMS_PER_WORKER = 8
"""Items of a pipe in flight for each worker: enough to hide 50 ms of waiting at 10 ms of work."""
HELD_BYTES_PER_WORKER = 24_000_000
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
        return _take_results(self.begin_map(items, function=function))

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
        return _take_results(self.begin_pipe(items, read=read, work=work, write=write, size_bytes=size_bytes))

    def close(self) -> None:
        """Do nothing: threads end with their batch."""

    def begin_map(self, items: Iterable[Item], *, function: Callable[[Item], Result]) -> Generator[Future[Result]]:
        """Yield what `map` gives, as futures, so that errors can be looked at without being raised."""
        return _begin_each(function, items, threads=self.workers, most_items=4 * self.workers)

    def begin_pipe(
        self,
        items: Iterable[Item],
        *,
        read: Callable[[Item], Data],
        work: Callable[[Data], Result],
        write: Callable[[Item, Result], Kept],
        size_bytes: Callable[[Item], int],
    ) -> Generator[Future[Kept]]:
        """Yield what `pipe` gives, as futures, so that errors can be looked at without being raised."""
        threads = ITEMS_PER_WORKER * self.workers
        most_bytes = HELD_BYTES_PER_WORKER * self.workers
        # A core's thread takes the next item without falling asleep, as it would at a semaphore.
        with ThreadPoolExecutor(self.workers, thread_name_prefix="work") as cores:

            def handle(item: Item) -> Kept:
                data = read(item)
                return write(item, cores.submit(copy_context().run, work, data).result())

            yield from _begin_each(
                handle, items, threads=threads, most_items=threads, size_bytes=size_bytes, most_bytes=most_bytes
            )


def _take_results(futures: Generator[Future[Result]]) -> Iterator[Result]:
    with closing(futures):
        for future in futures:
            yield future.result()


def _begin_each(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    threads: int,
    most_items: int,
    size_bytes: Callable[[Item], int] = lambda _: 0,
    most_bytes: int = 0,
) -> Generator[Future[Result]]:
    """Call a function with each item on a pool of threads, and yield the futures in the order of the items.

    What is in flight is bounded in items and in bytes. On the way out, what has not begun is cancelled.
    """
    in_flight: deque[tuple[Future[Result], int]] = deque()
    held_bytes = 0
    with ThreadPoolExecutor(threads, thread_name_prefix="compute") as pool:
        try:
            for item in items:
                size = size_bytes(item)
                while in_flight and (len(in_flight) >= most_items or held_bytes + size > most_bytes):
                    future, taken_bytes = in_flight.popleft()
                    yield future
                    held_bytes -= taken_bytes
                # What is bound to log lines: a pool's threads do not inherit it.
                in_flight.append((pool.submit(copy_context().run, function, item), size))
                held_bytes += size
            while in_flight:
                yield in_flight.popleft()[0]
        finally:
            for future, _ in in_flight:
                future.cancel()
