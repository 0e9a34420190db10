"""Work in a process of its own that is killed before the n-th step that leaves a trace: every n in turn, none by name.

A step is a call that changes what outlives the process: an object written or deleted, a file of a table, a commit of
the catalogue, a write to the index, a message taken from the queue. Steps are counted as they come, one at a time.
"""

import os
import shutil
import signal
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from threading import RLock
from typing import Any

import obstore
from pyiceberg.io.pyarrow import PyArrowFile, PyArrowFileIO
from sqlalchemy.engine import Dialect
from sqlalchemy.engine.default import DefaultDialect

from adapters.event_queue import EventQueue
from adapters.image_index import ImageIndex
from adapters.lake import Lake
from adapters.settings import load_settings
from farmy_assets import stages
from tests.faults.producers import pose_as_bucket
from tests.faults.recovery import IMAGE_STAGES
from tests.system.killed_runs import run_process

Work = Callable[[Lake], None]
"""What the process does: a function of a module."""
NEVER = -1
_STEPS: tuple[tuple[Any, str], ...] = (
    (obstore, "put"),
    (obstore, "delete"),
    (PyArrowFile, "create"),
    (PyArrowFileIO, "delete"),
    (DefaultDialect, "do_commit"),
    (DefaultDialect, "do_execute"),
    (DefaultDialect, "do_execute_no_params"),
    (ImageIndex, "__init__"),
    (ImageIndex, "record_firsts"),
    (ImageIndex, "replace_firsts"),
    (ImageIndex, "record_submission"),
    (ImageIndex, "write_cursor"),
)
_QUEUE_STEPS = ("delete", "set_aside")
_FRAME_OF_A_DUMP = ("BEGIN TRANSACTION;", "COMMIT;")
_MOST_STEPS = 300


class StepCounter:
    """Counts steps and kills the process before one of them.

    Args:
        kill_before: The step, counting from 1; `NEVER` to count alone.
        watched: A home in which nothing may change but by a step.

    Attributes:
        steps: How many were taken or begun.
    """

    def __init__(self, kill_before: int, watched: Path | None = None) -> None:
        self.steps = 0
        self._kill_before = kill_before
        self._watched = watched
        self._lock = RLock()
        self._state = self._look()

    def arm(self, queue: EventQueue | None) -> None:
        """Have every step counted from now on."""
        for owner, name in _STEPS:
            setattr(owner, name, self._count(getattr(owner, name)))
        if queue is not None:
            for name in _QUEUE_STEPS:
                setattr(queue, name, self._count(getattr(queue, name)))

    def check_nothing_escaped(self) -> None:
        """Make sure that nothing changed since the last step."""
        changed = self._look() ^ self._state
        assert not changed, f"after step {self.steps} something changed that is no step: {sorted(changed)}"

    def _count(self, take: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(take)
        def take_unless_killed(*args: Any, **kwargs: Any) -> Any:
            if not _leaves_a_trace(args):
                return take(*args, **kwargs)
            with self._lock:
                self.check_nothing_escaped()
                self.steps += 1
                if self.steps == self._kill_before:
                    os.kill(os.getpid(), signal.SIGKILL)
                result = take(*args, **kwargs)
                self._state = self._look()
                return result

        return take_unless_killed

    def _look(self) -> set[str]:
        """Return what the home holds.

        Files of tables by name alone: one is filled after it was made, and read by nobody before the catalogue names
        it. Databases by what they say.
        """
        return set() if self._watched is None else set(_describe_home(self._watched))


def _leaves_a_trace(arguments: tuple[Any, ...]) -> bool:
    """Tell whether a call is a step: of the catalogue's statements only those that SQLite commits by themselves."""
    is_statement = isinstance(arguments[0], Dialect) and len(arguments) > 2
    return not is_statement or str(arguments[2]).lstrip().startswith("CREATE")


def _describe_home(home: Path) -> Iterator[str]:
    for path in home.rglob("*"):
        name = path.relative_to(home).as_posix()
        if path.suffix == ".db":
            with closing(sqlite3.connect(path, timeout=60)) as connection:
                yield from (f"{name}: {line}" for line in connection.iterdump() if line not in _FRAME_OF_A_DUMP)
        elif "/tables/" in f"/{name}":
            yield name
        elif path.is_file() and not name.startswith("logs/") and not name.endswith(("-wal", "-shm", "-journal")):
            yield f"{name}: {path.stat().st_size} {path.stat().st_mtime_ns}"


def _work(
    settings: dict[str, Any], work: Work, queue: EventQueue | None, kill_before: int, watched: Path | None
) -> None:
    # As in the fixture `images_alone`, which is not felt in this process.
    stages.STAGES = IMAGE_STAGES
    counter = StepCounter(kill_before, watched)
    counter.arm(queue)
    with Lake(load_settings(**settings)) as lake:
        if queue is not None:
            pose_as_bucket(lake)
            lake.event_queue = queue
        work(lake)
    counter.check_nothing_escaped()


@dataclass
class PreparedHome:
    """A home that can be brought back to the state in which it was prepared, at the same place.

    Tables name their files by their whole path, so that another place would not do.

    Attributes:
        settings: The settings of its lake, among them its `home`.
        saved: Where its state is kept.
    """

    settings: Mapping[str, Any]
    saved: Path

    def save(self) -> None:
        """Remember the state as it is."""
        shutil.copytree(self.settings["home"], self.saved)

    def restore(self) -> None:
        """Bring the state back."""
        shutil.rmtree(self.settings["home"])
        shutil.copytree(self.saved, self.settings["home"])

    def open(self) -> Lake:
        """Open its lake."""
        return Lake(load_settings(**self.settings))


def assert_every_change_is_a_step(home: PreparedHome, work: Work, queue: EventQueue | None = None) -> None:
    """Do the work undisturbed, and make sure that whatever it changes it changes by steps that are counted."""
    exit_code = run_process(_work, dict(home.settings), work, queue, NEVER, home.settings["home"])
    assert exit_code == 0, f"the work was to end by itself, without a change that is no step: {exit_code}"


def kill_before_every_step(
    home: PreparedHome, work: Work, check: Callable[[], None], queue: Callable[[], EventQueue] | None = None
) -> int:
    """Do the work from the same state again and again, killed one step later each time, until it ends by itself.

    Args:
        home: Where.
        work: What.
        check: Called after each kill, and after the end.
        queue: Fills a queue anew for each time.

    Returns:
        How many kills there were.
    """
    for step in range(1, _MOST_STEPS):
        home.restore()
        exit_code = run_process(_work, dict(home.settings), work, queue and queue(), step, None)
        assert exit_code in {0, -signal.SIGKILL}, f"killed before step {step} the process ended with {exit_code}"
        check()
        if exit_code == 0:
            return step - 1
    raise AssertionError(f"the work has more than {_MOST_STEPS} steps")
