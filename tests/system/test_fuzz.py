"""Thousands of damaged files, over all formats: a verdict for each, and nothing else happens.

A failure names the seed and the number of the file: `tests.corpus.mutations.mutate(seed, number)` makes it again.
"""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from adapters.isolated_cleansing import IsolatedCleansing
from lakehouse.quality import CleansingRecipe
from tests.corpus.mutations import mutate
from tests.corpus.seeds import SEEDS
from tests.corpus.verdicts import check_verdict

FILES = 200 * len(SEEDS)
RECIPE = CleansingRecipe(max_seconds=2.0)


@pytest.fixture(scope="module")
def isolated() -> Iterator[IsolatedCleansing]:
    with IsolatedCleansing(RECIPE, 2) as made:
        yield made


@pytest.mark.parametrize("seed", [1, 2])
def test_every_damaged_file_ends_with_a_verdict(isolated: IsolatedCleansing, seed: int) -> None:
    def cleanse(number: int) -> str | None:
        name, data = mutate(seed, number)
        try:
            image = isolated.cleanse(data)
            check_verdict(image, RECIPE)
        except Exception as error:
            error.add_note(f"This was file {number} of seed {seed}, once {name}.")
            raise
        return image.failure

    with ThreadPoolExecutor(3) as pool:
        outcomes = Counter(pool.map(cleanse, range(FILES)))
    assert outcomes.total() == FILES > 5_000
    # The damage is neither so small that nothing is found nor so great that no decoder gets to see it.
    assert outcomes[None] > FILES // 10
    assert outcomes["corrupt"] > FILES // 10
    assert outcomes["decoder_crash"] + outcomes["too_slow"] <= FILES // 1_000


def test_a_seed_makes_the_same_files_each_time() -> None:
    assert [mutate(7, number) for number in range(100)] == [mutate(7, number) for number in range(100)]
    assert mutate(7, 0) != mutate(8, 0)
