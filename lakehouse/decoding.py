"""Decoding: from bytes to upright sRGB pixels, scaled by a power of two to little more than what is wanted.

Two ways: JPEG in grey, YCbCr or RGB goes through libjpeg-turbo, which decodes at a fraction of the size and is asked
to be strict; everything else goes through Pillow. What is not a plain JPEG (`is_plain_jpeg`) may hang or end the
process on hostile bytes, so it belongs into one that may be lost.
"""

import io
import re
import struct
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Protocol

import cv2
import numpy as np
import simplejpeg
from PIL import Image, ImageCms

from lakehouse.exif import ExifFacts, read_exif
from lakehouse.icc import is_srgb
from lakehouse.jpeg import JpegHeader, count_scans, is_jpeg, read_jpeg_header, strip_metadata
from lakehouse.measures import NEAR_ENOUGH, Pixels
from lakehouse.quality import CleansingRecipe, UnreadableError

_PILLOW_NAMES = {
    "jpeg": ("JPEG", "MPO"),
    "png": ("PNG",),
    "webp": ("WEBP",),
    "heic": ("HEIF",),
    "avif": ("AVIF",),
    "tiff": ("TIFF",),
    "gif": ("GIF",),
    "bmp": ("BMP",),
}
"""The formats that are read, as the tables call them, and what Pillow calls them."""
_MAGIC = {
    b"\x89PNG\r\n\x1a\n": "png",
    b"GIF87a": "gif",
    b"GIF89a": "gif",
    b"BM": "bmp",
    b"II*\0": "tiff",
    b"MM\0*": "tiff",
    b"II+\0": "tiff",
    b"MM\0+": "tiff",
}
_AVIF_BRANDS = {b"avif", b"avis"}
_HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"}

_MAX_SCANS_IN_PROCESS = 64
_MAX_SCANNED_PIXELS_IN_PROCESS = 300_000_000
"""Pixels times scans: a progressive file makes the decoder go over the whole image once for each scan."""
_MAX_BUFFERED_PIXELS_IN_PROCESS = 25_000_000
"""A file of several scans is held whole while it is decoded, in 3 to 6 bytes per pixel."""
_STRAY_BYTES = re.compile(r"(\d+) extraneous bytes before marker 0xd9")
_MAX_STRAY_BYTES = 4
"""Before the end of a file; more of them are picture that a damaged one did not get to, unless they are zeros."""
_ABOUT_METADATA = ("unknown jfif revision", "unknown adobe color transform")
_MAX_WARNING = 200
_STRIP_ROWS = 128

Rows = Callable[[int, int], Image.Image]
"""From a decoded image, its rows from one number up to another."""

_DECODER_ERRORS = (
    OSError,
    ValueError,
    SyntaxError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    EOFError,
    RuntimeError,
    struct.error,
    zlib.error,
)
"""What Pillow's readers raise on hostile bytes: each is a verdict on the image, not an error of ours."""

_TURNS: dict[int, Callable[[Pixels], Pixels]] = {
    1: lambda pixels: pixels,
    2: lambda pixels: cv2.flip(pixels, 1),
    3: lambda pixels: cv2.rotate(pixels, cv2.ROTATE_180),
    4: lambda pixels: cv2.flip(pixels, 0),
    5: cv2.transpose,
    6: lambda pixels: cv2.rotate(pixels, cv2.ROTATE_90_CLOCKWISE),
    7: lambda pixels: cv2.rotate(cv2.transpose(pixels), cv2.ROTATE_180),
    8: lambda pixels: cv2.rotate(pixels, cv2.ROTATE_90_COUNTERCLOCKWISE),
}
"""By EXIF orientation (tag 0x0112): what makes the stored pixels upright."""


@dataclass(frozen=True)
class Decoded:
    """Pixels and what was found out on the way to them.

    Attributes:
        pixels: Upright, sRGB, at the smallest power-of-two fraction that fills the wanted edge.
        exif: What the image says of itself.
        warning: What the decoder remarked, if it remarked anything.
    """

    pixels: Pixels
    exif: ExifFacts
    warning: str | None = None


class Picture(Protocol):
    """An image whose header was read and whose pixels were not decoded yet.

    Attributes:
        format: What the bytes are.
        width_px: Width as stored.
        height_px: Height as stored.
        exif: What the header says; some formats say it only after their pixels.
        is_turned_by_decoder: Whether decoding applies the orientation by itself, so that width and height are upright.
        is_standard: Whether the file, without its metadata, may stand as a standard image if it is small enough.
    """

    format: str
    width_px: int
    height_px: int
    exif: ExifFacts
    is_turned_by_decoder: bool

    @property
    def is_standard(self) -> bool:
        """See the attributes."""
        ...

    def decode(self, edge_px: int) -> Decoded:
        """Decode to a longest edge of at least about `edge_px`, or in full where the image is smaller.

        Raises:
            UnreadableError: If the pixels cannot be read.
        """
        ...


def sniff_format(data: bytes) -> str | None:
    """Return what the first bytes say the file is; None if it is none of the formats that are read."""
    if is_jpeg(data):
        return "jpeg"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    if data[4:8] == b"ftyp":
        return _sniff_brand(data)
    return next((name for magic, name in _MAGIC.items() if data.startswith(magic)), None)


def _sniff_brand(data: bytes) -> str | None:
    """Tell HEIC and AVIF, which share a container, apart by their brands (ISO 14496-12, 4.3)."""
    size = min(int.from_bytes(data[:4], "big"), 256)
    brands = {data[8:12], *(data[place : place + 4] for place in range(16, size, 4))}
    if brands & _AVIF_BRANDS:
        return "avif"
    return "heic" if brands & _HEIC_BRANDS else None


def is_plain_jpeg(data: bytes, recipe: CleansingRecipe) -> bool:
    """Tell whether an image may be decoded in the process that does everything else.

    That is JPEG as phones and web sites write it: Huffman coded with 8 bits, one or three components, in few enough
    scans, in sRGB. What decodes it has been hardened for decades, and its time and memory follow from its header.
    """
    if not is_jpeg(data) or len(data) > recipe.max_bytes:
        return False
    try:
        header = read_jpeg_header(data)
    except UnreadableError:
        return True  # It is rejected by what was just read, and needs no decoder.
    if not header.is_huffman_8_bit or not header.is_grey_or_colour:
        return False
    if header.icc_profile is not None and not is_srgb(header.icc_profile):
        return False
    return header.has_one_scan or _has_few_scans(data, header)


def _has_few_scans(data: bytes, header: JpegHeader) -> bool:
    pixels, scans = header.width_px * header.height_px, count_scans(data)
    return (
        scans <= _MAX_SCANS_IN_PROCESS
        and pixels <= _MAX_BUFFERED_PIXELS_IN_PROCESS
        and pixels * scans <= _MAX_SCANNED_PIXELS_IN_PROCESS
    )


def open_picture(data: bytes, name: str) -> Picture:
    """Read an image's header.

    Args:
        data: The file.
        name: What `sniff_format` says it is.

    Raises:
        UnreadableError: If the header cannot be read.
    """
    if name == "jpeg":
        header = read_jpeg_header(data)
        if header.is_grey_or_colour:
            return JpegPicture(data, header)
    return PillowPicture(data, name)


class JpegPicture:
    """A JPEG in grey, YCbCr or RGB."""

    format = "jpeg"
    is_turned_by_decoder = False

    def __init__(self, data: bytes, header: JpegHeader) -> None:
        self._data = data
        self.header = header
        self.width_px = header.width_px
        self.height_px = header.height_px
        self.exif = read_exif(header.exif)
        has_profile = header.icc_profile is not None and not is_srgb(header.icc_profile)
        self._profile = header.icc_profile if has_profile else None

    @property
    def is_standard(self) -> bool:
        """Whether the pixels may stay as they are encoded: upright, sRGB, and told by a JFIF segment."""
        header = self.header
        return self.exif.orientation == 1 and self._profile is None and header.is_jfif and header.is_huffman_8_bit

    def decode(self, edge_px: int) -> Decoded:
        """Decode to a longest edge of at least about `edge_px`; see `Picture.decode`."""
        factor = 1
        while factor < 8 and max(self.width_px, self.height_px) / (2 * factor) >= NEAR_ENOUGH * edge_px:
            factor *= 2
        warning = None
        try:
            pixels = self._decode(self._data, factor)
        except ValueError as error:
            warning = str(error)
            pixels = self._decode_despite(warning, factor)
        if self._profile is not None:
            pixels, remark = _convert_pixels(pixels, self._profile, is_grey=len(self.header.component_ids) == 1)
            warning = warning or remark
        upright = _TURNS[self.exif.orientation](pixels)
        return Decoded(upright, self.exif, warning and warning[:_MAX_WARNING])

    def _decode_despite(self, warning: str, factor: int) -> Pixels:
        """Decode what a warning was about, if every pixel is right all the same."""
        is_about_metadata = any(words in warning.lower() for words in _ABOUT_METADATA)
        try:
            if is_about_metadata and self.header.is_jfif:
                return self._decode(strip_metadata(self._data) or self._data, factor)
            if _has_harmless_end(self._data, warning):
                return self._decode(self._data, factor, strict=False)
        except ValueError as error:
            raise UnreadableError(_name_jpeg_failure(str(error))) from error
        raise UnreadableError(_name_jpeg_failure(warning))

    def _decode(self, data: bytes, factor: int, *, strict: bool = True) -> Pixels:
        pixels: Pixels = simplejpeg.decode_jpeg(
            data,
            colorspace="RGB",
            min_height=-(-self.height_px // factor) if factor > 1 else 0,
            min_width=-(-self.width_px // factor) if factor > 1 else 0,
            min_factor=1,
            strict=strict,
        )
        return pixels


def _has_harmless_end(data: bytes, warning: str) -> bool:
    """Tell whether a warning is about nothing but a few bytes, or any number of zeros, before the end of the image."""
    found = _STRAY_BYTES.search(warning)
    if found is None:
        return False
    count, end = int(found[1]), data.rfind(b"\xff\xd9")
    return count <= _MAX_STRAY_BYTES or data.count(0, end - count, end) == count <= end


def _name_jpeg_failure(message: str) -> str:
    lowered = message.lower()
    if "premature end of jpeg" in lowered:
        return "truncated"
    # Unusual sampling, and a height that stands behind the pixels, are valid JPEG that this decoder does not know.
    foreign = ("unsupported", "not implemented", "could not determine subsampling")
    return "unsupported" if any(words in lowered for words in foreign) else "corrupt"


class PillowPicture:
    """Any other format, and JPEG that is sampled in an unusual way or in CMYK: the first frame."""

    is_standard = False

    def __init__(self, data: bytes, name: str) -> None:
        self._data = data
        self.format = name
        self.is_turned_by_decoder = name in {"heic", "tiff"}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = self._open()
            self.width_px, self.height_px = image.size
            self.exif = self._read_exif(image)

    def _open(self) -> Image.Image:
        if self.format == "heic":
            _learn_heic()
        try:
            return Image.open(io.BytesIO(self._data), formats=_PILLOW_NAMES[self.format])
        except Image.DecompressionBombError as error:
            raise UnreadableError("too_large") from error
        except _DECODER_ERRORS as error:
            raise UnreadableError(_name_pillow_failure(error)) from error

    def _read_exif(self, image: Image.Image) -> ExifFacts:
        if self.format == "tiff":
            return read_exif(self._data)
        block = image.info.get("exif")
        return read_exif(block.removeprefix(b"Exif\0\0") if isinstance(block, bytes) else None)

    def decode(self, edge_px: int) -> Decoded:
        """Decode to a longest edge of at least about `edge_px`; see `Picture.decode`."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = self._open()
            try:
                flat = _flatten(self._read_rows(image), image, edge_px)
            except MemoryError as error:
                raise UnreadableError("too_large") from error
            except _DECODER_ERRORS as error:
                raise UnreadableError(_name_pillow_failure(error)) from error
        remarks = [str(warning.message) for warning in caught]
        exif = self._read_exif(image)
        profile = image.info.get("icc_profile")
        if isinstance(profile, bytes) and profile and not is_srgb(profile):
            flat, remark = _convert_colours(flat, profile)
            remarks += [remark] if remark else []
        pixels: Pixels = np.asarray(flat if flat.mode == "RGB" else flat.convert("RGB"))
        upright = pixels if self.is_turned_by_decoder else _TURNS[exif.orientation](pixels)
        return Decoded(upright, exif, remarks[0][:_MAX_WARNING] if remarks else None)

    def _read_rows(self, image: Image.Image) -> Rows:
        """Decode, by another reader where Pillow's would hold the image several times."""
        if self.format == "heic":
            return _read_heic(self._data)
        if self.format == "webp" and not getattr(image, "is_animated", False):
            return _read_webp(self._data)
        image.load()
        return lambda top, bottom: image.crop((0, top, image.width, bottom))


def _read_heic(data: bytes) -> Rows:
    from pi_heif import open_heif

    heif = open_heif(io.BytesIO(data))
    # The array lives in memory that goes with `heif`, so it must not outlive a call.
    return lambda top, bottom: Image.fromarray(np.asarray(heif)[top:bottom])


def _read_webp(data: bytes) -> Rows:
    try:
        stored = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise UnreadableError("too_large" if error.code == cv2.Error.StsNoMem else "corrupt") from error
    if stored is None:
        raise UnreadableError("corrupt")
    order = cv2.COLOR_BGRA2RGBA if stored.shape[2] == 4 else cv2.COLOR_BGR2RGB
    return lambda top, bottom: Image.fromarray(cv2.cvtColor(stored[top:bottom], order))


@cache
def _learn_heic() -> None:
    """Teach Pillow to read HEIC."""
    from pi_heif import register_heif_opener

    # An iPhone's file holds the picture again in small, and depth maps: none of them is wanted.
    register_heif_opener(thumbnails=False, depth_images=False, aux_images=False, decode_threads=1)


def _name_pillow_failure(error: Exception) -> str:
    """Return the failure that Pillow means; its classes of errors do not tell, its words do."""
    message = str(error).lower()
    if "truncated" in message or "end of file" in message or "unexpected eof" in message:
        return "truncated"
    is_foreign = isinstance(error, NotImplementedError) or "unsupported" in message or "not supported" in message
    return "unsupported" if is_foreign else "corrupt"


def _flatten(rows: Rows, image: Image.Image, edge_px: int) -> Image.Image:
    """Return a small enough image in grey, RGB or CMYK, with what is transparent in it white.

    A strip of rows at a time, so that no large image is held twice.
    """
    width, height = image.size
    factor = 1
    while max(width, height) / (2 * factor) >= NEAR_ENOUGH * edge_px:
        factor *= 2
    step = _STRIP_ROWS * factor
    first = _flatten_strip(rows(0, min(step, height)), factor)
    if height <= step:
        return first
    whole = Image.new(first.mode, (first.width, -(-height // factor)))
    whole.paste(first)
    for top in range(step, height, step):
        whole.paste(_flatten_strip(rows(top, min(top + step, height)), factor), (0, top // factor))
    return whole


def _flatten_strip(image: Image.Image, factor: int) -> Image.Image:
    is_grey = image.mode in {"1", "L", "LA", "La"} or image.mode.startswith("I;16")
    if image.mode.startswith("I;16"):
        # Pillow would cut 16-bit grey off at 255, which is nearly white everywhere.
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    elif image.mode in {"I", "F"}:
        raise UnreadableError("unsupported")
    has_alpha = image.mode in {"RGBA", "LA", "PA", "RGBa", "La"} or "transparency" in image.info
    if has_alpha:
        image = image.convert("LA" if is_grey else "RGBA")
    elif image.mode not in {"L", "RGB", "CMYK"}:
        image = image.convert("L" if is_grey else "RGB")
    if factor > 1:
        image = image.reduce(factor)
    if has_alpha:
        white = Image.new("L" if is_grey else "RGB", image.size, "white")
        white.paste(image, mask=image.getchannel("A"))
        return white
    return image


def _convert_colours(image: Image.Image, profile: bytes) -> tuple[Image.Image, str | None]:
    """Convert to sRGB; with a remark and unchanged where the profile cannot be used."""
    if image.mode == "L" and profile[16:20] != b"GRAY":
        image = image.convert("RGB")
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        intent = ImageCms.Intent.RELATIVE_COLORIMETRIC
        converted = ImageCms.profileToProfile(image, source, _make_srgb(), intent, outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return image, "The colour profile cannot be used."
    return (image, None) if converted is None else (converted, None)


def _convert_pixels(pixels: Pixels, profile: bytes, *, is_grey: bool) -> tuple[Pixels, str | None]:
    image = Image.fromarray(np.ascontiguousarray(pixels[..., 0]) if is_grey else pixels)
    converted, remark = _convert_colours(image, profile)
    return np.asarray(converted.convert("RGB")), remark


@cache
def _make_srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
