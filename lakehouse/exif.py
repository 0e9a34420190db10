"""What is read of an image's EXIF before it is dropped: orientation, time, device, and whether it has a location.

EXIF is a small TIFF file within the image (CIPA DC-008, Exif 2.32). It is written by anybody, so offsets, counts and
texts are believed only as far as they stay within the bytes; whatever is broken counts as absent.
"""

import re
import struct
from dataclasses import dataclass
from datetime import datetime

_ORIENTATION = 0x0112
_MAKE = 0x010F
_MODEL = 0x0110
_EXIF_IFD = 0x8769
_GPS_IFD = 0x8825
_TIME_ORIGINAL = 0x9003
_OFFSET_ORIGINAL = 0x9011
_LATITUDE_REF, _LATITUDE, _LONGITUDE_REF, _LONGITUDE = 1, 2, 3, 4

_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 7: 1, 9: 4, 10: 8, 13: 4}
"""Bytes of one value, by TIFF field type; types that nothing here has are left out."""
_MAX_ENTRIES = 512
_MAX_VALUE_BYTES = 256
_MAX_TEXT = 64


@dataclass(frozen=True)
class ExifFacts:
    """What an image says about how it was taken.

    Attributes:
        orientation: 1 to 8, what turns the stored pixels upright; 1 where none or nonsense is said.
        captured_at_local: Time on the camera's clock.
        captured_utc_offset_min: Minutes by which that clock is ahead of UTC, where the camera says so.
        camera_make: Who made the camera.
        camera_model: Which camera.
        latitude: Degrees north, -90 to 90.
        longitude: Degrees east, -180 to 180.
    """

    orientation: int = 1
    captured_at_local: datetime | None = None
    captured_utc_offset_min: int | None = None
    camera_make: str | None = None
    camera_model: str | None = None
    latitude: float | None = None
    longitude: float | None = None


@dataclass(frozen=True)
class _Tiff:
    """A TIFF file's fields, read with every offset checked."""

    data: bytes
    order: str

    def unpack(self, form: str, offset: int) -> int:
        try:
            return int(struct.unpack_from(self.order + form, self.data, offset)[0])
        except struct.error:
            return 0

    def read_fields(self, offset: int) -> dict[int, tuple[int, bytes]]:
        """Return type and value bytes by tag of the directory at an offset."""
        fields = {}
        for number in range(min(self.unpack("H", offset), _MAX_ENTRIES)):
            entry = offset + 2 + 12 * number
            if entry + 12 > len(self.data):
                break
            tag, kind = self.unpack("H", entry), self.unpack("H", entry + 2)
            size = self.unpack("I", entry + 4) * _SIZES.get(kind, 0)
            start = entry + 8 if size <= 4 else self.unpack("I", entry + 8)
            if 0 < size <= _MAX_VALUE_BYTES and start + size <= len(self.data):
                fields[tag] = kind, self.data[start : start + size]
        return fields

    def read_number(self, field: tuple[int, bytes] | None) -> int:
        if field is None or field[0] not in {3, 4, 13}:
            return 0
        return int(struct.unpack_from(self.order + ("H" if field[0] == 3 else "I"), field[1])[0])

    def read_degrees(self, field: tuple[int, bytes] | None) -> float | None:
        """Return degrees, minutes and seconds, each a fraction, as degrees."""
        if field is None or field[0] != 5 or len(field[1]) != 24:
            return None
        parts = struct.unpack(self.order + "6I", field[1])
        if 0 in parts[1::2]:
            return None
        return float(parts[0] / parts[1] + parts[2] / parts[3] / 60 + parts[4] / parts[5] / 3600)


def read_exif(data: bytes | None) -> ExifFacts:
    """Return what an EXIF block says.

    Args:
        data: The block from its byte order mark on, or a whole TIFF file; None or anything else says nothing.
    """
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(bytes(data[:4])) if data else None
    if data is None or order is None:
        return ExifFacts()
    tiff = _Tiff(data, order)
    first = tiff.read_fields(tiff.unpack("I", 4))
    taken = tiff.read_fields(tiff.read_number(first.get(_EXIF_IFD))) if _EXIF_IFD in first else {}
    place = tiff.read_fields(tiff.read_number(first.get(_GPS_IFD))) if _GPS_IFD in first else {}
    orientation = tiff.read_number(first.get(_ORIENTATION))
    latitude, longitude = _read_position(tiff, place)
    return ExifFacts(
        orientation=orientation if 1 <= orientation <= 8 else 1,
        captured_at_local=_read_time(_read_text(taken.get(_TIME_ORIGINAL))),
        captured_utc_offset_min=_read_offset(_read_text(taken.get(_OFFSET_ORIGINAL))),
        camera_make=_read_text(first.get(_MAKE)),
        camera_model=_read_text(first.get(_MODEL)),
        latitude=latitude,
        longitude=longitude,
    )


def _read_text(field: tuple[int, bytes] | None) -> str | None:
    if field is None or field[0] != 2:
        return None
    text = field[1].split(b"\0")[0].decode("utf-8", "replace")
    return "".join(letter for letter in text if letter.isprintable()).strip()[:_MAX_TEXT] or None


def _read_time(text: str | None) -> datetime | None:
    try:
        return datetime.strptime(text or "", "%Y:%m:%d %H:%M:%S")  # noqa: DTZ007  (the camera's clock has no zone)
    except ValueError:
        return None


def _read_offset(text: str | None) -> int | None:
    found = re.fullmatch(r"([+-])(\d\d):(\d\d)", text or "", re.ASCII)
    if found is None:
        return None
    minutes = 60 * int(found[2]) + int(found[3])
    return -minutes if found[1] == "-" else minutes


def _read_position(tiff: _Tiff, place: dict[int, tuple[int, bytes]]) -> tuple[float | None, float | None]:
    latitude, longitude = tiff.read_degrees(place.get(_LATITUDE)), tiff.read_degrees(place.get(_LONGITUDE))
    if latitude is None or longitude is None or latitude > 90 or longitude > 180:
        return None, None
    is_south = _read_text(place.get(_LATITUDE_REF)) == "S"
    is_west = _read_text(place.get(_LONGITUDE_REF)) == "W"
    return -latitude if is_south else latitude, -longitude if is_west else longitude


_GEOHASH_LETTERS = "0123456789bcdefghjkmnpqrstuvwxyz"


def encode_geohash(latitude: float, longitude: float, length: int) -> str:
    """Return the geohash (Niemeyer, 2008) of a place: each letter halves longitude and latitude in turn, five times.

    Args:
        latitude: Degrees north, -90 to 90.
        longitude: Degrees east, -180 to 180.
        length: Letters wanted.
    """
    bounds = [[-180.0, 180.0], [-90.0, 90.0]]
    place = (longitude, latitude)
    letters = []
    for letter in range(length):
        value = 0
        for bit in range(5 * letter, 5 * letter + 5):
            low, high = bounds[bit % 2]
            middle = (low + high) / 2
            is_upper = place[bit % 2] >= middle
            bounds[bit % 2] = [middle, high] if is_upper else [low, middle]
            value = 2 * value + is_upper
        letters.append(_GEOHASH_LETTERS[value])
    return "".join(letters)
