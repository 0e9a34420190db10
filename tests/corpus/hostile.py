"""Files that attack whoever decodes them, and what may become of each.

They are small programs instead of files: what they make claims, inflates to or loops for far more than its size.
"""

import io
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from lakehouse.quality import FAILURES
from tests.corpus.seeds import SEEDS, encode, make_image

GIGABYTE = 1 << 30
SOUND: frozenset[str | None] = frozenset({None})
"""The image has pictures: what is hostile in it does no harm."""
REFUSED: frozenset[str | None] = frozenset(set(FAILURES) - {"too_slow", "decoder_crash"})
"""It is refused, for whatever reason a decoder finds first."""
EITHER = SOUND | REFUSED
TOO_SLOW = EITHER | {"too_slow"}
"""As `EITHER`, or it takes more processor time than it may."""
TOO_LARGE: frozenset[str | None] = frozenset({"too_large"})
NOT_AN_IMAGE: frozenset[str | None] = frozenset({"not_an_image"})
UNSUPPORTED: frozenset[str | None] = frozenset({"unsupported", "corrupt"})


@dataclass(frozen=True)
class HostileFile:
    """A file and the failures that it may end with, None among them if it may be read.

    Attributes:
        build: Makes the file.
        outcomes: What may become of it.
    """

    build: Callable[[], bytes]
    outcomes: frozenset[str | None]


@cache
def _seed(name: str) -> bytes:
    return SEEDS[name]()


def deflate_zeros(size: int) -> bytes:
    """Return a zlib stream that inflates to `size` zeros, a multiple of a megabyte, without deflating them all."""
    megabyte = 1 << 20
    compressor = zlib.compressobj(9, wbits=-15)
    block = compressor.compress(bytes(megabyte)) + compressor.flush(zlib.Z_FULL_FLUSH)
    # Adler-32 of n zeros: the first sum stays 1, the second counts to n.
    checksum = struct.pack(">HH", size % 65_521, 1)
    return b"\x78\xda" + block * (size // megabyte) + b"\x03\x00" + checksum


# PNG


def png_chunk(kind: bytes, body: bytes) -> bytes:
    """Return a chunk with a sound checksum."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _png_header(width: int, height: int, depth: int = 8, colour: int = 2, interlace: int = 0) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + png_chunk(
        b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace)
    )


def _png(width: int, height: int, pixels: bytes, depth: int = 8, colour: int = 2) -> bytes:
    return _png_header(width, height, depth, colour) + png_chunk(b"IDAT", pixels) + png_chunk(b"IEND", b"")


def png_of_zeros(width: int, height: int, bytes_per_pixel: int = 3) -> bytes:
    """Return a sound, black, tiny PNG of any size."""
    size = (width * bytes_per_pixel + 1) * height
    colour = {1: 0, 3: 2, 4: 6}[bytes_per_pixel]
    return _png(width, height, deflate_zeros(-(-size >> 20) << 20), colour=colour)


def _png_with(*chunks: bytes) -> bytes:
    """Return a sound PNG with more chunks after its header."""
    sound = _seed("png")
    return sound[:33] + b"".join(chunks) + sound[33:]


def _png_with_empty_chunks() -> bytes:
    return _png_with(png_chunk(b"IDAT", b"") * 200_000)


def _png_with_huge_chunk_length() -> bytes:
    return _png_with(b"\x7f\xff\xff\xfftEXt")


def _png_animated_for_ever() -> bytes:
    return _png_with(png_chunk(b"acTL", struct.pack(">II", 2**31 - 1, 0)))


# JPEG


def jpeg_segment(marker: int, body: bytes) -> bytes:
    """Return a segment with its length."""
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def _jpeg_with(*segments: bytes) -> bytes:
    """Return a sound JPEG with more segments after its start."""
    sound = _seed("jpeg")
    return sound[:2] + b"".join(segments) + sound[2:]


def _jpeg_with_frame(marker: int | None = None, **changes: int) -> bytes:
    """Return a JPEG whose frame says something else: its marker, or its values by name."""
    data = bytearray(_seed("jpeg"))
    start = data.index(b"\xff\xc0")
    forms = {
        "precision": ("B", 4),
        "height": (">H", 5),
        "width": (">H", 7),
        "components": ("B", 9),
        "sampling": ("B", 11),
    }
    for name, value in changes.items():
        form, offset = forms[name]
        struct.pack_into(form, data, start + offset, value)
    data[start + 1] = marker or 0xC0
    return bytes(data)


def _jpeg_of_revision(revision: int, size: int | None = None) -> bytes:
    """Return a JPEG of a revision of JFIF that there is not, all of it or only its first bytes."""
    data = bytearray(_seed("jpeg"))
    data[data.index(b"JFIF\0") + 5] = revision
    return bytes(data[:size])


def _jpeg_with_scan_components(count: int) -> bytes:
    data = bytearray(_seed("jpeg"))
    data[data.index(b"\xff\xda") + 4] = count
    return bytes(data)


def jpeg_of_many_scans(width: int, height: int, scans: int) -> bytes:
    """Return a sound grey progressive JPEG that makes its decoder go over all blocks once for each scan.

    Every scan but the first says of all blocks that they add nothing, in a few bytes: runs of up to 32,767 empty blocks
    (ITU-T T.81, G.1.2.2).
    """
    frame = struct.pack(">BHHBBBB", 8, height, width, 1, 1, 0x11, 0)
    blocks = -(-width // 8) * -(-height // 8)
    dc_table = b"\x00" + bytes([1] + [0] * 15) + b"\x00"
    ac_symbols = bytes(length << 4 for length in range(15))
    ac_table = b"\x10" + bytes([0, 0, 0, 0, 15] + [0] * 11) + ac_symbols
    # The code of the DC table's only symbol, a difference of zero, is one bit.
    dc_scan = jpeg_segment(0xDA, bytes([1, 1, 0, 0, 0, 0])) + bytes(-(-blocks // 8))
    ac_scan = jpeg_segment(0xDA, bytes([1, 1, 0, 1, 63, 0])) + _pack_empty_runs(blocks)
    tables = jpeg_segment(0xDB, b"\x00" + b"\x01" * 64) + jpeg_segment(0xC4, dc_table) + jpeg_segment(0xC4, ac_table)
    return b"\xff\xd8" + tables + jpeg_segment(0xC2, frame) + dc_scan + ac_scan * (scans - 1) + b"\xff\xd9"


def _pack_empty_runs(blocks: int) -> bytes:
    bits = ""
    while blocks:
        length = min(14, blocks.bit_length() - 1)
        run = min(blocks, (2 << length) - 1)
        extra = run - (1 << length)
        # Codes of the AC table are 5 bits, in the order of their symbols.
        bits += f"{length:05b}" + (f"{extra:0{length}b}" if length else "")
        blocks -= run
    bits += "1" * (-len(bits) % 8)
    packed = int(bits, 2).to_bytes(len(bits) // 8, "big")
    return packed.replace(b"\xff", b"\xff\x00")


def _exif_with_loops() -> bytes:
    """Return an EXIF block whose directories point at themselves and at each other."""
    entries = [
        struct.pack("<HHII", 0x8769, 4, 1, 8),
        struct.pack("<HHII", 0x8825, 4, 1, 8),
        struct.pack("<HHII", 0xA005, 4, 1, 8),
        struct.pack("<HHII", 0x010F, 2, 0xFFFFFFFF, 8),
        struct.pack("<HHII", 0x0112, 3, 1, 0xFFFF),
    ]
    return b"Exif\0\0II*\0" + struct.pack("<IH", 8, len(entries)) + b"".join(entries) + struct.pack("<I", 8)


def _exif_of_many_entries() -> bytes:
    entry = struct.pack("<HHII", 0x8769, 4, 1, 8)
    return b"Exif\0\0II*\0" + struct.pack("<IH", 8, 65_535) + entry * 5_400


def _make_icc_parts(count: int) -> bytes:
    return b"".join(
        jpeg_segment(0xE2, b"ICC_PROFILE\0" + bytes([number % 256, count % 256]) + b"\xa5" * 65_000)
        for number in range(1, count + 1)
    )


def _icc_of_infinite_curves() -> bytes:
    """Return a profile with sRGB's primaries, whose curves divide by zero: they are powers of minus 32,768."""
    curve = b"para" + struct.pack(">IHHi", 0, 0, 0, -(2**31))
    bodies = {b"rTRC": curve, b"gTRC": curve, b"bTRC": curve}
    primaries = {
        b"rXYZ": (0.4361, 0.2225, 0.0139),
        b"gXYZ": (0.3851, 0.7169, 0.0971),
        b"bXYZ": (0.1431, 0.0606, 0.7139),
    }
    for name, xyz in primaries.items():
        bodies[name] = b"XYZ " + struct.pack(">I3i", 0, *(round(65_536 * value) for value in xyz))
    table, values, offset = b"", b"", 128 + 4 + 12 * len(bodies)
    for name, body in bodies.items():
        table += struct.pack(">4sII", name, offset + len(values), len(body))
        values += body
    header = b"\0" * 12 + b"mntrRGB XYZ " + b"\0" * 12 + b"acsp" + b"\0" * 88
    return header + struct.pack(">I", len(bodies)) + table + values


def _mpo_with_offsets(offset: int) -> bytes:
    """Return an MPO whose index says that its second image lies elsewhere."""
    data = bytearray(_seed("mpo"))
    tiff = data.index(b"MPF\0") + 4
    order = "<" if data[tiff : tiff + 2] == b"II" else ">"
    directory = tiff + struct.unpack_from(order + "I", data, tiff + 4)[0]
    count = struct.unpack_from(order + "H", data, directory)[0]
    for entry in range(directory + 2, directory + 2 + 12 * count, 12):
        if struct.unpack_from(order + "H", data, entry)[0] == 0xB002:
            images = tiff + struct.unpack_from(order + "I", data, entry + 8)[0]
            struct.pack_into(order + "II", data, images + 16 + 4, 2**31 - 1, offset)
    return bytes(data)


# GIF


def _gif_header(width: int, height: int) -> bytes:
    return b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"


def _gif_frame(width: int, height: int, left: int = 0, top: int = 0) -> bytes:
    """Return a frame that says its size and holds a single pixel."""
    return b"," + struct.pack("<HHHHB", left, top, width, height, 0) + b"\x02\x02\x44\x01\x00"


def _gif_of_frames(count: int) -> bytes:
    return _gif_header(1, 1) + _gif_frame(1, 1) * count + b";"


def _gif_of_sub_blocks() -> bytes:
    """Return a frame whose pixels come in a million blocks of one byte that never end."""
    return _gif_header(600, 600) + b"," + struct.pack("<HHHHB", 0, 0, 600, 600, 0) + b"\x02" + b"\x01\x04" * 1_000_000


def _gif_with_script() -> bytes:
    """Return a GIF that is also a program: its width is the start of a comment."""
    script = b"*/=1;alert(document.cookie);/*"
    return b"GIF89a/*" + _gif_header(1, 64)[8:] + _gif_frame(64, 64) + b"!\xfe" + bytes([len(script)]) + script + b"\0;"


# TIFF


def _tiff_entry(tag: int, kind: int, count: int, value: int) -> bytes:
    return struct.pack("<HHII", tag, kind, count, value)


def _tiff(entries: list[bytes], following: int = 0, count: int | None = None, tail: bytes = b"") -> bytes:
    number = len(entries) if count is None else count
    return b"II*\0" + struct.pack("<IH", 8, number) + b"".join(entries) + struct.pack("<I", following) + tail


def _tiff_image(width: int, height: int, *extra: bytes, offset: int = 8, size: int = 64, kind: int = 1) -> list[bytes]:
    """Return the entries of a grey image in one strip."""
    entries = [
        _tiff_entry(256, 4, 1, width),
        _tiff_entry(257, 4, 1, height),
        _tiff_entry(258, 3, 1, 8),
        _tiff_entry(259, 3, 1, kind),
        _tiff_entry(262, 3, 1, 1),
        _tiff_entry(273, 4, 1, offset),
        _tiff_entry(277, 3, 1, 1),
        _tiff_entry(278, 4, 1, height),
        _tiff_entry(279, 4, 1, size),
        *extra,
    ]
    return sorted(entries, key=lambda entry: entry[:2][::-1])


def _tiff_of_directories(count: int) -> bytes:
    """Return a chain of directories, each the child of the one before, the last the child of itself."""
    parts = [b"II*\0" + struct.pack("<I", 8)]
    for number in range(count):
        child = 8 + 18 * min(number + 1, count - 1)
        parts.append(struct.pack("<H", 1) + _tiff_entry(330, 4, 1, child) + struct.pack("<I", child))
    return b"".join(parts)


def _tiff_of_strips() -> bytes:
    strips = 2_000_000
    offsets = struct.pack("<I", 8) * strips
    entries = _tiff_image(64, strips)
    replaced = {
        273: _tiff_entry(273, 4, strips, 200),
        279: _tiff_entry(279, 4, strips, 200),
        278: _tiff_entry(278, 4, 1, 1),
    }
    entries = [replaced.get(struct.unpack_from("<H", entry)[0], entry) for entry in entries]
    return _tiff(entries, tail=bytes(200 - 14 - 12 * len(entries)) + offsets)


def _tiff_deflated(width: int, height: int) -> bytes:
    size = width * height
    pixels = deflate_zeros(-(-size >> 20) << 20)
    return _tiff(_tiff_image(width, height, offset=8 + 2 + 12 * 9 + 4, size=len(pixels), kind=8), tail=pixels)


def _tiff_big_of_entries() -> bytes:
    """Return a BigTIFF that claims 2**40 entries."""
    return b"II+\0" + struct.pack("<HHQQ", 8, 0, 16, 2**40) + struct.pack("<HHQQ", 256, 4, 2**60, 16) * 1_000


# BMP, WebP


def _bmp(
    width: int, height: int, bits: int = 24, compression: int = 0, colours: int = 0, pixels: bytes = b"\0" * 64
) -> bytes:
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, compression, 0, 0, 0, colours, 0)
    return b"BM" + struct.pack("<IHHI", 54 + len(pixels), 0, 0, 54) + header + pixels


def _riff(*chunks: tuple[bytes, bytes]) -> bytes:
    body = b"".join(name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2) for name, data in chunks)
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def _webp_canvas(width: int, height: int, flags: int = 0) -> tuple[bytes, bytes]:
    edges = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return b"VP8X", bytes([flags, 0, 0, 0]) + edges


def _webp_lossless_header(width: int, height: int) -> bytes:
    return b"\x2f" + ((width - 1) | (height - 1) << 14).to_bytes(4, "little")


def _webp_of_frames(count: int) -> bytes:
    inner = _seed("webp_lossless_alpha")
    pixels = inner[inner.index(b"VP8L") :]
    frame = b"\0" * 6 + (95).to_bytes(3, "little") + (71).to_bytes(3, "little") + b"\0" * 4 + pixels
    return _riff(_webp_canvas(96, 72, flags=0x12), (b"ANIM", b"\0" * 6), *[(b"ANMF", frame)] * count)


# HEIC and AVIF


def _box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body) + 8) + kind + body


_FTYP = {"heic": _box(b"ftyp", b"heic\0\0\0\0mif1heic"), "avif": _box(b"ftyp", b"avif\0\0\0\0mif1avif")}


def _claim_size(name: str, width: int, height: int) -> bytes:
    """Return an image whose container says another size than its pixels have."""
    data = _seed(name)
    place = data.index(b"ispe") + 8
    return data[:place] + struct.pack(">II", width, height) + data[place + 8 :]


def _nest_boxes(name: str, depth: int) -> bytes:
    body = b""
    for _ in range(depth):
        body = _box(b"iprp" if len(body) % 16 else b"ipco", body)
    return _FTYP[name] + _box(b"meta", b"\0" * 4 + body)


def _make_grid(name: str, rows: int, columns: int, edge_px: int) -> bytes:
    """Return an image that is a grid of one tile, repeated, with nothing behind the tile."""
    tiles = rows * columns
    handler = _box(b"hdlr", b"\0" * 8 + b"pict" + b"\0" * 13)
    primary = _box(b"pitm", b"\0" * 4 + struct.pack(">H", 1))
    kinds = [(1, b"grid"), (2, b"hvc1" if name == "heic" else b"av01")]
    entries = b"".join(_box(b"infe", b"\2\0\0\0" + struct.pack(">HH", item, 0) + kind + b"\0") for item, kind in kinds)
    items = _box(b"iinf", b"\0" * 4 + struct.pack(">H", len(kinds)) + entries)
    links = _box(b"iref", b"\0" * 4 + _box(b"dimg", struct.pack(">HH", 1, tiles) + struct.pack(">H", 2) * tiles))
    grid = bytes([0, 1, rows - 1, columns - 1]) + struct.pack(">II", edge_px, edge_px)
    data = _box(b"idat", grid)
    places = b"\1\0\0\0\x44\0" + struct.pack(">H", 2)
    places += struct.pack(">HHHHII", 1, 1, 0, 1, 0, len(grid)) + struct.pack(">HHHHII", 2, 0, 0, 1, 2**31, 2**31 - 1)
    sizes = _box(b"ispe", b"\0" * 4 + struct.pack(">II", edge_px, edge_px))
    links_to_sizes = _box(b"ipma", b"\0" * 4 + struct.pack(">IHBBHBB", 2, 1, 1, 1, 2, 1, 1))
    properties = _box(b"iprp", _box(b"ipco", sizes) + links_to_sizes)
    meta = handler + primary + _box(b"iloc", places) + items + links + properties + data
    return _FTYP[name] + _box(b"meta", b"\0" * 4 + meta)


def _change_box_length(name: str, kind: bytes, length: int) -> bytes:
    data = _seed(name)
    place = data.index(kind) - 4
    return data[:place] + struct.pack(">I", length) + data[place + 4 :]


# What is no image, or two things at once


def _append_archive(data: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("payload.html", "<script>alert(1)</script>")
    return data + stream.getvalue()


_PAGE = b"<html><script>alert(document.cookie)</script></html>"
_SVG = b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" width="99999" height="99999"/>'

HOSTILE_FILES: dict[str, HostileFile] = {
    "empty": HostileFile(lambda: b"", frozenset({"empty"})),
    "one_byte": HostileFile(lambda: b"\xff", NOT_AN_IMAGE),
    "text": HostileFile(lambda: b"All work and no play. " * 500_000, NOT_AN_IMAGE),
    "text_that_begins_as_bmp": HostileFile(lambda: b"BM is what this begins with. " * 100_000, REFUSED),
    "zeros": HostileFile(lambda: bytes(1_000_000), NOT_AN_IMAGE),
    "svg": HostileFile(lambda: _SVG, NOT_AN_IMAGE),
    "svg_of_entities": HostileFile(lambda: b'<!DOCTYPE svg [<!ENTITY a "' + b"a" * 99 + b'">]>' + _SVG, NOT_AN_IMAGE),
    "executable": HostileFile(lambda: b"\x7fELF\2\1\1" + bytes(4096), NOT_AN_IMAGE),
    "postscript": HostileFile(lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n{} loop", NOT_AN_IMAGE),
    "icon": HostileFile(lambda: encode(make_image(), "ICO"), NOT_AN_IMAGE),
    "jpeg_2000": HostileFile(lambda: encode(make_image(), "JPEG2000"), NOT_AN_IMAGE),
    "pdf_with_jpeg": HostileFile(lambda: b"%PDF-1.4\nstream\n" + _seed("jpeg"), NOT_AN_IMAGE),
    "jpeg_with_archive": HostileFile(lambda: _append_archive(_seed("jpeg")), SOUND),
    "jpeg_with_page_in_comment": HostileFile(lambda: _jpeg_with(jpeg_segment(0xFE, _PAGE)), SOUND),
    "png_with_archive": HostileFile(lambda: _append_archive(_seed("png")), SOUND),
    "png_with_page": HostileFile(lambda: _png_with(png_chunk(b"tEXt", b"Comment\0" + _PAGE)) + _PAGE, SOUND),
    "gif_with_script": HostileFile(_gif_with_script, EITHER),
    "png_of_4_gigapixels": HostileFile(lambda: _png(65_535, 65_535, zlib.compress(b"")), TOO_LARGE),
    "png_of_the_greatest_size": HostileFile(lambda: _png(2**31 - 1, 2**31 - 1, zlib.compress(b"")), TOO_LARGE),
    "png_of_many_black_pixels": HostileFile(lambda: png_of_zeros(30_000, 30_000, 1), TOO_LARGE),
    "png_of_no_height": HostileFile(lambda: _png(64, 0, zlib.compress(b"")), REFUSED),
    "png_one_pixel_high": HostileFile(lambda: png_of_zeros(1_000_000, 1), EITHER),
    "png_one_pixel_wide": HostileFile(lambda: png_of_zeros(1, 1_000_000), EITHER),
    "png_that_inflates_beyond_its_pixels": HostileFile(lambda: _png(64, 64, deflate_zeros(GIGABYTE)), EITHER),
    "png_without_pixels": HostileFile(lambda: _png_header(64, 64) + png_chunk(b"IEND", b""), REFUSED),
    "png_text_bomb": HostileFile(
        lambda: _png_with(png_chunk(b"zTXt", b"Comment\0\0" + deflate_zeros(GIGABYTE))), EITHER
    ),
    "png_international_text_bomb": HostileFile(
        lambda: _png_with(png_chunk(b"iTXt", b"Comment\0\1\0en\0\0" + deflate_zeros(GIGABYTE))), EITHER
    ),
    "png_profile_bomb": HostileFile(
        lambda: _png_with(png_chunk(b"iCCP", b"sRGB\0\0" + deflate_zeros(GIGABYTE))), EITHER
    ),
    "png_of_text_bombs": HostileFile(
        lambda: _png_with(png_chunk(b"zTXt", b"Comment\0\0" + deflate_zeros(1 << 20)) * 2_000), EITHER
    ),
    "png_with_empty_chunks": HostileFile(_png_with_empty_chunks, EITHER),
    "png_with_huge_chunk_length": HostileFile(_png_with_huge_chunk_length, REFUSED),
    "png_animated_for_ever": HostileFile(_png_animated_for_ever, EITHER),
    "png_with_exif_loops": HostileFile(lambda: _png_with(png_chunk(b"eXIf", _exif_with_loops()[6:])), EITHER),
    "jpeg_of_4_gigapixels": HostileFile(lambda: _jpeg_with_frame(height=65_535, width=65_535), TOO_LARGE),
    "jpeg_of_the_greatest_height": HostileFile(lambda: _jpeg_with_frame(height=65_500), REFUSED),
    "jpeg_of_no_height": HostileFile(lambda: _jpeg_with_frame(height=0), REFUSED),
    "jpeg_of_no_width": HostileFile(lambda: _jpeg_with_frame(width=0), REFUSED),
    "jpeg_of_no_components": HostileFile(lambda: _jpeg_with_frame(components=0), REFUSED),
    "jpeg_of_two_components": HostileFile(lambda: _jpeg_with_frame(components=2), REFUSED),
    "jpeg_of_255_components": HostileFile(lambda: _jpeg_with_frame(components=255), REFUSED),
    "jpeg_of_wrong_sampling": HostileFile(lambda: _jpeg_with_frame(sampling=0x0F), REFUSED),
    "jpeg_of_four_fold_sampling": HostileFile(lambda: _jpeg_with_frame(sampling=0x44), REFUSED),
    "jpeg_whose_scan_has_no_components": HostileFile(lambda: _jpeg_with_scan_components(0), REFUSED),
    "jpeg_whose_scan_has_four_components": HostileFile(lambda: _jpeg_with_scan_components(4), REFUSED),
    "jpeg_of_12_bits": HostileFile(lambda: _jpeg_with_frame(0xC1, precision=12), UNSUPPORTED),
    "jpeg_lossless": HostileFile(lambda: _jpeg_with_frame(0xC3), UNSUPPORTED),
    "jpeg_hierarchical": HostileFile(lambda: _jpeg_with_frame(0xC5), UNSUPPORTED),
    "jpeg_arithmetic": HostileFile(lambda: _jpeg_with_frame(0xC9), EITHER),
    "jpeg_progressive_by_name_only": HostileFile(lambda: _jpeg_with_frame(0xC2), REFUSED),
    "jpeg_of_unknown_revision": HostileFile(lambda: _jpeg_of_revision(9), EITHER),
    # The colours are told by one of two segments: the other, 18 bytes long, is left out.
    "jpeg_of_unknown_colours": HostileFile(
        lambda: b"\xff\xd8" + jpeg_segment(0xEE, b"Adobe\0\x64\0\0\0\0\x05") + _seed("jpeg")[20:], EITHER
    ),
    "jpeg_of_unknown_revision_cut_off": HostileFile(lambda: _jpeg_of_revision(9, 1_500), REFUSED),
    "jpeg_with_exif_loops": HostileFile(lambda: _jpeg_with(jpeg_segment(0xE1, _exif_with_loops())), SOUND),
    "jpeg_with_many_exif_entries": HostileFile(lambda: _jpeg_with(jpeg_segment(0xE1, _exif_of_many_entries())), SOUND),
    "jpeg_with_garbage_exif": HostileFile(
        lambda: _jpeg_with(jpeg_segment(0xE1, b"Exif\0\0II*\0" + b"\xa5" * 65_000)), SOUND
    ),
    "jpeg_with_garbage_profile": HostileFile(lambda: _jpeg_with(_make_icc_parts(1)), EITHER),
    "jpeg_with_profile_of_many_parts": HostileFile(lambda: _jpeg_with(_make_icc_parts(255)), EITHER),
    "jpeg_with_profile_of_infinite_curves": HostileFile(
        lambda: _jpeg_with(jpeg_segment(0xE2, b"ICC_PROFILE\0\1\1" + _icc_of_infinite_curves())), EITHER
    ),
    "jpeg_of_empty_segments": HostileFile(lambda: _jpeg_with(jpeg_segment(0xFE, b"") * 5_000_000), EITHER),
    "jpeg_with_long_filling": HostileFile(lambda: _jpeg_with(b"\xff" * 20_000_000), EITHER),
    "jpeg_with_long_tail": HostileFile(lambda: _seed("jpeg") + b"\xff" * 20_000_000, EITHER),
    "jpeg_with_tail_of_segments": HostileFile(
        lambda: _seed("jpeg")[:-2] + jpeg_segment(0xC4, b"") * 2_000_000 + b"\xff\xd9", EITHER
    ),
    "jpeg_with_tail_of_restarts": HostileFile(
        lambda: _seed("jpeg")[:-2] + b"\xff\xd0" * 5_000_000 + b"\xff\xd9", EITHER
    ),
    "jpeg_of_many_scans": HostileFile(lambda: jpeg_of_many_scans(4_000, 4_000, 10_000), frozenset({"too_slow"})),
    "jpeg_of_many_scans_of_few_pixels": HostileFile(lambda: jpeg_of_many_scans(64, 64, 10_000), EITHER),
    "jpeg_of_few_scans": HostileFile(lambda: jpeg_of_many_scans(640, 480, 8), SOUND),
    "mpo_with_offset_beyond_its_end": HostileFile(lambda: _mpo_with_offsets(2**31 - 1), EITHER),
    "mpo_with_offset_to_itself": HostileFile(lambda: _mpo_with_offsets(0), EITHER),
    "gif_of_4_gigapixels": HostileFile(lambda: _gif_header(65_535, 65_535) + _gif_frame(1, 1) + b";", TOO_LARGE),
    "gif_with_frame_of_4_gigapixels": HostileFile(
        lambda: _gif_header(64, 64) + _gif_frame(65_535, 65_535) + b";", REFUSED
    ),
    "gif_with_frame_outside": HostileFile(
        lambda: _gif_header(64, 64) + _gif_frame(9, 9, left=65_000, top=65_000) + b";", REFUSED
    ),
    "gif_of_many_frames": HostileFile(lambda: _gif_of_frames(100_000), EITHER),
    "gif_of_endless_blocks": HostileFile(_gif_of_sub_blocks, EITHER),
    "gif_without_frames": HostileFile(lambda: _gif_header(64, 64) + b"!\xfe\1a\0" * 100_000, REFUSED),
    "tiff_of_4_gigapixels": HostileFile(lambda: _tiff(_tiff_image(65_535, 65_535)), TOO_LARGE),
    "tiff_with_directory_loop": HostileFile(lambda: _tiff(_tiff_image(64, 64), following=8), EITHER),
    "tiff_of_nested_directories": HostileFile(lambda: _tiff_of_directories(100_000), REFUSED),
    "tiff_of_missing_entries": HostileFile(lambda: _tiff([], count=65_535), REFUSED),
    "tiff_of_many_entries": HostileFile(lambda: _tiff([_tiff_entry(65_000, 2, 2**31, 8)] * 65_535), TOO_SLOW),
    "tiff_big_of_entries": HostileFile(_tiff_big_of_entries, REFUSED),
    "tiff_with_strip_beyond_its_end": HostileFile(lambda: _tiff(_tiff_image(64, 64, offset=2**31)), REFUSED),
    "tiff_with_strip_of_4_gigabytes": HostileFile(lambda: _tiff(_tiff_image(64, 64, size=2**32 - 1)), EITHER),
    "tiff_of_2_million_strips": HostileFile(_tiff_of_strips, TOO_SLOW),
    "tiff_of_many_black_pixels": HostileFile(lambda: _tiff_deflated(9_999, 9_999), SOUND | TOO_LARGE),
    "tiff_of_foreign_compression": HostileFile(lambda: _tiff(_tiff_image(64, 64, kind=60_000)), REFUSED),
    "tiff_with_garbage_jpeg": HostileFile(lambda: _tiff(_tiff_image(64, 64, kind=7)), REFUSED),
    "tiff_with_tiles_of_4_gigapixels": HostileFile(
        lambda: _tiff(
            _tiff_image(
                64,
                64,
                _tiff_entry(322, 4, 1, 65_535),
                _tiff_entry(323, 4, 1, 65_535),
                _tiff_entry(324, 4, 1, 8),
                kind=8,
            )
        ),
        EITHER,
    ),
    "bmp_of_4_gigapixels": HostileFile(lambda: _bmp(65_535, 65_535), TOO_LARGE),
    "bmp_of_negative_size": HostileFile(lambda: _bmp(-64, -(2**31)), REFUSED),
    "bmp_of_many_colours": HostileFile(lambda: _bmp(64, 64, bits=8, colours=2**31 - 1), REFUSED),
    "bmp_of_runs": HostileFile(lambda: _bmp(9_999, 9_999, bits=8, compression=1, pixels=b"\0\2\1\1" * 50_000), EITHER),
    "bmp_without_pixels": HostileFile(lambda: _bmp(64, 64, pixels=b""), REFUSED),
    "webp_of_268_megapixels": HostileFile(
        lambda: _riff((b"VP8L", _webp_lossless_header(16_384, 16_384) + bytes(64))), REFUSED
    ),
    "webp_with_canvas_of_268_megapixels": HostileFile(
        lambda: _riff(_webp_canvas(16_384, 16_384), (b"VP8L", _webp_lossless_header(64, 64) + bytes(64))), REFUSED
    ),
    "webp_with_canvas_of_terapixels": HostileFile(
        lambda: _riff(_webp_canvas(2**24, 2**24), (b"VP8L", _webp_lossless_header(64, 64) + bytes(64))), REFUSED
    ),
    "webp_of_many_frames": HostileFile(lambda: _webp_of_frames(5_000), EITHER),
    "webp_with_wrong_length": HostileFile(lambda: _seed("webp")[:4] + b"\xff\xff\xff\xff" + _seed("webp")[8:], EITHER),
} | {
    f"{name}_{label}": HostileFile(build, outcomes)
    for name in ("heic", "avif")
    for label, build, outcomes in (
        ("of_4_gigapixels", lambda name=name: _claim_size(name, 65_535, 65_535), REFUSED),
        ("of_no_size", lambda name=name: _claim_size(name, 0, 0), EITHER),
        ("header_only", lambda name=name: _FTYP[name], REFUSED),
        ("of_nested_boxes", lambda name=name: _nest_boxes(name, 20_000), REFUSED),
        ("of_a_huge_grid", lambda name=name: _make_grid(name, 256, 255, 65_535), REFUSED),
        ("of_a_grid_without_tiles", lambda name=name: _make_grid(name, 2, 2, 512), REFUSED),
        ("with_endless_meta", lambda name=name: _change_box_length(name, b"meta", 2**32 - 1), REFUSED),
        ("with_endless_box", lambda name=name: _change_box_length(name, b"iloc", 0), EITHER),
        ("with_tiny_box", lambda name=name: _change_box_length(name, b"iprp", 4), REFUSED),
    )
}
"""Each by name."""
