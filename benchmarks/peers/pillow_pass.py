"""What Pillow takes for a folder of JPEGs: `decode` alone, or `cleanse`, the cleansing that one would write first.

Prints JSON: the time of a pass over the folder after another over two of the images.
"""

import io
import json
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from PIL import Image, ImageFilter, ImageOps, ImageStat


def decode(data: bytes) -> None:
    """Decode to pixels."""
    Image.open(io.BytesIO(data)).load()


def cleanse(data: bytes) -> tuple[bytes, bytes, tuple[float, ...]]:
    """Return a standard image of 2,048 px, a thumbnail of 256 px, and brightness, contrast, entropy and blur."""
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    if max(image.size) > 2048:
        image = ImageOps.contain(image, (2048, 2048), Image.Resampling.LANCZOS)
    thumbnail = ImageOps.contain(image, (256, 256), Image.Resampling.LANCZOS)
    luma = ImageOps.contain(image, (512, 512), Image.Resampling.LANCZOS).convert("L")
    light, edges = ImageStat.Stat(luma), ImageStat.Stat(luma.filter(ImageFilter.FIND_EDGES))
    measures = (light.mean[0], light.stddev[0], luma.entropy(), edges.var[0])
    return encode(image, 85), encode(thumbnail, 80), measures


def encode(image: Image.Image, quality: int) -> bytes:
    """Return a JPEG without metadata."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def measure(folder: Path, work: Callable[[bytes], object]) -> dict[str, float | str]:
    """Return processor and clock seconds per image."""
    paths = sorted(folder.iterdir())
    for path in paths[:2]:
        work(path.read_bytes())
    cpu, wall = time.process_time(), time.perf_counter()
    for path in paths:
        work(path.read_bytes())
    return {
        "cpu_s": (time.process_time() - cpu) / len(paths),
        "wall_s": (time.perf_counter() - wall) / len(paths),
        "version": version("pillow"),
    }


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]), {"decode": decode, "cleanse": cleanse}[sys.argv[2]])))
