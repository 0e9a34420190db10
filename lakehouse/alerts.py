"""Alerts of failed runs: what one says, which runs deserve one, and which deliveries are due.

Everything that must survive from one look to the next is in one `AlertState`, which the sensor keeps as its cursor.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from enum import Enum
from typing import Any

MAX_DELIVERIES = 10
"""Times that one alert is sent to one receiver before it is given up, within about four hours."""
_FIRST_PAUSE_S = 30
DECISION_S = 600
"""How long Dagster may take to begin the retry of a failed run before people are told of it."""
_MAX_ERROR_CHARACTERS = 1_000


@dataclass(frozen=True)
class RunFailure:
    """A run that failed and that nothing will repeat.

    Attributes:
        run_id: Dagster's id of the run.
        job: Its job.
        days: Its day, or `first..last`; empty where the run is not about days.
        asset: The asset, or op, that failed first; None if the run itself failed, because its process was lost, say.
        error: What went wrong and what to do, in a sentence or a few.
        url: Where the run is shown; None if it is not known under which address people reach Dagster.
    """

    run_id: str
    job: str
    days: str
    asset: str | None
    error: str
    url: str | None

    @property
    def title(self) -> str:
        """One line that says what failed."""
        days = f" on {self.days}" if self.days else ""
        asset = f" at {self.asset}" if self.asset else ""
        return f"Farmy: {self.job} failed{days}{asset}"

    @property
    def text(self) -> str:
        """The whole alert, for people."""
        return f"{self.title}\n{self.error}\nRun {self.url or self.run_id}"

    def to_dict(self) -> dict[str, str | None]:
        """Return the alert for programs: its fields by name."""
        return asdict(self)


def describe_days(tags: Mapping[str, str]) -> str:
    """Return the day of a run, or `first..last`, from its tags; empty if it is not about days."""
    day = tags.get("dagster/partition")
    if day is not None:
        return day
    first, last = tags.get("dagster/asset_partition_range_start"), tags.get("dagster/asset_partition_range_end")
    return "" if first is None else f"{first}..{last}"


def shorten_error(text: str) -> str:
    """Return an error in at most 1,000 characters."""
    if len(text) <= _MAX_ERROR_CHARACTERS:
        return text
    return f"{text[: _MAX_ERROR_CHARACTERS - 1]}…"


class Fate(Enum):
    """What becomes of a failed run."""

    FINAL = "final"
    RETRIED = "retried"
    UNDECIDED = "undecided"


def find_fate(tags: Mapping[str, str], *, are_runs_retried: bool) -> Fate:
    """Tell what becomes of a failed run.

    Dagster records the failure first and a moment later, as a tag, whether it will retry; what is meant to be retried
    may still come to nothing. So only the id of the retry itself says that there is one.

    Args:
        tags: The run's tags as they are now.
        are_runs_retried: Whether this Dagster retries any run.
    """
    if not are_runs_retried or tags.get("dagster/will_retry") == "false":
        return Fate.FINAL
    return Fate.RETRIED if "dagster/auto_retry_run_id" in tags else Fate.UNDECIDED


@dataclass(frozen=True)
class UndecidedRun:
    """A failed run that Dagster may retry.

    Attributes:
        run_id: The run.
        until: Seconds since the epoch from which on nobody waits for a retry any more.
    """

    run_id: str
    until: float


@dataclass(frozen=True)
class WaitingAlert:
    """An alert that one receiver has not got yet.

    Attributes:
        run_id: The run that failed.
        channel: Name of the receiver.
        deliveries: How often it was sent in vain.
        not_before: Seconds since the epoch before which it is not sent again.
    """

    run_id: str
    channel: str
    deliveries: int = 0
    not_before: float = 0.0

    @property
    def is_given_up(self) -> bool:
        """Whether it was sent as often as it may be."""
        return self.deliveries >= MAX_DELIVERIES

    def postpone(self, now: float) -> "WaitingAlert":
        """Return the alert after a delivery that failed, with a pause that doubles each time."""
        pause = _FIRST_PAUSE_S * 2**self.deliveries
        return replace(self, deliveries=self.deliveries + 1, not_before=now + pause)


@dataclass(frozen=True)
class AlertState:
    """What the sensor has to remember.

    Attributes:
        last_event: Number of the newest recorded failure that was looked at.
        undecided: Failed runs that Dagster may retry.
        waiting: Alerts that are still to be delivered.
    """

    last_event: int
    undecided: tuple[UndecidedRun, ...] = ()
    waiting: tuple[WaitingAlert, ...] = ()

    def to_text(self) -> str:
        """Return the state as JSON, which `parse_alert_state` reads."""
        return json.dumps(asdict(self))


def parse_alert_state(text: str | None) -> AlertState | None:
    """Return the state that a text holds; None if there is none, or none that this version wrote."""
    try:
        found: Any = json.loads(text or "null")
        return AlertState(
            int(found["last_event"]),
            tuple(UndecidedRun(**run) for run in found["undecided"]),
            tuple(WaitingAlert(**alert) for alert in found["waiting"]),
        )
    except (ValueError, TypeError, KeyError):
        return None


def select_due_alerts(waiting: Iterable[WaitingAlert], now: float) -> list[WaitingAlert]:
    """Return the alerts to send now, those that never failed first: what fails again and again holds up nothing."""
    due = [alert for alert in waiting if alert.not_before <= now]
    return sorted(due, key=lambda alert: alert.deliveries)
