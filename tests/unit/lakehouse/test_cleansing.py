import struct
import time
import zlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lakehouse.cleansing import CleansedImage, cleanse_image, measure_image
from lakehouse.quality import FAILURES, REJECTED, SUSPECT, CleansingRecipe, QualitySettings, judge
from tests.unit.lakehouse.image_files import (
    HEIGHT,
    WIDTH,
    compare,
    decode,
    encode,
    encode_heic,
    insert_png_chunk,
    load_large_picture,
    load_picture,
    store_turned,
    write_exif,
    write_orientation,
    write_position,
    write_text,
)

RECIPE = CleansingRecipe()
PICTURES = {"standard_jpeg", "thumbnail_jpeg"}
ABSENT = {"failure", "decoder_warning", "captured_at_local", "captured_utc_offset_min", "camera_make", "camera_model"}
"""What an image without metadata and without faults has nothing to say of, beside the geohash."""
EIFFEL_TOWER = (48.85825, 2.2945)


def cleanse(data: bytes, **recipe: Any) -> CleansedImage:
    return cleanse_image(data, replace(RECIPE, **recipe))


def make_exif(orientation: int = 1, *, is_located: bool = False) -> bytes:
    return write_exif(
        [write_orientation(orientation), write_text(0x010F, "Farmcam Works"), write_text(0x0110, "F1")],
        [write_text(0x9003, "2026:11:02 09:30:15"), write_text(0x9011, "+01:00")],
        write_position(*EIFFEL_TOWER) if is_located else (),
    )


def encode_with_exif(form: str, exif: bytes) -> bytes:
    if form == "HEIC":
        return encode_heic(load_picture(), exif=exif)
    return encode(load_picture(), form, exif=b"Exif\0\0" + exif if form == "JPEG" else exif)


def test_a_good_picture_gets_all_measures_and_both_pictures() -> None:
    image = cleanse(encode(load_picture()))
    assert {name for name, value in vars(image).items() if value is None} == ABSENT | {"geohash"}
    assert (image.format, image.width_px, image.height_px, image.orientation) == ("jpeg", WIDTH, HEIGHT, 1)
    assert decode(image.standard_jpeg).shape == decode(image.thumbnail_jpeg).shape == (HEIGHT, WIDTH, 3)
    assert image.has_location is False


@pytest.mark.parametrize("orientation", [0, 9, 255])
def test_an_orientation_that_does_not_exist_is_taken_as_upright(orientation: int) -> None:
    image = cleanse(encode(load_picture(), exif=b"Exif\0\0" + make_exif(orientation)))
    assert (image.orientation, image.width_px, image.height_px) == (1, WIDTH, HEIGHT)
    assert compare(image.standard_jpeg, load_picture()) < 2


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF", "HEIC", "AVIF"])
def test_when_and_with_what_it_was_taken_is_kept_and_where_is_not(form: str) -> None:
    image = cleanse(encode_with_exif(form, make_exif(is_located=form != "TIFF")))
    assert (image.camera_make, image.camera_model) == ("Farmcam Works", "F1")
    if form != "TIFF":  # Pillow writes no directories into TIFF.
        assert (str(image.captured_at_local), image.captured_utc_offset_min) == ("2026-11-02 09:30:15", 60)
        assert image.has_location is True
    assert image.geohash is None


@pytest.mark.parametrize(("length", "geohash"), [(0, None), (3, "u09"), (4, "u09t"), (5, "u09tu")])
def test_where_it_was_taken_is_kept_as_coarsely_as_asked_and_nowhere_else(length: int, geohash: str | None) -> None:
    image = cleanse(encode_with_exif("JPEG", make_exif(is_located=True)), geohash_length=length)
    assert (image.geohash, image.has_location) == (geohash, True)
    facts = repr(image.without_pictures())
    assert not any(trace in facts for trace in ("48.8", "2.29", "u09tun"))
    assert cleanse(encode(load_picture()), geohash_length=length).geohash is None


NOT_IMAGES = {
    "nothing": (b"", "empty"),
    "a web page": (b"<!DOCTYPE html><html><body>403 Forbidden</body></html>", "not_an_image"),
    "text": (b"hello", "not_an_image"),
    "one byte": (b"\xff", "not_an_image"),
    "zeros": (bytes(10_000), "not_an_image"),
    "noise": (np.random.default_rng(0).bytes(10_000), "not_an_image"),
    "a PDF": (b"%PDF-1.7\n" + bytes(500), "not_an_image"),
    "a vector drawing": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "not_an_image"),
    "a film": (b"\0\0\0\x18ftypisom\0\0\0\0isommp42" + bytes(100), "not_an_image"),
    "a sound": (b"RIFF\x24\0\0\0WAVEfmt " + bytes(30), "not_an_image"),
}


@pytest.mark.parametrize(("data", "failure"), NOT_IMAGES.values(), ids=NOT_IMAGES)
def test_what_is_no_image_fails_with_the_reason_and_nothing_else(data: bytes, failure: str) -> None:
    assert cleanse(data) == CleansedImage(failure=failure)


@pytest.mark.parametrize(
    ("beginning", "form"),
    [(b"\xff\xd8\xff", "jpeg"), (b"\x89PNG\r\n\x1a\n", "png"), (b"GIF89a", "gif"), (b"II*\0", "tiff"), (b"BM", "bmp")],
)
def test_a_beginning_alone_fails_as_what_it_begins(beginning: bytes, form: str) -> None:
    image = cleanse(beginning)
    assert image.failure in {"truncated", "corrupt"}
    assert image.format == form


@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "BMP"])
def test_a_truncated_picture_says_so_and_keeps_what_its_header_told(form: str, share: float) -> None:
    data = encode(load_picture(), form)
    image = cleanse(data[: int(len(data) * share)])
    assert (image.failure, image.format) == ("truncated", form.lower())
    assert (image.width_px, image.height_px) == (WIDTH, HEIGHT)
    assert (image.standard_jpeg, image.thumbnail_jpeg, image.perceptual_hash) == (None, None, None)


def test_numbers_that_are_no_brightness_are_unsupported() -> None:
    wide = np.linspace(0, 1e6, WIDTH * HEIGHT, dtype=np.float32).reshape(HEIGHT, WIDTH)
    assert cleanse(encode(Image.fromarray(wide), "TIFF")).failure == "unsupported"


def test_a_harmless_warning_is_remarked_and_the_file_is_encoded_anew() -> None:
    data = encode(load_picture())
    image = cleanse(data[:-2] + bytes(20) + data[-2:])
    assert image.failure is None
    assert image.decoder_warning is not None
    assert "20 extraneous bytes" in image.decoder_warning
    assert compare(image.standard_jpeg, load_picture()) < 2
    assert judge(vars(image), QualitySettings()) == (SUSPECT, "decoder_warning")


def test_more_bytes_than_allowed_are_not_opened() -> None:
    data = encode(load_picture())
    assert cleanse(data, max_bytes=len(data)).failure is None
    assert cleanse(data, max_bytes=len(data) - 1) == CleansedImage(failure="too_large", format="jpeg")


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_more_pixels_than_allowed_are_not_decoded(form: str) -> None:
    data = encode(load_picture(), form)
    assert cleanse(data, max_pixels=WIDTH * HEIGHT).failure is None
    refused = cleanse(data[: len(data) // 2], max_pixels=WIDTH * HEIGHT - 1)
    assert (refused.failure, refused.width_px, refused.height_px) == ("too_large", WIDTH, HEIGHT)


def test_a_bomb_is_too_large_without_being_decoded() -> None:
    bomb = encode(Image.new("1", (4_000, 3_000)), "PNG")
    started = time.process_time()
    assert cleanse(bomb, max_pixels=11_999_999).failure == "too_large"
    assert time.process_time() - started < 0.05
    header = b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    larger = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    assert cleanse(larger + bomb[33:]).failure == "too_large"


def test_a_bomb_of_text_is_not_inflated() -> None:
    text = b"Comment\0\0" + zlib.compress(bytes(20_000_000))
    started = time.process_time()
    image = cleanse(insert_png_chunk(encode(load_picture(), "PNG"), b"zTXt", text))
    assert image.failure == "corrupt"
    assert time.process_time() - started < 0.2


@pytest.mark.parametrize("size", [(400, 300), (300, 400), (1000, 70), (257, 256), (64, 64)])
@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_pictures_are_never_enlarged_and_keep_their_shape(form: str, size: tuple[int, int]) -> None:
    image = cleanse(encode(load_large_picture().resize(size), form), standard_edge_px=320)
    for jpeg, edge in ((image.standard_jpeg, 320), (image.thumbnail_jpeg, 256)):
        height, width = decode(jpeg).shape[:2]
        assert max(width, height) <= edge
        assert width <= size[0]
        assert height <= size[1]
        assert width / height == pytest.approx(size[0] / size[1], rel=0.03)
    assert (image.standard_width_px, image.standard_height_px) == decode(image.standard_jpeg).shape[1::-1]


@pytest.mark.parametrize("size", [(64, 40_000), (40_000, 64)])
@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_a_very_long_strip_is_cleansed_like_any_other_picture(form: str, size: tuple[int, int]) -> None:
    strip = load_picture().resize(size)
    image = cleanse(encode(strip) if form == "JPEG" else encode(strip, form, compress_level=1))
    assert (image.failure, image.width_px, image.height_px) == (None, *size)
    assert max(decode(image.standard_jpeg).shape) <= 2048
    assert max(decode(image.thumbnail_jpeg).shape) <= 256


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (7, 7)])
@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_the_smallest_pictures_are_cleansed_and_too_small(form: str, size: tuple[int, int]) -> None:
    image = cleanse(encode(load_picture().resize(size), form))
    assert (image.failure, image.width_px, image.height_px) == (None, *size)
    assert judge(vars(image), QualitySettings()) == (REJECTED, "too_small")


@pytest.mark.parametrize("size", [(2048, 300), (2080, 300), (2111, 300)])
def test_what_nearly_has_the_standard_edge_is_kept_or_brought_to_it(size: tuple[int, int]) -> None:
    image = cleanse(encode(load_picture().resize(size)))
    assert image.standard_width_px == (size[0] if size[0] == 2048 else pytest.approx(2048, rel=0.04))


def test_the_quality_of_what_is_encoded_is_as_asked() -> None:
    data = encode(load_picture(), "PNG")
    poor, good = cleanse(data, standard_quality=30).standard_jpeg, cleanse(data, standard_quality=95).standard_jpeg
    assert poor is not None
    assert good is not None
    assert len(poor) < len(good) / 2


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF"])
def test_cleansing_twice_gives_the_same_to_the_byte(form: str) -> None:
    data = encode(load_picture(), form)
    assert cleanse(data) == cleanse(data)


@pytest.mark.parametrize("recipe", [{}, {"standard_edge_px": 512}])
def test_what_was_cleansed_is_standard_and_stays_as_it_is(recipe: dict[str, int]) -> None:
    image = cleanse(encode(load_large_picture(), "JPEG", exif=b"Exif\0\0" + make_exif(6)), **recipe)
    assert image.standard_jpeg is not None
    assert cleanse(image.standard_jpeg, **recipe).standard_jpeg == image.standard_jpeg


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_measuring_alone_finds_out_the_same_without_a_standard_image(form: str) -> None:
    data = encode(load_picture(), form)
    assert measure_image(data, RECIPE) == replace(
        cleanse(data), standard_jpeg=None, standard_width_px=None, standard_height_px=None
    )


def test_a_turned_jpeg_measures_as_the_upright_one_does() -> None:
    turned = encode(store_turned(load_large_picture(), 6), exif=b"Exif\0\0" + make_exif(6))
    image, upright = cleanse(turned), cleanse(encode(load_large_picture()))
    assert image.perceptual_hash == upright.perceptual_hash
    assert image.brightness_mean == pytest.approx(upright.brightness_mean, abs=0.5)


def test_without_its_pictures_an_image_keeps_everything_else() -> None:
    image = cleanse(encode(load_picture()))
    bare = image.without_pictures()
    assert {name for name, value in vars(bare).items() if value != vars(image)[name]} == PICTURES
    assert (bare.standard_jpeg, bare.thumbnail_jpeg) == (None, None)


def check(image: CleansedImage) -> None:
    """Whatever the bytes were, what is found out is closed: a failure of the list, or all measures and pictures."""
    measures = {"width_px", "height_px", "orientation", "brightness_mean", "entropy_bits", "standard_width_px"}
    facts = vars(image)
    if image.failure is None:
        assert None not in {facts[name] for name in measures}
        assert decode(image.standard_jpeg).shape == (image.standard_height_px, image.standard_width_px, 3)
        assert decode(image.thumbnail_jpeg).shape[2] == 3
    else:
        assert image.failure in FAILURES
        assert {facts[name] for name in PICTURES | {"brightness_mean", "perceptual_hash"}} == {None}
    verdict = judge(facts, QualitySettings())
    assert (verdict.status == REJECTED) or image.failure is None


def make_small(form: str, **how: Any) -> bytes:
    return encode(load_picture().resize((96, 64)), form, **how)


SMALL = {
    "jpeg": make_small("JPEG", exif=b"Exif\0\0" + make_exif(6, is_located=True)),
    "progressive": make_small("JPEG", progressive=True),
    "png": make_small("PNG", exif=make_exif(3)),
    "webp": make_small("WEBP"),
    "gif": make_small("GIF"),
    "tiff": make_small("TIFF", exif=make_exif(3)),
    "bmp": make_small("BMP"),
}


@given(st.binary(max_size=300), st.sampled_from([b"", b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"II*\0"]))
@settings(deadline=None)
def test_no_bytes_at_all_raise(tail: bytes, beginning: bytes) -> None:
    check(cleanse(beginning + tail))


@pytest.mark.parametrize("form", SMALL)
@settings(deadline=None, max_examples=30)
@given(data=st.data())
def test_no_damage_to_a_real_picture_raises(form: str, data: st.DataObject) -> None:
    damaged = bytearray(SMALL[form])
    for position, bit in data.draw(
        st.lists(st.tuples(st.integers(0, len(damaged) - 1), st.integers(0, 7)), max_size=6)
    ):
        damaged[position] ^= 1 << bit
    end = data.draw(st.one_of(st.just(len(damaged)), st.integers(0, len(damaged))))
    check(cleanse(bytes(damaged[:end])))


@pytest.mark.parametrize("form", ["jpeg", "png", "tiff"])
@settings(deadline=None, max_examples=30)
@given(data=st.data())
def test_no_damage_to_the_metadata_of_a_real_picture_raises(form: str, data: st.DataObject) -> None:
    damaged = bytearray(SMALL[form])
    start = damaged.find(b"Exif") if form == "jpeg" else damaged.find(b"eXIf") if form == "png" else 0
    for _ in range(3):
        position = data.draw(st.integers(start, min(start + 300, len(damaged) - 1)))
        damaged[position] = data.draw(st.integers(0, 255))
    check(cleanse(bytes(damaged)))
