import os
import time
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lakehouse.jpeg import JpegHeader, count_scans, is_jpeg, read_jpeg_header, strip_metadata
from lakehouse.quality import UnreadableError
from tests.unit.lakehouse.image_files import (
    APP0,
    COM,
    DISPLAY_P3,
    DRI,
    EOI,
    HEIGHT,
    SOF0,
    SOS,
    WIDTH,
    Segment,
    decode,
    drop_segments,
    encode,
    encode_ycck,
    insert_segments,
    load_picture,
    read_jpeg,
    replace_segment,
    write_exif,
    write_jpeg,
    write_orientation,
    write_rgb_profile,
    write_srgb_curve,
)

BASELINE = encode(load_picture())
PROGRESSIVE = encode(load_picture(), progressive=True)
GREY = encode(load_picture().convert("L"))
RGB = encode(load_picture(), keep_rgb=True)
RESTARTS = encode(load_picture(), restart_marker_blocks=4)
EXIF = write_exif([write_orientation(6)])
PROFILE = write_rgb_profile(DISPLAY_P3, write_srgb_curve())
PLAIN = {"baseline": BASELINE, "progressive": PROGRESSIVE, "grey": GREY, "with restarts": RESTARTS}
LOADED = encode(load_picture(), exif=b"Exif\0\0" + EXIF, icc_profile=PROFILE, comment=b"by Jane", progressive=True)


def make_icc_segment(number: int, count: int, part: bytes) -> Segment:
    return Segment(0xE2, b"ICC_PROFILE\0" + bytes((number, count)) + part)


def test_a_header_says_what_the_pixels_are() -> None:
    header = read_jpeg_header(BASELINE)
    assert (header.frame, header.precision, header.width_px, header.height_px) == (0xC0, 8, WIDTH, HEIGHT)
    assert (header.component_ids, header.adobe_transform) == ((1, 2, 3), None)
    assert (header.exif, header.icc_profile) == (None, None)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (BASELINE, (True, True)),
        (RESTARTS, (True, True)),
        (GREY, (True, True)),
        (PROGRESSIVE, (True, False)),
        (RGB, (False, True)),
        (encode_ycck(load_picture()), (False, True)),
        (encode(load_picture().convert("CMYK")), (False, True)),
    ],
    ids=["baseline", "with restarts", "grey", "progressive", "RGB", "YCCK", "CMYK"],
)
def test_a_header_says_whether_jfif_tells_the_colours_and_how_many_scans_hold_them(
    data: bytes, told: tuple[bool, bool]
) -> None:
    header = read_jpeg_header(data)
    assert (header.is_jfif, header.has_one_scan) == told
    assert header.is_huffman_8_bit


def test_rgb_is_told_by_adobe_or_by_the_names_of_the_components() -> None:
    header = read_jpeg_header(RGB)
    assert header.adobe_transform == 0
    assert not replace(header, component_ids=(1, 2, 3)).is_jfif
    assert replace(header, adobe_transform=1, component_ids=(1, 2, 3)).is_jfif
    assert not replace(header, adobe_transform=None, component_ids=tuple(b"RGB")).is_jfif


@pytest.mark.parametrize(("change", "value"), [("frame", 0xC9), ("frame", 0xC3), ("precision", 12)])
def test_other_codes_and_depths_are_told(change: str, value: int) -> None:
    header = read_jpeg_header(BASELINE)
    assert not JpegHeader(**vars(header) | {change: value}).is_huffman_8_bit


def test_metadata_is_read_whole() -> None:
    header = read_jpeg_header(LOADED)
    assert (header.exif, header.icc_profile) == (EXIF, PROFILE)


def test_the_first_exif_counts() -> None:
    data = insert_segments(LOADED, Segment(0xE1, b"Exif\0\0another"), Segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0"))
    assert read_jpeg_header(data).exif == EXIF


def test_a_profile_in_parts_is_put_together_in_their_order() -> None:
    parts = [make_icc_segment(number, 3, bytes([64 + number]) * 10) for number in (3, 1, 2)]
    assert read_jpeg_header(insert_segments(BASELINE, *parts)).icc_profile == b"A" * 10 + b"B" * 10 + b"C" * 10
    large = os.urandom(200_000)
    assert read_jpeg_header(encode(load_picture(), icc_profile=large)).icc_profile == large


def test_an_endless_profile_is_refused() -> None:
    data = insert_segments(BASELINE, *[make_icc_segment(1, 1, bytes(60_000))] * 70)
    with pytest.raises(UnreadableError, match=r"^corrupt$"):
        read_jpeg_header(data)


def test_filling_before_a_marker_is_passed_over() -> None:
    filled = BASELINE.replace(b"\xff\xdb", b"\xff\xff\xff\xff\xdb").replace(b"\xff\xda", b"\xff\xff\xda")
    assert read_jpeg_header(filled) == read_jpeg_header(BASELINE)
    assert strip_metadata(filled + b"\xff\xff") == strip_metadata(BASELINE)


def test_a_file_without_a_scan_is_truncated() -> None:
    segments = [segment for segment in read_jpeg(BASELINE) if segment.marker != SOS]
    for data in (b"\xff\xd8", b"\xff\xd8\xff", write_jpeg(segments)[:-2], BASELINE[:100]):
        with pytest.raises(UnreadableError, match=r"^truncated$"):
            read_jpeg_header(data)


@pytest.mark.parametrize(
    "data",
    [
        drop_segments(BASELINE, SOF0),
        write_jpeg(read_jpeg(BASELINE)[:3]) + bytes(9),
        BASELINE[:20] + b"junk" + BASELINE[20:],
        replace_segment(BASELINE, SOF0, lambda body: body[:5]),
        replace_segment(BASELINE, SOF0, lambda body: body[:5] + b"\xff"),
        replace_segment(BASELINE, SOS, lambda _: b""),
    ],
    ids=["no frame", "the end comes first", "junk", "a short frame", "255 components", "an empty scan"],
)
def test_segments_that_make_no_image_are_corrupt(data: bytes) -> None:
    with pytest.raises(UnreadableError, match=r"^corrupt$"):
        read_jpeg_header(data)


@pytest.mark.parametrize("name", PLAIN)
def test_what_is_stripped_keeps_its_pixels_bit_for_bit_and_loses_all_else(name: str) -> None:
    stripped = strip_metadata(PLAIN[name])
    assert stripped is not None
    assert np.array_equal(decode(stripped), decode(PLAIN[name]))
    assert [bytes(segment) for segment in read_jpeg(stripped) if segment.marker != APP0] == [
        bytes(segment) for segment in read_jpeg(PLAIN[name]) if segment.marker != APP0
    ]
    assert strip_metadata(stripped) == stripped


@pytest.mark.parametrize("name", PLAIN)
def test_whatever_is_put_around_and_between_the_pixels_is_taken_out(name: str) -> None:
    stripped = strip_metadata(PLAIN[name])
    added = [Segment(marker, b"a secret") for marker in [*range(0xE0, 0xF0), COM, 0xDE, 0xF7]]
    crowded: list[Segment] = []
    for segment in read_jpeg(insert_segments(PLAIN[name], *added)):
        crowded += [segment, Segment(COM, b"a secret"), Segment(0xE1, b"a secret \xff\xd9 and more")]
    assert strip_metadata(write_jpeg(crowded) + b"a secret" + BASELINE) == stripped


def test_restarts_stay() -> None:
    stripped = strip_metadata(RESTARTS)
    assert stripped is not None
    assert stripped.count(b"\xff\xd0") == RESTARTS.count(b"\xff\xd0") > 1
    assert any(segment.marker == DRI for segment in read_jpeg(stripped))


@pytest.mark.parametrize("name", PLAIN)
def test_a_file_that_does_not_end_is_not_stripped(name: str) -> None:
    data = PLAIN[name]
    assert data.endswith(bytes((0xFF, EOI)))
    assert strip_metadata(data[:-2]) is None


def test_scans_are_counted() -> None:
    assert count_scans(BASELINE) == 1
    assert count_scans(PROGRESSIVE) == sum(segment.marker == SOS for segment in read_jpeg(PROGRESSIVE)) > 5


@pytest.mark.parametrize(
    "hostile",
    [
        b"\xff\xd8" + b"\xff\xe0\x00\x02" * 500_000,
        b"\xff\xd8" + b"\xff" * 2_000_000,
        BASELINE[:-2] + b"\xff\xfe\x00\x02" * 500_000 + b"\xff\xd9",
        BASELINE[:-2] + b"\xff" * 2_000_000,
    ],
    ids=["empty segments", "filling", "comments behind the scan", "filling behind the scan"],
)
def test_megabytes_of_nothing_are_passed_over_quickly(hostile: bytes) -> None:
    started = time.process_time()
    with suppress(UnreadableError):
        read_jpeg_header(hostile)
    with suppress(UnreadableError):
        assert strip_metadata(hostile) is None
    assert time.process_time() - started < 0.5


@given(st.binary(max_size=200), st.sampled_from([b"", b"\xff\xd8", b"\xff\xd8\xff"]))
@example(b"", b"\xff\xd8\xff")
def test_no_bytes_at_all_raise_anything_but_a_failure(tail: bytes, beginning: bytes) -> None:
    check(beginning + tail)


@given(
    st.sampled_from([LOADED, RESTARTS]),
    st.lists(st.tuples(st.integers(2, 3000), st.binary(min_size=1, max_size=4)), max_size=4),
    st.integers(2, 20_000),
)
def test_no_damage_to_a_real_file_raises_anything_but_a_failure(
    data: bytes, changes: list[tuple[int, bytes]], end: int
) -> None:
    damaged = bytearray(data)
    for position, written in changes:
        damaged[position : position + len(written)] = written
    check(bytes(damaged[:end]))


def check(data: bytes) -> None:
    """Whatever the bytes are, they are understood or refused, and what is kept of them is well-formed."""
    try:
        header = read_jpeg_header(data)
    except UnreadableError as error:
        assert str(error) in {"truncated", "corrupt"}  # noqa: PT017 - any of the two, or none
        return
    assert is_jpeg(data) == data.startswith(b"\xff\xd8\xff")
    assert 0 <= header.width_px < 65_536
    assert 0 <= header.height_px < 65_536
    stripped = strip_metadata(data)
    if stripped is not None:
        assert strip_metadata(stripped) == stripped
        assert len(stripped) <= len(data) + 18
