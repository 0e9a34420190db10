"""Cleansing: from the bytes of one image to its verdict, measures, fingerprints, standard image and thumbnail.

The bytes decide what a file is, never its name. Whatever is wrong with an image becomes a verdict with a reason;
what is written carries no metadata, because only pixels are written.
"""

import io
import struct
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image, UnidentifiedImageError

from lakehouse.perceptual_hash import hash_luma
from lakehouse.quality import CLEAN, REJECTED, SUSPECT, CleansingSettings

FORMATS = {"JPEG": "jpeg", "MPO": "jpeg", "PNG": "png", "WEBP": "webp", "TIFF": "tiff", "GIF": "gif", "BMP": "bmp"}
"""What Pillow calls the formats that are accepted, and what the tables call them."""
_READERS = tuple(name for name in FORMATS if name != "MPO")  # which Pillow's reader of JPEG finds out by itself

_EXIF_ORIENTATION = 0x0112
_EXIF_GPS = 0x8825
_MEASURED_EDGE_PX = 512
_THUMBNAIL_EDGE_PX = 256
_NEAR_ENOUGH = 0.97
"""A power-of-two decode of at least this share of the wanted size is kept: resizing costs more than it gives."""

Pixels = npt.NDArray[np.uint8]

_TURNS: dict[int, Callable[[Pixels], Pixels]] = {
    1: lambda pixels: pixels,
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.transpose(1, 0, 2),
    6: lambda pixels: np.rot90(pixels, 3),
    7: lambda pixels: np.rot90(pixels, 2).transpose(1, 0, 2),
    8: lambda pixels: np.rot90(pixels, 1),
}
"""By EXIF orientation (Exif 2.3, tag 0x0112): what makes the stored pixels upright."""


@dataclass(frozen=True)
class Verdict:
    """What cleansing says of one image; the measures are None where the image could not be read.

    Attributes:
        status: `clean`, `suspect` or `rejected`.
        reason: Why it is not clean: `empty`, `not_an_image`, `truncated`, `unreadable`, `too_small`, `too_large`,
            `dark`, `bright` or `blurred`.
        format: What the bytes are.
        width_px: Width of the original, upright.
        height_px: Height of the original, upright.
        orientation: EXIF orientation that was applied, 1 to 8.
        has_location: Whether the original carried a GPS position.
        brightness_mean: Mean luma, 0 to 255.
        contrast_std: Standard deviation of luma, 0 to 127.5.
        blur_variance: Variance of the Laplacian of luma (Pech-Pacheco et al., 2000), on the copy halved until its
            longest edge is under 1,000 px: there it separates blurred from sharp better than at full size.
        perceptual_hash: 64-bit DCT hash as a signed integer.
        standard_jpeg: The standard image; None if rejected.
        standard_width_px: Its width.
        standard_height_px: Its height.
        thumbnail_jpeg: The thumbnail, longest edge 256 px; None if rejected.
    """

    status: str
    reason: str | None = None
    format: str | None = None
    width_px: int | None = None
    height_px: int | None = None
    orientation: int | None = None
    has_location: bool | None = None
    brightness_mean: float | None = None
    contrast_std: float | None = None
    blur_variance: float | None = None
    perceptual_hash: int | None = None
    standard_jpeg: bytes | None = None
    standard_width_px: int | None = None
    standard_height_px: int | None = None
    thumbnail_jpeg: bytes | None = None

    def without_pictures(self) -> "Verdict":
        """Return the verdict alone, so that a batch keeps no pictures in memory once they are written."""
        return replace(self, standard_jpeg=None, thumbnail_jpeg=None)


@dataclass(frozen=True)
class _Header:
    format: str
    stored_width_px: int
    stored_height_px: int
    orientation: int
    has_location: bool
    is_plain_jpeg: bool


class _UnreadableError(Exception):
    """An image that cannot be decoded; its message is the reason. Never leaves this module."""


def cleanse_image(data: bytes, settings: CleansingSettings) -> Verdict:
    """Judge one image and make its standard image and thumbnail.

    Args:
        data: The bytes as they landed, whatever they are.
        settings: Limits and sizes.

    Returns:
        The verdict. No content of `data` raises.
    """
    if not data:
        return Verdict(REJECTED, "empty")
    try:
        header = _read_header(data)
    except _UnreadableError as error:
        return Verdict(REJECTED, str(error))
    verdict = _describe_header(header)
    refusal = _find_refusal(header, settings)
    if refusal is not None:
        return replace(verdict, status=REJECTED, reason=refusal)
    try:
        pixels = _decode(data, header, settings.standard_edge_px)
    except _UnreadableError as error:
        return replace(verdict, status=REJECTED, reason=str(error))
    upright = np.ascontiguousarray(_TURNS[header.orientation](pixels))
    return _measure(replace(verdict, status=CLEAN), upright, settings)


def _read_header(data: bytes) -> _Header:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(data), formats=_READERS)
            # PNG's own `getexif` decodes the whole picture, before anyone has looked at its size.
            exif = Image.Image.getexif(image)
            orientation = exif.get(_EXIF_ORIENTATION, 1)
            return _Header(
                format=FORMATS[str(image.format)],
                stored_width_px=image.width,
                stored_height_px=image.height,
                orientation=orientation if orientation in _TURNS else 1,
                has_location=bool(exif.get_ifd(_EXIF_GPS)),
                is_plain_jpeg=image.format in {"JPEG", "MPO"} and image.mode in {"RGB", "L"},
            )
    except UnidentifiedImageError as error:
        raise _UnreadableError("not_an_image") from error
    except Image.DecompressionBombError as error:
        raise _UnreadableError("too_large") from error
    except _DECODER_ERRORS as error:
        raise _UnreadableError(_name_failure(error)) from error


_DECODER_ERRORS = (
    OSError,
    ValueError,
    SyntaxError,
    TypeError,
    KeyError,
    IndexError,
    EOFError,
    struct.error,
    MemoryError,
)
"""What Pillow's readers raise on hostile bytes: each is a verdict on the image, not an error of ours."""


def _name_failure(error: Exception) -> str:
    return "truncated" if "truncated" in str(error).lower() else "unreadable"


def _describe_header(header: _Header) -> Verdict:
    width, height = header.stored_width_px, header.stored_height_px
    is_turned = header.orientation >= 5
    return Verdict(
        status=CLEAN,
        format=header.format,
        width_px=height if is_turned else width,
        height_px=width if is_turned else height,
        orientation=header.orientation,
        has_location=header.has_location,
    )


def _find_refusal(header: _Header, settings: CleansingSettings) -> str | None:
    if header.stored_width_px * header.stored_height_px > settings.max_pixels:
        return "too_large"
    if min(header.stored_width_px, header.stored_height_px) < settings.min_edge_px:
        return "too_small"
    return None


def _decode(data: bytes, header: _Header, edge_px: int) -> Pixels:
    if header.is_plain_jpeg:
        return _decode_jpeg(data, header, edge_px)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image: Image.Image = Image.open(io.BytesIO(data), formats=_READERS)
            if image.mode.startswith("I;16"):
                # Pillow would cut 16-bit grey off at 255, which is nearly white everywhere.
                image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
            has_alpha = image.mode in {"RGBA", "LA", "PA"} or "transparency" in image.info
            if has_alpha:
                image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
            return np.asarray(image.convert("RGB"))
    except _DECODER_ERRORS as error:
        raise _UnreadableError(_name_failure(error)) from error


def _decode_jpeg(data: bytes, header: _Header, edge_px: int) -> Pixels:
    """Decode a JPEG at the smallest power-of-two fraction that still fills the wanted edge."""
    longest = max(header.stored_width_px, header.stored_height_px)
    factor = 1
    while factor < 8 and longest / (2 * factor) >= _NEAR_ENOUGH * edge_px:
        factor *= 2
    try:
        pixels: Pixels = simplejpeg.decode_jpeg(
            data,
            colorspace="RGB",
            min_height=-(-header.stored_height_px // factor) if factor > 1 else 0,
            min_width=-(-header.stored_width_px // factor) if factor > 1 else 0,
            min_factor=1,
        )
    except ValueError as error:
        is_cut = "premature end" in str(error).lower()
        raise _UnreadableError("truncated" if is_cut else "unreadable") from error
    return pixels


def _measure(verdict: Verdict, upright: Pixels, settings: CleansingSettings) -> Verdict:
    standard = _shrink(upright, settings.standard_edge_px, cv2.INTER_AREA)
    small = _halve_to(standard, _MEASURED_EDGE_PX)
    luma = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
    mean, deviation = (float(value[0, 0]) for value in cv2.meanStdDev(luma))
    blur_variance = float(cv2.meanStdDev(cv2.Laplacian(luma, cv2.CV_16S))[1][0, 0]) ** 2
    thumbnail = _shrink(_halve_to(small, _THUMBNAIL_EDGE_PX), _THUMBNAIL_EDGE_PX, cv2.INTER_LINEAR)
    reason = _find_flaw(mean, blur_variance, settings)
    return replace(
        verdict,
        status=SUSPECT if reason else CLEAN,
        reason=reason,
        brightness_mean=mean,
        contrast_std=deviation,
        blur_variance=blur_variance,
        perceptual_hash=hash_luma(luma),
        standard_jpeg=_encode(standard, settings.standard_quality),
        standard_width_px=standard.shape[1],
        standard_height_px=standard.shape[0],
        thumbnail_jpeg=_encode(thumbnail, 80),
    )


def _find_flaw(brightness_mean: float, blur_variance: float, settings: CleansingSettings) -> str | None:
    if brightness_mean < settings.min_brightness_mean:
        return "dark"
    if brightness_mean > settings.max_brightness_mean:
        return "bright"
    if blur_variance < settings.min_blur_variance:
        return "blurred"
    return None


def _shrink(pixels: Pixels, edge_px: int, interpolation: int) -> Pixels:
    """Return the pixels with the longest edge at most `edge_px`, never enlarged; nearly fitting ones as they are."""
    height, width = pixels.shape[:2]
    scale = edge_px / max(height, width)
    if scale >= _NEAR_ENOUGH:
        return pixels
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    resized: Pixels = cv2.resize(pixels, size, interpolation=interpolation)
    return resized


def _halve_to(pixels: Pixels, edge_px: int) -> Pixels:
    """Halve, which is nearly free, while the longest edge stays at or above the wanted one and no edge vanishes."""
    while max(pixels.shape[:2]) >= 2 * _NEAR_ENOUGH * edge_px and min(pixels.shape[:2]) > 1:
        height, width = pixels.shape[0] // 2, pixels.shape[1] // 2
        pixels = cv2.resize(pixels[: 2 * height, : 2 * width], (width, height), interpolation=cv2.INTER_AREA)
    return pixels


def _encode(pixels: Pixels, quality: int) -> bytes:
    encoded: bytes = simplejpeg.encode_jpeg(
        np.ascontiguousarray(pixels), quality=quality, colorspace="RGB", colorsubsampling="420"
    )
    return encoded
