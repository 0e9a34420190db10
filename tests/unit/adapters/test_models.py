"""The packaged image model, for real, on a photograph of the samples."""

import io
import os
import pickle
import subprocess
import sys
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import simplejpeg
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from adapters import lite0_onnx
from adapters.lite0_onnx import parse_torch_tensors, prepare_lite0_onnx, read_weights
from adapters.models import ImageModel, Pixels, open_image_model, read_imagenet_labels
from lakehouse.errors import ModelFileError, StorageError
from lakehouse.predictions import compute_probabilities, select_top_labels
from samples.catalogue import load_photograph


@pytest.fixture(scope="module")
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def model(cache_folder: Path) -> ImageModel:
    return open_image_model(cache_folder)


@pytest.fixture(scope="module")
def goldfish() -> Pixels:
    return np.asarray(load_photograph("goldfish.webp"))


def make_noise(height: int, width: int, seed: int) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def encode(pixels: Pixels) -> bytes:
    content: bytes = simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), quality=95, colorsubsampling="444")
    return content


def enlarge(pixels: Pixels, factor: int) -> Pixels:
    height, width = pixels.shape[:2]
    return np.asarray(Image.fromarray(pixels).resize((width * factor, height * factor), Image.Resampling.BICUBIC))


def name_best(model: ImageModel, image: bytes | Pixels) -> tuple[str, float]:
    probabilities = compute_probabilities(model.embed_and_classify([image]).logits)
    best = select_top_labels(probabilities, [names[0] for names in model.labels], 1)[0][0]
    return best.label, best.confidence


def test_a_photo_of_a_goldfish_is_called_a_goldfish(model: ImageModel, goldfish: Pixels) -> None:
    label, confidence = name_best(model, goldfish)
    assert label == "goldfish"
    assert confidence > 0.9


@pytest.mark.parametrize("factor", [1, 2, 4, 8])
def test_jpeg_bytes_of_any_size_are_seen_as_the_same_picture(model: ImageModel, goldfish: Pixels, factor: int) -> None:
    label, confidence = name_best(model, encode(enlarge(goldfish, factor)))
    assert label == "goldfish"
    assert confidence > 0.85


def test_a_jpeg_decoded_at_a_smaller_scale_gives_nearly_the_features_of_its_full_pixels(
    model: ImageModel, goldfish: Pixels
) -> None:
    content = encode(enlarge(goldfish, 6))
    from_bytes, from_pixels = model.embed_and_classify([content, simplejpeg.decode_jpeg(content)]).embeddings
    cosine = from_bytes @ from_pixels / np.linalg.norm(from_bytes) / np.linalg.norm(from_pixels)
    assert cosine > 0.99


def test_features_do_not_depend_on_the_batch_and_keep_its_order(model: ImageModel) -> None:
    images = [make_noise(230 + number, 300 - number, number) for number in range(11)]
    together = model.embed_and_classify(images)
    alone = [model.embed_and_classify([image]) for image in images]
    assert together.logits.shape == (11, 1000)
    assert together.embeddings.shape == (11, 1280)
    assert together.logits.dtype == together.embeddings.dtype == np.float32
    np.testing.assert_allclose(together.logits, np.concatenate([one.logits for one in alone]), atol=1e-4)
    np.testing.assert_allclose(together.embeddings, np.concatenate([one.embeddings for one in alone]), atol=1e-4)


def test_one_model_serves_several_threads_at_once(model: ImageModel) -> None:
    images = [make_noise(224, 224, number) for number in range(8)]
    expected = [model.embed_and_classify([image]).logits for image in images]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda image: model.embed_and_classify([image]).logits, images))
    np.testing.assert_array_equal(found, expected)


def test_no_images_give_no_features(model: ImageModel) -> None:
    features = model.embed_and_classify([])
    assert features.logits.shape == (0, 1000)
    assert features.embeddings.shape == (0, 1280)


def test_the_smallest_image_and_extreme_shapes_have_features(model: ImageModel) -> None:
    features = model.embed_and_classify([make_noise(1, 1, 0), make_noise(1, 900, 1), make_noise(2000, 3, 2)])
    assert np.isfinite(features.logits).all()


@pytest.mark.parametrize(
    "image", [b"not a jpeg", np.zeros((5, 5, 3), np.float32), np.zeros((5, 5), np.uint8), np.zeros((0, 5, 3), np.uint8)]
)
def test_what_is_not_an_image_is_refused_by_its_number(model: ImageModel, image: Any) -> None:
    good = make_noise(8, 8, 0)
    with pytest.raises(ValueError, match="image 9 of the batch"):
        model.embed_and_classify([good] * 9 + [image])


def test_every_imagenet_output_has_a_label_of_its_own() -> None:
    labels = read_imagenet_labels()
    assert len({names[0] for names in labels}) == 1000
    assert labels[1] == ("goldfish", "Carassius auratus")
    assert labels[7] == ("cock", "rooster")
    assert labels[134][0] == "crane bird"
    assert labels[517][0] == "construction crane"


def test_the_model_is_built_once_and_then_reused(
    cache_folder: Path, model: ImageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise AssertionError("the weights were read again")

    monkeypatch.setattr(lite0_onnx, "read_packaged_weights", refuse)
    path = prepare_lite0_onnx(cache_folder)
    assert sorted(cache_folder.iterdir()) == [path, path.with_suffix(".sha256")]
    assert model.version.startswith(lite0_onnx.WEIGHTS_SHA256[:12])


def test_a_damaged_model_file_is_built_again_with_the_same_bytes(tmp_path: Path) -> None:
    path = prepare_lite0_onnx(tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[:-1] + b"?")
    assert prepare_lite0_onnx(tmp_path).read_bytes() == content


def test_a_cache_that_cannot_be_written_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "models").write_text("a file where the folder should be")
    with pytest.raises(StorageError, match="models"):
        prepare_lite0_onnx(tmp_path / "models")


def test_other_weights_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(b"other weights")
    with pytest.raises(ModelFileError, match=r"sha256 .* expected 5793442"):
        read_weights(path)


def test_missing_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"weights\.pth"):
        read_weights(tmp_path / "weights.pth")


class Touch:
    """Creates a file when it is unpickled by a reader that runs what it is told."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_a_weights_file_that_carries_code_is_refused_and_the_code_not_run(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    file = io.BytesIO()
    parts: list[object] = [0x1950A86A20F9469CFC6C, 1001, {}, OrderedDict(weight=Touch(victim))]
    for part in parts:
        pickle.dump(part, file, protocol=2)
    with pytest.raises(ModelFileError, match="not part of a tensor"):
        parse_torch_tensors(file.getvalue())
    assert not victim.exists()


@given(st.binary(max_size=200))
def test_bytes_that_are_not_weights_are_refused(content: bytes) -> None:
    with pytest.raises(ModelFileError):
        parse_torch_tensors(content)


def test_the_image_model_reports_nothing_and_writes_nothing_into_the_home_folder(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    load = "import sys; from pathlib import Path; from adapters.models import open_image_model; "
    environment = {"HOME": str(home), "PATH": os.environ["PATH"]}
    subprocess.run(
        [sys.executable, "-B", "-c", f"{load} open_image_model(Path({str(tmp_path / 'cache')!r}))"],
        env=environment,
        cwd=Path(__file__).parents[3],
        check=True,
        timeout=120,
    )
    assert list(home.rglob("*")) == []
