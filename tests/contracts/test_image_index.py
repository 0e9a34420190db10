import sqlite3
import tempfile
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.image_index import ImageIndex
from lakehouse.arrivals import FirstArrival
from lakehouse.errors import NotFoundError, StorageError

IMAGE = "ab" * 32

OpenIndex = Callable[[Path], ImageIndex]
IMPLEMENTATIONS: dict[str, OpenIndex] = {"sqlite": lambda folder: ImageIndex(folder / "index.db")}


@pytest.fixture(params=IMPLEMENTATIONS)
def open_index(request: pytest.FixtureRequest) -> OpenIndex:
    return IMPLEMENTATIONS[request.param]


@pytest.fixture
def index(open_index: OpenIndex, tmp_path: Path) -> ImageIndex:
    return open_index(tmp_path)


def make_first(arrived_us: int, key: str = "landing/a", image_id: str = IMAGE) -> FirstArrival:
    return FirstArrival(image_id, f"arrival-{arrived_us}-{key}", date(2026, 11, 1 + arrived_us % 9), arrived_us, key)


def withdraw(first: FirstArrival) -> FirstArrival:
    return replace(first, is_withdrawn=True)


def test_nothing_is_known_at_first(index: ImageIndex) -> None:
    assert index.find_firsts([IMAGE]) == {}
    assert index.find_firsts([]) == {}
    assert index.read_cursor("progress") is None


def test_a_first_arrival_is_found_again_with_every_fact(index: ImageIndex) -> None:
    first = make_first(1_794_000_000_123_456, "landing/phone/2026/11/02/Äpfel 'x'.jpg")
    assert index.record_firsts([first]) == []
    assert index.find_firsts([IMAGE, "cd" * 32]) == {IMAGE: first}


def test_recording_a_first_again_loses_nothing_and_nobody(index: ImageIndex) -> None:
    first = make_first(5)
    index.record_firsts([first])
    assert index.record_firsts([first]) == []
    assert index.find_firsts([IMAGE]) == {IMAGE: first}


def test_a_later_arrival_loses_and_is_reported(index: ImageIndex) -> None:
    earlier, later = make_first(5), make_first(6)
    index.record_firsts([earlier])
    assert index.record_firsts([later]) == [later]
    assert index.find_firsts([IMAGE]) == {IMAGE: earlier}


def test_an_earlier_arrival_displaces_the_held_one_which_is_reported(index: ImageIndex) -> None:
    earlier, later = make_first(5), make_first(6)
    index.record_firsts([later])
    assert index.record_firsts([earlier]) == [later]
    assert index.find_firsts([IMAGE]) == {IMAGE: earlier}


def test_of_two_that_arrived_at_once_the_smaller_key_is_first(index: ImageIndex) -> None:
    index.record_firsts([make_first(5, "landing/b")])
    assert index.record_firsts([make_first(5, "landing/a")]) == [make_first(5, "landing/b")]


def test_a_withdrawn_first_arrival_is_found_again_as_withdrawn(index: ImageIndex) -> None:
    index.record_firsts([withdraw(make_first(5))])
    assert index.find_firsts([IMAGE]) == {IMAGE: withdraw(make_first(5))}


def test_a_first_arrival_that_is_withdrawn_and_granted_again_is_recorded_each_time_and_loses_to_nobody(
    index: ImageIndex,
) -> None:
    first = make_first(5)
    for state in (first, withdraw(first), first):
        assert index.record_firsts([state]) == []
        assert index.find_firsts([IMAGE]) == {IMAGE: state}


@pytest.mark.parametrize("copied_us", [4, 6], ids=["an earlier copy", "a later copy"])
def test_a_living_copy_displaces_a_withdrawn_arrival_which_is_reported(index: ImageIndex, copied_us: int) -> None:
    index.record_firsts([withdraw(make_first(5))])
    assert index.record_firsts([make_first(copied_us)]) == [withdraw(make_first(5))]
    assert index.find_firsts([IMAGE]) == {IMAGE: make_first(copied_us)}


@pytest.mark.parametrize("withdrawn_us", [4, 6], ids=["an earlier one", "a later one"])
def test_a_withdrawn_arrival_loses_to_the_living_one_that_is_known(index: ImageIndex, withdrawn_us: int) -> None:
    index.record_firsts([make_first(5)])
    assert index.record_firsts([withdraw(make_first(withdrawn_us))]) == [withdraw(make_first(withdrawn_us))]
    assert index.find_firsts([IMAGE]) == {IMAGE: make_first(5)}


def test_of_two_withdrawn_arrivals_the_earlier_is_first(index: ImageIndex) -> None:
    index.record_firsts([withdraw(make_first(6))])
    assert index.record_firsts([withdraw(make_first(5))]) == [withdraw(make_first(6))]
    assert index.find_firsts([IMAGE]) == {IMAGE: withdraw(make_first(5))}


def test_a_rebuild_keeps_what_is_withdrawn(index: ImageIndex) -> None:
    index.replace_firsts([withdraw(make_first(5)), make_first(6, image_id="00" * 32)])
    found = index.find_firsts([IMAGE, "00" * 32])
    assert {image_id: first.is_withdrawn for image_id, first in found.items()} == {IMAGE: True, "00" * 32: False}


@pytest.mark.parametrize("open_index", IMPLEMENTATIONS.values(), ids=IMPLEMENTATIONS)
@settings(max_examples=25, deadline=None)
@given(
    arrivals=st.lists(
        st.builds(make_first, st.integers(0, 20), st.sampled_from(["a", "b"]), st.sampled_from(["00", "11"])).flatmap(
            lambda first: st.sampled_from([first, withdraw(first)])
        ),
        min_size=1,
        max_size=8,
        unique_by=lambda first: (first.image_id, first.arrival_id),
    ),
    data=st.data(),
)
def test_the_earliest_wins_whatever_the_order_and_batches_and_all_others_are_reported(
    open_index: OpenIndex, arrivals: list[FirstArrival], data: st.DataObject
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        index = open_index(Path(folder))
        reported: list[FirstArrival] = []
        rest = data.draw(st.permutations(arrivals))
        while rest:
            size = data.draw(st.integers(1, len(rest)))
            reported += index.record_firsts(rest[:size])
            rest = rest[size:]
        images = sorted({arrival.image_id for arrival in arrivals})
        firsts = {
            image_id: min(
                (arrival for arrival in arrivals if arrival.image_id == image_id), key=lambda arrival: arrival.order
            )
            for image_id in images
        }
        assert index.find_firsts(images) == firsts
        assert set(reported) == set(arrivals) - set(firsts.values())


def test_threads_that_record_at_once_leave_the_earliest_and_report_each_other_once(
    open_index: OpenIndex, tmp_path: Path
) -> None:
    open_index(tmp_path)
    arrivals = [make_first(number, image_id=image) for image in ("00" * 32, "11" * 32) for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        reports = list(pool.map(lambda arrival: open_index(tmp_path).record_firsts([arrival]), arrivals))
    losers = [loser.arrival_id for report in reports for loser in report]
    assert sorted(losers) == sorted(arrival.arrival_id for arrival in arrivals if arrival.landed_at_us)


def test_another_process_finds_what_was_recorded(open_index: OpenIndex, tmp_path: Path) -> None:
    open_index(tmp_path).record_firsts([make_first(5)])
    assert open_index(tmp_path).find_firsts([IMAGE]) == {IMAGE: make_first(5)}


def test_thousands_of_images_are_found_in_one_call(index: ImageIndex) -> None:
    firsts = [make_first(number, image_id=f"{number:064x}") for number in range(1201)]
    assert index.record_firsts(firsts) == []
    ids = [first.image_id for first in firsts]
    assert index.find_firsts([*ids, *ids[:3]]) == dict(zip(ids, firsts, strict=True))


def test_a_rebuild_leaves_exactly_what_it_was_given(index: ImageIndex) -> None:
    index.record_firsts([make_first(1), make_first(2, image_id="00" * 32)])
    rebuilt = [make_first(9), make_first(8, image_id="11" * 32)]
    index.replace_firsts(iter(rebuilt))
    found = index.find_firsts([IMAGE, "00" * 32, "11" * 32])
    assert found == {first.image_id: first for first in rebuilt}


def test_a_rebuild_that_fails_half_way_changes_nothing(index: ImageIndex) -> None:
    index.record_firsts([make_first(1)])

    def list_firsts() -> Iterable[FirstArrival]:
        yield make_first(9, image_id="00" * 32)
        raise StorageError("cannot read the table")

    with pytest.raises(StorageError, match="cannot read the table"):
        index.replace_firsts(list_firsts())
    assert index.find_firsts([IMAGE, "00" * 32]) == {IMAGE: make_first(1)}


def test_a_rebuild_forgets_neither_submissions_nor_cursors(index: ImageIndex) -> None:
    index.record_submission("cd" * 32, "landing/submit/x.jpg")
    index.write_cursor("progress", "7")
    index.replace_firsts([])
    assert index.find_image("cd") == "cd" * 32
    assert index.read_cursor("progress") == "7"


def test_cursors_are_kept_by_name_and_overwritten(index: ImageIndex) -> None:
    for name, value in (("progress", "1"), ("other", "{}"), ("progress", "2 'ü'")):
        index.write_cursor(name, value)
    assert index.read_cursor("progress") == "2 'ü'"
    assert index.read_cursor("other") == "{}"


@pytest.mark.parametrize("length", [1, 8, 63, 64])
def test_an_image_is_found_by_the_beginning_of_its_id_in_any_case(index: ImageIndex, length: int) -> None:
    index.record_firsts([make_first(1), make_first(1, image_id="00" * 32), make_first(1, image_id="ff" * 32)])
    assert index.find_image(IMAGE[:length]) == IMAGE
    assert index.find_image(IMAGE[:length].upper()) == IMAGE


def test_an_image_that_was_submitted_and_then_landed_is_one_image(index: ImageIndex) -> None:
    for key in ("landing/submit/x.jpg", "landing/submit/y.jpg", "landing/submit/x.jpg"):
        index.record_submission(IMAGE, key)
    assert index.find_image("ab") == IMAGE
    index.record_firsts([make_first(1)])
    assert index.find_image("ab") == IMAGE


def test_a_beginning_that_fits_two_images_is_refused(index: ImageIndex) -> None:
    index.record_firsts([make_first(1)])
    index.record_submission("ac" * 32, "landing/x")
    with pytest.raises(NotFoundError, match="More than one image's id begins with a"):
        index.find_image("a")
    assert index.find_image("ac") == "ac" * 32


@pytest.mark.parametrize("token", ["ac", "abg", "%", "a_", "'; DROP TABLE submissions; --", f"{IMAGE}0"])
def test_a_beginning_that_fits_nothing_is_not_found(index: ImageIndex, token: str) -> None:
    index.record_firsts([make_first(1)])
    with pytest.raises(NotFoundError, match="No image's id begins with"):
        index.find_image(token)
    assert index.find_image("ab") == IMAGE


OLDER_TABLE = """
CREATE TABLE first_arrivals (
    image_id TEXT PRIMARY KEY, arrival_id TEXT NOT NULL, ingest_date TEXT NOT NULL,
    landed_at_us INTEGER NOT NULL, object_key TEXT NOT NULL
) WITHOUT ROWID
"""


def test_an_index_of_a_version_that_knew_no_withdrawal_is_gone_on_with(tmp_path: Path) -> None:
    held = FirstArrival(IMAGE, "arrival", date(2026, 11, 2), 5, "landing/a")
    with closing(sqlite3.connect(tmp_path / "index.db")) as connection, connection:
        connection.execute(OLDER_TABLE)
        connection.execute(
            "INSERT INTO first_arrivals VALUES (?, 'arrival', '2026-11-02', 5, 'landing/a')", (held.image_id,)
        )
    for _ in range(2):
        assert ImageIndex(tmp_path / "index.db").find_firsts([IMAGE]) == {IMAGE: held}
    assert ImageIndex(tmp_path / "index.db").record_firsts([withdraw(held)]) == []
    assert ImageIndex(tmp_path / "index.db").find_firsts([IMAGE]) == {IMAGE: withdraw(held)}


def test_an_index_that_cannot_be_opened_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="Cannot open the image index"):
        ImageIndex(tmp_path / "file" / "index.db")


def test_a_damaged_index_is_a_storage_error_that_tells_how_to_rebuild_it(tmp_path: Path) -> None:
    (tmp_path / "index.db").write_bytes(b"no database at all" * 100)
    with pytest.raises(StorageError, match="farmy reconcile"):
        ImageIndex(tmp_path / "index.db")
