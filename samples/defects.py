"""Encode a scene as the file that a phone or a scraper would land, whole or spoilt in one of the known ways.

Only bytes are made here: which file gets which defect, and when it lands, is decided in `samples.landing`.
"""

import io
import random
from datetime import datetime

from PIL import ExifTags, Image, ImageFilter

_QUALITY = 88
_CAMERAS = (("Fieldcam", "F3"), ("Fieldcam", "F5 Pro"), ("Pomona", "One"))

# EXIF orientation to the turn that a phone held so has stored: the inverse of the turn that shows it upright.
_STORED_TURNS = {
    3: Image.Transpose.ROTATE_180,
    6: Image.Transpose.ROTATE_90,
    8: Image.Transpose.ROTATE_270,
}


def encode_jpeg(image: Image.Image, exif: Image.Exif | None = None, quality: int = _QUALITY) -> bytes:
    """Return the image as a baseline JPEG."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality, exif=(exif or Image.Exif()).tobytes())
    return buffer.getvalue()


def encode_png(image: Image.Image) -> bytes:
    """Return the image as PNG, at half its width and height: a lossless photograph is large."""
    buffer = io.BytesIO()
    image.reduce(2).save(buffer, "PNG", compress_level=6)
    return buffer.getvalue()


def make_camera_exif(captured_at: datetime, rng: random.Random) -> Image.Exif:
    """Return what a phone writes into every photograph: its make, its model and the time."""
    exif = Image.Exif()
    exif[ExifTags.Base.Make], exif[ExifTags.Base.Model] = rng.choice(_CAMERAS)
    exif[ExifTags.Base.DateTime] = f"{captured_at:%Y:%m:%d %H:%M:%S}"
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = f"{captured_at:%Y:%m:%d %H:%M:%S}"
    return exif


def add_position(exif: Image.Exif, rng: random.Random) -> None:
    """Write a GPS position, somewhere in the fields around 52° north, 5° east, into the EXIF block."""
    exif.get_ifd(ExifTags.IFD.GPSInfo).update(
        {
            ExifTags.GPS.GPSLatitudeRef: "N",
            ExifTags.GPS.GPSLatitude: (52.0, float(rng.randint(0, 59)), float(rng.randint(0, 59))),
            ExifTags.GPS.GPSLongitudeRef: "E",
            ExifTags.GPS.GPSLongitude: (5.0, float(rng.randint(0, 59)), float(rng.randint(0, 59))),
        }
    )


def store_turned(image: Image.Image, exif: Image.Exif, rng: random.Random) -> Image.Image:
    """Return the pixels as a turned phone stores them; what sets them upright is written into `exif`."""
    orientation = rng.choice(sorted(_STORED_TURNS))
    exif[ExifTags.Base.Orientation] = orientation
    return image.transpose(_STORED_TURNS[orientation])


def blur(image: Image.Image, rng: random.Random) -> Image.Image:
    """Return the image so far out of focus that nobody can use it."""
    return image.filter(ImageFilter.GaussianBlur(rng.uniform(13, 18)))


def darken(image: Image.Image, rng: random.Random) -> Image.Image:
    """Return the image so underexposed that its mean luma is below 25 of 255."""
    gain = rng.uniform(0.05, 0.09)
    return image.point([round(value * gain) for value in range(256)] * 3)


def resize_jpeg(data: bytes, rng: random.Random) -> tuple[bytes, float, float]:
    """Return the picture at 45 to 75 % of its size, as a thumbnail service does, and its scale across and down."""
    scale = rng.uniform(0.45, 0.75)
    with Image.open(io.BytesIO(data)) as image:
        width, height = round(image.width * scale), round(image.height * scale)
        smaller = image.resize((width, height), Image.Resampling.LANCZOS)
        return encode_jpeg(smaller), width / image.width, height / image.height


def recompress_jpeg(data: bytes, rng: random.Random) -> bytes:
    """Return the picture encoded again at a lower quality, as a chat service does it."""
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        return encode_jpeg(image, quality=rng.randint(62, 78))


def truncate(data: bytes, rng: random.Random) -> bytes:
    """Return the beginning of a file whose upload broke off half-way."""
    return data[: round(len(data) * rng.uniform(0.3, 0.6))]


def make_error_page(number: int) -> bytes:
    """Return the page that a web server sends in place of a picture that is gone."""
    return (
        "<!DOCTYPE html>\n<html><head><title>404 Not Found</title></head>\n"
        f"<body><h1>Not Found</h1><p>Picture {number} has moved or was deleted.</p></body></html>\n"
    ).encode()
