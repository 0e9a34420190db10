"""What the image model sees in standard images, computed once and kept as objects.

A feature file is 2,280 little-endian float32: 1,000 logits, then the 1,280-wide embedding. Its key names the standard
image and the model's version, so neither another picture nor another model ever reads it.
"""

from collections.abc import Callable
from pathlib import PurePosixPath

import numpy as np

from adapters.models import ImageFeatures, ImageModel
from adapters.objects import Objects
from lakehouse.errors import NotFoundError

_LOGITS = 1000
_FLOAT = np.dtype("<f4")


class FeatureStore:
    """Reads features, and computes those that are missing.

    Args:
        objects: Where standard images and feature files live.
        open_model: Opens the image model; called at the first image whose features are missing.
    """

    def __init__(self, objects: Objects, open_model: Callable[[], ImageModel]) -> None:
        self._objects = objects
        self._open_model = open_model

    def read(self, standard_key: str) -> ImageFeatures:
        """Return the features of one standard image: logits `[1, 1000]` and embedding `[1, 1280]`."""
        name = PurePosixPath(standard_key).stem
        key = f"staging/features/{ImageModel.name}-{ImageModel.version}/{name[:2]}/{name}.f32"
        try:
            values = np.frombuffer(self._objects.read(key), _FLOAT)
        except NotFoundError:
            features = self._open_model().embed_and_classify([self._objects.read(standard_key)])
            values = np.concatenate([features.logits[0], features.embeddings[0]]).astype(_FLOAT)
            self._objects.create(key, values.tobytes())
        return ImageFeatures(values[None, :_LOGITS], values[None, _LOGITS:])
