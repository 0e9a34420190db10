"""What a run over days would do, why, and what it would cost: decided from keys and fingerprints, before anything runs.

What is certainly stale is what `lakehouse.day_updates` would compute, amend or drop now. What may become stale by that
is counted apart, "at most": images whose row further up will be another, and arrivals that nobody has read yet.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime

import pyarrow as pa
import pyarrow.compute as pc

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
class DayTotal:
    """All rows of one day: those that are certainly stale, those that are at most, and what all of them cost."""

    certain: int
    at_most: int
    cpu_seconds: float | None


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
    def rows_by_day(self) -> dict[date | None, DayTotal]:
        """The rows of all assets together, by day, ascending; what has no day comes first."""
        groups: dict[date | None, list[StaleRows]] = {}
        for stale in sorted(self.stale, key=lambda stale: stale.day or date.min):
            groups.setdefault(stale.day, []).append(stale)
        return {
            day: DayTotal(
                certain=sum(stale.rows for stale in group if not stale.is_at_most),
                at_most=sum(stale.rows for stale in group),
                cpu_seconds=_add(self.estimate(stale) for stale in group),
            )
            for day, group in groups.items()
        }

    @property
    def waiting_arrivals(self) -> int:
        """How many objects wait in landing that no table knows."""
        return sum(stale.rows for stale in self.stale if (stale.asset, stale.reason) == ("raw_images", BYTES))

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

    What follows is followed by image, within the day: that another leader of a group may change images of later days
    is not foreseen.

    Args:
        day: The day.
        stages: The tables that the run would bring up to date, each after those that it follows from.
        force: Whether it would compute every row again.
    """
    cascade = _Cascade()
    forecasts = []
    for stage in stages:
        row_key = TABLES[stage.table].row_key
        plan = plan_day(stage.current, stage.wanted, row_key, amends_by=stage.amends_by, force=force)
        stale = _list_certain(stage, day, plan)
        if stage.arrivals:
            stale.append(StaleRows(stage.table, day, BYTES, stage.arrivals))
        images, arrivals = cascade.follow(stage, plan)
        if images or arrivals:
            reason = BYTES if stage.takes_notes else UPSTREAM
            stale.append(StaleRows(stage.table, day, reason, len(images) + arrivals, is_at_most=True))
        untouched = plan.fresh - len(images.intersection(_list_images(stage.wanted)))
        forecasts.append(DayForecast(stage.table, day, tuple(stale), untouched))
    return forecasts


def _list_certain(stage: StageDay, day: date, plan: DayPlan) -> list[StaleRows]:
    """Return the rows that a run would compute, amend and drop now, by reason."""
    row_key = TABLES[stage.table].row_key
    held = dict(_read_pairs(stage.current, row_key))
    computed = Counter(_name_reason(held.get(key), wanted) for key, wanted in _read_pairs(plan.computed, row_key))
    amended = Counter(_name_reason(held.get(key), wanted) for key, wanted in _read_pairs(plan.amended, row_key))
    rows = computed + amended + Counter({DROPPED: len(plan.dropped)})
    return [StaleRows(stage.table, day, reason, rows[reason], amended[reason]) for reason in REASONS if rows[reason]]


def _read_pairs(rows: pa.Table, row_key: str) -> Iterable[tuple[str, str]]:
    return zip(rows.column(row_key).to_pylist(), rows.column("fingerprint").to_pylist(), strict=True)


def _name_reason(held: str | None, wanted: str) -> str:
    if held is None:
        return BYTES
    return FORCED if held == wanted else name_difference(held, wanted)


class _Cascade:
    """Which images of a day will or may have other rows, table by table downwards."""

    def __init__(self) -> None:
        self._changing: dict[str, set[str]] = {}
        self._arrivals: dict[str, int] = {}
        self._taken_in: dict[str, set[str]] = {}

    def follow(self, stage: StageDay, plan: DayPlan) -> tuple[set[str], int]:
        """Return the images whose rows may become stale beside those of the plan, and how many unknown ones may be."""
        row_key = TABLES[stage.table].row_key
        is_dropped = pc.is_in(stage.current.column(row_key), value_set=pa.array(sorted(plan.dropped), pa.string()))
        certain = {image for part in (plan.stale, stage.current.filter(is_dropped)) for image in _list_images(part)}
        if stage.takes_notes:
            possible, arrivals = set(stage.noted - certain), 0
            self._taken_in[stage.table] = {*_list_images(stage.current), *certain, *possible}
            self._arrivals[stage.table] = stage.arrivals
        else:
            possible, arrivals = self._list_upstream(stage) - certain, self._count_arrivals(stage)
            self._arrivals[stage.table] = arrivals
        self._changing[stage.table] = certain | possible
        return possible, arrivals

    def _list_upstream(self, stage: StageDay) -> set[str]:
        """Return the images with other rows further up, of those that everything taken in from outside knows."""
        images = set().union(*(self._changing.get(dep, set()) for dep in stage.deps))
        for dep in stage.deps:
            images &= self._taken_in.get(dep, images)
        return images

    def _count_arrivals(self, stage: StageDay) -> int:
        """Return how many images that nobody has read yet may come down to a stage: none where people come first."""
        if any(self._arrivals[dep] == 0 for dep in stage.deps if dep in self._taken_in):
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


def describe_rows(rows: StaleRows | Total) -> str:
    """Return how many rows there are, as people read it."""
    return f"at most {rows.rows:,}" if rows.is_at_most else f"{rows.rows:,}"


def describe_seconds(seconds: float | None) -> str:
    """Return CPU seconds as people read them."""
    if seconds is None:
        return "unknown"
    return f"{seconds:,.0f}" if seconds >= 100 else f"{seconds:.2g}" if seconds else "0"


def describe_cost(plan: Plan) -> str:
    """Return in a few sentences what a plan comes to."""
    at_most = sum(stale.rows for stale in plan.stale)
    sentences = [f"{plan.rows:,} rows are stale, at most {at_most:,} once those before them are computed."]
    if plan.waiting_arrivals:
        sentences.append(f"{plan.waiting_arrivals:,} arrivals wait.")
    sentences.append(
        f"By what past runs took, that is {describe_seconds(plan.cpu_seconds)} CPU seconds, at most "
        f"{describe_seconds(plan.cpu_seconds_at_most)}."
    )
    if plan.unmeasured:
        sentences.append(f"Not in it, because never measured: {', '.join(plan.unmeasured)}.")
    if plan.days_left:
        sentences.append(f"{plan.days_left:,} older days were not looked at.")
    return " ".join(sentences)


def describe_plan(plan: Plan, looked_at: datetime) -> str:
    """Return a plan as Markdown for Dagster's page.

    Args:
        plan: The plan.
        looked_at: When it was made.
    """
    days = f"{plan.days:,} of {plan.days + plan.days_left:,} days" if plan.days_left else f"{plan.days:,} days"
    heading = (
        f"**What a run would do, as of {looked_at:%Y-%m-%d %H:%M} UTC, {days}.** Reload definitions to look again."
    )
    if not plan.stale:
        seen = "All that was looked at" if plan.days_left else "Everything"
        return f"{heading}\n\n{seen} is up to date."
    lines = [
        f"| {total.asset} | {total.reason} | {describe_rows(total)} | {total.days} "
        f"| {describe_seconds(total.cpu_seconds)} |"
        for total in plan.totals
    ]
    table = "\n".join(["| asset | reason | rows | days | CPU seconds |", "| --- | --- | --: | --: | --: |", *lines])
    return f"{heading}\n\n{table}\n\n{describe_cost(plan)}"


def select_assets(plan: Plan, assets: Collection[str]) -> Plan:
    """Return the part of a plan that is about some assets."""
    return replace(plan, stale=tuple(stale for stale in plan.stale if stale.asset in assets))
