"""SQL over the tables: Athena's dialect, run by DuckDB on the tables' own Parquet files.

Only queries are run, only on the lakehouse's tables, and the engine may open no other file than theirs.
"""

import duckdb
import pyarrow as pa
import sqlglot
from sqlglot import exp

from adapters.duckdb_engine import create_view, open_engine, quote
from adapters.tables import NAMESPACE, Tables
from lakehouse.errors import QueryError
from lakehouse.schemas import TABLES


def query(tables: Tables, sql: str) -> pa.Table:
    """Run one Athena query and return its result.

    Args:
        tables: The tables that it may name, as `cleansed_images` or `farmy.cleansed_images`.
        sql: One SELECT, in Athena's SQL. `FOR VERSION AS OF <snapshot id>` reads a table as it was.

    Raises:
        QueryError: If it is not one query, names an unknown table or column, or cannot be carried over to DuckDB.
    """
    statement = _parse(sql)
    with open_engine() as connection:
        for number, node in enumerate(_find_tables(statement)):
            view = f"t{number}_{node.name.lower()}"
            create_view(connection, tables, node.name.lower(), view, _read_version(node))
            _rename_table(node, view)
        _confine(connection, tables)
        try:
            return connection.sql(statement.sql(dialect="duckdb")).to_arrow_table()
        except duckdb.Error as error:
            raise QueryError(f"The query failed: {str(error).splitlines()[0]}.") from error


def _parse(sql: str) -> exp.Query:
    try:
        statements = [statement for statement in sqlglot.parse(sql, read="athena") if statement is not None]
    except sqlglot.errors.SqlglotError as error:
        raise QueryError(f"This is not Athena SQL: {str(error).splitlines()[0]}") from error
    if len(statements) != 1 or not isinstance(statements[0], exp.Query):
        raise QueryError("Give one SELECT: Farmy runs queries alone, and changes tables only through runs.")
    return statements[0]


def _find_tables(statement: exp.Query) -> list[exp.Table]:
    """Return the nodes that name tables of the lakehouse, and refuse those that name anything else."""
    common = {cte.alias.lower() for cte in statement.find_all(exp.CTE)}
    found = []
    for node in list(statement.find_all(exp.Table)):
        name, namespace = node.name.lower(), node.db.lower()
        if name in common and not namespace:
            continue
        if not isinstance(node.this, exp.Identifier) or namespace not in {"", NAMESPACE} or name not in TABLES:
            raise QueryError(f"There is no table {node.sql(dialect='athena')}. There are: {', '.join(sorted(TABLES))}.")
        found.append(node)
    return found


def _read_version(node: exp.Table) -> int | None:
    version = node.args.get("version")
    if version is None:
        return None
    text = version.expression.sql() if version.expression is not None else ""
    if version.name.upper() != "VERSION" or not text.isdigit():
        raise QueryError(
            f"{version.sql(dialect='athena')} is not carried over yet: give FOR VERSION AS OF and a snapshot's number, "
            "which `farmy release list` and `farmy trace` show."
        )
    return int(text)


def _rename_table(node: exp.Table, view: str) -> None:
    """Put the view in the table's place, under the name that the rest of the query calls it by."""
    if not node.alias:
        node.set("alias", exp.TableAlias(this=exp.to_identifier(node.name, quoted=True)))
    node.set("this", exp.to_identifier(view))
    for part in ("db", "catalog", "version"):
        node.set(part, None)


def _confine(connection: duckdb.DuckDBPyConnection, tables: Tables) -> None:
    """Let the engine open the tables' files and nothing else, whatever functions the query names."""
    folder = tables.local_warehouse
    if folder is not None:
        connection.execute(f"SET allowed_directories = [{quote(folder)}]")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")
