import io
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from PIL import ExifTags, Image

from benchmarks import corpus
from benchmarks.corpus import insert_exif, write_large, write_small
from lakehouse.cleansing import cleanse_image
from lakehouse.quality import CleansingRecipe


@pytest.fixture
def small_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus, "LARGE_SIZE", (800, 600))


@pytest.mark.usefixtures("small_large")
def test_a_seed_gives_the_same_photographs_and_another_gives_others(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("first", "again", "other")]
    for folder, seed in zip(folders, (1, 1, 2), strict=True):
        folder.mkdir()
        write_large(folder, 2, seed=seed)
    first, again, other = ([path.read_bytes() for path in sorted(folder.iterdir())] for folder in folders)
    assert first == again
    assert not set(first) & set(other)


@pytest.mark.usefixtures("small_large")
def test_a_phones_photograph_says_who_took_it_where_and_how_it_was_held(tmp_path: Path) -> None:
    write_large(tmp_path, 1, is_turned=True)
    image = cleanse_image((tmp_path / "large_000.jpg").read_bytes(), CleansingRecipe())
    assert (image.width_px, image.height_px, image.orientation) == (600, 800, 6)
    assert image.has_location
    assert image.camera_make is not None


def test_a_web_sites_photographs_stay_as_they_are_encoded(tmp_path: Path) -> None:
    write_small(tmp_path, 1)
    data = (tmp_path / "small_000.jpg").read_bytes()
    image = cleanse_image(data, CleansingRecipe())
    assert image.standard_jpeg is not None
    assert (image.standard_width_px, image.standard_height_px) == corpus.SMALL_SIZES[0]
    assert np.array_equal(_decode(image.standard_jpeg), _decode(data))


def test_an_exif_block_is_put_where_readers_look_for_it() -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "Fieldcam"
    plain = simplejpeg.encode_jpeg(np.zeros((8, 8, 3), np.uint8))
    with Image.open(io.BytesIO(insert_exif(plain, exif.tobytes()))) as image:
        assert image.getexif()[ExifTags.Base.Make] == "Fieldcam"


def _decode(data: bytes) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.asarray(simplejpeg.decode_jpeg(data), np.uint8)
