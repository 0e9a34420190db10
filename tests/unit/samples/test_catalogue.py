from pathlib import Path

import pytest

import samples
from lakehouse.errors import NotFoundError
from samples.catalogue import ALLOWED_LICENCES, CLASS_IDS, load_mask, load_photograph, read_credits, read_subjects

PHOTOGRAPHS = Path(samples.__file__).parent / "photographs"


def test_every_photograph_has_exactly_one_credit() -> None:
    credited = [credit.file for credit in read_credits()]
    assert sorted(credited) == sorted(path.name for path in PHOTOGRAPHS.glob("*.webp"))


def test_at_least_thirty_two_photographs_are_in_the_repository() -> None:
    assert len(read_credits()) >= 32


def test_every_credit_names_an_allowed_licence_an_author_a_source_page_and_the_package() -> None:
    for credit in read_credits():
        assert credit.licence in ALLOWED_LICENCES, credit
        assert credit.author, credit
        assert credit.source_page.startswith("http"), credit
        assert credit.via, credit


def test_the_photographs_take_less_than_three_megabytes() -> None:
    assert sum(path.stat().st_size for path in PHOTOGRAPHS.rglob("*") if path.is_file()) < 3_000_000


@pytest.mark.parametrize("class_id", CLASS_IDS)
def test_every_class_has_photographs_to_learn_from_and_about_a_quarter_held_out(class_id: str) -> None:
    held_out = [subject.is_held_out for subject in read_subjects() if subject.class_id == class_id]
    assert len(held_out) >= 3
    assert 0.15 <= sum(held_out) / len(held_out) <= 0.35


def test_subjects_have_known_classes_and_photographs_with_credits() -> None:
    assert {subject.class_id for subject in read_subjects()} == set(CLASS_IDS)
    assert {subject.photograph for subject in read_subjects()} <= {credit.file for credit in read_credits()}


def test_every_subject_lies_inside_its_photograph() -> None:
    for subject in read_subjects():
        for x, y, width, height in subject.boxes:
            assert 0 <= x < x + width <= 1.001, subject
            assert 0 <= y < y + height <= 1.001, subject


def test_a_mask_has_the_size_of_its_photograph_and_a_subject_within_the_box() -> None:
    masked = [subject for subject in read_subjects() if load_mask(subject.photograph) is not None]
    assert len(masked) >= 10
    for subject in masked:
        mask, photograph = load_mask(subject.photograph), load_photograph(subject.photograph)
        assert mask is not None
        assert mask.size == photograph.size
        left, top, right, bottom = mask.getbbox() or (0, 0, 0, 0)
        x, y, width, height = subject.boxes[-1]
        assert left >= (x - 0.03) * photograph.width, subject
        assert top >= (y - 0.03) * photograph.height, subject
        assert right <= (x + width + 0.03) * photograph.width, subject
        assert bottom <= (y + height + 0.03) * photograph.height, subject


def test_every_mask_belongs_to_a_subject() -> None:
    subjects = {Path(subject.photograph).stem for subject in read_subjects()}
    assert {path.stem for path in (PHOTOGRAPHS / "masks").glob("*.png")} <= subjects


def test_a_photograph_loads_as_rgb() -> None:
    photograph = load_photograph("goldfish.webp")
    assert photograph.mode == "RGB"
    assert photograph.size == (320, 272)


def test_a_photograph_without_a_mask_has_none() -> None:
    assert load_mask("moose.webp") is None


def test_asking_for_an_unknown_photograph_says_where_the_known_ones_are_listed() -> None:
    with pytest.raises(NotFoundError, match=r"unicorn\.webp.*CREDITS\.tsv"):
        load_photograph("unicorn.webp")
