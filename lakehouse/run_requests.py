"""Which runs to ask for: one per day with waiting notes, never two of a day at once, few attempts at the same notes."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta

MAX_ATTEMPTS = 4
MAX_REQUESTS = 25
"""Runs to ask for at one look: each takes the sensor some time, of which it has a minute."""
FIRST_PAUSE = timedelta(minutes=1)
"""Between the first attempt and the second; then twice as long each time."""


@dataclass(frozen=True)
class PastRun:
    """A run that was asked for.

    Attributes:
        day: Its day.
        digest: Digest of the notes that it was asked for.
        attempt: Which attempt at these notes it was, from 1 on.
        ended_at: When it ended; None while it is queued or running.
    """

    day: date
    digest: str
    attempt: int
    ended_at: datetime | None


@dataclass(frozen=True)
class RunNeed:
    """A run to ask for.

    Attributes:
        day: Its day.
        digest: Digest of the notes that it should take in.
        attempt: 1 for the first run for these notes, then counting.
    """

    day: date
    digest: str
    attempt: int

    @property
    def run_key(self) -> str:
        """A name that no other request has: the same name is never run twice, not even after a failure."""
        return f"{self.day}-{self.digest}-{self.attempt}"


@dataclass(frozen=True)
class RunDecision:
    """What to ask for, and what not to ask for now.

    Attributes:
        needs: Runs to ask for, newest day first.
        paused: Days whose notes are tried again later, each with the time from which on.
        given_up: Days whose notes were tried `MAX_ATTEMPTS` times in vain; other notes or a run by hand end that.
    """

    needs: tuple[RunNeed, ...]
    paused: Mapping[date, datetime]
    given_up: tuple[date, ...]


def decide_runs(
    waiting: Mapping[date, str], past: Iterable[PastRun], busy_days: Collection[date], now: datetime
) -> RunDecision:
    """Decide which runs to ask for.

    Args:
        waiting: Days with waiting notes, each with a digest of them.
        past: Runs that were asked for before, for those days.
        busy_days: Days on which any run is queued or running.
        now: The present time.
    """
    newest: dict[tuple[date, str], PastRun] = {}
    # Dagster's own repeats of a run count as the same attempt: the one that ends last decides.
    for run in sorted(past, key=lambda run: (run.attempt, run.ended_at is None, run.ended_at or now)):
        newest[run.day, run.digest] = run
    needs, paused, given_up = [], {}, []
    for day, digest in sorted(waiting.items(), reverse=True):
        last = newest.get((day, digest))
        if day in busy_days or (last is not None and last.ended_at is None):
            continue
        if last is None or last.ended_at is None:
            needs.append(RunNeed(day, digest, 1))
        elif last.attempt >= MAX_ATTEMPTS:
            given_up.append(day)
        elif now < (due := last.ended_at + FIRST_PAUSE * 2 ** (last.attempt - 1)):
            paused[day] = due
        else:
            needs.append(RunNeed(day, digest, last.attempt + 1))
    return RunDecision(tuple(needs[:MAX_REQUESTS]), paused, tuple(given_up))
