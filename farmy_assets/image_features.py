"""What the image model sees in standard images, read side by side. Computing and keeping it is `adapters.features`."""

from collections.abc import Iterable
from functools import partial

from adapters.lake import Lake
from adapters.models import ImageFeatures


def read_features(lake: Lake, standard_keys: Iterable[str]) -> list[ImageFeatures]:
    """Return the features of standard images, in their order."""
    return list(lake.compute.map(partial(_read_one, lake), standard_keys))


def _read_one(lake: Lake, standard_key: str) -> ImageFeatures:
    return lake.features.read(standard_key)
