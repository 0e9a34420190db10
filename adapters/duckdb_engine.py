"""DuckDB over the tables' own Parquet files: what SQL and the search for near duplicates have in common."""

from collections.abc import Iterator
from contextlib import contextmanager

import duckdb

from adapters.tables import Tables
from lakehouse.schemas import TABLES


@contextmanager
def open_engine() -> Iterator[duckdb.DuckDBPyConnection]:
    """Open an engine in memory that loads no extension by itself and tells time in UTC."""
    connection = duckdb.connect(":memory:", config={"autoinstall_known_extensions": "false", "TimeZone": "UTC"})
    # It would go to standard output, which is for results alone.
    connection.execute("SET enable_progress_bar = false")
    try:
        yield connection
    finally:
        connection.close()


def create_view(
    connection: duckdb.DuckDBPyConnection, tables: Tables, name: str, view: str, snapshot_id: int | None
) -> None:
    """Make a table known to the engine: by its local files, or, where they are remote, by what pyiceberg reads."""
    files = tables.list_data_files(name, snapshot_id=snapshot_id)
    if files and all(file.startswith("file://") for file in files):
        paths = ", ".join(quote(file.removeprefix("file://")) for file in files)
        columns = ", ".join(f'"{column}"' for column in TABLES[name].schema.names)
        # Files of earlier versions lack columns, in which their rows are null. Looking into all of them costs time.
        has_evolved = tables.has_evolved(name)
        rows = f"read_parquet([{paths}], hive_partitioning=false, union_by_name={has_evolved})"
        if has_evolved:
            connection.register(f"{view}_columns", TABLES[name].schema.empty_table())
            rows = f"(FROM {view}_columns UNION ALL BY NAME FROM {rows})"
        connection.execute(f"CREATE VIEW {view} AS SELECT {columns} FROM {rows}")  # noqa: S608
    else:
        connection.register(view, tables.read(name, snapshot_id=snapshot_id))


def quote(text: str) -> str:
    """Return a text as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"
