# ruff: noqa: S608 - the queries are the tests' own
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from adapters.sql import query
from adapters.tables import Tables, open_sqlite_tables
from lakehouse.errors import NotFoundError, QueryError
from lakehouse.schemas import NEAR_DUPLICATES, TABLES

NAME = "near_duplicates"
DAY = date(2026, 11, 2)
NOON = datetime(2026, 11, 2, 12, tzinfo=UTC)


def make_rows(count: int) -> pa.Table:
    return pa.Table.from_pylist(
        [
            {
                "image_id": f"image-{number}",
                "ingest_date": DAY,
                "landed_at": NOON + timedelta(microseconds=number),
                "leader_image_id": "image-0",
                "leader_ingest_date": DAY,
                "distance": number,
                "perceptual_hash": number - 2**63,
                "hash_band_0": 0,
                "hash_band_1": 0,
                "hash_band_2": 0,
                "fingerprint": "it's a print",
            }
            for number in range(count)
        ],
        schema=NEAR_DUPLICATES,
    )


@pytest.fixture(scope="module")
def lake_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lake of 'Jane'")
    (folder / "secret.csv").write_text("password\nhunter2\n")
    return folder


@pytest.fixture(scope="module")
def tables(lake_folder: Path) -> Tables:
    """Tables whose near duplicates had two rows, and have three."""
    opened = open_sqlite_tables(str(lake_folder / "catalog.db"), f"file://{lake_folder}/tables")
    for count in (2, 3):
        opened.commit_day(NAME, DAY, read=opened.read_day(NAME, DAY), rows=make_rows(count))
    return opened


@pytest.fixture(scope="module")
def first_snapshot(tables: Tables) -> int:
    return tables.read_history(NAME)[0][0]


def ask(tables: Tables, sql: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = query(tables, sql).to_pylist()
    return rows


def test_a_query_returns_the_tables_own_rows_and_values(tables: Tables) -> None:
    assert ask(tables, f"SELECT * FROM {NAME} ORDER BY image_id") == make_rows(3).to_pylist()


@pytest.mark.parametrize("name", TABLES)
def test_every_table_can_be_asked_before_anything_was_committed(tmp_path: Path, name: str) -> None:
    empty = open_sqlite_tables(str(tmp_path / "catalog.db"), f"file://{tmp_path}/tables")
    result = query(empty, f"SELECT * FROM {name}")
    assert result.num_rows == 0
    assert result.column_names == TABLES[name].schema.names


ANSWERS = {
    "a namespace": ("SELECT count(*) AS n FROM farmy.near_duplicates", 3),
    "a catalog": ("SELECT count(*) AS n FROM awsdatacatalog.farmy.near_duplicates", 3),
    "names in any case": (
        "SELECT COUNT(Image_ID) AS n FROM Farmy.NEAR_duplicates WHERE Near_Duplicates.distance < 2",
        2,
    ),
    "an alias": ("SELECT max(d.distance) AS n FROM near_duplicates AS d", 2),
    "an alias with columns": ("SELECT count(x) AS n FROM near_duplicates AS d(x)", 3),
    "a join of a table with itself": (
        "SELECT count(*) AS n FROM near_duplicates a JOIN near_duplicates b ON a.image_id = b.leader_image_id",
        3,
    ),
    "a join in parentheses": (
        "SELECT count(*) AS n FROM (near_duplicates a JOIN near_duplicates b ON b.distance > a.distance)",
        3,
    ),
    "a common table": (
        "WITH far AS (SELECT * FROM near_duplicates WHERE distance > 0) SELECT count(*) AS n FROM far",
        2,
    ),
    "a common table that hides a table": ("WITH near_duplicates AS (SELECT 7 AS n) SELECT n FROM near_duplicates", 7),
    "a common table beside the table that it hides": (
        "WITH near_duplicates AS (SELECT 1 FROM farmy.near_duplicates) SELECT count(*) AS n FROM near_duplicates",
        3,
    ),
    "a subquery": (
        "SELECT count(*) AS n FROM near_duplicates WHERE image_id IN (SELECT leader_image_id FROM near_duplicates)",
        1,
    ),
    "a correlated subquery": (
        "SELECT count(*) AS n FROM near_duplicates a WHERE (SELECT max(distance) FROM near_duplicates) > a.distance",
        2,
    ),
    "a union": ("SELECT count(*) AS n FROM (SELECT 1 FROM near_duplicates UNION ALL SELECT 1 FROM near_duplicates)", 6),
    "no table": ("SELECT 1 AS n", 1),
    "a semicolon": ("SELECT 1 AS n;", 1),
    "date arithmetic": ("SELECT max(date_diff('day', ingest_date, DATE '2026-11-05')) AS n FROM near_duplicates", 3),
    "a format of dates": ("SELECT max(date_format(landed_at, '%Y-%m')) AS n FROM near_duplicates", "2026-11"),
    "a lambda": ("SELECT cardinality(filter(ARRAY[1, 2, 3], x -> x > 1)) AS n", 2),
    "an array as rows": ("SELECT sum(x) AS n FROM near_duplicates CROSS JOIN UNNEST(ARRAY[1, 2]) AS t(x)", 9),
    "an estimate": ("SELECT approx_distinct(leader_image_id) AS n FROM near_duplicates", 1),
    "a window": (
        "SELECT max(place) AS n FROM (SELECT row_number() OVER (ORDER BY distance) AS place FROM near_duplicates)",
        3,
    ),
    "a try": ("SELECT try_cast('x' AS integer) AS n", None),
}


@pytest.mark.parametrize(("sql", "answer"), ANSWERS.values(), ids=ANSWERS)
def test_athenas_sql_is_understood(tables: Tables, sql: str, answer: object) -> None:
    assert ask(tables, sql) == [{"n": answer}]


def test_a_version_is_read_as_it_was_beside_the_table_as_it_is(tables: Tables, first_snapshot: int) -> None:
    assert ask(tables, f"SELECT count(*) AS n FROM {NAME} FOR VERSION AS OF {first_snapshot}") == [{"n": 2}]
    added = (
        f"SELECT now.image_id FROM {NAME} AS now "
        f"LEFT JOIN {NAME} FOR VERSION AS OF {first_snapshot} AS old ON now.image_id = old.image_id "
        "WHERE old.image_id IS NULL"
    )
    assert ask(tables, added) == [{"image_id": "image-2"}]


def test_a_version_that_does_not_exist_is_not_found(tables: Tables) -> None:
    with pytest.raises(NotFoundError, match=f"{NAME} has no snapshot 12345"):
        ask(tables, f"SELECT * FROM {NAME} FOR VERSION AS OF 12345")


@pytest.mark.parametrize("version", ["TIMESTAMP AS OF TIMESTAMP '2026-01-01 00:00:00 UTC'", "VERSION AS OF 'tag'"])
def test_other_ways_to_name_a_version_are_refused_with_the_one_that_works(tables: Tables, version: str) -> None:
    with pytest.raises(QueryError, match="give FOR VERSION AS OF and a snapshot's number"):
        ask(tables, f"SELECT * FROM {NAME} FOR {version}")


def test_times_are_told_in_utc(tables: Tables) -> None:
    sql = f"SELECT hour(landed_at) AS hour, CAST(landed_at AS varchar) AS text FROM {NAME} WHERE distance = 0"
    assert ask(tables, sql) == [{"hour": 12, "text": "2026-11-02 12:00:00+00"}]


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO near_duplicates VALUES (1)",
        "DELETE FROM near_duplicates",
        "UPDATE near_duplicates SET distance = 0",
        "DROP TABLE near_duplicates",
        "CREATE TABLE x AS SELECT * FROM near_duplicates",
        "ALTER TABLE near_duplicates ADD COLUMNS (x int)",
        "SET memory_limit = '1GB'",
        "SELECT 1; SELECT 2",
        "SELECT 1; DROP TABLE near_duplicates",
        "",
        "-- nothing",
    ],
)
def test_whatever_is_not_one_query_is_refused(tables: Tables, sql: str) -> None:
    with pytest.raises(QueryError, match="Give one SELECT"):
        ask(tables, sql)
    assert tables.count_rows(NAME) == 3


@pytest.mark.parametrize("sql", ["SELEC 1", "SELECT (1", "SELECT FROM WHERE", "ATTACH 'other.db'"])
def test_what_is_not_sql_is_refused_in_one_line(tables: Tables, sql: str) -> None:
    with pytest.raises(QueryError, match="This is not Athena SQL") as caught:
        ask(tables, sql)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name",
    ["nothing", "other.near_duplicates", "information_schema.tables", "sqlite_master", "t0_near_duplicates", '"x.csv"'],
)
def test_a_name_that_is_no_table_is_refused_with_those_that_are(tables: Tables, name: str) -> None:
    with pytest.raises(QueryError, match=r"There is no table .*There are: .*near_duplicates.*raw_images"):
        ask(tables, f"SELECT * FROM {name}")


def test_an_unknown_column_is_refused_and_named(tables: Tables) -> None:
    with pytest.raises(QueryError, match="nonsense"):
        ask(tables, "SELECT nonsense FROM near_duplicates")


@pytest.mark.parametrize("function", ["read_csv", "read_text", "read_parquet", "glob"])
@pytest.mark.parametrize(
    "shape",
    [
        "SELECT * FROM {call}",
        "SELECT {call}",
        "SELECT * FROM near_duplicates, {call}",
        "SELECT * FROM near_duplicates WHERE image_id IN (SELECT * FROM {call})",
        "WITH {function} AS (SELECT 1) SELECT * FROM {call}",
        "WITH x AS (SELECT * FROM {call}) SELECT * FROM x",
    ],
)
def test_no_function_reads_a_file(tables: Tables, lake_folder: Path, function: str, shape: str) -> None:
    path = str(lake_folder / "secret.csv").replace("'", "''")
    with pytest.raises(QueryError):
        ask(tables, shape.format(call=f"{function}('{path}')", function=function))


@pytest.mark.parametrize("quotes", ["'{}'", '"{}"'])
def test_a_path_in_place_of_a_table_is_refused(tables: Tables, lake_folder: Path, quotes: str) -> None:
    for path in ("/etc/passwd", str(lake_folder / "secret.csv").replace("'", "''")):
        with pytest.raises(QueryError, match="There is no table"):
            ask(tables, f"SELECT * FROM {quotes.format(path)}")


@pytest.mark.parametrize("function", ["duckdb_settings()", "duckdb_secrets()", "query('SELECT 1')", "query_table('x')"])
def test_the_engines_own_tables_are_out_of_reach(tables: Tables, function: str) -> None:
    with pytest.raises(QueryError, match="There is no table"):
        ask(tables, f"SELECT * FROM {function}")


def test_a_query_that_fails_says_why_in_one_sentence(tables: Tables) -> None:
    with pytest.raises(QueryError, match=r"The query failed: .*'x'") as caught:
        ask(tables, "SELECT CAST('x' AS integer)")
    assert "\n" not in str(caught.value)
