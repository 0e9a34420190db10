"""What a run has to do to bring one day of one table up to date: a pure decision over keys and fingerprints."""

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.errors import SchemaMismatchError
from lakehouse.schemas import TableDefinition


@dataclass(frozen=True)
class DayPlan:
    """What is to be done with one day of one table.

    Attributes:
        computed: The wanted rows that are missing or were computed from something else.
        amended: Those wanted rows of which only a cheap part was computed from something else: the rows that the day
            holds suffice for them.
        dropped: Keys that the day holds and that are no longer wanted; their rows go.
        replaced: Keys that the day holds with an outdated fingerprint; their rows go as the new ones come.
        fresh: How many wanted rows stand as they are.
    """

    computed: pa.Table
    amended: pa.Table
    dropped: frozenset[str]
    replaced: frozenset[str]
    fresh: int

    @property
    def stale(self) -> pa.Table:
        """The wanted rows that do not stand as they are."""
        return pa.concat_tables([self.computed, self.amended])

    @property
    def is_nothing(self) -> bool:
        """Whether the day is up to date as it stands."""
        return self.stale.num_rows == 0 and not self.dropped

    @property
    def only_adds(self) -> bool:
        """Whether every row of the day stays, so that new rows may be appended."""
        return not self.dropped and not self.replaced


def plan_day(
    current: pa.Table, wanted: pa.Table, row_key: str, *, amends_by: str | None = None, force: bool = False
) -> DayPlan:
    """Compare what a day holds with what it should hold.

    Args:
        current: The day's rows, at least `row_key`, `fingerprint` and `amends_by`; several rows may share a key.
        wanted: The rows that the day should hold, with their `fingerprint` and whatever their computation reads; of
            several rows of one key all bear the same fingerprint.
        row_key: Name of the key column.
        amends_by: Name of the column, in both, with the fingerprint of the costly part of a row: where that holds, a
            stale row is amended. Without it every stale row is computed.
        force: Whether to compute every wanted row again.
    """
    held = dict(_read_pairs(current, row_key, "fingerprint"))
    prints = _read_pairs(wanted, row_key, "fingerprint")
    is_stale = [force or held.get(key) != fingerprint for key, fingerprint in prints]
    stale = wanted.filter(pa.array(is_stale, pa.bool_()))
    is_amended = pa.array(_list_amended(current, stale, row_key, None if force else amends_by), pa.bool_())
    return DayPlan(
        computed=stale.filter(pc.invert(is_amended)),
        amended=stale.filter(is_amended),
        dropped=frozenset(held.keys() - {key for key, _ in prints}),
        replaced=frozenset(held.keys() & set(stale.column(row_key).to_pylist())),
        fresh=wanted.num_rows - stale.num_rows,
    )


def _read_pairs(rows: pa.Table, key: str, value: str) -> list[tuple[str, str | None]]:
    return list(zip(rows.column(key).to_pylist(), rows.column(value).to_pylist(), strict=True))


def _list_amended(current: pa.Table, stale: pa.Table, row_key: str, amends_by: str | None) -> list[bool]:
    """Return of each stale row whether its costly part stands."""
    if amends_by is None:
        return [False] * stale.num_rows
    held = dict(_read_pairs(current, row_key, amends_by))
    return [held.get(key) == costly for key, costly in _read_pairs(stale, row_key, amends_by)]


def keep_standing_rows(current: pa.Table, plan: DayPlan, row_key: str) -> pa.Table:
    """Return the rows of the day that the plan leaves as they are."""
    gone = pa.array(sorted(plan.dropped | plan.replaced), pa.string())
    return current.filter(pc.invert(pc.is_in(current.column(row_key), value_set=gone)))


def conform(rows: pa.Table, table: TableDefinition) -> pa.Table:
    """Return the rows in exactly the table's columns, order and types.

    Raises:
        SchemaMismatchError: If columns are missing, have values of another type, or are null where they may not be.
    """
    missing = [field.name for field in table.schema if field.name not in rows.column_names]
    if missing:
        raise SchemaMismatchError(
            f"Rows for {table.name} lack the columns {', '.join(missing)}: have their computation return every column "
            "that lakehouse.schemas names."
        )
    ordered = rows.select(table.schema.names)
    nulls = [field.name for field in table.schema if not field.nullable and ordered.column(field.name).null_count]
    if nulls:
        raise SchemaMismatchError(f"Rows for {table.name} are null in {', '.join(nulls)}, which must have a value.")
    try:
        return ordered.cast(table.schema)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise SchemaMismatchError(f"Rows for {table.name} do not fit its schema: {error}") from error


def sort_rows(rows: pa.Table, table: TableDefinition) -> pa.Table:
    """Return the rows in one order that depends on their content alone, so that equal days make equal files."""
    sortable: Sequence[str] = [field.name for field in table.schema if not pa.types.is_nested(field.type)]
    return rows.sort_by([(name, "ascending") for name in sortable])
