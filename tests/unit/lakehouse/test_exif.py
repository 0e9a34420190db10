import struct
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import ExifTags, Image

from lakehouse.exif import ExifFacts, encode_geohash, read_exif
from tests.unit.lakehouse.image_files import (
    Field,
    write_degrees,
    write_exif,
    write_orientation,
    write_position,
    write_text,
)

NOTHING = ExifFacts()
ORDERS = ["<", ">"]
MAKE, MODEL, TIME, OFFSET = 0x010F, 0x0110, 0x9003, 0x9011


def write_all(order: str = "<") -> bytes:
    return write_exif(
        [write_text(MAKE, "Farmcam Works"), write_text(MODEL, "F1"), write_orientation(6, order)],
        [write_text(TIME, "2026:11:02 09:30:15"), write_text(OFFSET, "+01:00")],
        write_position(48.85825, 2.2945, order),
        order,
    )


@pytest.mark.parametrize("order", ORDERS)
def test_orientation_camera_time_and_place_are_read_in_either_order_of_bytes(order: str) -> None:
    facts = read_exif(write_all(order))
    assert (facts.camera_make, facts.camera_model, facts.orientation) == ("Farmcam Works", "F1", 6)
    assert facts.captured_at_local == datetime(2026, 11, 2, 9, 30, 15)  # noqa: DTZ001 - the camera's clock has no zone
    assert facts.captured_utc_offset_min == 60
    assert (facts.latitude, facts.longitude) == pytest.approx((48.85825, 2.2945), abs=1e-6)


def test_what_pillow_writes_is_read() -> None:
    exif = Image.Exif()
    exif.update({ExifTags.Base.Orientation: 3, ExifTags.Base.Make: "Farmcam Works"})
    exif.get_ifd(ExifTags.IFD.Exif).update({ExifTags.Base.DateTimeOriginal: "2026:11:02 09:30:15"})
    exif.get_ifd(ExifTags.IFD.GPSInfo).update({1: "S", 2: (33.0, 51.0, 30.0), 3: "E", 4: (151.0, 12.0, 36.0)})
    facts = read_exif(exif.tobytes().removeprefix(b"Exif\0\0"))
    assert (facts.orientation, facts.camera_make) == (3, "Farmcam Works")
    assert facts.captured_at_local == datetime(2026, 11, 2, 9, 30, 15)  # noqa: DTZ001 - the camera's clock has no zone
    assert (facts.latitude, facts.longitude) == pytest.approx((-33.858333, 151.21))


@pytest.mark.parametrize(("latitude", "longitude"), [(1.5, 2.5), (-1.5, 2.5), (1.5, -2.5), (-1.5, -2.5), (0, 0)])
def test_south_and_west_are_negative(latitude: float, longitude: float) -> None:
    facts = read_exif(write_exif(place=write_position(latitude, longitude)))
    assert (facts.latitude, facts.longitude) == (latitude, longitude)


@pytest.mark.parametrize(
    "place",
    [
        write_position(90.1, 0),
        write_position(0, 180.1),
        write_position(10, 20)[:2],
        write_position(10, 20)[2:],
        [write_degrees(2, 10), (4, 5, struct.pack("<6I", 1, 0, 0, 1, 0, 1))],
        [write_degrees(2, 10), (4, 5, struct.pack("<2I", 20, 1))],
        [write_text(2, "10 degrees"), write_text(4, "20 degrees")],
        [],
    ],
    ids=["too far north", "too far east", "no longitude", "no latitude", "over 0", "one number", "text", "nothing"],
)
def test_a_place_that_is_none_is_absent(place: list[Field]) -> None:
    facts = read_exif(write_exif(place=place))
    assert (facts.latitude, facts.longitude) == (None, None)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("order", ORDERS)
def test_every_orientation_is_read(orientation: int, order: str) -> None:
    assert read_exif(write_exif([write_orientation(orientation, order)], order=order)).orientation == orientation


@pytest.mark.parametrize("orientation", [0, 9, 255, 65_535])
def test_an_orientation_that_does_not_exist_means_upright(orientation: int) -> None:
    assert read_exif(write_exif([write_orientation(orientation)])).orientation == 1


@pytest.mark.parametrize(
    "text", ["", "    :  :     :  :  ", "0000:00:00 00:00:00", "2026-11-02 09:30:15", "2026:02:30 00:00:00", "today"]
)
def test_a_time_that_is_none_is_absent(text: str) -> None:
    assert read_exif(write_exif(taken=[write_text(TIME, text)])).captured_at_local is None


@pytest.mark.parametrize(
    ("text", "minutes"), [("+00:00", 0), ("-03:30", -210), ("+14:00", 840), ("Z", None), ("+1:00", None), ("", None)]
)
def test_an_offset_is_minutes_ahead_of_utc(text: str, minutes: int | None) -> None:
    assert read_exif(write_exif(taken=[write_text(OFFSET, text)])).captured_utc_offset_min == minutes


def test_text_is_short_printable_and_ends_at_its_zero() -> None:
    def read_make(value: bytes) -> str | None:
        return read_exif(write_exif([(MAKE, 2, value)])).camera_make

    assert read_make(b"  Farmcam  \0 and a secret\0") == "Farmcam"
    assert read_make(b"Farm\x1b[31m\ncam\x7f") == "Farm[31mcam"
    assert read_make("Фермкам".encode()) == "Фермкам"
    assert read_make(b"\xff\xfeFarm") == "\ufffd\ufffdFarm"
    assert read_make(b"F" * 200) == "F" * 64
    assert read_make(b"F" * 2000) is None
    assert read_make(b"\0" * 20) is None


@pytest.mark.parametrize("data", [None, b"", b"II", b"II*\0", b"MM\0*\0\0\0\x08", b"Exif\0\0II*\0", bytes(100)])
def test_what_is_no_exif_says_nothing(data: bytes | None) -> None:
    assert read_exif(data) == NOTHING


def test_a_directory_that_names_itself_is_read_once() -> None:
    block = bytearray(write_exif([write_orientation(8)]))
    for tag in (b"\x69\x87", b"\x25\x88"):
        position = block.find(tag)
        block[position + 8 : position + 12] = struct.pack("<I", 8)
    assert read_exif(bytes(block)).orientation == 8


@given(st.binary(max_size=300), st.sampled_from([b"II*\0", b"MM\0*"]))
def test_no_bytes_at_all_raise(tail: bytes, beginning: bytes) -> None:
    check(beginning + tail)


@given(
    st.sampled_from(ORDERS),
    st.lists(st.tuples(st.integers(4, 300), st.binary(min_size=1, max_size=8)), min_size=1, max_size=4),
    st.integers(0, 400),
)
def test_no_damage_to_a_real_block_raises(order: str, changes: list[tuple[int, bytes]], end: int) -> None:
    damaged = bytearray(write_all(order))
    for position, written in changes:
        damaged[position : position + len(written)] = written
    check(bytes(damaged[:end]))


def check(data: bytes) -> None:
    """Whatever the bytes were, the facts are ones that the table can hold."""
    facts = read_exif(data)
    assert 1 <= facts.orientation <= 8
    assert (facts.latitude is None) == (facts.longitude is None)
    assert facts.latitude is None or -90 <= facts.latitude <= 90
    assert facts.longitude is None or -180 <= facts.longitude <= 180
    for text in (facts.camera_make, facts.camera_model):
        assert text is None or (0 < len(text) <= 64 and text.isprintable())


@pytest.mark.parametrize(
    ("latitude", "longitude", "geohash"),
    [
        (57.64911, 10.40744, "u4pruydqqvj"),
        (42.605, -5.603, "ezs42"),
        (48.85825, 2.2945, "u09tu"),
        (-25.382708, -49.265506, "6gkzwgjzn820"),
        (37.8324, 112.5584, "ww8p1r4t8"),
        (0.0, 0.0, "s0000"),
        (-90.0, -180.0, "00000"),
        (90.0, 180.0, "zzzzz"),
    ],
)
def test_a_geohash_is_the_published_one_and_each_shorter_one_begins_it(
    latitude: float, longitude: float, geohash: str
) -> None:
    for length in range(len(geohash) + 1):
        assert encode_geohash(latitude, longitude, length) == geohash[:length]
