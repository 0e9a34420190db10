from datetime import date

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from lakehouse.submissions import build_landing_key

DAY = date(2026, 3, 9)
PREFIX = "landing/submit/2026/03/09/"

names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=30)


def test_a_file_lands_under_source_day_and_name() -> None:
    assert build_landing_key("phone", DAY, "field 1/Äpfel.jpg") == "landing/phone/2026/03/09/field 1/Äpfel.jpg"


@pytest.mark.parametrize(
    ("name", "landed"),
    [
        ("/etc/passwd", "etc/passwd"),
        ("../../raw/x.jpg", "raw/x.jpg"),
        ("a/./b//c/../d.jpg", "a/b/c/d.jpg"),
        ("line\nbreak\t.jpg", "line_break_.jpg"),
        ("100% #1?.jpg", "100% #1?.jpg"),
        ("photo #12", "photo _12"),
    ],
)
def test_a_name_never_leads_out_of_its_day(name: str, landed: str) -> None:
    assert build_landing_key("submit", DAY, name) == PREFIX + landed


@pytest.mark.parametrize(
    ("name", "landed"), [("a/x.tar.gz", "a/x.tar-abc.gz"), ("x", "x-abc"), (".hidden", ".hidden-abc")]
)
def test_a_distinction_stands_before_the_suffix(name: str, landed: str) -> None:
    assert build_landing_key("submit", DAY, name, "abc") == PREFIX + landed


@given(names, st.sampled_from(["", "0123456789ab"]))
def test_any_file_name_makes_a_key_that_every_store_can_hold(name: str, distinction: str) -> None:
    assume(any(part not in {"", ".", ".."} for part in name.split("/")))
    key = build_landing_key("submit", DAY, name, distinction)
    assert key.startswith(PREFIX)
    parts = key.split("/")
    assert not {"", ".", ".."} & set(parts)
    assert key.isprintable()
    assert build_landing_key("submit", DAY, key.removeprefix(PREFIX)) == key
