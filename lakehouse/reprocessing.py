"""What a run over days would do, why, and what it would cost: decided from keys and fingerprints, before anything runs.

What is certainly stale is what `lakehouse.day_updates` would compute, amend or drop now. What may become stale by that
is counted apart, "at most": images whose row further up will be another, and arrivals that nobody has read yet.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date

import pyarrow as pa

from lakehouse.day_updates import DayPlan, plan_day
from lakehouse.fingerprints import CODE, MODEL, SETTINGS, UPSTREAM, name_difference
from lakehouse.schemas import TABLES

BYTES, DROPPED, FORCED = "bytes", "dropped", "forced"
REASONS = (BYTES, CODE, SETTINGS, MODEL, UPSTREAM, DROPPED, FORCED)
"""Why a row is stale: it is missing; a part of its fingerprint differs; it is no longer wanted; it is up to date, and
computed all the same."""

CPU_SECONDS = "farmy.cpu-seconds"
ROWS_COMPUTED = "farmy.rows-computed"
ROWS_AMENDED = "farmy.rows-amended"
"""What the snapshot of a commit says of what it cost."""
_COMMITS_LOOKED_AT = 50


@dataclass(frozen=True)
class StageDay:
    """What one day of one table holds, and what it should hold as far as tables tell.

    Attributes:
        table: Name of the table.
        deps: Names of the tables that it follows from.
        current: Its rows: the row key, `image_id`, `fingerprint`, and the column `amends_by` if there is one.
        wanted: What it should hold, one row per key: the same columns.
        amends_by: See `lakehouse.day_updates.plan_day`.
        takes_notes: Whether its rows come from outside, through notes, and never from other tables alone.
        noted: Images that waiting notes tell of.
        arrivals: How many waiting notes tell of images that are not known yet.
    """

    table: str
    deps: tuple[str, ...]
    current: pa.Table
    wanted: pa.Table
    amends_by: str | None = None
    takes_notes: bool = False
    noted: frozenset[str] = frozenset()
    arrivals: int = 0


@dataclass(frozen=True)
class StaleRows:
    """Rows of one asset and day that are stale for one reason.

    Attributes:
        asset: The asset.
        day: The day; None for an asset without days.
        reason: One of `REASONS`.
        rows: How many.
        amended: How many of them keep their costly part.
        is_at_most: Whether they may turn out to be up to date.
    """

    asset: str
    day: date | None
    reason: str
    rows: int
    amended: int = 0
    is_at_most: bool = False


@dataclass(frozen=True)
class DayForecast:
    """What a run would do to one day of one table.

    Attributes:
        stale: The stale rows by reason, those that are certain first.
        untouched: How many other rows it holds.
    """

    table: str
    day: date
    stale: tuple[StaleRows, ...]
    untouched: int


@dataclass(frozen=True)
class RowCosts:
    """CPU seconds for one row of an asset, as measured; None where nothing was measured yet."""

    computed: float | None = None
    amended: float | None = None

    def estimate(self, stale: StaleRows) -> float | None:
        """Return the CPU seconds that rows will take; None if that is unknown."""
        if stale.reason == DROPPED:
            return 0.0
        computed = _multiply(stale.rows - stale.amended, self.computed)
        amended = _multiply(stale.amended, self.amended)
        return None if computed is None or amended is None else computed + amended


def _multiply(rows: int, seconds: float | None) -> float | None:
    if rows == 0:
        return 0.0
    return None if seconds is None else rows * seconds


@dataclass(frozen=True)
class Total:
    """All rows of one asset that are stale for one reason: on how many days, and what they cost."""

    asset: str
    reason: str
    rows: int
    days: int
    cpu_seconds: float | None
    is_at_most: bool


@dataclass(frozen=True)
class Plan:
    """What a run over days would do.

    Attributes:
        stale: Stale rows by asset, day and reason, the assets in the order in which they run.
        costs: What a row of each asset takes.
        days: How many days were looked at.
        days_left: How many more there are, for which there was no time.
    """

    stale: tuple[StaleRows, ...]
    costs: Mapping[str, RowCosts]
    days: int
    days_left: int = 0

    def estimate(self, stale: StaleRows) -> float | None:
        """Return the CPU seconds that rows of the plan will take; None if that is unknown."""
        return self.costs.get(stale.asset, RowCosts()).estimate(stale)

    @property
    def totals(self) -> list[Total]:
        """The rows of all days together, by asset and reason, in the order of the plan."""
        groups: dict[tuple[str, str, bool], list[StaleRows]] = {}
        for stale in self.stale:
            groups.setdefault((stale.asset, stale.reason, stale.is_at_most), []).append(stale)
        return [
            Total(
                asset=asset,
                reason=reason,
                rows=sum(stale.rows for stale in group),
                days=len({stale.day for stale in group}),
                cpu_seconds=_add(self.estimate(stale) for stale in group),
                is_at_most=is_at_most,
            )
            for (asset, reason, is_at_most), group in groups.items()
        ]

    @property
    def rows(self) -> int:
        """How many rows are certainly stale."""
        return sum(stale.rows for stale in self.stale if not stale.is_at_most)

    @property
    def cpu_seconds(self) -> float:
        """CPU seconds for the rows that are certainly stale, of the assets whose cost is known."""
        return sum(self.estimate(stale) or 0.0 for stale in self.stale if not stale.is_at_most)

    @property
    def cpu_seconds_at_most(self) -> float:
        """CPU seconds if all that may become stale does, of the assets whose cost is known."""
        return sum(self.estimate(stale) or 0.0 for stale in self.stale)

    @property
    def unmeasured(self) -> list[str]:
        """Assets with stale rows whose cost is unknown."""
        return sorted({stale.asset for stale in self.stale if self.estimate(stale) is None})


def _add(seconds: Iterable[float | None]) -> float | None:
    known = list(seconds)
    return None if None in known else sum(second or 0.0 for second in known)


def estimate_row_costs(history: Sequence[Mapping[str, str]]) -> RowCosts:
    """Return what a row costs: CPU seconds over rows of the last commits that say so.

    A commit that both computed and amended rows counts for the computed ones: amending costs next to nothing beside it.

    Args:
        history: The summaries of a table's snapshots, oldest first.
    """
    measured = [summary for summary in history if CPU_SECONDS in summary][-_COMMITS_LOOKED_AT:]
    computing = [summary for summary in measured if int(summary[ROWS_COMPUTED])]
    amending = [summary for summary in measured if not int(summary[ROWS_COMPUTED]) and int(summary[ROWS_AMENDED])]
    return RowCosts(_divide(computing, ROWS_COMPUTED), _divide(amending, ROWS_AMENDED))


def _divide(commits: Sequence[Mapping[str, str]], rows: str) -> float | None:
    if not commits:
        return None
    return sum(float(commit[CPU_SECONDS]) for commit in commits) / sum(int(commit[rows]) for commit in commits)


def forecast_day(day: date, stages: Iterable[StageDay], *, force: bool = False) -> list[DayForecast]:
    """Say what a run over one day would do.

    Args:
        day: The day.
        stages: The tables that the run would bring up to date, each after those that it follows from.
        force: Whether it would compute every row again.
    """
    cascade = _Cascade()
    forecasts = []
    for stage in stages:
        plan = plan_day(
            stage.current, stage.wanted, TABLES[stage.table].row_key, amends_by=stage.amends_by, force=force
        )
        certain = _list_certain(stage, day, plan)
        possible, touched = cascade.follow(stage, plan)
        if stage.arrivals:
            certain.append(StaleRows(stage.table, day, BYTES, stage.arrivals))
        if possible:
            reason = BYTES if stage.takes_notes else UPSTREAM
            certain.append(StaleRows(stage.table, day, reason, possible, is_at_most=True))
        forecasts.append(DayForecast(stage.table, day, tuple(certain), plan.fresh - touched))
    return forecasts


def _list_certain(stage: StageDay, day: date, plan: DayPlan) -> list[StaleRows]:
    """Return the rows that a run would compute, amend and drop now, by reason."""
    row_key = TABLES[stage.table].row_key
    columns = (stage.current.column(name).to_pylist() for name in (row_key, "fingerprint"))
    held = dict(zip(*columns, strict=True))
    rows: Counter[str] = Counter()
    amended: Counter[str] = Counter()
    for part, counters in ((plan.computed, (rows,)), (plan.amended, (rows, amended))):
        columns = (part.column(name).to_pylist() for name in (row_key, "fingerprint"))
        for key, fingerprint in zip(*columns, strict=True):
            reason = _name_reason(held.get(key), fingerprint)
            for counter in counters:
                counter[reason] += 1
    rows[DROPPED] = len(plan.dropped)
    return [
        StaleRows(stage.table, day, reason, rows[reason], amended[reason]) for reason in REASONS if rows[reason] > 0
    ]


def _name_reason(held: str | None, wanted: str) -> str:
    if held is None:
        return BYTES
    return FORCED if held == wanted else name_difference(held, wanted)


class _Cascade:
    """Whose rows of one day will be other ones, table by table downwards."""

    def __init__(self) -> None:
        self._changing: dict[str, set[str]] = {}
        self._from_outside: dict[str, set[str]] = {}
        self._arrivals: dict[str, int] = {}

    def follow(self, stage: StageDay, plan: DayPlan) -> tuple[int, int]:
        """Return how many rows of a stage may become stale, and how many of those stand now."""
        key = TABLES[stage.table].row_key
        certain = {*_list_images(plan.computed), *_list_images(plan.amended)}
        gone = stage.current.filter(pa.array([row in plan.dropped for row in stage.current.column(key).to_pylist()]))
        certain.update(_list_images(gone))
        possible = (set(stage.noted) if stage.takes_notes else self._list_upstream(stage)) - certain
        arrivals = stage.arrivals if stage.takes_notes else self._count_arrivals(stage)
        self._changing[stage.table] = certain | possible
        self._arrivals[stage.table] = arrivals
        if stage.takes_notes:
            self._from_outside[stage.table] = {*_list_images(stage.current), *certain, *possible}
        touched = len(possible & set(_list_images(stage.wanted)))
        return len(possible) + (0 if stage.takes_notes else arrivals), touched

    def _list_upstream(self, stage: StageDay) -> set[str]:
        """Return the images with another row further up, of those that the stage can have a row of."""
        images = set().union(*(self._changing.get(dep, set()) for dep in stage.deps))
        for dep in stage.deps:
            images &= self._from_outside.get(dep, images)
        return images

    def _count_arrivals(self, stage: StageDay) -> int:
        """Return how many images that nobody has read yet may come down to a stage."""
        if any(not self._arrivals[dep] for dep in stage.deps if dep in self._from_outside):
            return 0
        return max((self._arrivals.get(dep, 0) for dep in stage.deps), default=0)


def _list_images(rows: pa.Table) -> list[str]:
    images: list[str] = rows.column("image_id").to_pylist()
    return images


def renew_model(forecasts: Iterable[DayForecast], deps: Mapping[str, Sequence[str]], model: str) -> list[DayForecast]:
    """Return forecasts for the case that a new model comes first: then all that follows from it may be stale.

    Args:
        forecasts: What a run would do with the model in use.
        deps: What each table follows from.
        model: Name of the model's table.
    """
    followers = {model}
    for table, names in deps.items():
        if followers.intersection(names):
            followers.add(table)
    renewed = []
    for forecast in forecasts:
        if forecast.table not in followers or not forecast.untouched:
            renewed.append(forecast)
            continue
        reason = MODEL if model in deps[forecast.table] else UPSTREAM
        more = StaleRows(forecast.table, forecast.day, reason, forecast.untouched, is_at_most=True)
        renewed.append(replace(forecast, stale=(*forecast.stale, more), untouched=0))
    return renewed
