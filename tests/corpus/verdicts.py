"""What must hold of every verdict, whatever the file was."""

import struct

import simplejpeg

from lakehouse.cleansing import CleansedImage
from lakehouse.measures import THUMBNAIL_EDGE_PX
from lakehouse.quality import FAILURES, CleansingRecipe
from tests.unit.lakehouse.image_files import APP0, DHT, DQT, DRI, SOF0, SOF2, SOS, read_jpeg

_FRAMES = {SOF0, 0xC1, SOF2}
_ALLOWED = _FRAMES | {APP0, DHT, DQT, DRI, SOS}
_JFIF = b"JFIF\0\1\1\0\0\1\0\1\0\0"


def check_verdict(image: CleansedImage, recipe: CleansingRecipe) -> None:
    """Assert that there is either a failure or two sound pictures within the limits that carry nothing but pixels."""
    for text in (image.camera_make, image.camera_model, image.decoder_warning, image.geohash):
        assert len((text or "").encode()) < 1_000
    if image.failure is not None:
        assert image.failure in FAILURES
        assert (image.standard_jpeg, image.thumbnail_jpeg) == (None, None)
        return
    assert image.width_px is not None
    assert image.height_px is not None
    assert 0 < image.width_px * image.height_px <= recipe.max_pixels
    standard_size = _check_picture(image.standard_jpeg, recipe.standard_edge_px)
    assert standard_size == (image.standard_width_px, image.standard_height_px)
    _check_picture(image.thumbnail_jpeg, THUMBNAIL_EDGE_PX)


def _check_picture(jpeg: bytes | None, edge_px: int) -> tuple[int, int]:
    assert jpeg is not None
    segments = read_jpeg(jpeg)
    assert {segment.marker for segment in segments} <= _ALLOWED
    assert [segment.body for segment in segments if segment.marker == APP0] == [_JFIF]
    (frame,) = [segment.body for segment in segments if segment.marker in _FRAMES]
    height, width = struct.unpack_from(">HH", frame, 1)
    assert max(width, height) <= edge_px
    assert simplejpeg.decode_jpeg(jpeg, strict=True).shape == (height, width, 3)
    return width, height
