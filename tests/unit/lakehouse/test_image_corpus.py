"""One photograph in every format and variety that is read: what comes out must be that photograph."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps

from lakehouse.cleansing import cleanse_image
from lakehouse.decoding import is_plain_jpeg, sniff_format
from lakehouse.quality import CLEAN, SUSPECT, CleansingRecipe, QualitySettings, judge
from tests.unit.lakehouse.image_files import (
    ADOBE_RGB,
    APP0,
    DISPLAY_P3,
    HEIGHT,
    SRGB,
    UNDO,
    WIDTH,
    Primaries,
    compare,
    cut_out,
    decode,
    drop_segments,
    encode,
    encode_16_bit,
    encode_heic,
    encode_sampled,
    encode_ycck,
    lay_on_white,
    load_large_picture,
    load_picture,
    read_jpeg,
    store_turned,
    write_exif,
    write_gamma,
    write_grey_profile,
    write_interlaced_png,
    write_orientation,
    write_profile,
    write_rgb_profile,
    write_rle_bmp,
    write_srgb_curve,
    write_srgb_table,
    write_tiled_tiff,
)

RECIPE = CleansingRecipe()
TOLERANCE = 2.0
"""By how much colours may differ after two lossy encodings; see `compare`."""
APP14 = 0xEE
Look = Callable[[Image.Image], Image.Image]


@dataclass(frozen=True)
class Variety:
    """One way to store a picture.

    Attributes:
        format: What the tables call its format.
        encode: Stores the picture.
        look: What is left of the picture then.
    """

    format: str
    encode: Callable[[Image.Image], bytes]
    look: Look


def keep(picture: Image.Image) -> Image.Image:
    return picture


def to_grey(picture: Image.Image) -> Image.Image:
    return picture.convert("L")


def to_wide_grey(picture: Image.Image) -> Image.Image:
    return Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 257)


def to_ink(picture: Image.Image) -> Image.Image:
    return picture.convert("CMYK")


def to_palette(picture: Image.Image) -> Image.Image:
    return picture.quantize(256, Image.Quantize.FASTOCTREE)


def to_bits(picture: Image.Image) -> Image.Image:
    return picture.convert("1")


def cut_out_grey(picture: Image.Image) -> Image.Image:
    return cut_out(picture).convert("LA")


def cut_out_palette(picture: Image.Image) -> Image.Image:
    return cut_out(picture).quantize(256)


def cut_out_by_one_colour(picture: Image.Image) -> Image.Image:
    """Return a palette of which one entry is transparent, all that GIF can do."""
    palette = picture.quantize(255, Image.Quantize.FASTOCTREE)
    palette.paste(255, (0, 0, WIDTH // 2, HEIGHT))
    palette.info["transparency"] = 255
    return palette


def mirror(picture: Image.Image) -> Image.Image:
    return ImageOps.mirror(picture)


def stored(form: str, stores: str, change: Look = keep, *, frames: int = 1, **how: Any) -> Variety:
    """Return a variety that Pillow writes: of several frames, all but the first are mirrored."""

    def encode_changed(picture: Image.Image) -> bytes:
        changed = change(picture)
        more = {"save_all": True, "append_images": [mirror(changed)] * (frames - 1)} if frames > 1 else {}
        return encode(changed, stores, **more, **how)

    return Variety(form, encode_changed, change)


GOOD = 92
VARIETIES = {
    "JPEG": stored("jpeg", "JPEG"),
    "JPEG 4:4:4": stored("jpeg", "JPEG", subsampling=0),
    "JPEG 4:1:1": Variety("jpeg", lambda picture: encode_sampled(picture, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_411), keep),
    "JPEG 4:4:0": Variety("jpeg", lambda picture: encode_sampled(picture, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_440), keep),
    "JPEG 4:2:2": stored("jpeg", "JPEG", subsampling=1),
    "JPEG 4:2:0": stored("jpeg", "JPEG", subsampling=2),
    "JPEG progressive": stored("jpeg", "JPEG", progressive=True),
    "JPEG optimised": stored("jpeg", "JPEG", optimize=True),
    "JPEG with restarts": stored("jpeg", "JPEG", restart_marker_blocks=4),
    "JPEG grey": stored("jpeg", "JPEG", to_grey),
    "JPEG in RGB": stored("jpeg", "JPEG", keep_rgb=True),
    "JPEG without JFIF": Variety("jpeg", lambda picture: drop_segments(encode(picture), APP0), keep),
    "JPEG of several pictures": stored("jpeg", "MPO", frames=2, quality=GOOD),
    "JPEG CMYK": stored("jpeg", "JPEG", to_ink),
    "JPEG CMYK without Adobe": Variety("jpeg", lambda picture: drop_segments(encode(to_ink(picture)), APP14), to_ink),
    "JPEG YCCK": Variety("jpeg", encode_ycck, to_ink),
    "PNG": stored("png", "PNG"),
    "PNG interlaced": Variety("png", write_interlaced_png, keep),
    "PNG 16 bit": Variety("png", lambda picture: encode_16_bit(picture, ".png"), keep),
    "PNG grey": stored("png", "PNG", to_grey),
    "PNG grey 16 bit": Variety("png", lambda picture: encode(to_wide_grey(picture), "PNG"), to_grey),
    "PNG grey with alpha": stored("png", "PNG", cut_out_grey),
    "PNG with alpha": stored("png", "PNG", cut_out),
    "PNG palette": stored("png", "PNG", to_palette),
    "PNG palette with alpha": stored("png", "PNG", cut_out_palette),
    "PNG 1 bit": stored("png", "PNG", to_bits),
    "PNG animated": stored("png", "PNG", frames=2),
    "WebP": stored("webp", "WEBP", quality=GOOD),
    "WebP lossless": stored("webp", "WEBP", lossless=True, method=0),
    "WebP with alpha": stored("webp", "WEBP", cut_out, quality=GOOD),
    "WebP animated": stored("webp", "WEBP", frames=2, quality=GOOD),
    "HEIC": Variety("heic", encode_heic, keep),
    "HEIC with alpha": Variety("heic", lambda picture: encode_heic(cut_out(picture)), cut_out),
    "HEIC grey": Variety("heic", lambda picture: encode_heic(to_grey(picture)), to_grey),
    "AVIF": stored("avif", "AVIF", speed=9, quality=GOOD),
    "AVIF with alpha": stored("avif", "AVIF", cut_out, speed=9, quality=GOOD),
    "AVIF animated": stored("avif", "AVIF", frames=2, speed=9, quality=GOOD),
    "TIFF": stored("tiff", "TIFF"),
    "TIFF LZW": stored("tiff", "TIFF", compression="tiff_lzw"),
    "TIFF deflate": stored("tiff", "TIFF", compression="tiff_adobe_deflate"),
    "TIFF JPEG": stored("tiff", "TIFF", compression="jpeg", quality=GOOD),
    "TIFF in tiles": Variety("tiff", lambda picture: write_tiled_tiff(picture, "<"), keep),
    "TIFF big-endian": Variety("tiff", lambda picture: write_tiled_tiff(picture, ">"), keep),
    "TIFF 16 bit": Variety("tiff", lambda picture: encode_16_bit(picture, ".tiff"), keep),
    "TIFF grey 16 bit": Variety("tiff", lambda picture: encode(to_wide_grey(picture), "TIFF"), to_grey),
    "TIFF CMYK": stored("tiff", "TIFF", to_ink),
    "TIFF palette": stored("tiff", "TIFF", to_palette),
    "TIFF with alpha": stored("tiff", "TIFF", cut_out),
    "TIFF of several pages": stored("tiff", "TIFF", frames=3),
    "TIFF fax": stored("tiff", "TIFF", to_bits, compression="group4"),
    "GIF": stored("gif", "GIF", to_palette),
    "GIF with transparency": stored("gif", "GIF", cut_out_by_one_colour),
    "GIF animated": stored("gif", "GIF", to_palette, frames=3),
    "BMP": stored("bmp", "BMP"),
    "BMP 32 bit": Variety("bmp", lambda picture: encode(picture.convert("RGBA"), "BMP"), keep),
    "BMP palette": stored("bmp", "BMP", to_palette),
    "BMP run-length encoded": Variety("bmp", write_rle_bmp, to_palette),
    "BMP 1 bit": stored("bmp", "BMP", to_bits),
}
FOR_WORKERS = {"JPEG CMYK", "JPEG CMYK without Adobe", "JPEG YCCK"}
"""JPEG that belongs into a process that may be lost."""


@cache
def encode_variety(name: str) -> bytes:
    return VARIETIES[name].encode(load_picture())


@pytest.mark.parametrize("name", VARIETIES)
def test_every_variety_comes_out_as_the_picture_that_went_in(name: str) -> None:
    variety, data = VARIETIES[name], encode_variety(name)

    image = cleanse_image(data, RECIPE)

    assert (image.failure, image.decoder_warning) == (None, None)
    assert (image.format, image.width_px, image.height_px, image.orientation) == (variety.format, WIDTH, HEIGHT, 1)
    assert (image.standard_width_px, image.standard_height_px) == (WIDTH, HEIGHT)
    expected = lay_on_white(variety.look(load_picture()))
    assert compare(image.standard_jpeg, expected) < TOLERANCE
    assert compare(image.thumbnail_jpeg, expected) < TOLERANCE


@pytest.mark.parametrize("name", VARIETIES)
def test_the_first_bytes_alone_tell_the_format(name: str) -> None:
    assert sniff_format(encode_variety(name)[:64]) == VARIETIES[name].format


@pytest.mark.parametrize("name", VARIETIES)
def test_only_jpeg_as_phones_write_it_is_plain(name: str) -> None:
    is_plain = VARIETIES[name].format == "jpeg" and name not in FOR_WORKERS
    assert is_plain_jpeg(encode_variety(name), RECIPE) == is_plain


def test_the_edited_jpegs_are_what_they_are_called() -> None:
    def read_adobe_transform(name: str) -> list[int]:
        return [segment.body[11] for segment in read_jpeg(encode_variety(name)) if segment.marker == APP14]

    assert (read_adobe_transform("JPEG in RGB"), read_adobe_transform("JPEG CMYK")) == ([0], [0])
    assert (read_adobe_transform("JPEG YCCK"), read_adobe_transform("JPEG CMYK without Adobe")) == ([2], [])
    assert not any(segment.marker == APP0 for segment in read_jpeg(encode_variety("JPEG without JFIF")))
    assert b"\xff\xd0" in encode_variety("JPEG with restarts")


@pytest.mark.parametrize("name", [name for name in VARIETIES if "alpha" in name or "transparency" in name])
def test_what_is_transparent_becomes_white(name: str) -> None:
    pixels = decode(cleanse_image(encode_variety(name), RECIPE).standard_jpeg)
    assert pixels[:, : WIDTH // 2 - 16].min() > 240
    assert pixels[:, WIDTH // 2 + 16 :].mean() < 200


def test_hidden_colours_do_not_show_where_a_transparent_picture_is_made_smaller() -> None:
    pixels = np.zeros((512, 512, 4), np.uint8)
    pixels[::2, ::2] = 255
    image = cleanse_image(encode(Image.fromarray(pixels), "PNG"), CleansingRecipe(standard_edge_px=256))
    assert decode(image.standard_jpeg).min() > 250


@pytest.mark.parametrize(("name", "narrow"), [("PNG 16 bit", "PNG"), ("PNG grey 16 bit", "PNG grey")])
def test_16_bits_keep_their_brightness(name: str, narrow: str) -> None:
    wide, plain = cleanse_image(encode_variety(name), RECIPE), cleanse_image(encode_variety(narrow), RECIPE)
    assert wide.brightness_mean == pytest.approx(plain.brightness_mean, abs=0.5)
    assert wide.contrast_std == pytest.approx(plain.contrast_std, abs=0.5)


LARGE = {
    "jpeg": lambda: encode(load_large_picture()),
    "png": lambda: encode(load_large_picture(), "PNG", compress_level=1),
    "tiff": lambda: encode(load_large_picture().convert("CMYK"), "TIFF"),
    "bmp": lambda: encode(load_large_picture().convert("L"), "BMP"),
}


@pytest.mark.parametrize("form", LARGE)
def test_a_large_picture_is_brought_to_the_standard_edge(form: str) -> None:
    picture = load_large_picture().convert("L" if form == "bmp" else "RGB")
    image = cleanse_image(LARGE[form](), CleansingRecipe(standard_edge_px=512))
    assert (image.width_px, image.height_px) == picture.size
    for jpeg, edge in ((image.standard_jpeg, 512), (image.thumbnail_jpeg, 256)):
        height, width = decode(jpeg).shape[:2]
        assert (width, height) == (edge, round(edge * picture.height / picture.width))
        assert compare(jpeg, picture.resize((width, height), Image.Resampling.BOX)) < 2 * TOLERANCE


TURNABLE = {
    "jpeg": lambda stored, exif: encode(stored, exif=b"Exif\0\0" + exif),
    "png": lambda stored, exif: encode(stored, "PNG", exif=exif, compress_level=1),
    "webp": lambda stored, exif: encode(stored, "WEBP", exif=exif, quality=GOOD),
    "tiff": lambda stored, exif: encode(stored, "TIFF", exif=exif),
    "heic": lambda stored, exif: encode_heic(stored, exif=exif),
    "avif": lambda stored, exif: encode(stored, "AVIF", exif=exif, speed=9, quality=GOOD),
}


@pytest.mark.parametrize("orientation", UNDO)
@pytest.mark.parametrize("form", TURNABLE)
def test_every_format_is_turned_upright_from_every_orientation(form: str, orientation: int) -> None:
    upright = load_picture()
    data = TURNABLE[form](store_turned(upright, orientation), write_exif([write_orientation(orientation)]))

    image = cleanse_image(data, RECIPE)

    # HEIC is turned by the container, whose reader takes the orientation out of EXIF.
    assert image.orientation == (1 if form == "heic" else orientation)
    assert (image.width_px, image.height_px) == upright.size
    assert compare(image.standard_jpeg, upright) < TOLERANCE
    assert compare(image.thumbnail_jpeg, upright) < TOLERANCE


@pytest.mark.parametrize("form", ["png", "tiff"])
def test_every_orientation_of_a_lossless_file_gives_the_same_bytes(form: str) -> None:
    made = {
        (image.standard_jpeg, image.thumbnail_jpeg, image.perceptual_hash)
        for orientation in UNDO
        for stored in [store_turned(load_picture(), orientation)]
        for image in [cleanse_image(TURNABLE[form](stored, write_exif([write_orientation(orientation)])), RECIPE)]
    }
    assert len(made) == 1


WIDE = {"Display P3": (DISPLAY_P3, write_srgb_curve()), "Adobe RGB": (ADOBE_RGB, write_gamma(2.2))}
"""Profiles with more colours than sRGB: their primaries and curve."""
CARRIERS = {
    "jpeg": lambda picture, profile: encode(picture, icc_profile=profile),
    "png": lambda picture, profile: encode(picture, "PNG", icc_profile=profile),
    "webp": lambda picture, profile: encode(picture, "WEBP", icc_profile=profile, quality=GOOD),
    "tiff": lambda picture, profile: encode(picture, "TIFF", icc_profile=profile),
    "heic": lambda picture, profile: encode_heic(picture, icc_profile=profile),
    "avif": lambda picture, profile: encode(picture, "AVIF", icc_profile=profile, speed=9, quality=GOOD),
}


def convert(picture: Image.Image, source: bytes, target: bytes, mode: str = "RGB") -> Image.Image:
    """Convert as littlecms does, by relative colorimetric intent."""
    before, after = (ImageCms.ImageCmsProfile(io.BytesIO(profile)) for profile in (source, target))
    intent = ImageCms.Intent.RELATIVE_COLORIMETRIC
    converted = ImageCms.profileToProfile(picture, before, after, intent, outputMode=mode)
    assert converted is not None
    return converted


PLAIN_PROFILE = write_rgb_profile(SRGB, write_srgb_table(), "sRGB")


@pytest.mark.parametrize("form", CARRIERS)
@pytest.mark.parametrize("name", WIDE)
def test_colours_are_those_that_the_profile_means(name: str, form: str) -> None:
    profile = write_rgb_profile(*WIDE[name])
    stored = convert(load_picture(), PLAIN_PROFILE, profile)
    assert compare(encode(stored, quality=100), load_picture()) > 2 * TOLERANCE, "the profile makes a difference"

    image = cleanse_image(CARRIERS[form](stored, profile), RECIPE)

    assert image.decoder_warning is None
    assert compare(image.standard_jpeg, convert(stored, profile, PLAIN_PROFILE)) < TOLERANCE
    assert compare(image.standard_jpeg, load_picture()) < TOLERANCE
    assert compare(image.thumbnail_jpeg, load_picture()) < TOLERANCE


@pytest.mark.parametrize("name", WIDE)
def test_a_jpeg_in_other_colours_belongs_into_a_worker(name: str) -> None:
    assert not is_plain_jpeg(encode(load_picture(), icc_profile=write_rgb_profile(*WIDE[name])), RECIPE)


@pytest.mark.parametrize("curve", [write_srgb_curve(), write_srgb_table()], ids=["parameters", "table"])
def test_srgb_by_any_name_needs_no_converting(curve: bytes) -> None:
    data = encode(load_picture(), icc_profile=write_rgb_profile(SRGB, curve, "c2"))
    image = cleanse_image(data, RECIPE)
    assert is_plain_jpeg(data, RECIPE)
    assert np.array_equal(decode(image.standard_jpeg), decode(data))


GREY_CARRIERS = {
    "grey JPEG": lambda profile: encode(to_grey(load_picture()), icc_profile=profile),
    "grey PNG": lambda profile: encode(to_grey(load_picture()), "PNG", icc_profile=profile),
    "grey TIFF": lambda profile: encode(to_grey(load_picture()), "TIFF", icc_profile=profile),
    "grey PNG of 16 bit": lambda profile: encode(to_wide_grey(load_picture()), "PNG", icc_profile=profile),
    "grey PNG with alpha": lambda profile: encode(
        Image.merge("LA", (to_grey(load_picture()), Image.new("L", (WIDTH, HEIGHT), 255))), "PNG", icc_profile=profile
    ),
}


@pytest.mark.parametrize("name", GREY_CARRIERS)
def test_a_grey_profile_says_how_bright_grey_is(name: str) -> None:
    profile = write_grey_profile(1.2)
    expected = convert(to_grey(load_picture()), profile, PLAIN_PROFILE)
    assert compare(encode(expected, quality=100), to_grey(load_picture())) > 5 * TOLERANCE

    image = cleanse_image(GREY_CARRIERS[name](profile), RECIPE)

    assert image.decoder_warning is None
    assert compare(image.standard_jpeg, expected) < TOLERANCE


@pytest.mark.parametrize("name", GREY_CARRIERS)
def test_grey_may_have_a_profile_for_colours(name: str) -> None:
    image = cleanse_image(GREY_CARRIERS[name](write_rgb_profile(*WIDE["Display P3"])), RECIPE)
    assert image.decoder_warning is None
    assert compare(image.standard_jpeg, to_grey(load_picture())) < TOLERANCE


def make_broken_profiles() -> dict[str, bytes]:
    good = write_rgb_profile(*WIDE["Adobe RGB"])
    lying = write_profile(b"RGB ", {b"rXYZ": b"XYZ ", b"rTRC": b"curv\0\0\0\0\xff\xff\xff\xff"})
    return {
        "text": b"a colour profile",
        "zeros": bytes(500),
        "cut off": good[: len(good) // 2],
        "only a header": good[:128],
        "with lying lengths": good[:132] + b"\xff" * 200,
        "without colours": write_profile(b"RGB ", {}),
        "with a broken curve": lying,
        "for grey": write_grey_profile(2.2),
        "for ink": b"".join([good[:16], b"CMYK", good[20:]]),
    }


@pytest.mark.parametrize(
    ("form", "name"),
    [
        *[(form, name) for form in ("jpeg", "png") for name in make_broken_profiles()],
        *[(form, "cut off") for form in ("webp", "tiff", "heic", "avif")],
    ],
)
def test_a_profile_that_cannot_be_used_costs_the_image_nothing_but_a_remark(form: str, name: str) -> None:
    image = cleanse_image(CARRIERS[form](load_picture(), make_broken_profiles()[name]), RECIPE)
    assert image.failure is None
    assert image.decoder_warning == "The colour profile cannot be used."
    assert compare(image.standard_jpeg, load_picture()) < TOLERANCE
    assert judge(vars(image), QualitySettings()) == (SUSPECT, "decoder_warning")


@pytest.mark.parametrize("stores", ["JPEG", "TIFF"])
def test_a_profile_for_colours_is_not_used_on_ink(stores: str) -> None:
    data = encode(to_ink(load_picture()), stores, icc_profile=write_rgb_profile(*WIDE["Display P3"]))
    image = cleanse_image(data, RECIPE)
    assert image.decoder_warning == "The colour profile cannot be used."
    assert compare(image.standard_jpeg, to_ink(load_picture())) < TOLERANCE


def test_a_photograph_is_clean() -> None:
    assert judge(vars(cleanse_image(encode_variety("JPEG"), RECIPE)), QualitySettings()) == (CLEAN, None)


def test_a_curve_of_its_own_is_converted_with_the_common_primaries() -> None:
    profile = write_rgb_profile(SRGB, write_gamma(1.0))
    stored = convert(load_picture(), PLAIN_PROFILE, profile)
    image = cleanse_image(encode(stored, "PNG", icc_profile=profile), RECIPE)
    assert compare(image.standard_jpeg, load_picture()) < TOLERANCE


@pytest.mark.parametrize("primaries", [SRGB, DISPLAY_P3, ADOBE_RGB], ids=["sRGB", "Display P3", "Adobe RGB"])
def test_the_primaries_that_profiles_are_made_of_add_up_to_white(primaries: Primaries) -> None:
    assert np.sum(primaries, axis=0) == pytest.approx([0.9642, 1.0, 0.8249], abs=0.001)
