"""Cleansing: from the bytes of one image to its facts, measures, fingerprints, standard image and thumbnail.

One pass: the image is decoded once, at a power-of-two fraction of its size, and everything is made from that. The bytes
decide what a file is, never its name. Whatever is wrong with an image becomes a failure or a measure; the verdict on
both is `lakehouse.quality`'s. What is written carries no metadata: it is encoded from pixels, or is the file itself
without anything but what its pixels need.
"""

from dataclasses import asdict, dataclass, replace
from datetime import datetime

import numpy as np
import simplejpeg

from lakehouse.decoding import Picture, is_plain_jpeg, open_picture, sniff_format
from lakehouse.exif import ExifFacts, encode_geohash
from lakehouse.jpeg import strip_metadata
from lakehouse.measures import CANONICAL_EDGE_PX, Pixels, fit, measure
from lakehouse.quality import CleansingRecipe, UnreadableError

__all__ = ["CleansedImage", "cleanse_image", "is_plain_jpeg"]

_THUMBNAIL_QUALITY = 80
_MAX_BYTES_PER_PIXEL = 3
_MAX_TABLES_BYTES = 4_096
"""What an image in JPEG may take to be kept as it is: more than its plain pixels is padding."""


@dataclass(frozen=True)
class CleansedImage:
    """What cleansing finds out and makes of one image; None is what could not be found out.

    Attributes:
        failure: Why the image could not be read, one of `lakehouse.quality.FAILURES`.
        format: What the bytes are.
        width_px: Width of the original, upright.
        height_px: Height of the original, upright.
        orientation: EXIF orientation that was applied, 1 to 8.
        captured_at_local: When it was taken, by the camera's clock.
        captured_utc_offset_min: Minutes by which that clock is ahead of UTC, where the camera says so.
        camera_make: Who made the camera.
        camera_model: Which camera.
        has_location: Whether the original says where it was taken.
        geohash: Where that was, coarsely, if the recipe keeps it.
        decoder_warning: What the decoder remarked, though every pixel could be read.
        brightness_mean: See `lakehouse.measures.Measures`, also for what follows up to the hashes.
        contrast_std: Standard deviation of luma.
        entropy_bits: Entropy of luma.
        saturation_mean: Mean saturation.
        edge_sharpness: How steep edges are.
        detail_brightness: How bright details are.
        burnt_share: How much is burnt out.
        perceptual_hash: By which near duplicates are searched.
        detail_hash: By which they are told from others.
        strength_hash: The same.
        standard_width_px: Width of the standard image.
        standard_height_px: Its height.
        standard_jpeg: The standard image.
        thumbnail_jpeg: The thumbnail.
    """

    failure: str | None = None
    format: str | None = None
    width_px: int | None = None
    height_px: int | None = None
    orientation: int | None = None
    captured_at_local: datetime | None = None
    captured_utc_offset_min: int | None = None
    camera_make: str | None = None
    camera_model: str | None = None
    has_location: bool | None = None
    geohash: str | None = None
    decoder_warning: str | None = None
    brightness_mean: float | None = None
    contrast_std: float | None = None
    entropy_bits: float | None = None
    saturation_mean: float | None = None
    edge_sharpness: float | None = None
    detail_brightness: float | None = None
    burnt_share: float | None = None
    perceptual_hash: int | None = None
    detail_hash: int | None = None
    strength_hash: int | None = None
    standard_width_px: int | None = None
    standard_height_px: int | None = None
    standard_jpeg: bytes | None = None
    thumbnail_jpeg: bytes | None = None

    def without_pictures(self) -> "CleansedImage":
        """Return the facts alone, so that a batch keeps no pictures in memory once they are written."""
        return replace(self, standard_jpeg=None, thumbnail_jpeg=None)


def cleanse_image(data: bytes, recipe: CleansingRecipe) -> CleansedImage:
    """Find out all about one image and make its standard image and thumbnail.

    Args:
        data: The bytes as they landed, whatever they are. Unless `is_plain_jpeg` says that they are safe, a decoder may
            hang on them or end the process: call this where that may happen.
        recipe: Limits and sizes.

    Returns:
        The facts; with a failure and without pictures where the image could not be read. No content of `data` raises.
    """
    return _cleanse(data, recipe, is_standard_wanted=True)


def measure_image(data: bytes, recipe: CleansingRecipe) -> CleansedImage:
    """Find out all about one image as `cleanse_image` does, with a thumbnail and without a standard image."""
    return _cleanse(data, recipe, is_standard_wanted=False)


def _cleanse(data: bytes, recipe: CleansingRecipe, *, is_standard_wanted: bool) -> CleansedImage:
    facts = CleansedImage(format=sniff_format(data))
    try:
        picture = _open(data, facts.format, recipe)
        facts = _describe(picture, picture.exif, recipe)
        if picture.width_px * picture.height_px > recipe.max_pixels:
            return replace(facts, failure="too_large")
        if not is_standard_wanted or _is_standard(picture, recipe):
            return _keep(data, picture, recipe, is_standard_wanted=is_standard_wanted)
        return _remake(picture, recipe)
    except UnreadableError as error:
        return replace(facts, failure=str(error))


def _open(data: bytes, name: str | None, recipe: CleansingRecipe) -> Picture:
    if not data:
        raise UnreadableError("empty")
    if len(data) > recipe.max_bytes:
        raise UnreadableError("too_large")
    if name is None:
        raise UnreadableError("not_an_image")
    return open_picture(data, name)


def _describe(picture: Picture, exif: ExifFacts, recipe: CleansingRecipe) -> CleansedImage:
    is_turned = exif.orientation >= 5 and not picture.is_turned_by_decoder
    width, height = picture.width_px, picture.height_px
    geohash = None
    if exif.latitude is not None and exif.longitude is not None and recipe.geohash_length:
        geohash = encode_geohash(exif.latitude, exif.longitude, recipe.geohash_length)
    return CleansedImage(
        format=picture.format,
        width_px=height if is_turned else width,
        height_px=width if is_turned else height,
        orientation=exif.orientation,
        captured_at_local=exif.captured_at_local,
        captured_utc_offset_min=exif.captured_utc_offset_min,
        camera_make=exif.camera_make,
        camera_model=exif.camera_model,
        has_location=exif.latitude is not None,
        geohash=geohash,
    )


def _is_standard(picture: Picture, recipe: CleansingRecipe) -> bool:
    return picture.is_standard and max(picture.width_px, picture.height_px) <= recipe.standard_edge_px


def _keep(data: bytes, picture: Picture, recipe: CleansingRecipe, *, is_standard_wanted: bool) -> CleansedImage:
    """Measure a small copy; the standard image, if wanted, is the file itself without its metadata."""
    decoded = picture.decode(CANONICAL_EDGE_PX)
    facts = _describe(picture, decoded.exif, recipe)
    if not is_standard_wanted:
        return _measure(facts, decoded.pixels, decoded.warning)
    stripped = strip_metadata(data) if decoded.warning is None else None
    if (
        stripped is None
        or len(stripped) > _MAX_BYTES_PER_PIXEL * picture.width_px * picture.height_px + _MAX_TABLES_BYTES
    ):
        return _remake(picture, recipe)
    measured = _measure(facts, decoded.pixels, None)
    return replace(
        measured,
        standard_jpeg=stripped,
        standard_width_px=picture.width_px,
        standard_height_px=picture.height_px,
    )


def _remake(picture: Picture, recipe: CleansingRecipe) -> CleansedImage:
    """Make the standard image anew and measure that."""
    decoded = picture.decode(recipe.standard_edge_px)
    standard = fit(decoded.pixels, recipe.standard_edge_px)
    measured = _measure(_describe(picture, decoded.exif, recipe), standard, decoded.warning)
    return replace(
        measured,
        standard_jpeg=_encode(standard, recipe.standard_quality),
        standard_width_px=standard.shape[1],
        standard_height_px=standard.shape[0],
    )


def _measure(facts: CleansedImage, upright: Pixels, warning: str | None) -> CleansedImage:
    measures, thumbnail = measure(upright)
    return replace(
        facts, decoder_warning=warning, thumbnail_jpeg=_encode(thumbnail, _THUMBNAIL_QUALITY), **asdict(measures)
    )


def _encode(pixels: Pixels, quality: int) -> bytes:
    encoded: bytes = simplejpeg.encode_jpeg(
        np.ascontiguousarray(pixels), quality=quality, colorspace="RGB", colorsubsampling="420"
    )
    return encoded
