import json
from datetime import date

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from lakehouse.submissions import (
    build_fetched_name,
    build_landing_key,
    build_origin_sidecar,
    build_upload_key,
    find_content_type,
)

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


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://example.org/2026/cow.jpg?size=large", "cow.jpg"),
        ("https://example.org/COW.JPG", "COW.JPG"),
        ("https://example.org/Gr%C3%BCne%20K%C3%BChe.png", "Grüne Kühe.png"),
        ("https://example.org/", "image.png"),
        ("https://example.org", "image.png"),
        ("https://example.org/picture", "picture.png"),
        ("https://example.org/picture.php?id=7", "picture.php.png"),
        ("https://example.org/cow.jpg.json", "cow.jpg.json.png"),
        ("https://example.org/a/", "a.png"),
        ("https://example.org/%2e%2e", "image.png"),
        ("https://example.org/a%2Fb.jpg", "b.jpg"),
        ("https://example.org/.jpg", "jpg.png"),
        (f"https://example.org/{'%F0%9F%90%84' * 90}.jpg", f"{'🐄' * 50}.jpg"),
    ],
)
def test_an_image_from_a_url_lands_under_the_last_part_of_its_path_with_an_images_suffix(url: str, name: str) -> None:
    assert build_fetched_name(url, "png") == name


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="?#"), max_size=300))
def test_whatever_a_url_is_its_image_lands_in_its_day_and_is_never_a_sidecar(path: str) -> None:
    name = build_fetched_name(f"https://example.org/{path}", "webp")
    key = build_landing_key("scraper", DAY, name, "0123456789ab")
    assert key.startswith("landing/scraper/2026/03/09/")
    assert not key.endswith(".json")
    assert all(len(part.encode()) <= 255 for part in key.split("/"))


def test_the_sidecar_of_an_image_from_a_url_says_where_it_came_from_without_secrets() -> None:
    sidecar = build_origin_sidecar("https://example.org/k%C3%BChe/a.jpg?signature=secret#top")
    assert json.loads(sidecar) == {"origin_url": "https://example.org/k%C3%BChe/a.jpg"}


def test_an_upload_keeps_nothing_of_its_name_but_the_suffix() -> None:
    assert (
        build_upload_key("phone", DAY, "0f" * 16, "../../My Cow.JPEG") == f"landing/phone/2026/03/09/{'0f' * 16}.jpeg"
    )


@pytest.mark.parametrize("name", ["", "cow", "cow.json", "cow.jpg.exe", ".jpg", "cow.${filename}"])
def test_an_upload_has_an_images_suffix(name: str) -> None:
    with pytest.raises(ValueError, match="ends in none of"):
        build_upload_key("phone", DAY, "0", name)


@pytest.mark.parametrize("source", ["", "..", "a/b", "Phone", "-x", "phone "])
def test_an_upload_has_a_sources_name(source: str) -> None:
    with pytest.raises(ValueError, match="source"):
        build_upload_key(source, DAY, "0", "cow.jpg")


def test_the_suffix_says_the_media_type() -> None:
    assert [find_content_type(name) for name in ("a.jpg", "b.JPEG", "c.heic")] == ["image/jpeg"] * 2 + ["image/heic"]
