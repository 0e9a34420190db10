import re
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.fingerprints import (
    CODE,
    MODEL,
    SETTINGS,
    UPSTREAM,
    carry_fingerprints,
    hash_values,
    name_difference,
    with_fingerprints,
)

ROWS = pa.table({"image_id": ["a", "b"], "size": [1, 2], "note": ["x", None]})

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5), lambda inner: st.lists(inner, max_size=3)
)


def list_prints(rows: pa.Table) -> list[str]:
    prints: list[str] = rows.column("fingerprint").to_pylist()
    return prints


def test_a_hash_is_32_hex_digits_that_stay_the_same_between_versions() -> None:
    assert hash_values("a", 1, None, date(2026, 11, 2)) == "e4064322854b71ae738ed7e4118574c3"


@given(st.lists(plain, max_size=4), st.lists(plain, max_size=4))
def test_other_values_have_another_hash(one: list[object], other: list[object]) -> None:
    assert (hash_values(*one) == hash_values(*other)) == (repr(one) == repr(other))


@pytest.mark.parametrize(
    ("one", "other"), [(("ab", "c"), ("a", "bc")), ((), (None,)), ((["a"], "b"), (["a", "b"],)), (("1",), (1,))]
)
def test_values_do_not_run_into_each_other(one: tuple[object, ...], other: tuple[object, ...]) -> None:
    assert hash_values(*one) != hash_values(*other)


def test_the_order_of_values_counts_and_that_of_the_keys_of_a_mapping_does_not() -> None:
    assert hash_values(1, 2) != hash_values(2, 1)
    assert hash_values({"a": 1, "b": 2}) == hash_values({"b": 2, "a": 1})


def test_times_count_to_the_microsecond() -> None:
    noon = datetime(2026, 11, 2, 12, tzinfo=UTC)
    assert hash_values(noon) == hash_values(datetime(2026, 11, 2, 12, tzinfo=timezone(timedelta())))
    assert hash_values(noon) != hash_values(noon + timedelta(microseconds=1))


def test_a_row_has_another_print_when_what_it_is_computed_from_changes() -> None:
    before = list_prints(with_fingerprints(ROWS, ["image_id", "size"], "1"))
    changed = ROWS.set_column(1, "size", pa.array([1, 3]))
    after = list_prints(with_fingerprints(changed, ["image_id", "size"], "1"))
    assert before[0] == after[0]
    assert before[1] != after[1]


def test_columns_that_the_computation_does_not_read_do_not_count() -> None:
    changed = ROWS.set_column(2, "note", pa.array(["other", "values"]))
    assert list_prints(with_fingerprints(changed, ["image_id"], "1")) == list_prints(
        with_fingerprints(ROWS, ["image_id"], "1")
    )


def test_code_version_and_settings_make_every_row_stale() -> None:
    prints = [
        list_prints(with_fingerprints(ROWS, ["image_id"], version, limits))
        for version, limits in (("1", None), ("2", None), ("1", {"min": 1}), ("1", {"min": 2}))
    ]
    assert len({fingerprint for column in prints for fingerprint in column}) == 8


def make_print(
    version: str = "1", limit: int = 1, model: str | None = "m1", image_id: str = "a", **more: object
) -> str:
    rows = pa.table({"image_id": [image_id]})
    models = None if model is None else [model]
    return list_prints(with_fingerprints(rows, ["image_id"], version, {"min": limit, **more}, models))[0]


def test_a_print_has_four_parts_of_hex_digits() -> None:
    assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{8}-[0-9a-f]{8}-[0-9a-f]{16}", make_print())


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"version": "2"}, CODE),
        ({"limit": 2}, SETTINGS),
        ({"more": 1}, SETTINGS),
        ({"model": "m2"}, MODEL),
        ({"model": None}, MODEL),
        ({"image_id": "b"}, UPSTREAM),
        ({"model": "m2", "image_id": "b"}, MODEL),
        ({"limit": 2, "model": "m2"}, SETTINGS),
        ({"version": "2", "limit": 2, "model": "m2", "image_id": "b"}, CODE),
    ],
)
def test_two_prints_of_a_row_name_the_first_reason_why_they_differ(change: dict[str, Any], reason: str) -> None:
    assert name_difference(make_print(), make_print(**change)) == reason


def test_a_print_in_a_form_of_earlier_versions_was_made_by_other_code() -> None:
    assert name_difference(hash_values("a"), make_print()) == CODE


def test_rows_that_depend_on_no_model_share_the_part_of_the_model() -> None:
    prints = list_prints(with_fingerprints(ROWS, ["image_id"], "1"))
    assert len({fingerprint.split("-")[2] for fingerprint in prints}) == 1


def test_each_row_has_the_part_of_its_own_model() -> None:
    prints = list_prints(with_fingerprints(ROWS, ["size"], "1", models=["m1", "m2"]))
    assert [fingerprint.split("-")[2] for fingerprint in prints] == [
        make_print(model=model).split("-")[2] for model in ("m1", "m2")
    ]


def test_the_print_of_a_row_does_not_depend_on_the_rows_beside_it() -> None:
    alone = with_fingerprints(ROWS.slice(1), ["image_id", "note"], "1")
    assert list_prints(alone) == list_prints(with_fingerprints(ROWS, ["image_id", "note"], "1"))[1:]


def test_no_rows_have_a_print_column_all_the_same() -> None:
    assert with_fingerprints(ROWS.slice(2), ["image_id"], "1").schema.field("fingerprint").type == pa.string()


def test_computed_rows_carry_the_print_of_what_they_were_computed_from() -> None:
    stale = with_fingerprints(ROWS, ["image_id"], "1")
    computed = pa.table({"image_id": ["b", "a", "b"], "label": ["x", "y", "z"]})
    a, b = list_prints(stale)
    assert list_prints(carry_fingerprints(computed, stale, "image_id")) == [b, a, b]
