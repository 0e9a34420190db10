import re

import pyarrow as pa
import pytest

from lakehouse.schemas import TABLES, TableDefinition

TABLE = pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
UNITS = {
    pa.int32(): re.compile(r"_(px|min)$|^(rank|distance|orientation|annotators_answered)$|^votes_"),
    pa.timestamp("us", tz="UTC"): re.compile(r"_at$"),
    pa.timestamp("us"): re.compile(r"_at_local$"),
    pa.date32(): re.compile(r"_(date|until)$"),
    pa.bool_(): re.compile(r"^(is|has)_"),
}


def list_types(kind: pa.DataType) -> list[pa.DataType]:
    return [kind, *list_types(kind.value_type)] if pa.types.is_list(kind) else [kind]


@TABLE
def test_every_table_tells_its_day_and_its_fingerprint(table: TableDefinition) -> None:
    assert table.schema.field("ingest_date").type == pa.date32()
    assert table.schema.names[-1] == "fingerprint"
    assert not table.schema.field("fingerprint").nullable


@TABLE
def test_every_table_has_the_key_by_which_rows_go_stale(table: TableDefinition) -> None:
    key = table.schema.field(table.row_key)
    assert key.type == pa.string()
    assert not key.nullable


@TABLE
def test_every_type_is_one_that_athena_reads_from_a_v2_table(table: TableDefinition) -> None:
    times = {pa.timestamp("us", tz="UTC"), pa.timestamp("us")}
    known = {pa.string(), pa.int32(), pa.int64(), pa.float64(), pa.bool_(), pa.date32(), *times}
    for field in table.schema:
        assert {kind for kind in list_types(field.type) if not pa.types.is_list(kind)} <= known


@TABLE
def test_every_column_says_what_it_means(table: TableDefinition) -> None:
    for field in table.schema:
        assert field.metadata[b"doc"].strip(), field.name


@TABLE
def test_names_tell_units_and_kinds(table: TableDefinition) -> None:
    for field in table.schema:
        assert re.fullmatch(r"[a-z][a-z0-9_]*", field.name)
        assert "score" not in field.name
        if field.type in UNITS:
            assert UNITS[field.type].search(field.name), field.name


@TABLE
def test_no_column_is_named_twice(table: TableDefinition) -> None:
    assert len(set(table.schema.names)) == len(table.schema.names)


def test_a_column_that_several_tables_share_is_of_one_type() -> None:
    kinds: dict[str, set[str]] = {}
    for table in TABLES.values():
        for field in table.schema:
            kinds.setdefault(field.name, set()).add(str(field.type))
    assert {name: kind for name, kind in kinds.items() if len(kind) > 1} == {}
