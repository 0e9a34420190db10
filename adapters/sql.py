"""SQL over the tables: Athena's dialect, run by DuckDB on the tables' own Parquet files.

Only queries are run, only on the lakehouse's tables, and the engine may open no other file than theirs.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import duckdb
import pyarrow as pa
import sqlglot
from sqlglot import exp

from adapters.tables import NAMESPACE, Tables
from lakehouse.errors import QueryError
from lakehouse.perceptual_hash import BAND_BITS, list_flips
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
    with _connection() as connection:
        for number, node in enumerate(_find_tables(statement)):
            view = f"t{number}_{node.name}"
            _create_view(connection, tables, node.name, view, _take_version(node))
            alias = node.alias or node.name
            node.replace(exp.to_table(view).as_(alias, quoted=True))
        _confine(connection, tables)
        try:
            return connection.execute(statement.sql(dialect="duckdb")).to_arrow_table()
        except duckdb.Error as error:
            raise QueryError(f"The query failed: {str(error).splitlines()[0]}.") from error


def find_near_leaders(tables: Tables, images: pa.Table, max_distance: int) -> pa.Table:
    """Find the near-duplicate leaders of earlier days that images nearly equal; exact for distances up to 8.

    Two hashes at a distance of at most `max_distance` differ by at most a third of it in one of their three bands, so
    joining on every band value with that many flips misses none.

    Args:
        tables: The tables; `near_duplicates` is searched.
        images: `image_id, ingest_date, perceptual_hash` of the images, all of one day.
        max_distance: Bits in which two hashes may differ, 0 to 8.

    Returns:
        `image_id, leader_image_id, leader_ingest_date, leader_landed_at, distance`.
    """
    flips = [list_flips(bits, max_distance // len(BAND_BITS)) for bits in BAND_BITS]
    with _connection() as connection:
        _create_view(connection, tables, "near_duplicates", "near_duplicates", None)
        connection.register("images", images)
        shift, joins = 0, []
        for band, bits in enumerate(BAND_BITS):
            connection.register(f"flips_{band}", pa.table({"flip": flips[band]}))
            joins.append(
                "SELECT i.image_id, i.perceptual_hash, l.image_id AS leader_image_id, "
                f"l.perceptual_hash AS leader_hash FROM images i, flips_{band} f, leaders l "
                f"WHERE l.hash_band_{band} = xor(((i.perceptual_hash >> {shift}) & {(1 << bits) - 1})::INTEGER, f.flip)"
            )
            shift += bits
        return connection.execute(
            f"""
            WITH leaders AS (
                SELECT * FROM near_duplicates
                WHERE image_id = leader_image_id AND ingest_date < (SELECT min(ingest_date) FROM images)
            ),
            pairs AS ({" UNION ".join(joins)})
            SELECT pairs.image_id, leader_image_id, leaders.ingest_date AS leader_ingest_date,
                   leaders.landed_at AS leader_landed_at,
                   bit_count(xor(pairs.perceptual_hash, leader_hash))::INTEGER AS distance
            FROM pairs JOIN leaders ON leaders.image_id = pairs.leader_image_id
            WHERE bit_count(xor(pairs.perceptual_hash, leader_hash)) <= {max_distance}
            """  # noqa: S608
        ).to_arrow_table()


@contextmanager
def _connection() -> Iterator[duckdb.DuckDBPyConnection]:
    connection = duckdb.connect(":memory:", config={"autoinstall_known_extensions": "false", "TimeZone": "UTC"})
    try:
        yield connection
    finally:
        connection.close()


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
    common = {cte.alias for cte in statement.find_all(exp.CTE)}
    found = []
    for node in list(statement.find_all(exp.Table)):
        if node.name in common and not node.db:
            continue
        if not isinstance(node.this, exp.Identifier) or node.db not in {"", NAMESPACE} or node.name not in TABLES:
            raise QueryError(f"There is no table {node.sql(dialect='athena')}. There are: {', '.join(sorted(TABLES))}.")
        found.append(node)
    return found


def _take_version(node: exp.Table) -> int | None:
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


def _create_view(
    connection: duckdb.DuckDBPyConnection, tables: Tables, name: str, view: str, snapshot_id: int | None
) -> None:
    """Make a table known to the engine: by its local files, or, where they are remote, by what pyiceberg reads."""
    files = tables.list_data_files(name, snapshot_id=snapshot_id)
    if files and all(file.startswith("file://") for file in files):
        paths = ", ".join(_quote(file.removeprefix("file://")) for file in files)
        columns = ", ".join(f'"{column}"' for column in TABLES[name].schema.names)
        connection.execute(
            f"CREATE VIEW {view} AS SELECT {columns} FROM read_parquet([{paths}], hive_partitioning=false)"  # noqa: S608
        )
    else:
        connection.register(view, tables.read(name, snapshot_id=snapshot_id))


def _confine(connection: duckdb.DuckDBPyConnection, tables: Tables) -> None:
    """Let the engine open the tables' files and nothing else, whatever functions the query names."""
    folder = tables.local_warehouse
    if folder is not None:
        connection.execute(f"SET allowed_directories = [{_quote(folder)}]")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")


def _quote(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
