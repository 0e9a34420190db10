"""What a run would do and what that would cost: read from tables and notes, with nothing computed and nothing changed.

What is stale and why is decided in `lakehouse.reprocessing`; when the tables were last found up to date, in
`farmy_assets.stages`.
"""

import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cache

import pyarrow as pa
import pyarrow.compute as pc

from adapters.inbox import list_days_with_arrivals, list_days_with_progress, read_notes
from adapters.lake import Lake
from adapters.settings import load_settings
from farmy_assets import annotations, raw_images
from farmy_assets.day_runs import DayStage
from farmy_assets.stages import STAGES, is_known_up_to_date, list_known_days
from farmy_assets.training import needs_training
from lakehouse.annotation_progress import list_progress_notes_prefix, parse_progress_note_key
from lakehouse.fingerprints import UPSTREAM
from lakehouse.reprocessing import (
    DayForecast,
    Plan,
    StageDay,
    StaleRows,
    describe_plan,
    estimate_row_costs,
    forecast_day,
    renew_model,
    select_assets,
)
from lakehouse.schemas import LOOP, TABLES

_MODEL = "label_model"
_LOOK_S = 3.0
_GIVE_UP_S = 10.0
"""A storage that does not answer must not keep Dagster from loading."""


def plan_run(
    lake: Lake,
    days: Sequence[date],
    assets: Collection[str] = LOOP,
    *,
    force: bool = False,
    within_s: float | None = None,
    on_day: Callable[[date], None] = lambda _day: None,
) -> Plan:
    """Say what a run would do.

    Args:
        lake: The lake.
        days: The run's days.
        assets: The run's assets.
        force: Whether it would compute every row again.
        within_s: Seconds after which no further day is begun; the newest days come first.
        on_day: Told of each day when it was looked at.
    """
    stages = [stage for stage in STAGES if stage.table in assets]
    until = None if within_s is None else time.monotonic() + within_s
    forecasts: list[DayForecast] = []
    looked_at = 0
    to_do = _select_days(lake, days, assets, force=force)
    for day in to_do:
        if until is not None and time.monotonic() > until:
            break
        forecasts += forecast_day(day, [_read_stage_day(lake, stage, day) for stage in stages], force=force)
        looked_at += 1
        on_day(day)
    model = _plan_model(lake, forecasts) if _MODEL in assets and looked_at == len(to_do) else []
    if model:
        forecasts = renew_model(forecasts, {stage.table: stage.deps for stage in stages}, _MODEL)
    stale = [*model, *(rows for forecast in forecasts for rows in forecast.stale)]
    stale.sort(key=lambda rows: (LOOP.index(rows.asset), rows.day or date.min, rows.is_at_most))
    costs = {
        asset: estimate_row_costs([summary for _, _, summary in lake.tables.read_history(asset)])
        for asset in {rows.asset for rows in stale}
    }
    days_left = len(to_do) - looked_at
    return Plan(tuple(stale), costs, len(days) - days_left, days_left)


def _select_days(lake: Lake, days: Sequence[date], assets: Collection[str], *, force: bool) -> list[date]:
    """Return the days on which there may be something to do, the newest first."""
    newest_first = sorted(days, reverse=True)
    if force or not is_known_up_to_date(lake, sorted(days), assets):
        return newest_first
    waiting = {*list_days_with_arrivals(lake), *list_days_with_progress(lake)}
    return [day for day in newest_first if day in waiting]


def _read_stage_day(lake: Lake, stage: DayStage, day: date) -> StageDay:
    columns = dict.fromkeys([TABLES[stage.table].row_key, "image_id", "fingerprint", stage.amends_by])
    names = [name for name in columns if name is not None]
    current = lake.tables.read(stage.table, day=day, columns=names)
    noted, arrivals = _read_notes(lake, stage, day)
    return StageDay(
        stage.table,
        stage.deps,
        current,
        stage.select_from_tables(lake, day).rows.select(names),
        amends_by=stage.amends_by,
        takes_notes=not stage.is_hint_free,
        noted=noted,
        arrivals=arrivals,
    )


def _read_notes(lake: Lake, stage: DayStage, day: date) -> tuple[frozenset[str], int]:
    """Return the images that a stage's waiting notes tell of, and how many of their objects no table knows."""
    if stage is raw_images.STAGE:
        return _read_arrival_notes(lake, day)
    return (_read_progress_notes(lake, day), 0) if stage is annotations.STAGE else (frozenset(), 0)


def _read_arrival_notes(lake: Lake, day: date) -> tuple[frozenset[str], int]:
    keys = {hint.object_key for note in read_notes(lake, day) for hint in note.hints}
    if not keys:
        return frozenset(), 0
    rows = lake.tables.read("raw_images", day=day, columns=["object_key", "image_id"])
    known = rows.filter(pc.is_in(rows.column("object_key"), value_set=pa.array(sorted(keys))))
    return frozenset(known.column("image_id").to_pylist()), len(keys - set(known.column("object_key").to_pylist()))


def _read_progress_notes(lake: Lake, day: date) -> frozenset[str]:
    task_ids = {parse_progress_note_key(fact.key) for fact in lake.objects.list(list_progress_notes_prefix(day))}
    if not task_ids:
        return frozenset()
    tasks = lake.tables.read("annotation_tasks", day=day, columns=["task_id", "image_id"])
    changed = tasks.filter(pc.is_in(tasks.column("task_id"), value_set=pa.array(sorted(task_ids))))
    return frozenset(changed.column("image_id").to_pylist())


def _plan_model(lake: Lake, forecasts: Sequence[DayForecast]) -> list[StaleRows]:
    """Return the model that the run would train, or may train once labels have changed."""
    if needs_training(lake):
        return [StaleRows(_MODEL, None, UPSTREAM, 1)]
    if any(forecast.stale for forecast in forecasts if forecast.table == "labelled_dataset"):
        return [StaleRows(_MODEL, None, UPSTREAM, 1, is_at_most=True)]
    return []


@dataclass(frozen=True)
class WorkSeen:
    """What there was to do when somebody looked.

    Attributes:
        looked_at: When that was.
        plan: What a run over all days would do; None if it could not be found out.
        failure: Why it could not.
    """

    looked_at: datetime
    plan: Plan | None = None
    failure: str = ""

    def describe(self, assets: Collection[str]) -> str:
        """Return as Markdown what a run of some assets over all days would do."""
        if self.plan is not None:
            return describe_plan(select_assets(self.plan, assets), self.looked_at)
        return (
            f"**What a run would do could not be found out ({self.looked_at:%Y-%m-%d %H:%M} UTC):** {self.failure} "
            "Reload definitions to look again; `farmy plan` says more."
        )


@cache
def look_for_work() -> WorkSeen:
    """Look once in this process at what there is to do, for a few seconds, the newest days first."""
    looked_at = datetime.now(UTC)
    looking = ThreadPoolExecutor(1, thread_name_prefix="look-for-work")
    plan = looking.submit(_plan_all_days)
    looking.shutdown(wait=False)
    try:
        error = plan.exception(_GIVE_UP_S)
    except TimeoutError:
        return WorkSeen(looked_at, failure=f"The lake did not answer within {_GIVE_UP_S:.0f} s.")
    return WorkSeen(looked_at, plan.result()) if error is None else WorkSeen(looked_at, failure=str(error))


def _plan_all_days() -> Plan:
    with Lake(load_settings()) as lake:
        return plan_run(lake, list_known_days(lake), within_s=_LOOK_S)
