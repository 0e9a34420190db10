"""Small sound images of every format and variety that is read, made in code, the same ones each time."""

import io
from collections.abc import Callable

import numpy as np
import pillow_heif
from PIL import Image, ImageCms

from lakehouse.measures import Pixels

WIDTH_PX, HEIGHT_PX = 96, 72


def make_pixels(width_px: int = WIDTH_PX, height_px: int = HEIGHT_PX) -> Pixels:
    """Return a colourful picture with edges and some noise, height x width x 3."""
    rows, columns = np.mgrid[0:height_px, 0:width_px]
    noise = np.random.default_rng(3).integers(-8, 9, (height_px, width_px))
    red = 255 * columns / width_px
    green = 255 * rows / height_px
    blue = 128 + 100 * np.sign(np.sin(rows / 7) * np.sin(columns / 5))
    return np.clip(np.stack([red, green, blue], axis=2) + noise[..., np.newaxis], 0, 255).astype(np.uint8)


def make_image(width_px: int = WIDTH_PX, height_px: int = HEIGHT_PX) -> Image.Image:
    """Return the same as an image."""
    return Image.fromarray(make_pixels(width_px, height_px))


def encode(image: Image.Image, name: str, **options: object) -> bytes:
    """Encode with Pillow, `name` being its name of the format."""
    stream = io.BytesIO()
    image.save(stream, name, **options)
    return stream.getvalue()


def encode_heic(image: Image.Image) -> bytes:
    """Encode as HEIC."""
    stream = io.BytesIO()
    pillow_heif.from_pillow(image).save(stream, quality=60)
    return stream.getvalue()


def make_exif() -> bytes:
    """Return an EXIF block with orientation, time, camera and a position."""
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010F], exif[0x0110] = "Farm", "Camera 1"
    exif.get_ifd(0x8769)[0x9003] = "2026:05:04 03:02:01"
    exif.get_ifd(0x8825).update({1: "N", 2: (52.0, 30.0, 0.0), 3: "E", 4: (13.0, 24.0, 0.0)})
    return exif.tobytes()


def make_profile() -> bytes:
    """Return an ICC profile in which sRGB's red and green have changed places."""
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return srgb.replace(b"rXYZ", b"    ").replace(b"gXYZ", b"rXYZ").replace(b"    ", b"gXYZ")


def _make_rgba() -> Image.Image:
    image = make_image().convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    return image


def _make_grey_16_bit() -> Image.Image:
    return Image.fromarray(make_pixels()[..., 0].astype(np.uint16) * 257)


def _make_frames() -> list[Image.Image]:
    return [make_image().rotate(angle) for angle in (0, 90, 180)]


def _encode_frames(name: str, **options: object) -> bytes:
    first, *others = _make_frames()
    return encode(first, name, save_all=True, append_images=others, **options)


SEEDS: dict[str, Callable[[], bytes]] = {
    "jpeg": lambda: encode(make_image(), "JPEG", quality=80),
    "jpeg_with_exif_and_profile": lambda: encode(make_image(), "JPEG", exif=make_exif(), icc_profile=make_profile()),
    "jpeg_progressive": lambda: encode(make_image(), "JPEG", progressive=True),
    "jpeg_grey": lambda: encode(make_image().convert("L"), "JPEG"),
    "jpeg_cmyk": lambda: encode(make_image().convert("CMYK"), "JPEG"),
    "jpeg_restarts": lambda: encode(make_image(), "JPEG", restart_marker_blocks=2),
    "mpo": lambda: _encode_frames("MPO"),
    "png": lambda: encode(make_image(), "PNG", exif=make_exif()),
    "png_palette": lambda: encode(make_image().quantize(64), "PNG", transparency=3),
    "png_alpha": lambda: encode(_make_rgba(), "PNG"),
    "png_16_bit": lambda: encode(_make_grey_16_bit(), "PNG"),
    "png_1_bit": lambda: encode(make_image().convert("1"), "PNG"),
    "webp": lambda: encode(make_image(), "WEBP", exif=make_exif()),
    "webp_lossless_alpha": lambda: encode(_make_rgba(), "WEBP", lossless=True),
    "webp_animated": lambda: _encode_frames("WEBP", quality=50),
    "tiff": lambda: encode(make_image(), "TIFF", exif=make_exif()),
    "tiff_lzw": lambda: encode(make_image(), "TIFF", compression="tiff_lzw"),
    "tiff_deflate": lambda: encode(make_image(), "TIFF", compression="tiff_adobe_deflate"),
    "tiff_jpeg": lambda: encode(make_image(), "TIFF", compression="jpeg"),
    "tiff_fax": lambda: encode(make_image().convert("1"), "TIFF", compression="group4"),
    "tiff_pages": lambda: _encode_frames("TIFF"),
    "tiff_big": lambda: encode(make_image(), "TIFF", big_tiff=True),
    "gif": lambda: encode(make_image().quantize(64), "GIF"),
    "gif_animated": lambda: _encode_frames("GIF"),
    "bmp": lambda: encode(make_image(), "BMP"),
    "bmp_palette": lambda: encode(make_image().quantize(16), "BMP"),
    "heic": lambda: encode_heic(make_image()),
    "avif": lambda: encode(make_image(), "AVIF", exif=make_exif()),
}
"""How to make each, by name."""
