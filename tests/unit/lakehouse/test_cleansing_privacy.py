"""What cleansing writes carries nothing but pixels: each byte of each output is accounted for by another reader."""

import struct
import zlib
from collections.abc import Callable
from functools import cache

import cv2
import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from lakehouse.cleansing import cleanse_image
from lakehouse.quality import CleansingRecipe
from tests.unit.lakehouse.image_files import (
    ADOBE_RGB,
    APP0,
    COM,
    DHT,
    DQT,
    DRI,
    SOF0,
    SOF2,
    SOS,
    SRGB,
    Pixels,
    Segment,
    compare,
    encode,
    encode_heic,
    insert_png_chunk,
    insert_segments,
    load_large_picture,
    load_picture,
    read_jpeg,
    write_exif,
    write_gamma,
    write_jpeg,
    write_orientation,
    write_position,
    write_rgb_profile,
    write_srgb_curve,
    write_text,
)

RECIPE = CleansingRecipe()
SECRET = "Jane of 12 Elm Street"
JFIF = b"JFIF\0\1\1\0\0\1\0\1\0\0"
"""Version 1.1, no unit, a density of 1 by 1, no thumbnail (JFIF 1.02, B.3)."""


def make_exif(orientation: int = 1) -> bytes:
    """Return EXIF whose every text is the secret, with a thumbnail of it behind."""
    block = write_exif(
        [
            write_orientation(orientation),
            write_text(0x010F, SECRET),
            write_text(0x013B, SECRET),
            write_text(0x8298, SECRET),
        ],
        [write_text(0x9003, "2026:11:02 09:30:15"), write_text(0xA431, SECRET), (0x927C, 7, SECRET.encode())],
        write_position(48.85825, 2.2945),
    )
    return block + encode(load_picture().resize((80, 60))) + SECRET.encode()


XMP = f"<x:xmpmeta xmlns:x='adobe:ns:meta/'>{SECRET}</x:xmpmeta>".encode()
IPTC = b"Photoshop 3.0\x008BIM\x04\x04\0\0\0\0\0\x1a\x1c\x02\x50\0\x15" + SECRET.encode()
PROFILE = write_rgb_profile(SRGB, write_srgb_curve(), SECRET)


def load_jpeg(jpeg: bytes, *, exif: bytes | None = None) -> bytes:
    """Return the file with everything in it that cameras, editors and hosts put there."""
    picture = load_picture().resize((16, 12))
    added = [
        Segment(APP0, b"JFXX\0\x10" + encode(picture) + SECRET.encode()),
        Segment(0xE1, b"Exif\0\0" + (make_exif() if exif is None else exif)),
        Segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + XMP),
        Segment(0xE1, b"http://ns.adobe.com/xmp/extension/\0" + XMP),
        Segment(0xE2, b"ICC_PROFILE\0\1\1" + PROFILE),
        Segment(0xE2, b"MPF\0" + SECRET.encode()),
        Segment(0xED, IPTC),
        *[Segment(marker, SECRET.encode()) for marker in range(0xE3, 0xED)],
        Segment(0xEF, SECRET.encode()),
        Segment(COM, SECRET.encode()),
    ]
    loaded = read_jpeg(insert_segments(jpeg, *added))
    if loaded[0].marker == APP0:
        loaded[0] = Segment(APP0, b"JFIF\0\1\2\0\0\1\0\1\x10\x0c" + picture.tobytes())
    between: list[Segment] = []
    for segment in loaded:
        between += [Segment(COM, SECRET.encode()), segment] if segment.marker == SOS else [segment]
    return write_jpeg(between) + encode(load_picture(), comment=SECRET.encode()) + SECRET.encode()


def load_png(mode: str) -> bytes:
    texts = PngImagePlugin.PngInfo()
    texts.add_text("Comment", SECRET)
    texts.add_text("Author", SECRET, zip=True)
    texts.add_itxt("XML:com.adobe.xmp", XMP.decode())
    png = encode(load_picture().convert(mode), "PNG", pnginfo=texts, exif=make_exif(), icc_profile=PROFILE)
    raw_exif = b"\nexif\n" + str(len(make_exif())).encode() + b"\n" + make_exif().hex().encode()
    png = insert_png_chunk(png, b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(raw_exif))
    return insert_png_chunk(png, b"tIME", struct.pack(">H5B", 2026, 11, 2, 9, 30, 15)) + SECRET.encode()


def load_tiff() -> bytes:
    exif = Image.Exif()
    exif.update({270: SECRET, 305: SECRET, 315: SECRET, 33432: SECRET})
    return encode(load_picture(), "TIFF", exif=exif, icc_profile=PROFILE) + SECRET.encode()


def encode_loaded(form: str) -> bytes:
    how = {"exif": make_exif(), "xmp": XMP, "icc_profile": PROFILE}
    return encode(load_picture(), form, **how) + SECRET.encode()


def encode_mpo() -> bytes:
    mpo = encode(load_picture(), "MPO", save_all=True, append_images=[load_large_picture()], exif=make_exif())
    return mpo + SECRET.encode()


PLAIN: dict[str, Callable[[], bytes]] = {
    "JPEG": lambda: encode(load_picture()),
    "progressive JPEG": lambda: encode(load_picture(), progressive=True),
    "grey JPEG": lambda: encode(load_picture().convert("L")),
    "JPEG with restarts": lambda: encode(load_picture(), restart_marker_blocks=4),
}
"""Standard already: loaded with metadata they keep their pixels as they are encoded."""
MADE: dict[str, Callable[[], bytes]] = {
    "large JPEG": lambda: load_jpeg(encode(load_large_picture())),
    "turned JPEG": lambda: load_jpeg(encode(load_picture()), exif=make_exif(6)),
    "JPEG in RGB": lambda: load_jpeg(encode(load_picture(), keep_rgb=True)),
    "JPEG in ink": lambda: load_jpeg(encode(load_picture().convert("CMYK"))),
    "JPEG in other colours": lambda: encode(
        load_picture(),
        icc_profile=write_rgb_profile(ADOBE_RGB, write_gamma(2.2), SECRET),
        exif=b"Exif\0\0" + make_exif(),
        comment=SECRET,
        xmp=XMP,
    ),
    "JPEG with bytes before its end": lambda: encode(load_picture(), comment=SECRET)[:-2] + b"Jane\xff\xd9",
    "PNG": lambda: load_png("RGB"),
    "PNG with a palette": lambda: load_png("P"),
    "WebP": lambda: encode_loaded("WEBP"),
    "AVIF": lambda: encode_loaded("AVIF"),
    "HEIC": lambda: encode_heic(load_picture(), exif=make_exif(), xmp=XMP, icc_profile=PROFILE) + SECRET.encode(),
    "TIFF": load_tiff,
    "GIF": lambda: encode(load_picture(), "GIF", comment=SECRET.encode()) + SECRET.encode(),
    "BMP": lambda: encode(load_picture(), "BMP") + SECRET.encode(),
}
ALL = {name: lambda build=build: load_jpeg(build()) for name, build in PLAIN.items()} | {
    "JPEG of several pictures": encode_mpo,
    **MADE,
}


@cache
def list_outputs(name: str) -> tuple[bytes, bytes]:
    """Return both pictures of a file, where large ones are made smaller and a coarse place is kept."""
    image = cleanse_image(ALL[name](), CleansingRecipe(standard_edge_px=512, geohash_length=5))
    assert image.standard_jpeg is not None
    assert image.thumbnail_jpeg is not None
    return image.standard_jpeg, image.thumbnail_jpeg


def check_segments(segments: list[Segment]) -> None:
    """Make sure that every byte of every segment is one that a decoder needs."""
    (jfif, *others) = segments
    assert (jfif.marker, jfif.body) == (APP0, JFIF)
    frames = [segment for segment in others if segment.marker in {SOF0, SOF2}]
    assert len(frames) == 1
    assert others[-1].marker == SOS
    for segment in others:
        assert len(segment.body) == MEASURES[segment.marker](segment.body), f"{segment.marker:#x}"
        assert bool(segment.coded) == (segment.marker == SOS)


def measure_tables(body: bytes) -> int:
    """Return the bytes of whole quantization tables (ITU-T T.81, B.2.4.1)."""
    position = 0
    while position < len(body):
        position += 129 if body[position] >> 4 else 65
    return position


def measure_codes(body: bytes) -> int:
    """Return the bytes of whole Huffman tables (B.2.4.2)."""
    position = 0
    while position < len(body):
        position += 17 + sum(body[position + 1 : position + 17])
    return position


MEASURES: dict[int, Callable[[bytes], int]] = {
    SOF0: lambda body: 6 + 3 * body[5],
    SOF2: lambda body: 6 + 3 * body[5],
    SOS: lambda body: 4 + 2 * body[0],
    DRI: lambda _: 2,
    DQT: measure_tables,
    DHT: measure_codes,
}
"""By marker, how long a segment is that holds what it is for and nothing else; there are no others."""


@pytest.mark.parametrize("name", ALL)
def test_the_secret_is_in_the_input(name: str) -> None:
    data = ALL[name]()
    assert SECRET.encode() in data or SECRET.encode("utf-16-le") in data


@pytest.mark.parametrize("name", ALL)
def test_nothing_but_pixels_is_written(name: str) -> None:
    for jpeg in list_outputs(name):
        check_segments(read_jpeg(jpeg))


@pytest.mark.parametrize("name", ALL)
def test_no_secret_of_the_input_is_in_any_output(name: str) -> None:
    traces = [SECRET.encode(), b"Jane", b"Elm Street", b"Exif", b"xmpmeta", b"8BIM", b"ICC_PROFILE", b"MPF\0", b"2026:"]
    for jpeg in list_outputs(name):
        assert not [trace for trace in traces if trace in jpeg]


def decode_exactly(jpeg: bytes | None) -> Pixels:
    assert jpeg is not None
    return np.asarray(cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR))


@pytest.mark.parametrize("name", PLAIN)
def test_a_standard_jpeg_keeps_its_pixels_bit_for_bit_and_becomes_smaller(name: str) -> None:
    loaded = ALL[name]()
    image = cleanse_image(loaded, RECIPE)
    assert image.decoder_warning is None
    assert image.standard_jpeg is not None
    assert np.array_equal(decode_exactly(image.standard_jpeg), decode_exactly(loaded))
    assert read_jpeg(image.standard_jpeg)[1:] == read_jpeg(PLAIN[name]())[1:]
    assert len(image.standard_jpeg) <= len(PLAIN[name]()) < len(loaded)


def test_of_several_pictures_the_first_keeps_its_pixels() -> None:
    data = encode_mpo()
    image = cleanse_image(data, RECIPE)
    assert np.array_equal(decode_exactly(image.standard_jpeg), decode_exactly(data))
    assert image.standard_jpeg is not None
    assert len(image.standard_jpeg) < len(encode(load_picture(), quality=75)) + 100


@pytest.mark.parametrize("name", [name for name in MADE if name not in {"large JPEG", "JPEG in other colours"}])
def test_what_is_encoded_anew_shows_the_picture_still(name: str) -> None:
    image = cleanse_image(MADE[name](), RECIPE)
    expected = load_picture().transpose(Image.Transpose.ROTATE_270) if name == "turned JPEG" else load_picture()
    assert compare(image.standard_jpeg, expected.convert("CMYK") if "ink" in name else expected) < 4


def test_the_reader_finds_what_there_is_to_find() -> None:
    jpeg = encode(load_picture())
    check_segments(read_jpeg(jpeg))
    for loaded in (
        insert_segments(jpeg, Segment(COM, b"")),
        insert_segments(jpeg, Segment(DQT, b"\0" * 66)),
        insert_segments(jpeg, Segment(APP0, JFIF)),
        write_jpeg([Segment(APP0, JFIF[:-2] + b"\1\1\0\0\0"), *read_jpeg(jpeg)[1:]]),
    ):
        with pytest.raises((AssertionError, KeyError)):
            check_segments(read_jpeg(loaded))
    for trailing in (b"\0", b"\xff\xd9", jpeg):
        with pytest.raises(AssertionError):
            read_jpeg(jpeg + trailing)
