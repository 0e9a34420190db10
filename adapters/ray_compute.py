"""Work on the processes of Ray: a Ray on this machine that ends with us, or a cluster that runs elsewhere.

Items travel in chunks, because a task for each would cost more than its work. In a worker a chunk goes through
`ThreadCompute(1)`, so that reading, working and writing overlap there, too. What travels back are results, and the
first error as it was raised.
"""

import logging
import signal
import socket
import threading
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future
from contextlib import closing, contextmanager
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from adapters.compute import Data, Item, Kept, Result, ThreadCompute
from adapters.local_ray import NO_REPORTS, LocalRay, build_environment, changed_environment, start_local_ray
from lakehouse.errors import SettingsError, TransientError

if TYPE_CHECKING:
    from ray import ObjectRef
    from ray.remote_function import RemoteFunction

MOST_ITEMS_PER_CHUNK = 32
CHUNKS_PER_WORKER = 2
"""Chunks in flight for each worker: one being worked on, one waiting."""
_REPEATS = 3
_ANSWER_TIMEOUT_S = 5

Begin = Callable[[Iterable[Item]], Generator[Future[Result]]]
"""Begins the work of a chunk's items, on threads."""
Outcome = tuple[list[Result], BaseException | None]
"""Results of a chunk's first items, and the error of the next, if there was one."""


class RayCompute:
    """Worker processes of Ray, one connection to it in a process.

    At most `CHUNKS_PER_WORKER * workers + 1` chunks of at most `MOST_ITEMS_PER_CHUNK` items are in flight. Work whose
    process is lost is done again, three times at most.

    Args:
        workers: Chunks that are worked on at once.
        address: Where a cluster runs, `host:port` or `auto`; its machines need Farmy installed, and the same lake
            within reach. None starts a Ray on this machine at the first batch, and `close` ends it.
    """

    def __init__(self, workers: int, address: str | None = None) -> None:
        self._workers = workers
        self._address = address
        self._local: LocalRay | None = None
        self._is_connected = False
        self._task: RemoteFunction[Any, Any] | None = None

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Yield `function(item)` of each item."""
        return self._stream(partial(ThreadCompute(1).begin_map, function=function), items)

    def pipe(
        self,
        items: Iterable[Item],
        *,
        read: Callable[[Item], Data],
        work: Callable[[Data], Result],
        write: Callable[[Item, Result], Kept],
        size_bytes: Callable[[Item], int],
    ) -> Iterator[Kept]:
        """Yield `write(item, work(read(item)))` of each item; what `read` and `work` return stays in the worker."""
        steps = partial(ThreadCompute(1).begin_pipe, read=read, work=work, write=write, size_bytes=size_bytes)
        return self._stream(steps, items)

    def close(self) -> None:
        """Leave Ray, and end it if it was started for this."""
        self._task = None
        if self._is_connected:
            import ray

            ray.shutdown()
            self._is_connected = False
        if self._local is not None:
            self._local.stop()
            self._local = None

    def _stream(self, begin: Begin[Item, Result], items: Iterable[Item]) -> Iterator[Result]:
        in_flight: deque[ObjectRef[Outcome[Result]]] = deque()
        try:
            for chunk in _cut_chunks(items, self._workers):
                in_flight.append(self._connect().remote(begin, chunk))
                if len(in_flight) > CHUNKS_PER_WORKER * self._workers:
                    yield from _take_results(in_flight.popleft())
            while in_flight:
                yield from _take_results(in_flight.popleft())
        finally:
            _cancel(in_flight)

    def _connect(self) -> "RemoteFunction[Any, Any]":
        """Return the task that works on a chunk, connected to a Ray, which is started if need be."""
        if self._task is None:
            _check_installed()
            if self._address is None:
                self._local = self._local or start_local_ray(self._workers)
                self._is_connected = _connect(self._local.address, build_environment())
            else:
                self._is_connected = _connect(self._address, NO_REPORTS)
            import ray

            self._task = ray.remote(num_cpus=1, max_retries=_REPEATS)(_run_chunk)
        return self._task


def _check_installed() -> None:
    if find_spec("ray") is None:
        raise SettingsError(
            "FARMY_COMPUTE is ray, but Ray is not installed: run pip install 'farmy-lakehouse[ray]', or set "
            "FARMY_COMPUTE=threads."
        )


def _connect(address: str, variables: dict[str, str]) -> bool:
    """Connect this process to a Ray, silently; tell whether it was not connected before.

    Raises:
        SettingsError: If Ray is not there.
    """
    with changed_environment(variables):
        import ray

        if ray.is_initialized():
            return False
        _silence()
        try:
            _check_answers(address)
            with _kept_sigterm_handler():
                ray.init(address=address, configure_logging=False, log_to_driver=False)
        except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
            raise SettingsError(
                f"Cannot connect to Ray at {address}: {_shorten(error)}. See that it runs there, with the versions of "
                "Ray and Python that are used here, and correct FARMY_RAY_ADDRESS; without it Farmy starts a Ray."
            ) from error
    return True


def _shorten(error: Exception) -> str:
    """Return what Ray says in its first line."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].rstrip(".")


def _silence() -> None:
    """Have Ray print nothing."""
    import ray

    logging.getLogger("ray").setLevel(logging.ERROR)
    # No setting keeps Ray from telling of lost workers on standard output, where the answers of `--json` stand.
    ray._private.worker._worker_logs_enabled = False  # noqa: SLF001


def _check_answers(address: str) -> None:
    """Knock at `host:port`: Ray itself would try for a quarter of an hour.

    Raises:
        OSError: If nobody answers.
    """
    host, _, port = address.rpartition(":")
    if port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), _ANSWER_TIMEOUT_S).close()


@contextmanager
def _kept_sigterm_handler() -> Iterator[None]:
    """Undo that Ray takes the handling of SIGTERM over, which is Dagster's."""
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)


def _cut_chunks(items: Iterable[Item], workers: int) -> Iterator[list[Item]]:
    """Cut items into chunks: small ones first, so that few items reach all workers, then larger and larger ones."""
    chunk: list[Item] = []
    chunks = 0
    for item in items:
        chunk.append(item)
        if len(chunk) >= min(MOST_ITEMS_PER_CHUNK, 2 ** (chunks // workers)):
            yield chunk
            chunk = []
            chunks += 1
    if chunk:
        yield chunk


def _run_chunk(begin: Begin[Item, Result], chunk: list[Item]) -> Outcome[Result]:
    """Work on a chunk, in a worker, up to the first error."""
    results: list[Result] = []
    with closing(begin(chunk)) as futures:
        for future in futures:
            error = future.exception()
            if error is not None:
                # What is pickled loses its traceback, a note stays.
                error.add_note("In a Ray worker: " + "".join(traceback.format_exception(error)))
                return results, error
            results.append(future.result())
    return results, None


def _take_results(chunk: "ObjectRef[Outcome[Result]]") -> Iterator[Result]:
    """Wait for a chunk; yield its results, then raise its error.

    Raises:
        TransientError: If the work was lost with its process too often.
    """
    import ray
    from ray.exceptions import LocalRayletDiedError, NodeDiedError, OutOfMemoryError, WorkerCrashedError

    try:
        results, error = ray.get(chunk)
    except (WorkerCrashedError, OutOfMemoryError, NodeDiedError, LocalRayletDiedError) as lost:
        raise TransientError(
            f"Ray lost the process that worked on a chunk of the batch {_REPEATS + 1} times: "
            f"{_shorten(lost)}. See that its machines have memory to spare, then run again: what was committed before "
            "stands."
        ) from lost
    yield from results
    if error is not None:
        raise error


def _cancel(chunks: "Iterable[ObjectRef[Any]]") -> None:
    """Have chunks end at once: items that were not begun never are; wait for those that were."""
    remaining = list(chunks)
    if not remaining:
        return
    import ray

    if ray.is_initialized():
        for chunk in remaining:
            ray.cancel(chunk)
        ray.wait(remaining, num_returns=len(remaining))
