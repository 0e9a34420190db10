from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from adapters.lake import Lake
from adapters.settings import Settings
from adapters.sql import query
from adapters.tables import Tables, open_sqlite_tables
from benchmarks.s3_server import BUCKET, S3Server
from lakehouse.errors import AccessRefusedError, DayChangedError, NotFoundError, SchemaMismatchError, StorageError
from lakehouse.ontology import LabelClass
from lakehouse.schemas import LABEL_MODEL, NEAR_DUPLICATES, TABLES

NAME = "near_duplicates"
DAY = date(2026, 11, 2)
NEXT_DAY = date(2026, 11, 3)

warehouse_prefixes = (f"tables-{number}" for number in count())

OpenTables = Callable[[], Tables]


@pytest.fixture(params=["folder", "bucket"])
def open_tables(request: pytest.FixtureRequest, tmp_path: Path) -> OpenTables:
    """Opens the same tables anew at each call, as another process would."""
    settings: dict[str, Any] = {"home": tmp_path / "home", "classes": (LabelClass("cow", "Cow"),)}
    if request.param == "bucket":
        s3: S3Server = request.getfixturevalue("s3")
        settings |= {"objects": f"s3://{BUCKET}/{next(warehouse_prefixes)}", "s3_endpoint": s3.endpoint}
    return lambda: Lake(Settings(**settings)).tables


@pytest.fixture
def tables(open_tables: OpenTables) -> Tables:
    return open_tables()


def make_rows(*image_ids: str, day: date = DAY, fingerprint: str = "f") -> pa.Table:
    return pa.Table.from_pylist(
        [
            {
                "image_id": image_id,
                "ingest_date": day,
                "landed_at": datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(microseconds=number),
                "leader_image_id": image_id,
                "leader_ingest_date": day,
                "distance": 0,
                "perceptual_hash": -(2**63) + number,
                "hash_band_0": 0,
                "hash_band_1": 0,
                "hash_band_2": 2**21,
                "fingerprint": fingerprint,
            }
            for number, image_id in enumerate(image_ids)
        ],
        schema=NEAR_DUPLICATES,
    )


def commit(tables: Tables, *image_ids: str, day: date = DAY, append: bool = False, fingerprint: str = "f") -> int:
    read = tables.read_day(NAME, day)
    rows = make_rows(*image_ids, day=day, fingerprint=fingerprint)
    return tables.commit_day(NAME, day, read=read, rows=rows, append=append)


def read_ids(tables: Tables, **how: Any) -> list[str]:
    ids: list[str] = tables.read(NAME, **how).column("image_id").to_pylist()
    return sorted(ids)


@pytest.mark.parametrize("name", ["raw_images", "label_model"])
def test_a_table_that_nobody_has_written_is_empty_in_its_own_schema(tables: Tables, name: str) -> None:
    assert tables.read(name) == TABLES[name].schema.empty_table()
    assert tables.read_day(name, DAY).rows == TABLES[name].schema.empty_table()
    assert tables.read_days(name) == []
    assert tables.count_rows(name) == 0
    assert tables.snapshot_id(name) is None
    assert tables.read_history(name) == []
    assert tables.list_data_files(name) == []


def test_what_is_committed_is_read_back_with_every_value_and_type(tables: Tables) -> None:
    commit(tables, "a", "b")
    assert tables.read(NAME).sort_by("image_id") == make_rows("a", "b")
    assert tables.read_day(NAME, DAY).rows.sort_by("image_id") == make_rows("a", "b")


def test_another_process_reads_what_was_committed(open_tables: OpenTables) -> None:
    commit(open_tables(), "a")
    assert read_ids(open_tables()) == ["a"]


def test_committing_a_day_replaces_it_and_leaves_the_others(tables: Tables) -> None:
    commit(tables, "a", "b")
    commit(tables, "c", day=NEXT_DAY)
    commit(tables, "b", "d")
    assert read_ids(tables, day=DAY) == ["b", "d"]
    assert read_ids(tables, day=NEXT_DAY) == ["c"]
    assert tables.count_rows(NAME) == 3


def test_appended_rows_join_those_of_the_day(tables: Tables) -> None:
    commit(tables, "a")
    commit(tables, "b", append=True)
    assert read_ids(tables, day=DAY) == ["a", "b"]


def test_an_emptied_day_has_no_rows_and_is_no_longer_among_the_days(tables: Tables) -> None:
    commit(tables, "a")
    commit(tables, "b", day=NEXT_DAY)
    commit(tables)
    assert read_ids(tables) == ["b"]
    assert tables.read_days(NAME) == [NEXT_DAY]
    commit(tables, "again")
    assert read_ids(tables, day=DAY) == ["again"]


def test_days_are_told_in_order(tables: Tables) -> None:
    for day in (NEXT_DAY, date(2020, 1, 1), DAY):
        commit(tables, "a", day=day)
    assert tables.read_days(NAME) == [date(2020, 1, 1), DAY, NEXT_DAY]


def test_a_read_can_be_narrowed_to_a_day_columns_and_values(tables: Tables) -> None:
    commit(tables, "a", "b", "c")
    commit(tables, "b", day=NEXT_DAY)
    found = tables.read(NAME, day=DAY, columns=["fingerprint", "image_id"], where={"image_id": ["b", "c", "nobody"]})
    assert found.column_names == ["fingerprint", "image_id"]
    assert sorted(found.column("image_id").to_pylist()) == ["b", "c"]
    assert tables.read(NAME, where={"image_id": ["nobody"]}).num_rows == 0


def test_every_commit_is_one_snapshot_with_its_properties(tables: Tables) -> None:
    read = tables.read_day(NAME, DAY)
    rows = make_rows("a")
    ids = [tables.commit_day(NAME, DAY, read=read, rows=rows, properties={"farmy.run-id": "run-1"})]
    ids += [commit(tables, "a", "b"), commit(tables, "c", append=True), commit(tables), commit(tables, "d")]
    history = tables.read_history(NAME)
    assert [snapshot_id for snapshot_id, _, _ in history] == ids
    assert history[0][2]["farmy.run-id"] == "run-1"
    assert [summary["total-records"] for _, _, summary in history] == ["1", "2", "3", "0", "1"]
    assert tables.snapshot_id(NAME) == ids[-1]


def test_a_table_of_an_earlier_version_gets_the_columns_that_it_lacks(
    open_tables: OpenTables, monkeypatch: pytest.MonkeyPatch
) -> None:
    today = TABLES[NAME]
    gone = pa.field("hash_band_0", pa.int32(), nullable=False)
    earlier = pa.schema([gone, *(field for field in today.schema if field.name != "perceptual_hash")])
    monkeypatch.setitem(TABLES, NAME, replace(today, schema=earlier))
    before = open_tables()
    old_rows = make_rows("old").drop_columns(["perceptual_hash"]).append_column(gone, pa.array([1], pa.int32()))
    before.commit_day(NAME, DAY, read=before.read_day(NAME, DAY), rows=old_rows)
    monkeypatch.setitem(TABLES, NAME, today)

    tables = open_tables()
    assert tables.read_day(NAME, DAY).rows.column("perceptual_hash").to_pylist() == [None]
    commit(tables, "new", day=NEXT_DAY)

    assert read_ids(tables) == ["new", "old"]
    found = query(tables, "SELECT image_id FROM near_duplicates WHERE perceptual_hash IS NULL")
    assert found.column("image_id").to_pylist() == ["old"]


def test_an_old_snapshot_is_read_as_it_was(tables: Tables) -> None:
    first = commit(tables, "a")
    second = commit(tables, "b", append=True)
    commit(tables, "c")
    assert read_ids(tables, snapshot_id=first) == ["a"]
    assert read_ids(tables, snapshot_id=second) == ["a", "b"]
    assert read_ids(tables) == ["c"]
    assert len(tables.list_data_files(NAME, snapshot_id=second)) == 2


def test_a_snapshot_that_never_was_is_not_found_and_never_an_empty_table(tables: Tables) -> None:
    commit(tables, "a")
    with pytest.raises(NotFoundError, match=f"Table {NAME} has no snapshot 5"):
        tables.read(NAME, snapshot_id=5)
    with pytest.raises(NotFoundError, match=f"Table {NAME} has no snapshot 5"):
        tables.list_data_files(NAME, snapshot_id=5)


@pytest.mark.parametrize("append", [False, True])
def test_a_day_that_moved_since_it_was_read_is_not_overwritten(open_tables: OpenTables, append: bool) -> None:  # noqa: FBT001
    slow, quick = open_tables(), open_tables()
    commit(slow, "a")
    read = slow.read_day(NAME, DAY)
    commit(quick, "b", append=True)
    with pytest.raises(DayChangedError, match=f"The day {DAY} of {NAME} was committed by another run"):
        slow.commit_day(NAME, DAY, read=read, rows=make_rows("c"), append=append)
    assert read_ids(slow) == ["a", "b"]


def test_a_first_commit_that_came_too_late_is_refused(open_tables: OpenTables) -> None:
    slow, quick = open_tables(), open_tables()
    read = slow.read_day(NAME, DAY)
    commit(quick, "a")
    with pytest.raises(DayChangedError):
        slow.commit_day(NAME, DAY, read=read, rows=make_rows("b"))
    assert read_ids(slow) == ["a"]


def test_a_commit_to_another_day_in_between_does_no_harm(open_tables: OpenTables) -> None:
    slow, quick = open_tables(), open_tables()
    commit(slow, "a")
    read = slow.read_day(NAME, DAY)
    commit(quick, "b", day=NEXT_DAY)
    slow.commit_day(NAME, DAY, read=read, rows=make_rows("c"))
    assert read_ids(slow) == ["b", "c"]


def test_commits_to_different_days_of_a_new_lake_by_eight_threads_all_land(open_tables: OpenTables) -> None:
    days = [DAY + timedelta(days=number) for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda day: commit(open_tables(), "a", day=day), days))
    tables = open_tables()
    assert tables.read_days(NAME) == days
    assert tables.count_rows(NAME) == 8
    assert len(tables.read_history(NAME)) == 8


def test_of_threads_that_commit_one_day_at_once_exactly_one_wins(open_tables: OpenTables) -> None:
    commit(open_tables(), "before")
    readers = [(tables, tables.read_day(NAME, DAY)) for tables in (open_tables() for _ in range(4))]

    def try_commit(number: int) -> bool:
        tables, read = readers[number]
        try:
            tables.commit_day(NAME, DAY, read=read, rows=make_rows(f"from-{number}"))
        except DayChangedError:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        won = list(pool.map(try_commit, range(4)))
    assert won.count(True) == 1
    assert read_ids(open_tables()) == [f"from-{won.index(True)}"]


def test_rows_of_another_day_are_refused(tables: Tables) -> None:
    read = tables.read_day(NAME, DAY)
    rows = pa.concat_tables([make_rows("a"), make_rows("b", day=NEXT_DAY)])
    with pytest.raises(SchemaMismatchError, match=f"rows of {NEXT_DAY} to the day {DAY} of {NAME}"):
        tables.commit_day(NAME, DAY, read=read, rows=rows)
    assert tables.snapshot_id(NAME) is None


def test_rows_with_nulls_where_there_must_be_values_are_refused(tables: Tables) -> None:
    read = tables.read_day(NAME, DAY)
    rows = make_rows("a")
    rows = rows.set_column(3, "leader_image_id", pa.nulls(1, pa.string()))
    with pytest.raises(SchemaMismatchError, match="null in leader_image_id"):
        tables.commit_day(NAME, DAY, read=read, rows=rows)
    assert tables.count_rows(NAME) == 0


def test_rows_that_lack_columns_are_refused(tables: Tables) -> None:
    read = tables.read_day(NAME, DAY)
    with pytest.raises(SchemaMismatchError, match="lack the columns distance, fingerprint"):
        tables.commit_day(NAME, DAY, read=read, rows=make_rows("a").drop_columns(["distance", "fingerprint"]))


def test_a_table_without_partitions_is_committed_as_a_whole(tables: Tables) -> None:
    def make_models(*versions: str) -> pa.Table:
        row = {
            "model_number": 1,
            "ingest_date": DAY,
            "backbone": "b",
            "class_ids": ["cow", "hen"],
            "images_trained": 2,
            "cross_validated_accuracy": None,
            "labelled_snapshot_id": 2**62,
            "weights_sha256": "",
            "weights_key": "",
            "fingerprint": "",
        }
        return pa.Table.from_pylist([{"model_version": version, **row} for version in versions], schema=LABEL_MODEL)

    read = tables.read_day("label_model", None)
    tables.commit_day("label_model", None, read=read, rows=make_models("1"))
    tables.commit_day(
        "label_model", None, read=tables.read_day("label_model", None), rows=make_models("2"), append=True
    )
    assert tables.read("label_model").sort_by("model_version") == make_models("1", "2")
    with pytest.raises(DayChangedError):
        tables.commit_day("label_model", None, read=read, rows=make_models("3"))


def test_a_tag_stays_with_its_snapshot_and_can_be_given_again(tables: Tables) -> None:
    first = commit(tables, "a")
    tables.tag_snapshot(NAME, first, "release-1")
    commit(tables, "b")
    tables.tag_snapshot(NAME, first, "release-1")
    refs = tables.catalog.load_table(f"farmy.{NAME}").refs()
    assert refs["release-1"].snapshot_id == first
    assert len(tables.read_history(NAME)) == 2


def test_there_is_nothing_to_tag_in_an_unwritten_table(tables: Tables) -> None:
    with pytest.raises(NotFoundError, match="nothing was committed"):
        tables.tag_snapshot(NAME, 1, "release-1")


def test_a_table_that_does_not_exist_is_not_found_and_the_message_lists_those_that_do(tables: Tables) -> None:
    with pytest.raises(NotFoundError, match=r"no table nothing\. There are: .*near_duplicates"):
        tables.read("nothing")


def test_the_content_hash_follows_rows_and_neither_files_nor_their_order(tables: Tables) -> None:
    commit(tables, "a", "b", "c")
    together = tables.hash_content(NAME)
    commit(tables, "c", fingerprint="other")
    assert tables.hash_content(NAME) != together
    commit(tables)
    numbered = make_rows("a", "b", "c")
    for image in (2, 0, 1):
        read = tables.read_day(NAME, DAY)
        tables.commit_day(NAME, DAY, read=read, rows=numbered.slice(image, 1), append=True)
    assert len(tables.list_data_files(NAME)) == 3
    assert tables.hash_content(NAME) == together


def test_equal_days_make_equal_files_whatever_the_order_of_their_rows(tables: Tables) -> None:
    def read_bytes() -> list[bytes]:
        io = tables.catalog.load_table(f"farmy.{NAME}").io
        return [io.new_input(file).open().read() for file in tables.list_data_files(NAME)]

    commit(tables, "a", "b", "c")
    first = read_bytes()
    read = tables.read_day(NAME, DAY)
    tables.commit_day(NAME, DAY, read=read, rows=make_rows("a", "b", "c").take([2, 0, 1]))
    assert read_bytes() == first


def test_a_catalog_that_cannot_be_opened_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="Could not open the catalog of "):
        open_sqlite_tables(str(tmp_path / "file" / "catalog.db"), f"file://{tmp_path}/tables")


def test_a_damaged_catalog_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "catalog.db").write_bytes(b"this is no database" * 100)
    with pytest.raises(StorageError, match="Could not open"):
        open_sqlite_tables(str(tmp_path / "catalog.db"), f"file://{tmp_path}/tables").read(NAME)


def test_a_warehouse_that_cannot_be_written_is_a_storage_error_and_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "tables").write_text("a file where the folder should be")
    tables = open_sqlite_tables(str(tmp_path / "catalog.db"), f"file://{tmp_path}/tables")
    with pytest.raises(StorageError, match=f"Could not .*{NAME}"):
        commit(tables, "a")
    assert tables.snapshot_id(NAME) is None


def test_a_lost_data_file_is_a_storage_error_and_never_an_empty_table(tmp_path: Path) -> None:
    tables = open_sqlite_tables(str(tmp_path / "catalog.db"), f"file://{tmp_path}/tables")
    commit(tables, "a")
    Path(tables.list_data_files(NAME)[0].removeprefix("file://")).unlink()
    with pytest.raises(StorageError, match=f"Could not read {NAME}"):
        tables.read(NAME)


def test_wrong_credentials_are_told_from_a_storage_that_fails(
    s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    options = {"s3.endpoint": s3.endpoint, "s3.region": "us-east-1"}
    tables = open_sqlite_tables(str(tmp_path / "catalog.db"), f"s3://{BUCKET}/strange/tables", options)
    with pytest.raises(AccessRefusedError, match=r"May not create near_duplicates: .*credentials"):
        commit(tables, "a")
