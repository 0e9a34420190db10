import io
import struct
import time
import zlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageFilter, ImageOps

from lakehouse.cleansing import Verdict, cleanse_image
from lakehouse.quality import CLEAN, REJECTED, SUSPECT, CleansingSettings

SETTINGS = CleansingSettings()
REASONS = {
    *("empty", "not_an_image", "truncated", "unreadable", "too_small", "too_large"),
    *("dark", "bright", "blurred"),
}
UNDO = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""By EXIF orientation, what makes the stored picture of an upright one."""


def make_picture(width: int = 160, height: int = 120, seed: int = 0) -> Image.Image:
    """Return a sharp picture that looks different however it is turned."""
    random = np.random.default_rng(seed)
    blocks = random.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), np.uint8)
    pixels = np.kron(blocks, np.ones((8, 8, 1), np.uint8))[:height, :width]
    ramp = np.linspace(0, 60, width, dtype=np.uint8)[None, :, None]
    return Image.fromarray(np.minimum(pixels // 2 + 40 + ramp, 255).astype(np.uint8))


def encode(picture: Image.Image, form: str = "JPEG", **how: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, form, **({"quality": 92} if form == "JPEG" else {}) | how)
    return buffer.getvalue()


def decode(jpeg: bytes | None) -> npt.NDArray[np.int16]:
    assert jpeg is not None
    return np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB")).astype(np.int16)


def make_exif(orientation: int = 1, *, is_located: bool = False) -> Image.Exif:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    exif[ExifTags.Base.Make] = "Secret Camera Company"
    if is_located:
        exif.get_ifd(ExifTags.IFD.GPSInfo).update({1: "N", 2: (48.0, 51.0, 29.5), 3: "E", 4: (2.0, 17.0, 40.2)})
    return exif


def list_jpeg_markers(jpeg: bytes) -> Iterator[int]:
    """Yield the markers of a JPEG's segments up to its pixels (ITU-T T.81, B.1.1)."""
    assert jpeg[:2] == b"\xff\xd8"
    position = 2
    while True:
        mark, marker, size = struct.unpack_from(">BBH", jpeg, position)
        assert mark == 0xFF
        yield marker
        if marker == 0xDA:
            return
        position += 2 + size


def judge(data: bytes, **limits: Any) -> Verdict:
    return cleanse_image(data, replace(SETTINGS, **limits))


def test_a_good_picture_is_clean_with_all_measures_and_both_pictures() -> None:
    verdict = judge(encode(make_picture()))
    assert (verdict.status, verdict.reason, verdict.format) == (CLEAN, None, "jpeg")
    assert (verdict.width_px, verdict.height_px, verdict.orientation) == (160, 120, 1)
    assert None not in (verdict.brightness_mean, verdict.contrast_std, verdict.blur_variance, verdict.perceptual_hash)
    assert decode(verdict.standard_jpeg).shape == (120, 160, 3)
    assert decode(verdict.thumbnail_jpeg).shape == (120, 160, 3)
    assert verdict.has_location is False


@pytest.mark.parametrize("orientation", UNDO)
def test_every_orientation_of_a_lossless_file_gives_the_same_upright_pixels(orientation: int) -> None:
    upright = make_picture()
    undo = UNDO[orientation]
    stored = upright if undo is None else upright.transpose(undo)
    data = encode(stored, "PNG", exif=make_exif(orientation))
    assert np.array_equal(np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data)))), np.asarray(upright))
    verdict, expected = judge(data), judge(encode(upright, "PNG"))
    assert verdict.orientation == orientation
    assert (verdict.width_px, verdict.height_px) == (160, 120)
    assert verdict.standard_jpeg == expected.standard_jpeg
    assert verdict.thumbnail_jpeg == expected.thumbnail_jpeg
    assert verdict.perceptual_hash == expected.perceptual_hash


@pytest.mark.parametrize("orientation", UNDO)
def test_every_orientation_of_a_jpeg_is_turned_as_pillow_turns_it(orientation: int) -> None:
    data = encode(make_picture(), exif=make_exif(orientation))
    turned = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    pixels = decode(judge(data).standard_jpeg)
    assert pixels.shape[:2] == (turned.height, turned.width)
    assert np.abs(pixels - np.asarray(turned).astype(np.int16)).mean() < 6


@pytest.mark.parametrize("orientation", [0, 9, 255])
def test_an_orientation_that_does_not_exist_is_taken_as_upright(orientation: int) -> None:
    verdict = judge(encode(make_picture(), exif=make_exif(orientation)))
    assert (verdict.orientation, verdict.width_px, verdict.height_px) == (1, 160, 120)


def test_nothing_but_pixels_is_written() -> None:
    data = encode(
        make_picture(400, 300),
        exif=make_exif(6, is_located=True),
        icc_profile=b"a colour profile",
        comment=b"taken by Jane Doe",
        xmp=b"<x:xmpmeta>Jane Doe</x:xmpmeta>",
    )
    assert {0xE1, 0xE2, 0xFE} <= set(list_jpeg_markers(data))
    verdict = judge(data)
    for jpeg in (verdict.standard_jpeg, verdict.thumbnail_jpeg):
        assert jpeg is not None
        markers = set(list_jpeg_markers(jpeg))
        assert not markers & {*range(0xE1, 0xF0), 0xFE}
        assert b"Jane" not in jpeg
        assert b"Secret" not in jpeg


def test_a_position_is_noticed() -> None:
    assert judge(encode(make_picture(), exif=make_exif(is_located=True))).has_location is True
    assert judge(encode(make_picture(), "PNG", exif=make_exif(is_located=True))).has_location is True
    assert judge(encode(make_picture(), exif=make_exif())).has_location is False


@pytest.mark.parametrize(
    ("form", "name"),
    [("JPEG", "jpeg"), ("PNG", "png"), ("WEBP", "webp"), ("TIFF", "tiff"), ("GIF", "gif"), ("BMP", "bmp")],
)
def test_the_bytes_decide_what_a_file_is(form: str, name: str) -> None:
    verdict = judge(encode(make_picture(), form))
    assert (verdict.status, verdict.format) == (CLEAN, name)


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "I;16"])
def test_every_kind_of_png_becomes_a_picture_of_the_same_size(mode: str) -> None:
    verdict = judge(encode(make_picture().convert("L" if mode == "I;16" else "RGB").convert(mode), "PNG"))
    assert verdict.status in {CLEAN, SUSPECT}
    assert decode(verdict.standard_jpeg).shape == (120, 160, 3)


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_every_kind_of_jpeg_looks_as_it_did(mode: str) -> None:
    picture = make_picture()
    verdict = judge(encode(picture.convert(mode)))
    assert verdict.status == CLEAN
    expected = np.asarray(picture.convert(mode).convert("RGB")).astype(np.int16)
    assert np.abs(decode(verdict.standard_jpeg) - expected).mean() < 6


def test_a_16_bit_picture_keeps_its_brightness() -> None:
    grey = np.asarray(make_picture().convert("L")).astype(np.uint16) * 257
    verdict = judge(encode(Image.fromarray(grey), "PNG"))
    plain = judge(encode(make_picture().convert("L"), "PNG"))
    assert verdict.brightness_mean == pytest.approx(plain.brightness_mean, abs=2)


def test_what_is_transparent_becomes_white() -> None:
    picture = make_picture().convert("RGBA")
    picture.putalpha(Image.fromarray(np.where(np.arange(160) < 80, 0, 255).astype(np.uint8)[None].repeat(120, 0)))
    pixels = decode(judge(encode(picture, "PNG")).standard_jpeg)
    assert pixels[:, :64].min() > 240
    assert pixels[:, 96:].mean() < 200


def test_a_progressive_jpeg_is_read() -> None:
    assert judge(encode(make_picture(), progressive=True)).status == CLEAN


NOT_IMAGES = {
    "nothing": (b"", "empty"),
    "a web page": (b"<!DOCTYPE html><html><body>403 Forbidden</body></html>", "not_an_image"),
    "text": (b"hello", "not_an_image"),
    "one byte": (b"\xff", "not_an_image"),
    "zeros": (bytes(10_000), "not_an_image"),
    "noise": (np.random.default_rng(0).bytes(10_000), "not_an_image"),
    "the first bytes of a JPEG": (b"\xff\xd8\xff", "not_an_image"),
    "a PDF": (b"%PDF-1.7\n" + bytes(500), "not_an_image"),
    "a vector drawing": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "not_an_image"),
}


@pytest.mark.parametrize(("data", "reason"), NOT_IMAGES.values(), ids=NOT_IMAGES)
def test_what_is_no_image_is_rejected_with_the_reason(data: bytes, reason: str) -> None:
    assert judge(data) == Verdict(REJECTED, reason)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "BMP"])
def test_a_truncated_picture_is_rejected_as_truncated(form: str, share: float) -> None:
    data = encode(make_picture(), form)
    verdict = judge(data[: int(len(data) * share)])
    assert (verdict.status, verdict.reason) == (REJECTED, "truncated")
    assert verdict.format == form.lower()
    assert (verdict.standard_jpeg, verdict.thumbnail_jpeg, verdict.perceptual_hash) == (None, None, None)


def test_a_picture_of_one_colour_is_blurred_however_bright() -> None:
    verdict = judge(encode(Image.new("RGB", (200, 200), (128, 128, 128))))
    assert (verdict.status, verdict.reason) == (SUSPECT, "blurred")
    assert verdict.brightness_mean == pytest.approx(128, abs=1)
    assert verdict.contrast_std == pytest.approx(0, abs=0.1)


@pytest.mark.parametrize(("colour", "reason"), [("black", "dark"), ("white", "bright")])
def test_a_black_or_white_picture_is_dark_or_bright_before_it_is_blurred(colour: str, reason: str) -> None:
    verdict = judge(encode(Image.new("RGB", (200, 200), colour)))
    assert (verdict.status, verdict.reason) == (SUSPECT, reason)
    assert verdict.standard_jpeg is not None


@pytest.mark.parametrize(("factor", "reason"), [(0.1, "dark"), (1, None)])
def test_a_darkened_picture_is_dark(factor: float, reason: str | None) -> None:
    assert judge(encode(make_picture().point(lambda value: int(value * factor)))).reason == reason


def test_a_blurred_picture_is_blurred_and_measures_less_than_the_sharp_one() -> None:
    picture = make_picture(320, 240)
    sharp, blurred = judge(encode(picture)), judge(encode(picture.filter(ImageFilter.GaussianBlur(8))))
    assert sharp.reason is None
    assert (blurred.status, blurred.reason) == (SUSPECT, "blurred")
    assert blurred.blur_variance is not None
    assert sharp.blur_variance is not None
    assert blurred.blur_variance < sharp.blur_variance / 10


def test_the_limits_of_darkness_brightness_and_blur_are_settings() -> None:
    data = encode(make_picture())
    mean = judge(data).brightness_mean
    assert mean is not None
    assert judge(data, min_brightness_mean=mean + 1).reason == "dark"
    assert judge(data, min_brightness_mean=mean).reason is None
    assert judge(data, max_brightness_mean=mean - 1).reason == "bright"
    assert judge(data, min_blur_variance=1e9).reason == "blurred"


@pytest.mark.parametrize(("size", "status"), [((64, 64), CLEAN), ((63, 200), REJECTED), ((200, 63), REJECTED)])
def test_a_picture_with_too_short_an_edge_is_too_small(size: tuple[int, int], status: str) -> None:
    verdict = judge(encode(make_picture(*size)))
    assert verdict.status == status
    assert verdict.reason == (None if status == CLEAN else "too_small")
    assert (verdict.width_px, verdict.height_px) == size


def test_a_picture_with_too_many_pixels_is_too_large_before_it_is_decoded() -> None:
    data = encode(make_picture(100, 100))
    assert judge(data[: len(data) // 2], max_pixels=9_999).reason == "too_large"
    assert judge(data, max_pixels=10_000).reason is None


def test_a_bomb_is_too_large_without_being_decoded() -> None:
    bomb = encode(Image.new("1", (12_000, 9_000)), "PNG")
    started = time.process_time()
    assert judge(bomb).reason == "too_large"
    assert time.process_time() - started < 0.05
    header = b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    larger = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    assert judge(larger + bomb[33:]).reason == "too_large"


@pytest.mark.parametrize("size", [(400, 300), (300, 400), (1000, 70), (257, 256), (64, 64)])
def test_pictures_are_never_enlarged_and_keep_their_shape(size: tuple[int, int]) -> None:
    verdict = judge(encode(make_picture(*size)), standard_edge_px=320)
    for jpeg, edge in ((verdict.standard_jpeg, 320), (verdict.thumbnail_jpeg, 256)):
        height, width = decode(jpeg).shape[:2]
        assert max(width, height) <= max(edge / 0.97, 1)
        assert width <= size[0]
        assert height <= size[1]
        assert width / height == pytest.approx(size[0] / size[1], rel=0.03)
    assert (verdict.standard_width_px, verdict.standard_height_px) == decode(verdict.standard_jpeg).shape[1::-1]


@pytest.mark.parametrize("size", [(64, 40_000), (40_000, 64)])
@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_a_very_long_strip_is_judged_like_any_other_picture(form: str, size: tuple[int, int]) -> None:
    verdict = judge(encode(make_picture(*size), form))
    assert verdict.status in {CLEAN, SUSPECT}
    assert (verdict.width_px, verdict.height_px) == size
    assert max(decode(verdict.standard_jpeg).shape) <= 2048 / 0.97
    assert max(decode(verdict.thumbnail_jpeg).shape) <= 256 / 0.97


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_a_large_picture_is_brought_to_the_standard_edge(form: str) -> None:
    verdict = judge(encode(make_picture(1500, 900), form), standard_edge_px=512)
    assert (verdict.width_px, verdict.height_px) == (1500, 900)
    assert verdict.standard_width_px == pytest.approx(512, abs=16)
    thumbnail = decode(verdict.thumbnail_jpeg)
    assert max(thumbnail.shape) == pytest.approx(256, abs=8)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_judging_twice_gives_the_same_verdict_to_the_byte(form: str) -> None:
    data = encode(make_picture(700, 500), form)
    assert judge(data) == judge(data)


def test_without_its_pictures_a_verdict_keeps_everything_else() -> None:
    verdict = judge(encode(make_picture()))
    bare = verdict.without_pictures()
    assert (bare.standard_jpeg, bare.thumbnail_jpeg) == (None, None)
    assert replace(bare, standard_jpeg=verdict.standard_jpeg, thumbnail_jpeg=verdict.thumbnail_jpeg) == verdict


def check_verdict(verdict: Verdict) -> None:
    """Whatever the bytes were, the verdict is one that the tables can hold and people can understand."""
    assert verdict.status in {CLEAN, SUSPECT, REJECTED}
    assert (verdict.reason is None) == (verdict.status == CLEAN)
    assert verdict.reason is None or verdict.reason in REASONS
    assert (verdict.standard_jpeg is None) == (verdict.status == REJECTED)
    assert (verdict.thumbnail_jpeg is None) == (verdict.status == REJECTED)


SAMPLES = {
    "jpeg": encode(make_picture(96, 72), exif=make_exif(6, is_located=True)),
    "png": encode(make_picture(96, 72), "PNG", exif=make_exif(3)),
    "webp": encode(make_picture(96, 72), "WEBP"),
    "gif": encode(make_picture(96, 72), "GIF"),
    "tiff": encode(make_picture(96, 72), "TIFF", exif=make_exif(3)),
}


@given(st.binary(max_size=500), st.sampled_from([b"", b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"II*\0"]))
def test_no_bytes_at_all_raise(tail: bytes, beginning: bytes) -> None:
    check_verdict(judge(beginning + tail))


@pytest.mark.parametrize("form", SAMPLES)
@settings(deadline=None)
@given(data=st.data())
def test_no_damage_to_a_real_picture_raises(form: str, data: st.DataObject) -> None:
    damaged = bytearray(SAMPLES[form])
    flips = data.draw(st.lists(st.tuples(st.integers(0, len(damaged) - 1), st.integers(0, 7)), max_size=6))
    for position, bit in flips:
        damaged[position] ^= 1 << bit
    end = data.draw(st.one_of(st.just(len(damaged)), st.integers(0, len(damaged))))
    check_verdict(judge(bytes(damaged[:end])))


@pytest.mark.parametrize("form", ["jpeg", "png", "tiff"])
@settings(deadline=None)
@given(data=st.data())
def test_no_damage_to_the_metadata_of_a_real_picture_raises(form: str, data: st.DataObject) -> None:
    damaged = bytearray(SAMPLES[form])
    start = damaged.find(b"Exif") if form == "jpeg" else damaged.find(b"eXIf") if form == "png" else 0
    for _ in range(3):
        position = data.draw(st.integers(start, min(start + 200, len(damaged) - 1)))
        damaged[position] = data.draw(st.integers(0, 255))
    check_verdict(judge(bytes(damaged)))
