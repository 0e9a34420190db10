"""Tables: Apache Iceberg through pyiceberg, with a SQLite catalog on one machine.

Every commit is one snapshot, made on condition that the table has not moved since it was loaded. A day is committed
only if it still holds exactly the files that were read: whoever read an older day computes again (`DayChangedError`).
"""

import hashlib
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import date

import pyarrow as pa
from pyiceberg.catalog import Catalog
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import CommitFailedException, NoSuchTableError, TableAlreadyExistsError
from pyiceberg.expressions import AlwaysTrue, And, BooleanExpression, EqualTo, In
from pyiceberg.io.pyarrow import _dataframe_to_data_files
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot
from sqlalchemy.exc import IntegrityError, OperationalError, SQLAlchemyError

from lakehouse.day_updates import conform, sort_rows
from lakehouse.errors import AccessRefusedError, DayChangedError, NotFoundError, SchemaMismatchError, StorageError
from lakehouse.schemas import TABLES, TableDefinition

NAMESPACE = "farmy"
_PROPERTIES = {
    "format-version": "2",
    # This module repeats a lost race itself: pyiceberg's own retry would not look whether the day has changed.
    "commit.retry.num-retries": "0",
    "commit.manifest-merge.enabled": "true",
    "commit.manifest.min-count-to-merge": "20",
    "write.metadata.delete-after-commit.enabled": "true",
    "write.metadata.previous-versions-max": "10",
    "write.parquet.compression-codec": "zstd",
}
_RACES = 40
"""How often a commit that lost to a commit of another day is repeated before it is given up."""
_REFUSALS = re.compile(
    "AWS Error (ACCESS_DENIED|INVALID_ACCESS_KEY_ID|INVALID_CLIENT_TOKEN_ID|MISSING_AUTHENTICATION_TOKEN"
    "|SIGNATURE_DOES_NOT_MATCH) "
)
"""How pyarrow says that a bucket lets somebody else in; its error has no other sign of it."""


@dataclass(frozen=True)
class DayRows:
    """The rows of one day and the files that held them, which is how a later commit knows that nothing has changed."""

    rows: pa.Table
    files: frozenset[str]


class Tables:
    """Reads and commits the lakehouse's tables.

    Attributes:
        catalog: The Iceberg catalog; tables are made in it at their first commit.
        local_warehouse: The folder of the tables' files, when they live in one.
    """

    def __init__(self, catalog: Catalog, local_warehouse: str | None = None) -> None:
        self.catalog = catalog
        self.local_warehouse = local_warehouse

    def read(
        self,
        name: str,
        *,
        day: date | None = None,
        columns: Sequence[str] | None = None,
        snapshot_id: int | None = None,
        where: Mapping[str, Sequence[str]] | None = None,
    ) -> pa.Table:
        """Return rows in the table's own schema; none if nothing was ever committed.

        Args:
            name: The table.
            day: Only rows of this `ingest_date`.
            columns: Only these columns.
            snapshot_id: As of this snapshot, instead of now.
            where: Only rows whose column has one of the values.
        """
        definition = _definition(name)
        schema = definition.schema
        wanted = pa.schema([schema.field(column) for column in columns or schema.names])
        table = self._load(name)
        if table is None or (snapshot_id is None and table.current_snapshot() is None):
            return wanted.empty_table()
        _check_snapshot(table, name, snapshot_id)
        with _translated_errors("read", name):
            scan = table.scan(
                row_filter=_build_filter(day, where), selected_fields=tuple(wanted.names), snapshot_id=snapshot_id
            )
            return scan.to_arrow().select(wanted.names).cast(wanted)

    def read_day(self, name: str, day: date | None) -> DayRows:
        """Return a day's rows for a computation that will commit the day; the whole table if `day` is None."""
        definition = _definition(name)
        table = self._load(name)
        if table is None or table.current_snapshot() is None:
            return DayRows(definition.schema.empty_table(), frozenset())
        with _translated_errors("read", name):
            scan = table.scan(row_filter=_build_filter(day, None))
            files = frozenset(task.file.file_path for task in scan.plan_files())
            rows = scan.to_arrow() if files else definition.schema.empty_table()
            return DayRows(rows.select(definition.schema.names).cast(definition.schema), files)

    def commit_day(
        self,
        name: str,
        day: date | None,
        *,
        read: DayRows,
        rows: pa.Table,
        append: bool = False,
        properties: Mapping[str, str] | None = None,
    ) -> int:
        """Commit one day in one snapshot and return the snapshot's id.

        Args:
            name: The table.
            day: The day; None for a table without partitions, which is committed as a whole.
            read: The day as it was read.
            rows: All rows of the day, or with `append` those that join the ones read.
            append: Whether the rows read stay.
            properties: What the snapshot's summary says beside its counts: the run that made it.

        Raises:
            DayChangedError: If the day no longer holds the files that were read.
            SchemaMismatchError: If the rows do not fit the table or are of another day.
            StorageError: If the tables' storage fails.
        """
        definition = _definition(name)
        prepared = sort_rows(conform(rows, definition), definition)
        if day is not None:
            _check_days(prepared, day, name)
        table = self._load(name) or self._create(definition)
        with _translated_errors("write rows of", name):
            written = list(_dataframe_to_data_files(table.metadata, prepared, table.io))
        for attempt in range(_RACES):
            standing = _list_files(table, day)
            if standing.keys() != read.files:
                raise DayChangedError(
                    f"The day {day} of {name} was committed by another run while this one computed it: read it again."
                )
            removed = [] if append else list(standing.values())
            snapshot_id = self._try_commit(table, written, removed, dict(properties or {}))
            if snapshot_id is not None:
                return snapshot_id
            time.sleep(min(0.02 * 2**attempt, 0.5))
            table = self._load(name) or table
        raise StorageError(f"Lost {_RACES} races to commit {name}: too many runs write to it at once. Run again.")

    def read_days(self, name: str) -> list[date]:
        """Return the days that the table has rows of, ascending; from the table's metadata alone."""
        table = self._load(name)
        if table is None or table.current_snapshot() is None:
            return []
        with _translated_errors("read the days of", name):
            partitions = table.inspect.partitions().column("partition").to_pylist()
        return sorted({partition["ingest_date"] for partition in partitions})

    def count_rows(self, name: str) -> int:
        """Return how many rows the table has, from its metadata alone."""
        snapshot = self.current_snapshot(name)
        return 0 if snapshot is None or snapshot.summary is None else int(snapshot.summary["total-records"] or 0)

    def snapshot_id(self, name: str) -> int | None:
        """Return the id of the table's newest snapshot; None before the first commit."""
        snapshot = self.current_snapshot(name)
        return None if snapshot is None else snapshot.snapshot_id

    def current_snapshot(self, name: str) -> Snapshot | None:
        """Return the table's newest Iceberg snapshot; None before the first commit."""
        table = self._load(name)
        return None if table is None else table.current_snapshot()

    def list_data_files(self, name: str, *, snapshot_id: int | None = None) -> list[str]:
        """Return the addresses of the Parquet files that hold the table, for engines that read them themselves."""
        table = self._load(name)
        if table is None or table.current_snapshot() is None:
            return []
        _check_snapshot(table, name, snapshot_id)
        with _translated_errors("plan a read of", name):
            return sorted(task.file.file_path for task in table.scan(snapshot_id=snapshot_id).plan_files())

    def has_evolved(self, name: str) -> bool:
        """Tell whether the table once had other columns, so that some of its files may lack a few."""
        table = self._load(name)
        return table is not None and len(table.schemas()) > 1

    def read_history(self, name: str) -> list[tuple[int, int, dict[str, str]]]:
        """Return each snapshot's id, its time in milliseconds since 1970 and its summary, oldest first."""
        table = self._load(name)
        if table is None:
            return []
        return [
            (snapshot.snapshot_id, snapshot.timestamp_ms, dict(snapshot.summary.additional_properties))
            for snapshot in table.snapshots()
            if snapshot.summary is not None
        ]

    def tag_snapshot(self, name: str, snapshot_id: int, tag: str) -> None:
        """Give a snapshot a name, which keeps it from being expired; naming it again changes nothing."""
        table = self._load(name)
        if table is None:
            raise NotFoundError(f"Table {name} has no snapshot {snapshot_id} to tag: nothing was committed to it yet.")
        if tag in table.refs():
            return
        with _translated_errors("tag", name):
            table.manage_snapshots().create_tag(snapshot_id, tag).commit()

    def hash_content(self, name: str) -> str:
        """Return a sha256 over the table's rows that does not depend on files, snapshots or row order."""
        rows = self.read(name)
        lines = sorted(repr(tuple(row.values())) for batch in rows.to_batches() for row in batch.to_pylist())
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def _load(self, name: str) -> Table | None:
        with _translated_errors("open", name):
            try:
                table = self.catalog.load_table(f"{NAMESPACE}.{name}")
            except NoSuchTableError:
                return None
            return _with_columns_of_today(table, _definition(name))

    def _create(self, definition: TableDefinition) -> Table:
        name = f"{NAMESPACE}.{definition.name}"
        with _translated_errors("create", definition.name):
            # pyiceberg looks and then inserts: of two runs at once the second is told so in one of these ways.
            with suppress(IntegrityError):
                self.catalog.create_namespace_if_not_exists(NAMESPACE)
            with suppress(TableAlreadyExistsError, CommitFailedException):
                self._create_from_schema(name, definition)
            return self.catalog.load_table(name)

    def _create_from_schema(self, name: str, definition: TableDefinition) -> None:
        with self.catalog.create_table_transaction(name, definition.schema, properties=_PROPERTIES) as transaction:
            if definition.is_partitioned:
                with transaction.update_spec() as spec:
                    spec.add_identity("ingest_date")

    def _try_commit(
        self, table: Table, added: list[DataFile], removed: list[DataFile], properties: dict[str, str]
    ) -> int | None:
        """Commit files that were written; None if another commit came first."""
        with _translated_errors("commit to", ".".join(table.name())):
            try:
                with table.transaction() as transaction:
                    # pyiceberg's own `overwrite` makes two snapshots, the first without the day; this makes one.
                    update = transaction.update_snapshot(snapshot_properties=properties)
                    with update.overwrite() if removed else update.fast_append() as snapshot:
                        for data_file in removed:
                            snapshot.delete_data_file(data_file)
                        for data_file in added:
                            snapshot.append_data_file(data_file)
            except CommitFailedException:
                return None
        committed = table.current_snapshot()
        if committed is None:
            raise StorageError(f"A commit to {table.name()} left no snapshot: run again.")
        return committed.snapshot_id


def open_sqlite_tables(database: str, warehouse: str, file_options: Mapping[str, str] | None = None) -> Tables:
    """Open the tables of one machine.

    Args:
        database: Path of the catalog's SQLite file.
        warehouse: Address of the folder or bucket prefix below which the tables' files live.
        file_options: pyiceberg's options for reading and writing there (`s3.endpoint`, ...).
    """
    with _translated_errors("open the catalog of", database):
        catalog = _open_sqlite_catalog(database, {"warehouse": warehouse, **(file_options or {})})
    is_local = warehouse.startswith("file://")
    return Tables(catalog, warehouse.removeprefix("file://") if is_local else None)


def _open_sqlite_catalog(database: str, properties: Mapping[str, str]) -> SqlCatalog:
    uri = f"sqlite:///{database}?timeout=60"
    try:
        return SqlCatalog(NAMESPACE, uri=uri, **properties)
    except OperationalError:
        # Of two processes that open a new catalog at once, one finds its tables half made; now they are there.
        return SqlCatalog(NAMESPACE, uri=uri, **properties)


def _definition(name: str) -> TableDefinition:
    if name not in TABLES:
        raise NotFoundError(f"There is no table {name}. There are: {', '.join(sorted(TABLES))}.")
    return TABLES[name]


def _with_columns_of_today(table: Table, definition: TableDefinition) -> Table:
    """Give a table that an earlier version made the columns that it lacks; its rows are null there until recomputed.

    Columns that are no longer written stay, for the sake of old snapshots, and need no value any more.
    """
    held = table.schema().fields
    missing = [field.with_nullable(True) for field in definition.schema if field.name not in {old.name for old in held}]
    required = {field.name for field in definition.schema if not field.nullable}
    eased = [old.name for old in held if old.required and old.name not in required]
    if not missing and not eased:
        return table
    # Who loses the race to do so finds it done.
    with suppress(CommitFailedException), table.update_schema() as update:
        update.union_by_name(pa.schema(missing))
        for name in eased:
            update.make_column_optional(name)
    return table.refresh()


def _build_filter(day: date | None, where: Mapping[str, Sequence[str]] | None) -> BooleanExpression:

    expression: BooleanExpression = AlwaysTrue()
    if day is not None:
        expression = EqualTo(term="ingest_date", value=day.isoformat())
    for column, values in (where or {}).items():
        expression = And(expression, In(term=column, literals=values))
    return expression


def _list_files(table: Table, day: date | None) -> dict[str, DataFile]:
    if table.current_snapshot() is None:
        return {}
    return {task.file.file_path: task.file for task in table.scan(row_filter=_build_filter(day, None)).plan_files()}


def _check_snapshot(table: Table, name: str, snapshot_id: int | None) -> None:
    if snapshot_id is not None and table.snapshot_by_id(snapshot_id) is None:
        raise NotFoundError(
            f"Table {name} has no snapshot {snapshot_id}: it never had one, or it has been expired. Give another, or "
            "leave it out to read the table as it is now."
        )


def _check_days(rows: pa.Table, day: date, name: str) -> None:
    others = set(rows.column("ingest_date").unique().to_pylist()) - {day}
    if others:
        named = ", ".join(sorted(str(other) for other in others))
        raise SchemaMismatchError(
            f"Refused to commit rows of {named} to the day {day} of {name}: have their computation return rows of that "
            "day alone."
        )


@contextmanager
def _translated_errors(action: str, what: str) -> Iterator[None]:

    try:
        yield
    except (NoSuchTableError, CommitFailedException):
        raise
    except (OSError, SQLAlchemyError) as error:
        found = str(error).splitlines()[0].rstrip(".")
        if _REFUSALS.search(found):
            raise AccessRefusedError(
                f"May not {action} {what}: {found}. Grant that, or see whose credentials are in the environment; then "
                "run again: nothing was lost."
            ) from error
        raise StorageError(
            f"Could not {action} {what}: {found}. Check that the storage has room and answers, "
            "then run again: what was committed before stands."
        ) from error
