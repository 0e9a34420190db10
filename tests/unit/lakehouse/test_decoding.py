import time
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lakehouse.decoding import JpegPicture, PillowPicture, is_plain_jpeg, open_picture, sniff_format
from lakehouse.quality import FAILURES, CleansingRecipe, UnreadableError
from tests.unit.lakehouse.image_files import (
    COM,
    DISPLAY_P3,
    DQT,
    SOF0,
    SOF2,
    SRGB,
    WIDTH,
    Segment,
    drop_segments,
    encode,
    encode_heic,
    insert_segments,
    load_large_picture,
    load_picture,
    replace_segment,
    store_turned,
    write_exif,
    write_orientation,
    write_rgb_profile,
    write_srgb_curve,
)

RECIPE = CleansingRecipe()
JPEG = encode(load_picture())
PROGRESSIVE = encode(load_picture(), progressive=True)
BRANDS = {
    b"heic": "heic",
    b"heix": "heic",
    b"mif1": "heic",
    b"avif": "avif",
    b"avis": "avif",
    b"isom": None,
    b"qt  ": None,
    b"crx ": None,
}


def resize_frame(jpeg: bytes, marker: int, width: int, height: int) -> bytes:
    """Return the file with another size in its header, which its pixels do not have."""
    size = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    return replace_segment(jpeg, marker, lambda body: body[:1] + size + body[5:])


@pytest.mark.parametrize(("brand", "name"), BRANDS.items())
def test_what_shares_a_container_is_told_apart_by_its_brand(brand: bytes, name: str | None) -> None:
    assert sniff_format(b"\0\0\0\x10ftyp" + brand + bytes(4)) == name
    assert sniff_format(b"\0\0\0\x18ftypmp42" + bytes(4) + brand + b"iso2") == name


def test_an_avif_that_also_calls_itself_heif_is_one() -> None:
    assert sniff_format(b"\0\0\0\x20ftypmif1" + bytes(4) + b"mif1" + b"heic" + b"avif" + bytes(4)) == "avif"


def test_brands_behind_their_box_do_not_count() -> None:
    assert sniff_format(b"\0\0\0\x14ftypisom" + bytes(4) + b"iso2" + b"heic" + b"avif") is None


@pytest.mark.parametrize(
    "data", [b"", b"\xff\xd8", b"\x89PN", b"RIFF....WAVE", b"RIFF", b"GIF88a", b"II*", b"\0\0\0\x18moov", b"%PDF"]
)
def test_what_is_none_of_the_formats_has_no_name(data: bytes) -> None:
    assert sniff_format(data) is None


@given(st.binary(max_size=64))
def test_no_bytes_at_all_raise_when_a_format_is_told(data: bytes) -> None:
    assert sniff_format(data) in {None, "jpeg", "png", "webp", "heic", "avif", "tiff", "gif", "bmp"}
    assert not is_plain_jpeg(data, RECIPE) or data.startswith(b"\xff\xd8\xff")


@given(st.binary(max_size=200))
def test_a_jpeg_of_any_bytes_is_plain_or_not_and_raises_nothing(tail: bytes) -> None:
    assert is_plain_jpeg(b"\xff\xd8\xff" + tail, RECIPE) in {True, False}


NOT_PLAIN: dict[str, Callable[[], bytes]] = {
    "arithmetic coding": lambda: JPEG.replace(b"\xff\xc0", b"\xff\xc9", 1),
    "lossless coding": lambda: JPEG.replace(b"\xff\xc0", b"\xff\xc3", 1),
    "12 bits": lambda: replace_segment(JPEG, SOF0, lambda body: b"\x0c" + body[1:]),
    "ink": lambda: encode(load_picture().convert("CMYK")),
    "two colours": lambda: replace_segment(JPEG, SOF0, lambda body: body[:5] + b"\x02" + body[6:12]),
    "other colours than sRGB": lambda: encode(
        load_picture(), icc_profile=write_rgb_profile(DISPLAY_P3, write_srgb_curve())
    ),
    "a broken profile": lambda: encode(load_picture(), icc_profile=b"broken"),
    "many scans": lambda: insert_segments(PROGRESSIVE, Segment(COM, b"\xff\xda" * 80)),
    "much to hold": lambda: resize_frame(PROGRESSIVE, SOF2, 5001, 5001),
    "much to go over again and again": lambda: insert_segments(
        resize_frame(PROGRESSIVE, SOF2, 4000, 4000), Segment(COM, b"\xff\xda" * 20)
    ),
    "another format": lambda: encode(load_picture(), "PNG"),
}
PLAIN: dict[str, Callable[[], bytes]] = {
    "as it comes": lambda: JPEG,
    "progressive": lambda: PROGRESSIVE,
    "grey": lambda: encode(load_picture().convert("L")),
    "RGB": lambda: encode(load_picture(), keep_rgb=True),
    "extended coding": lambda: JPEG.replace(b"\xff\xc0", b"\xff\xc1", 1),
    "sRGB by its profile": lambda: encode(load_picture(), icc_profile=write_rgb_profile(SRGB, write_srgb_curve())),
    "large in one scan": lambda: resize_frame(JPEG, SOF0, 9000, 9000),
    "cut off": lambda: JPEG[:300],
    "nothing but its beginning": lambda: b"\xff\xd8\xff",
    "nonsense behind its beginning": lambda: b"\xff\xd8\xff" + bytes(100),
}


@pytest.mark.parametrize("name", NOT_PLAIN)
def test_what_may_hang_or_crash_a_decoder_is_not_plain(name: str) -> None:
    assert not is_plain_jpeg(NOT_PLAIN[name](), RECIPE)


@pytest.mark.parametrize("name", PLAIN)
def test_what_is_decoded_or_refused_safely_is_plain(name: str) -> None:
    assert is_plain_jpeg(PLAIN[name](), RECIPE)


def test_more_bytes_than_allowed_are_not_plain() -> None:
    assert not is_plain_jpeg(JPEG, CleansingRecipe(max_bytes=len(JPEG) - 1))


def test_jpeg_in_three_colours_or_grey_and_all_else_are_opened_by_different_decoders() -> None:
    assert isinstance(open_picture(JPEG, "jpeg"), JpegPicture)
    assert isinstance(open_picture(encode(load_picture().convert("L")), "jpeg"), JpegPicture)
    assert isinstance(open_picture(encode(load_picture().convert("CMYK")), "jpeg"), PillowPicture)
    assert isinstance(open_picture(encode(load_picture(), "PNG"), "png"), PillowPicture)


def test_bytes_are_opened_as_what_they_are_said_to_be_only() -> None:
    with pytest.raises(UnreadableError, match="corrupt"):
        open_picture(encode(load_picture(), "PNG"), "gif")


@pytest.mark.parametrize(
    ("edge", "width"),
    [(2000, 1024), (1024, 1024), (1000, 1024), (527, 512), (512, 512), (400, 512), (100, 128), (9, 128)],
)
def test_a_jpeg_is_decoded_at_the_smallest_fraction_that_nearly_fills_the_edge(edge: int, width: int) -> None:
    decoded = open_picture(encode(load_large_picture()), "jpeg").decode(edge)
    assert decoded.pixels.shape == (-(-load_large_picture().height * width // 1024), width, 3)


@pytest.mark.parametrize(("edge", "width"), [(2000, 1024), (527, 512), (400, 512), (9, 16)])
def test_other_formats_are_made_as_small(edge: int, width: int) -> None:
    decoded = open_picture(encode(load_large_picture(), "BMP"), "bmp").decode(edge)
    assert decoded.pixels.shape[1] == width


def test_a_fraction_shows_the_same_picture() -> None:
    picture = open_picture(encode(load_large_picture(), subsampling=0), "jpeg")
    whole = Image.fromarray(picture.decode(1024).pixels).reduce(4)
    part = picture.decode(256).pixels
    assert np.abs(part.astype(int) - np.asarray(whole).astype(int)).mean() < 2


@pytest.mark.parametrize("form", ["jpeg", "heic"])
def test_width_and_height_are_as_stored_or_upright_as_the_picture_says(form: str) -> None:
    stored, exif = store_turned(load_picture(), 6), write_exif([write_orientation(6)])
    jpeg = encode(stored, exif=b"Exif\0\0" + exif)
    picture = open_picture(jpeg if form == "jpeg" else encode_heic(stored, exif=exif), form)
    assert picture.is_turned_by_decoder == (form == "heic")
    assert (picture.width_px == WIDTH) == picture.is_turned_by_decoder
    assert picture.decode(1000).pixels.shape[1] == WIDTH


def test_a_remark_is_short_and_the_pixels_are_there() -> None:
    decoded = open_picture(JPEG[:-2] + bytes(9) + JPEG[-2:], "jpeg").decode(1000)
    assert decoded.warning is not None
    assert "9 extraneous bytes" in decoded.warning
    assert np.array_equal(decoded.pixels, open_picture(JPEG, "jpeg").decode(1000).pixels)


@pytest.mark.parametrize(("stray", "is_read"), [(b"Jane", True), (bytes(500), True), (b"Jane Doe", False)])
def test_few_bytes_or_zeros_before_the_end_are_remarked_and_more_are_damage(stray: bytes, *, is_read: bool) -> None:
    picture = open_picture(JPEG[:-2] + stray + JPEG[-2:], "jpeg")
    if is_read:
        assert picture.decode(1000).warning is not None
    else:
        with pytest.raises(UnreadableError, match="corrupt"):
            picture.decode(1000)


FAILING: dict[str, tuple[Callable[[], bytes], str]] = {
    "cut off": (lambda: JPEG[: len(JPEG) // 2], "truncated"),
    "cut short": (lambda: JPEG[: len(JPEG) // 2] + b"\xff\xd9", "corrupt"),
    "no size": (lambda: resize_frame(JPEG, SOF0, 0, 0), "unsupported"),
    "a height that stands behind the pixels": (lambda: resize_frame(JPEG, SOF0, WIDTH, 0), "unsupported"),
    "12 bits": (NOT_PLAIN["12 bits"], "unsupported"),
    "lossless coding": (NOT_PLAIN["lossless coding"], "unsupported"),
    "no tables": (lambda: drop_segments(JPEG, DQT), "corrupt"),
}


@pytest.mark.parametrize("name", FAILING)
def test_a_jpeg_that_cannot_be_decoded_says_why(name: str) -> None:
    build, failure = FAILING[name]
    with pytest.raises(UnreadableError, match=failure):
        open_picture(build(), "jpeg").decode(1000)


@given(st.lists(st.tuples(st.integers(2, len(JPEG) - 1), st.integers(0, 255)), max_size=6), st.integers(2, len(JPEG)))
@settings(deadline=None)
def test_no_damage_to_a_jpeg_raises_anything_but_a_failure(changes: list[tuple[int, int]], end: int) -> None:
    damaged = bytearray(JPEG)
    for position, value in changes:
        damaged[position] = value
    assert is_plain_jpeg(bytes(damaged[:end]), RECIPE) in {True, False}
    try:
        picture = open_picture(bytes(damaged[:end]), "jpeg")
        if picture.width_px * picture.height_px < 10_000_000:
            assert picture.decode(512).pixels.ndim == 3
    except UnreadableError as error:
        assert str(error) in FAILURES  # noqa: PT017 - any of them, or none


def test_a_hostile_header_is_judged_quickly() -> None:
    started = time.process_time()
    assert is_plain_jpeg(b"\xff\xd8" + b"\xff\xe0\x00\x02" * 500_000, RECIPE)
    assert time.process_time() - started < 0.5
