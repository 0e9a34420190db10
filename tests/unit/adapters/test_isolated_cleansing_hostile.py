"""Every hostile file costs one verdict, and none of them much time of the thread that asks for it."""

import time
from collections.abc import Iterator

import pytest

from adapters.isolated_cleansing import IsolatedCleansing
from lakehouse.cleansing import is_plain_jpeg
from lakehouse.quality import CleansingRecipe
from tests.corpus.hostile import EITHER, HOSTILE_FILES, jpeg_of_many_scans
from tests.corpus.seeds import SEEDS, encode, make_image
from tests.corpus.verdicts import check_verdict

RECIPE = CleansingRecipe(max_seconds=3.0)
MAX_OWN_SECONDS = 3.0


@pytest.fixture(scope="module")
def isolated() -> Iterator[IsolatedCleansing]:
    with IsolatedCleansing(RECIPE, 1) as made:
        yield made


@pytest.mark.parametrize("name", sorted(HOSTILE_FILES))
def test_a_hostile_file_costs_one_verdict(isolated: IsolatedCleansing, name: str) -> None:
    file = HOSTILE_FILES[name]
    data = file.build()
    started = time.thread_time()
    image = isolated.cleanse(data)
    assert time.thread_time() - started < MAX_OWN_SECONDS
    assert image.failure in file.outcomes
    check_verdict(image, RECIPE)


@pytest.mark.parametrize("name", sorted(SEEDS))
def test_a_sound_file_is_read(isolated: IsolatedCleansing, name: str) -> None:
    image = isolated.cleanse(SEEDS[name]())
    assert image.failure is None
    assert (image.camera_model == "Camera 1") is (image.orientation == 6)
    check_verdict(image, RECIPE)


@pytest.mark.parametrize("name", sorted(SEEDS))
def test_every_beginning_of_a_file_costs_one_verdict(isolated: IsolatedCleansing, name: str) -> None:
    data = SEEDS[name]()
    for size in {*range(64), *range(64, len(data), len(data) // 32)}:
        image = isolated.cleanse(data[:size])
        assert image.failure in EITHER
        check_verdict(image, RECIPE)


@pytest.mark.parametrize(("width", "height"), [(1, 1), (1, 9_000), (9_000, 1), (2, 40_000), (40_000, 3), (17, 2_100)])
@pytest.mark.parametrize("name", ["JPEG", "PNG"])
def test_the_thinnest_strips_are_read(isolated: IsolatedCleansing, name: str, width: int, height: int) -> None:
    image = isolated.cleanse(encode(make_image(width, height), name))
    assert image.failure is None
    check_verdict(image, RECIPE)


def test_jpegs_of_many_scans_are_decoded_elsewhere() -> None:
    assert is_plain_jpeg(jpeg_of_many_scans(640, 480, 10), RECIPE)
    assert not is_plain_jpeg(jpeg_of_many_scans(64, 64, 1_000), RECIPE)
    assert not is_plain_jpeg(jpeg_of_many_scans(4_000, 4_000, 40), RECIPE)


def test_the_most_scans_that_are_decoded_here_take_little_time(isolated: IsolatedCleansing) -> None:
    data = jpeg_of_many_scans(2_000, 2_000, 60)
    assert is_plain_jpeg(data, RECIPE)
    started = time.thread_time()
    assert isolated.cleanse(data).failure is None
    assert time.thread_time() - started < MAX_OWN_SECONDS
