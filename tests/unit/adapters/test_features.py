from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from adapters.features import FeatureStore
from adapters.models import ImageFeatures, ImageModel
from adapters.objects import Objects
from lakehouse.errors import NotFoundError

KEY = f"staging/standard/ab/{'ab' * 32}-0123456789ab.jpg"


class CountingModel:
    """Sees in each picture numbers that follow from its bytes, and counts how often it looked."""

    def __init__(self) -> None:
        self.looked = 0

    def embed_and_classify(self, images: Sequence[bytes]) -> ImageFeatures:
        self.looked += len(images)
        rows = [np.random.default_rng(list(image)).normal(size=2280).astype(np.float32) for image in images]
        return ImageFeatures(np.stack(rows)[:, :1000], np.stack(rows)[:, 1000:])


@pytest.fixture
def objects(tmp_path: Path) -> Objects:
    opened = Objects.in_folder(tmp_path)
    opened.create(KEY, b"a picture")
    return opened


def make_store(objects: Objects, model: CountingModel) -> FeatureStore:
    return FeatureStore(objects, lambda: cast("ImageModel", model))


def test_features_are_computed_once_and_read_back_the_same(objects: Objects) -> None:
    model = CountingModel()
    first = make_store(objects, model).read(KEY)
    again = make_store(objects, model).read(KEY)
    assert model.looked == 1
    assert first.logits.shape == (1, 1000)
    assert first.embeddings.shape == (1, 1280)
    np.testing.assert_array_equal(first.logits, again.logits)
    np.testing.assert_array_equal(first.embeddings, again.embeddings)
    np.testing.assert_array_equal(first.logits, model.embed_and_classify([b"a picture"]).logits)


def test_no_model_is_opened_where_all_features_are_known(objects: Objects) -> None:
    make_store(objects, CountingModel()).read(KEY)

    def fail() -> ImageModel:
        raise AssertionError("the model was opened")

    assert FeatureStore(objects, fail).read(KEY).logits.shape == (1, 1000)


def test_another_picture_of_the_image_has_features_of_its_own(objects: Objects) -> None:
    other = KEY.replace("0123456789ab", "ba9876543210")
    objects.create(other, b"another picture")
    model = CountingModel()
    store = make_store(objects, model)
    assert not np.array_equal(store.read(KEY).logits, store.read(other).logits)
    assert model.looked == 2


def test_features_lie_in_staging_below_the_models_name_and_version(objects: Objects) -> None:
    make_store(objects, CountingModel()).read(KEY)
    (fact,) = objects.list("staging/features/")
    assert fact.key == f"staging/features/{ImageModel.name}-{ImageModel.version}/ab/{Path(KEY).stem}.f32"
    assert fact.size_bytes == 4 * 2280


def test_a_picture_that_is_not_there_is_not_found(objects: Objects) -> None:
    with pytest.raises(NotFoundError, match=r"nothing\.jpg"):
        make_store(objects, CountingModel()).read("staging/standard/no/nothing.jpg")
