"""The segments of a JPEG file (ITU-T T.81, annex B): what the frame is, what else the file carries, and taking it out.

Pixels are not decoded here. What is read was written by anybody: every length is checked against the bytes.
"""

import re
from dataclasses import dataclass

from lakehouse.quality import UnreadableError

_START = b"\xff\xd8"
_END = b"\xff\xd9"
_SCAN = 0xDA
_PROGRESSIVE = 0xC2
_HUFFMAN_TABLES = 0xC4
_FRAMES = frozenset({0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF})
_PIXEL_SEGMENTS = _FRAMES | {_HUFFMAN_TABLES, 0xDB, 0xDD, _SCAN}
"""Frames, Huffman tables, quantization tables, restart interval and scans: all that a decoder of Huffman JPEG needs."""
_JFIF = bytes.fromhex("ffe000104a46494600010100000100010000")
"""The segment that says YCbCr or grey, no density, no thumbnail (JFIF 1.02)."""
_EXIF_NAME, _ICC_NAME, _ADOBE_NAME = b"Exif\0\0", b"ICC_PROFILE\0", b"Adobe"
_RGB_IDS = tuple(b"RGB")
_LUMA_SAMPLING = frozenset({0x11, 0x21, 0x12, 0x22, 0x41, 0x14})
"""4:4:4, 4:2:2, 4:4:0, 4:2:0, 4:1:1, 4:4:1."""
_MAX_ICC_BYTES = 4_000_000
_MAX_SEGMENTS = 1_000
"""More than there are full ones in the largest file allowed by default: following millions of empty ones is slow."""
_MARKER_HERE = re.compile(rb"\xff+[^\xff]")
_NEXT_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
"""In scanned data: not a stuffed 0xFF, not filling, not a restart."""


@dataclass(frozen=True)
class JpegHeader:
    """What stands before the pixels.

    Attributes:
        frame: Marker of the frame: 0xC0 baseline, 0xC1 extended, 0xC2 progressive, others are rare.
        precision: Bits per sample.
        width_px: As stored; 0 if nonsense.
        height_px: As stored; 0 if only the end of the file would tell.
        component_ids: One for each colour component.
        sampling: For each, how many samples stand across and down where another has one: two numbers of four bits.
        has_one_scan: Whether the first scan has all components and the frame is not progressive.
        adobe_transform: 0 RGB or CMYK, 1 YCbCr, 2 YCCK; None without Adobe's segment.
        exif: EXIF block from its byte order mark on.
        icc_profile: Colour profile, put together from its parts.
    """

    frame: int
    precision: int
    width_px: int
    height_px: int
    component_ids: tuple[int, ...]
    sampling: tuple[int, ...]
    has_one_scan: bool
    adobe_transform: int | None
    exif: bytes | None
    icc_profile: bytes | None

    @property
    def is_huffman_8_bit(self) -> bool:
        """Whether the frame is one of the three kinds that are in use, with 8 bits per sample."""
        return self.frame <= _PROGRESSIVE and self.precision == 8

    @property
    def is_grey_or_colour(self) -> bool:
        """Whether there is one component, or three of which the last two are sampled in one of the usual ways."""
        if len(self.sampling) != 3:
            return len(self.sampling) == 1
        return self.sampling[0] in _LUMA_SAMPLING and self.sampling[1:] == (0x11, 0x11)

    @property
    def is_jfif(self) -> bool:
        """Whether the components are grey or YCbCr, so that a JFIF segment says all there is to say."""
        if len(self.component_ids) == 1:
            return True
        return len(self.component_ids) == 3 and self.adobe_transform != 0 and self.component_ids != _RGB_IDS


@dataclass(frozen=True)
class _Segment:
    marker: int
    start: int
    end: int


def is_jpeg(data: bytes) -> bool:
    """Tell whether the bytes begin as a JPEG file does."""
    return data[:3] == b"\xff\xd8\xff"


def read_jpeg_header(data: bytes) -> JpegHeader:
    """Read the segments up to the first scan.

    Raises:
        UnreadableError: If they cannot be followed up to a scan, or no frame is among them.
    """
    frame: _Segment | None = None
    adobe_transform: int | None = None
    exif: bytes | None = None
    icc_parts: list[bytes] = []
    for segment in _list_segments(data):
        body = data[segment.start + 4 : segment.end]
        if segment.marker in _FRAMES:
            frame = frame or segment
        elif segment.marker == 0xE1 and body.startswith(_EXIF_NAME):
            exif = exif or body[len(_EXIF_NAME) :]
        elif segment.marker == 0xE2 and body.startswith(_ICC_NAME):
            icc_parts.append(body[len(_ICC_NAME) :])
        elif segment.marker == 0xEE and body.startswith(_ADOBE_NAME) and len(body) >= 12:
            adobe_transform = body[11]
        elif segment.marker == _SCAN:
            if frame is None:
                raise UnreadableError("corrupt")
            return _describe(data, frame, segment, adobe_transform, exif, icc_parts)
    raise UnreadableError("truncated")


def _describe(
    data: bytes,
    frame: _Segment,
    scan: _Segment,
    adobe_transform: int | None,
    exif: bytes | None,
    icc_parts: list[bytes],
) -> JpegHeader:
    body = data[frame.start + 4 : frame.end]
    if len(body) < 6 or len(body) < 6 + 3 * body[5] or scan.end - scan.start < 5:
        raise UnreadableError("corrupt")
    component_ids = tuple(body[6 : 6 + 3 * body[5] : 3])
    return JpegHeader(
        frame=frame.marker,
        precision=body[0],
        height_px=int.from_bytes(body[1:3], "big"),
        width_px=int.from_bytes(body[3:5], "big"),
        component_ids=component_ids,
        sampling=tuple(body[7 : 6 + 3 * body[5] : 3]),
        has_one_scan=frame.marker != _PROGRESSIVE and data[scan.start + 4] == len(component_ids),
        adobe_transform=adobe_transform,
        exif=exif,
        icc_profile=_join_icc_parts(icc_parts),
    )


def _join_icc_parts(parts: list[bytes]) -> bytes | None:
    """Put a profile together: each part begins with its number and how many there are (ICC.1:2022, B.4)."""
    if sum(map(len, parts)) > _MAX_ICC_BYTES:
        raise UnreadableError("corrupt")
    return b"".join(part[2:] for part in sorted(parts, key=lambda part: part[:1])) or None


def _list_segments(data: bytes) -> list[_Segment]:
    """Return the segments from the start up to the first scan's header, which is the last."""
    segments: list[_Segment] = []
    position = len(_START)
    while position + 4 <= len(data):
        found = _MARKER_HERE.match(data, position)
        if found is None or len(segments) == _MAX_SEGMENTS:
            raise UnreadableError("corrupt")
        start = found.end() - 2
        marker = data[start + 1]
        end = start + 2 + int.from_bytes(data[start + 2 : start + 4], "big")
        if marker in {0x00, 0x01, *range(0xD0, 0xDA)}:
            raise UnreadableError("corrupt")
        if end > len(data):
            raise UnreadableError("truncated")
        segments.append(_Segment(marker, start, end))
        if marker == _SCAN:
            break
        position = end
    return segments


def count_scans(data: bytes) -> int:
    """Return how many scans there are at most: pixels cannot contain the marker, but a comment could."""
    return data.count(b"\xff\xda")


def strip_metadata(data: bytes) -> bytes | None:
    """Return the file with nothing but what its pixels need and one fixed JFIF segment; the pixels are the same.

    Args:
        data: A file that decodes without a warning and whose header `is_jfif`.

    Returns:
        The smaller file, ending where the image ends; None if there is no telling where that is, or if it would not
        stand by itself.

    Raises:
        UnreadableError: If the segments up to the first scan cannot be followed.
    """
    segments = _list_segments(data)
    # Frames of a film may leave out the tables that their decoders know, which others do not.
    if not segments or segments[-1].marker != _SCAN or all(part.marker != _HUFFMAN_TABLES for part in segments):
        return None
    parts = [_START, _JFIF]
    parts += [data[segment.start : segment.end] for segment in segments if segment.marker in _PIXEL_SEGMENTS]
    position = segments[-1].end
    for _ in range(_MAX_SEGMENTS):
        found = _NEXT_MARKER.search(data, position)
        if found is None:
            return None
        start = found.start()
        parts.append(data[position:start].rstrip(b"\xff"))
        marker = data[start + 1]
        if marker == _END[1]:
            return b"".join([*parts, _END])
        position = start + 2 + int.from_bytes(data[start + 2 : start + 4], "big")
        if marker in _PIXEL_SEGMENTS:
            parts.append(data[start:position])
    return None
