"""Real image files of every format and variety, made from one photograph, and a reader of JPEG files of its own.

What Pillow does not write is written here byte by byte. Nothing here uses the code that is tested with it.
"""

import io
import re
import struct
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pillow_heif
from PIL import Image

from samples.catalogue import load_photograph

WIDTH, HEIGHT = 240, 160
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

Pixels = npt.NDArray[np.uint8]


@cache
def load_picture() -> Image.Image:
    """Return a small colourful photograph that looks different however it is turned."""
    return load_photograph("coffee.webp").resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)


@cache
def load_large_picture() -> Image.Image:
    """Return a photograph that is larger than the measures and the thumbnail need."""
    return load_photograph("moose.webp")


def encode(picture: Image.Image, form: str = "JPEG", **how: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, form, **({"quality": 92} if form == "JPEG" else {}) | how)
    return buffer.getvalue()


def encode_heic(picture: Image.Image, **how: Any) -> bytes:
    buffer = io.BytesIO()
    pillow_heif.from_pillow(picture).save(buffer, quality=90, enc_params={"preset": "ultrafast"}, **how)
    return buffer.getvalue()


def decode(jpeg: bytes | None) -> npt.NDArray[np.int16]:
    assert jpeg is not None
    return np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB")).astype(np.int16)


def store_turned(upright: Image.Image, orientation: int) -> Image.Image:
    """Return the pixels that an EXIF orientation makes the upright picture of."""
    undo = UNDO[orientation]
    return upright if undo is None else upright.transpose(undo)


def compare(jpeg: bytes | None, expected: Image.Image) -> float:
    """Return by how much, 0 to 255, the colours of 8 x 8 blocks differ at most on average in any of the channels.

    Blocks are blind to what a JPEG does to detail, and see a wrong colour, brightness or place.
    """
    found, wanted = decode(jpeg), np.asarray(expected.convert("RGB")).astype(np.int16)
    assert found.shape == wanted.shape
    return float(np.abs(_average_blocks(found) - _average_blocks(wanted)).mean(axis=(0, 1)).max())


def _average_blocks(pixels: npt.NDArray[np.int16]) -> npt.NDArray[np.float64]:
    height, width = (edge // 8 for edge in pixels.shape[:2])
    blocks = pixels[: 8 * height, : 8 * width].reshape(height, 8, width, 8, 3)
    return np.asarray(blocks.mean(axis=(1, 3)))


@dataclass(frozen=True)
class Segment:
    """One segment of a JPEG file (ITU-T T.81, B.1.1.4).

    Attributes:
        marker: Second byte of its marker.
        body: What follows its length.
        coded: For a scan, the entropy-coded data behind it, with restart markers.
    """

    marker: int
    body: bytes = b""
    coded: bytes = b""

    def __bytes__(self) -> bytes:
        return bytes((0xFF, self.marker)) + struct.pack(">H", len(self.body) + 2) + self.body + self.coded


SOF0, SOF2, DHT, SOI, EOI, SOS, DQT, DRI, APP0, COM = 0xC0, 0xC2, 0xC4, 0xD8, 0xD9, 0xDA, 0xDB, 0xDD, 0xE0, 0xFE
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7]")


def read_jpeg(jpeg: bytes) -> list[Segment]:
    """Return all segments of a JPEG file, of which nothing else may be left over.

    Raises:
        AssertionError: Something is in the file that belongs to none of its segments.
    """
    assert jpeg[:2] == bytes((0xFF, SOI))
    segments, position = [], 2
    while jpeg[position : position + 2] != bytes((0xFF, EOI)):
        mark, marker, size = struct.unpack_from(">BBH", jpeg, position)
        assert mark == 0xFF, f"{jpeg[position : position + 8]!r} is no segment"
        end = coded_end = position + 2 + size
        if marker == SOS:
            following = _MARKER.search(jpeg, end)
            assert following is not None, "the scan does not end"
            coded_end = following.start()
        segments.append(Segment(marker, jpeg[position + 4 : end], jpeg[end:coded_end]))
        position = coded_end
    assert jpeg[position + 2 :] == b"", "bytes after the end of the image"
    return segments


def write_jpeg(segments: Iterable[Segment]) -> bytes:
    return bytes((0xFF, SOI)) + b"".join(map(bytes, segments)) + bytes((0xFF, EOI))


def drop_segments(jpeg: bytes, *markers: int) -> bytes:
    return write_jpeg(segment for segment in read_jpeg(jpeg) if segment.marker not in markers)


def insert_segments(jpeg: bytes, *added: Segment) -> bytes:
    """Return the file with segments before its first quantization table, after what a writer puts first."""
    segments = read_jpeg(jpeg)
    place = next(number for number, segment in enumerate(segments) if segment.marker == DQT)
    return write_jpeg([*segments[:place], *added, *segments[place:]])


def replace_segment(jpeg: bytes, marker: int, change: Callable[[bytes], bytes]) -> bytes:
    return write_jpeg(
        replace(segment, body=change(segment.body)) if segment.marker == marker else segment
        for segment in read_jpeg(jpeg)
    )


def encode_sampled(picture: Image.Image, factors: int) -> bytes:
    """Return a JPEG with the sampling factors of luma and chroma that Pillow does not offer."""
    how = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, factors, cv2.IMWRITE_JPEG_QUALITY, 92]
    return bytes(cv2.imencode(".jpg", np.asarray(picture)[..., ::-1], how)[1])


def encode_ycck(picture: Image.Image) -> bytes:
    """Return CMYK as Photoshop stores it: black as it is, the colours as YCbCr, told by Adobe's transform 2."""
    cyan, magenta, yellow, black = picture.convert("CMYK").split()
    stored = Image.merge("RGB", (cyan, magenta, yellow)).convert("YCbCr")
    # Pillow inverts on writing, which undoes this.
    planes = [plane.point(lambda value: 255 - value) for plane in stored.split()]
    jpeg = encode(Image.merge("CMYK", (*planes, black)), quality=95)
    return replace_segment(jpeg, 0xEE, lambda body: body[:11] + b"\x02")


def write_png_chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def insert_png_chunk(png: bytes, name: bytes, body: bytes) -> bytes:
    """Return the file with a chunk right behind its header."""
    return png[:33] + write_png_chunk(name, body) + png[33:]


_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""First column and row, and steps to the next ones, of each pass of an interlaced PNG (ISO/IEC 15948, 8.2)."""


def write_interlaced_png(picture: Image.Image) -> bytes:
    pixels = np.asarray(picture.convert("RGB"))
    lines = b"".join(b"\0" + line.tobytes() for x, y, step_x, step_y in _ADAM7 for line in pixels[y::step_y, x::step_x])
    header = struct.pack(">IIBBBBB", *picture.size, 8, 2, 0, 0, 1)
    chunks = {b"IHDR": header, b"IDAT": zlib.compress(lines), b"IEND": b""}
    return b"\x89PNG\r\n\x1a\n" + b"".join(write_png_chunk(name, body) for name, body in chunks.items())


def encode_16_bit(picture: Image.Image, extension: str) -> bytes:
    """Return 16 bits per channel whose lower half matters to nobody, as PNG or TIFF."""
    wide = np.asarray(picture.convert("RGB"))[..., ::-1].astype(np.uint16) * 256 + 77
    return bytes(cv2.imencode(extension, wide)[1])


def write_tiled_tiff(picture: Image.Image, order: str) -> bytes:
    """Return a TIFF of 64 x 64 deflated tiles (TIFF 6.0, section 15).

    Args:
        picture: In RGB, with edges of no more than 65,535 px.
        order: `<` or `>`, the order of bytes.
    """
    width, height = picture.size
    padded = np.zeros((-(-height // 64) * 64, -(-width // 64) * 64, 3), np.uint8)
    padded[:height, :width] = np.asarray(picture)
    tiles = [
        zlib.compress(padded[y : y + 64, x : x + 64].tobytes())
        for y in range(0, height, 64)
        for x in range(0, width, 64)
    ]
    start = 8 + 2 + 12 * 11 + 4
    values = struct.pack(order + "3H", 8, 8, 8)
    offsets_at, sizes_at = start + len(values), start + len(values) + 4 * len(tiles)
    data_at = sizes_at + 4 * len(tiles)
    offsets = [data_at + sum(map(len, tiles[:number])) for number in range(len(tiles))]
    fields = [
        *((256, 4, 1, width), (257, 4, 1, height), (258, 3, 3, start), (259, 4, 1, 8), (262, 4, 1, 2)),
        *((277, 4, 1, 3), (284, 4, 1, 1), (322, 4, 1, 64), (323, 4, 1, 64)),
        *((324, 4, len(tiles), offsets_at), (325, 4, len(tiles), sizes_at)),
    ]
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "IH", 8, len(fields))
    directory = b"".join(struct.pack(order + "HHII", *field) for field in fields) + bytes(4)
    lists = struct.pack(f"{order}{2 * len(tiles)}I", *offsets, *map(len, tiles))
    return head + directory + values + lists + b"".join(tiles)


def write_rle_bmp(picture: Image.Image) -> bytes:
    """Return a BMP of 256 colours with run-length encoding."""
    palette = picture.quantize(256, Image.Quantize.FASTOCTREE)
    colours = np.zeros((256, 4), np.uint8)
    table = np.array(palette.getpalette(), np.uint8).reshape(-1, 3)[:, ::-1]
    colours[: len(table), :3] = table
    # Each pixel is a run of its own: longer than need be, and as valid as any.
    lines = [np.stack([np.ones_like(line), line], axis=1).tobytes() + b"\0\0" for line in np.asarray(palette)[::-1]]
    data = b"".join(lines) + b"\0\1"
    size = struct.pack("<IiiHHIIiiII", 40, *picture.size, 1, 8, 1, len(data), 0, 0, 256, 0)
    start = 14 + len(size) + colours.size
    return b"BM" + struct.pack("<IHHI", start + len(data), 0, 0, start) + size + colours.tobytes() + data


def cut_out(picture: Image.Image) -> Image.Image:
    """Return the picture with its left half transparent, and half of the rest half so."""
    alpha = np.full((picture.height, picture.width), 255, np.uint8)
    alpha[:, : picture.width // 2] = 0
    alpha[picture.height // 2 :, picture.width // 2 :] = 128
    cut = picture.convert("RGBA")
    cut.putalpha(Image.fromarray(alpha))
    return cut


def lay_on_white(cut: Image.Image) -> Image.Image:
    white = Image.new("RGBA", cut.size, "white")
    return Image.alpha_composite(white, cut.convert("RGBA")).convert("RGB")


Primaries = tuple[tuple[float, float, float], ...]
"""XYZ of red, green and blue, adapted to D50."""
SRGB: Primaries = ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.7141))
DISPLAY_P3: Primaries = ((0.51512, 0.2412, -0.00105), (0.29198, 0.69225, 0.04189), (0.1571, 0.06657, 0.78407))
ADOBE_RGB: Primaries = ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457))
_D50 = (0.9642, 1.0, 0.8249)


def write_srgb_curve() -> bytes:
    """Return sRGB's curve as Display P3 profiles have it, with parameters."""
    values = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
    return b"para" + bytes(4) + struct.pack(">HH5i", 3, 0, *(round(65536 * value) for value in values))


def write_srgb_table() -> bytes:
    """Return sRGB's curve as older profiles have it, in 1,024 steps."""
    steps = np.linspace(0, 1, 1024)
    curve = np.where(steps <= 0.04045, steps / 12.92, ((steps + 0.055) / 1.055) ** 2.4)
    return b"curv" + bytes(4) + struct.pack(">I", 1024) + np.round(65535 * curve).astype(">u2").tobytes()


def write_gamma(gamma: float) -> bytes:
    return b"curv" + bytes(4) + struct.pack(">IH", 1, round(256 * gamma))


def write_profile(space: bytes, tags: dict[bytes, bytes]) -> bytes:
    """Return an ICC profile of version 2.4 for a monitor (ICC.1:2001-04, 6.1 and 6.2)."""
    count, start = len(tags), 128 + 4 + 12 * len(tags)
    table, data = struct.pack(">I", count), b""
    for name, tag in tags.items():
        table += struct.pack(">4sII", name, start + len(data), len(tag))
        data += tag + bytes(-len(tag) % 4)
    header = struct.pack(
        ">I4sI4s4s4s12s4s28s3i",
        start + len(data),
        b"",
        0x02400000,
        b"mntr",
        space,
        b"XYZ ",
        b"",
        b"acsp",
        b"",
        *_fix(_D50),
    )
    return header.ljust(128, b"\0") + table + data


def write_rgb_profile(primaries: Primaries, curve: bytes, name: str = "test") -> bytes:
    colours = {tag: _write_xyz(xyz) for tag, xyz in zip((b"rXYZ", b"gXYZ", b"bXYZ"), primaries, strict=True)}
    curves = dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)
    return write_profile(b"RGB ", _name_profile(name) | colours | curves)


def write_grey_profile(gamma: float) -> bytes:
    return write_profile(b"GRAY", _name_profile("grey") | {b"kTRC": write_gamma(gamma)})


def _name_profile(name: str) -> dict[bytes, bytes]:
    text = name.encode() + b"\0"
    description = b"desc" + bytes(4) + struct.pack(">I", len(text)) + text + bytes(78)
    return {b"desc": description, b"cprt": b"text" + bytes(4) + b"none\0", b"wtpt": _write_xyz(_D50)}


def _write_xyz(xyz: tuple[float, float, float]) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">3i", *_fix(xyz))


def _fix(values: Iterable[float]) -> list[int]:
    return [round(65536 * value) for value in values]


Field = tuple[int, int, bytes]
"""Tag, type and value of a field of EXIF."""


def write_exif(
    first: Iterable[Field] = (), taken: Iterable[Field] = (), place: Iterable[Field] = (), order: str = "<"
) -> bytes:
    """Return an EXIF block from its byte order mark on (Exif 2.32, 4.6.2).

    Args:
        first: Fields of the image.
        taken: Fields of how it was taken.
        place: Fields of where that was.
        order: `<` or `>`, the order of bytes.
    """
    first, taken, place = list(first), list(taken), list(place)
    sizes = [_measure_directory(fields) for fields in ([*first, *[(0, 4, bytes(4))] * 2], taken)]
    taken_at, place_at = 8 + sizes[0], 8 + sum(sizes)
    first += [(0x8769, 4, struct.pack(order + "I", taken_at)), (0x8825, 4, struct.pack(order + "I", place_at))]
    directories = [
        _write_directory(fields, start, order) for fields, start in ((first, 8), (taken, taken_at), (place, place_at))
    ]
    return (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8) + b"".join(directories)


_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 7: 1}


def _measure_directory(fields: list[Field]) -> int:
    return 2 + 12 * len(fields) + 4 + sum(len(value) for _, _, value in fields if len(value) > 4)


def _write_directory(fields: list[Field], start: int, order: str) -> bytes:
    entries, values = struct.pack(order + "H", len(fields)), b""
    for tag, kind, value in fields:
        place = start + 2 + 12 * len(fields) + 4 + len(values)
        held = value.ljust(4, b"\0") if len(value) <= 4 else struct.pack(order + "I", place)
        values += b"" if len(value) <= 4 else value
        entries += struct.pack(order + "HHI", tag, kind, len(value) // _TYPE_BYTES[kind]) + held
    return entries + bytes(4) + values


def write_text(tag: int, text: str) -> Field:
    return tag, 2, text.encode() + b"\0"


def write_orientation(orientation: int, order: str = "<") -> Field:
    return 0x0112, 3, struct.pack(order + "H", orientation)


def write_degrees(tag: int, degrees: float, order: str = "<") -> Field:
    """Return a latitude or longitude as whole degrees and minutes and thousandths of a second."""
    thousandths = round(degrees * 3_600_000)
    whole, rest = divmod(thousandths, 3_600_000)
    minutes, seconds = divmod(rest, 60_000)
    return tag, 5, struct.pack(order + "6I", whole, 1, minutes, 1, seconds, 1000)


def write_position(latitude: float, longitude: float, order: str = "<") -> list[Field]:
    return [
        write_text(1, "S" if latitude < 0 else "N"),
        write_degrees(2, abs(latitude), order),
        write_text(3, "W" if longitude < 0 else "E"),
        write_degrees(4, abs(longitude), order),
    ]
