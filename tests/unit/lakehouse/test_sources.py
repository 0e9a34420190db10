import json
from datetime import date, timedelta
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.sources import (
    Consent,
    Sidecar,
    SidecarError,
    SidecarProblem,
    Source,
    find_subject,
    find_terms,
    is_sidecar,
    parse_sidecar,
)

DAY = date(2026, 11, 2)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
sidecars = st.dictionaries(st.sampled_from(["licence", "consent", "retain_until", "crop"]), json_values)

BAD_SIDECARS: list[tuple[str, SidecarProblem]] = [
    ("", "not_json"),
    ("\ufeff{}", "not_json"),
    ("{", "not_json"),
    ("{'licence': 'CC0'}", "not_json"),
    ("[" * 100_000, "not_json"),
    (f"[{'9' * 5_000}]", "not_json"),
    ("[]", "not_an_object"),
    ("null", "not_an_object"),
    ('"granted"', "not_an_object"),
    ("5", "not_an_object"),
    ('{"licence": ""}', "bad_licence"),
    ('{"licence": 5}', "bad_licence"),
    ('{"licence": ["CC0"]}', "bad_licence"),
    (json.dumps({"licence": "x" * 201}), "bad_licence"),
    ('{"consent": ""}', "bad_consent"),
    ('{"consent": "Granted"}', "bad_consent"),
    ('{"consent": true}', "bad_consent"),
    ('{"consent": {}}', "bad_consent"),
    ('{"retain_until": ""}', "bad_retain_until"),
    ('{"retain_until": 20270131}', "bad_retain_until"),
    ('{"retain_until": "2027-02-30"}', "bad_retain_until"),
    ('{"retain_until": "31.01.2027"}', "bad_retain_until"),
    ('{"retain_until": "2027-01-31T00:00:00Z"}', "bad_retain_until"),
    ('{"retain_until": ["2027-01-31"]}', "bad_retain_until"),
]


def find_sidecar_terms(sidecar_json: str | None, source: Source, *, has_sidecar: bool = True) -> tuple[Any, ...]:
    terms = find_terms(source, has_sidecar=has_sidecar, sidecar_json=sidecar_json, ingest_date=DAY)
    return terms.licence, terms.consent, terms.retain_until, terms.problem


@pytest.mark.parametrize("name", ["phone", "web-1", "a_b", "0"])
def test_a_source_is_named_like_its_folder(name: str) -> None:
    assert Source(name).name == name


@pytest.mark.parametrize("name", ["", "Phone", "a b", "a/b", "..", "_a", "äpfel", "phone\n"])
def test_a_source_with_another_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="is not lower case letters, digits, - and _"):
        Source(name)


def test_a_consent_that_there_is_not_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(ValueError, match=r"'maybe' of phone is not one of granted, not_required, unknown, withdrawn"):
        Source("phone", consent="maybe")  # type: ignore[arg-type]


@pytest.mark.parametrize("days", [0, -1, 4_000_000])
def test_a_retention_of_no_day_or_of_ages_is_refused(days: int) -> None:
    with pytest.raises(ValueError, match="is not from 1 to 36525"):
        Source("phone", retention_days=days)


def test_a_source_that_says_nothing_has_unknown_terms_and_takes_back_what_is_deleted() -> None:
    source = Source("phone")
    assert find_sidecar_terms(None, source, has_sidecar=False) == ("unknown", "unknown", None, None)
    assert not source.keeps_deleted


def test_a_sidecar_is_named_after_its_image_and_is_about_it() -> None:
    assert is_sidecar("landing/phone/a.jpg.json")
    assert find_subject("landing/phone/a.jpg.json") == "landing/phone/a.jpg"


@pytest.mark.parametrize("key", ["landing/a.jpg", "landing/a.JSON", "landing/a.json/b.jpg", "landing/json"])
def test_what_is_not_named_so_is_about_itself(key: str) -> None:
    assert not is_sidecar(key)
    assert find_subject(key) == key


def test_a_sidecar_says_what_it_says_and_keeps_all_other_fields() -> None:
    fields = {"licence": "CC0", "consent": "granted", "retain_until": "2027-01-31", "crop": "maize", "n": [1, None]}
    sidecar = Sidecar("CC0", "granted", date(2027, 1, 31), {"crop": "maize", "n": [1, None]})
    assert parse_sidecar(json.dumps(fields)) == sidecar


@pytest.mark.parametrize("text", ["{}", '{"licence": null, "consent": null, "retain_until": null}'])
def test_a_sidecar_may_say_nothing(text: str) -> None:
    assert parse_sidecar(text) == Sidecar()


@pytest.mark.parametrize("consent", get_args(Consent))
def test_a_sidecar_may_say_every_consent(consent: Consent) -> None:
    assert parse_sidecar(json.dumps({"consent": consent})).consent == consent


@pytest.mark.parametrize(("text", "problem"), BAD_SIDECARS, ids=[text[:30] for text, _ in BAD_SIDECARS])
def test_a_sidecar_that_cannot_be_used_has_a_reason_and_the_terms_of_its_source_hold(
    text: str, problem: SidecarProblem
) -> None:
    with pytest.raises(SidecarError, match=problem) as error:
        parse_sidecar(text)
    assert error.value.problem == problem
    source = Source("phone", "CC0", "granted", 1)
    assert find_sidecar_terms(text, source) == ("CC0", "granted", DAY + timedelta(days=1), problem)


def test_a_sidecar_that_is_there_and_was_not_read_was_too_large() -> None:
    assert find_sidecar_terms(None, Source("phone", "CC0")) == ("CC0", "unknown", None, "too_large")


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"licence": "CC0"}, ("CC0", "granted", DAY + timedelta(days=9), None)),
        ({"consent": "withdrawn"}, ("own", "withdrawn", DAY + timedelta(days=9), None)),
        ({"retain_until": "2026-11-03"}, ("own", "granted", date(2026, 11, 3), None)),
        ({"retain_until": "2099-12-31"}, ("own", "granted", date(2099, 12, 31), None)),
        ({}, ("own", "granted", DAY + timedelta(days=9), None)),
    ],
)
def test_each_term_is_the_sidecars_where_it_says_one_and_else_the_sources(
    fields: dict[str, str], expected: tuple[Any, ...]
) -> None:
    assert find_sidecar_terms(json.dumps(fields), Source("phone", "own", "granted", 9)) == expected


@given(st.text())
def test_any_text_is_a_sidecar_or_has_a_reason(text: str) -> None:
    problem = find_sidecar_terms(text, Source("phone"))[-1]
    assert problem is None or problem in get_args(SidecarProblem)


@given(sidecars)
def test_any_object_gives_terms_of_the_right_kinds(fields: dict[str, Any]) -> None:
    licence, consent, retain_until, problem = find_sidecar_terms(json.dumps(fields), Source("phone", retention_days=1))
    assert 0 < len(licence) <= 200
    assert consent in get_args(Consent)
    assert isinstance(retain_until, date)
    assert problem is None or problem in get_args(SidecarProblem)


@pytest.mark.parametrize("licence", ['"\\ud800"', '"a\\u0000b"', '"a\\nb"'])
def test_a_licence_that_no_table_holds_is_bad(licence: str) -> None:
    with pytest.raises(SidecarError) as caught:
        parse_sidecar(f'{{"licence": {licence}}}')
    assert caught.value.problem == "bad_licence"


@pytest.mark.parametrize("written", ['"2026-1-2"', '"20260102"', '"2026-W01-1"', "20260102", '"2026-02-30"'])
def test_a_date_is_written_in_one_way(written: str) -> None:
    with pytest.raises(SidecarError) as caught:
        parse_sidecar(f'{{"retain_until": {written}}}')
    assert caught.value.problem == "bad_retain_until"
