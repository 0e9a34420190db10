"""The commit protocol: a run brings a day up to date.

Every day-partitioned asset runs through `update_day`: it asks the stage which rows the day should hold, computes
those that are missing or stale, and commits the day in one atomic snapshot. What a stage thinks lives in
`lakehouse`; Dagster's side of it in `farmy_assets.day_assets`, so that what is stale can be told without loading
Dagster.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from adapters.cpu_time import measure_cpu_seconds
from adapters.lake import Lake
from adapters.tables import DayRows
from lakehouse.day_updates import DayPlan, keep_standing_rows, plan_day
from lakehouse.errors import DayChangedError
from lakehouse.fingerprints import hash_values
from lakehouse.reprocessing import CPU_SECONDS, ROWS_AMENDED, ROWS_COMPUTED
from lakehouse.schemas import TABLES

outcomes_log = logging.getLogger("farmy.outcomes")
"""Each outcome as it happens, as the record's `outcome`: for whoever shows progress."""
_REPEATS = 5


@dataclass(frozen=True)
class Wanted:
    """What a day should hold.

    Attributes:
        rows: One row per key, with its `fingerprint` and whatever its computation reads.
        notes: Keys of the notes that were taken into account; deleted once the day is committed.
        remarks: What is odd about the inputs, a sentence each; logged as warnings.
    """

    rows: pa.Table
    notes: Sequence[str] = ()
    remarks: Sequence[str] = ()


@dataclass(frozen=True)
class Markdown:
    """A text that Dagster's page shows as Markdown."""

    text: str


@dataclass(frozen=True)
class DayStage:
    """One stage of the graph, a day at a time.

    Attributes:
        table: Its table, which bears its asset's name.
        description: What one row is, where it comes from, who reads it: the docstring of the stage's module.
        group: Its group on Dagster's page.
        deps: The assets whose tables it reads.
        kind: What it is made with, beside Iceberg.
        code_version: Raised when the computation changes; makes every row stale.
        select: What the day should hold.
        compute: From stale rows of `select` to finished rows of the table, with the same fingerprints; by default the
            selected rows are finished as they are.
        amends_by: The column with the fingerprint of the costly part of a row. A stale row whose costly part stands is
            not computed but amended; without such a column every stale row is computed.
        amend: Of stale rows whose costly part stands and of the rows that the day holds of them: finished rows, with
            their new fingerprints.
        retire: Of the rows that the day holds and that go: undoes outside what they stand for, before the commit that
            drops them; repeated after a failure, so it repeats harmlessly.
        settle: What must follow the commit before notes are deleted; repeated after a failure, so it repeats
            harmlessly.
        preview: Pictures and counts for Dagster's page, of the day's finished rows.
        select_standing: Where `select` takes notes in: what the day should hold as long as none is, from tables alone.
    """

    table: str
    description: str | None
    group: str
    deps: tuple[str, ...]
    kind: str
    code_version: str
    select: Callable[[Lake, date], Wanted]
    compute: Callable[[Lake, pa.Table], pa.Table] = lambda _lake, stale: stale
    amends_by: str | None = None
    amend: Callable[[Lake, pa.Table, pa.Table], pa.Table] = lambda _lake, stale, _held: stale
    retire: Callable[[Lake, pa.Table], None] = lambda _lake, _dropped: None
    settle: Callable[[Lake, pa.Table], None] = lambda _lake, _rows: None
    preview: Callable[[Lake, pa.Table], Mapping[str, Any]] = lambda _lake, _rows: {}
    select_standing: Callable[[Lake, date], Wanted] | None = None

    @property
    def is_hint_free(self) -> bool:
        """Whether `select` reads tables alone."""
        return self.select_standing is None

    def select_from_tables(self, lake: Lake, day: date) -> Wanted:
        """Return what the day should hold as far as tables tell: anyone may ask, nothing is taken in."""
        return (self.select_standing or self.select)(lake, day)


@dataclass(frozen=True)
class DayOutcome:
    """What a run did to one day of one stage."""

    table: str
    day: date
    rows: int
    computed: int
    amended: int
    dropped: int
    unchanged: int
    seconds: float
    snapshot_id: int | None
    content_hash: str
    preview: Mapping[str, Any] = field(default_factory=dict)
    remarks: Sequence[str] = ()

    def __str__(self) -> str:
        return (
            f"{self.table} {self.day}: {self.rows} rows, {self.computed} computed, {self.amended} amended, "
            f"{self.dropped} dropped, {self.seconds:.2f} s"
        )


def update_day(lake: Lake, stage: DayStage, day: date, *, run_id: str, force: bool = False) -> DayOutcome:
    """Bring one day of one stage up to date.

    A commit of another run in between makes this one read and compute again; nothing is ever overwritten unseen.

    Raises:
        FarmyError: If the outside world fails; the day is then as it was, and the next run goes on from there.
    """
    started, cpu_started = time.perf_counter(), measure_cpu_seconds()
    for _ in range(_REPEATS):
        try:
            # The day is read first: a row that another run commits after this is one that our commit must not miss.
            read = lake.tables.read_day(stage.table, day)
            wanted = stage.select(lake, day)
            plan = plan_day(read.rows, wanted.rows, TABLES[stage.table].row_key, amends_by=stage.amends_by, force=force)
            finished = _finish(lake, stage, read.rows, plan)
            rows, snapshot_id = _commit(lake, stage, day, read, plan, finished, run_id=run_id, cpu_started=cpu_started)
            break
        except DayChangedError as error:
            changed = error
    else:
        raise changed
    stage.settle(lake, wanted.rows)
    lake.objects.delete(wanted.notes)
    outcome = DayOutcome(
        table=stage.table,
        day=day,
        rows=rows.num_rows,
        computed=plan.computed.num_rows,
        amended=plan.amended.num_rows,
        dropped=len(plan.dropped),
        unchanged=plan.fresh,
        seconds=time.perf_counter() - started,
        snapshot_id=snapshot_id,
        content_hash=_hash_day(rows, TABLES[stage.table].row_key),
        preview=stage.preview(lake, rows),
        remarks=wanted.remarks,
    )
    outcomes_log.info(str(outcome), extra={"outcome": outcome})
    return outcome


def _finish(lake: Lake, stage: DayStage, current: pa.Table, plan: DayPlan) -> pa.Table:
    """Return the rows that replace the stale ones, amended where their costly part stands, computed otherwise."""
    definition = TABLES[stage.table]
    parts = [definition.schema.empty_table()]
    if plan.amended.num_rows:
        amended_keys = plan.amended.column(definition.row_key).combine_chunks()
        held = current.filter(pc.is_in(current.column(definition.row_key), value_set=amended_keys))
        parts.append(stage.amend(lake, plan.amended, held))
    if plan.computed.num_rows:
        parts.append(stage.compute(lake, plan.computed))
    return pa.concat_tables([part.select(definition.schema.names).cast(definition.schema) for part in parts])


def _commit(
    lake: Lake,
    stage: DayStage,
    day: date,
    read: DayRows,
    plan: DayPlan,
    finished: pa.Table,
    *,
    run_id: str,
    cpu_started: float,
) -> tuple[pa.Table, int | None]:
    """Commit the day; return its rows and the snapshot, None if there was nothing to do."""
    if plan.is_nothing or (plan.only_adds and not finished.num_rows):
        return read.rows, None
    row_key = TABLES[stage.table].row_key
    if plan.dropped:
        dropped = pa.array(sorted(plan.dropped), pa.string())
        stage.retire(lake, read.rows.filter(pc.is_in(read.rows.column(row_key), value_set=dropped)))
    rows = pa.concat_tables([keep_standing_rows(read.rows, plan, row_key), finished])
    snapshot_id = lake.tables.commit_day(
        stage.table,
        day,
        read=read,
        rows=finished if plan.only_adds else rows,
        append=plan.only_adds,
        properties={
            "farmy.run-id": run_id,
            "farmy.code-version": stage.code_version,
            "farmy.day": day.isoformat(),
            CPU_SECONDS: f"{measure_cpu_seconds() - cpu_started:.3f}",
            ROWS_COMPUTED: str(plan.computed.num_rows),
            ROWS_AMENDED: str(plan.amended.num_rows),
        },
    )
    return rows, snapshot_id


def _hash_day(rows: pa.Table, row_key: str) -> str:
    keys = rows.column(row_key).to_pylist()
    return hash_values(*sorted(zip(keys, rows.column("fingerprint").to_pylist(), strict=True)))


def count_stale(lake: Lake, stage: DayStage, day: date) -> int:
    """Return how many rows of a day a run would compute or drop, without computing anything."""
    plan = plan_day(
        lake.tables.read(stage.table, day=day, columns=[TABLES[stage.table].row_key, "fingerprint"]),
        stage.select_from_tables(lake, day).rows,
        TABLES[stage.table].row_key,
    )
    return int(plan.stale.num_rows) + len(plan.dropped)
