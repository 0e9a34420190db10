"""Which runs to ask for: one per day with waiting notes, never two of a day at once, few attempts at the same notes."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date

MAX_ATTEMPTS = 4


@dataclass(frozen=True)
class PastRun:
    """A run that was asked for.

    Attributes:
        day: Its day.
        digest: Digest of the notes that it was asked for.
        is_active: Whether it is queued or running.
    """

    day: date
    digest: str
    is_active: bool


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
    """What to ask for, and which days were given up until their notes change.

    Attributes:
        needs: Runs to ask for.
        given_up: Days whose notes were tried `MAX_ATTEMPTS` times in vain.
    """

    needs: tuple[RunNeed, ...]
    given_up: tuple[date, ...]


def decide_runs(waiting: Mapping[date, str], past: Iterable[PastRun]) -> RunDecision:
    """Decide which runs to ask for.

    Args:
        waiting: Days with waiting notes, each with a digest of them.
        past: Runs that were asked for before, for those days.
    """
    runs = list(past)
    busy = {run.day for run in runs if run.is_active}
    needs, given_up = [], []
    for day, digest in sorted(waiting.items()):
        attempts = sum(run.day == day and run.digest == digest for run in runs)
        if day in busy:
            continue
        if attempts >= MAX_ATTEMPTS:
            given_up.append(day)
        else:
            needs.append(RunNeed(day, digest, attempts + 1))
    return RunDecision(tuple(needs), tuple(given_up))
