import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lakehouse.errors import SettingsError
from lakehouse.ontology import LabelClass
from lakehouse.predictions import RankedLabel, compute_probabilities, map_outputs_to_classes, select_top_labels

IMAGENET = [("cock", "rooster"), ("hen",), ("ox",), ("water buffalo", "Bubalus bubalis"), ("tench",)]


@given(
    hnp.arrays(
        np.float32, st.tuples(st.integers(0, 4), st.integers(1, 6)), elements=st.floats(-(2.0**100), 2.0**100, width=32)
    )
)
def test_probabilities_are_finite_sum_to_one_and_keep_the_order_of_logits(logits: np.ndarray) -> None:  # type: ignore[type-arg]
    probabilities = compute_probabilities(logits)
    assert probabilities.shape == logits.shape
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    assert (
        np.take_along_axis(probabilities, logits.argmax(axis=1)[:, None], 1)[:, 0] == probabilities.max(axis=1)
    ).all()


def test_the_most_probable_labels_come_first_and_ties_in_the_order_of_outputs() -> None:
    probabilities = np.array([[0.2, 0.4, 0.4], [0.7, 0.1, 0.2]])
    assert select_top_labels(probabilities, ["hen", "ox", "tench"], 2, ["chicken", None, None]) == [
        [RankedLabel(1, "ox", None, 0.4), RankedLabel(2, "tench", None, 0.4)],
        [RankedLabel(1, "hen", "chicken", 0.7), RankedLabel(2, "tench", None, 0.2)],
    ]


def test_a_model_with_fewer_outputs_than_asked_for_gives_them_all() -> None:
    assert len(select_top_labels(np.array([[1.0, 0.0]]), ["a", "b"], 5)[0]) == 2


@pytest.mark.parametrize(("names", "class_ids"), [(["a"], None), (["a", "b"], [None])])
def test_names_that_do_not_fit_the_outputs_are_refused(names: list[str], class_ids: list[str | None] | None) -> None:
    with pytest.raises(ValueError, match="probabilities over 2 outputs"):
        select_top_labels(np.array([[1.0, 0.0]]), names, 1, class_ids)


def test_a_class_claims_outputs_by_any_of_their_names_in_any_case() -> None:
    classes = [
        LabelClass("chicken", "Chicken", imagenet=("Rooster", "hen")),
        LabelClass("cow", "Cow", imagenet=("ox",)),
    ]
    assert map_outputs_to_classes(IMAGENET, classes) == ["chicken", "chicken", "cow", None, None]


def test_a_class_that_claims_an_unknown_label_is_refused_with_what_is_near() -> None:
    with pytest.raises(SettingsError, match=r"'chicken' claims 'roster'.* near it are .*'rooster'"):
        map_outputs_to_classes(IMAGENET, [LabelClass("chicken", "Chicken", imagenet=("roster",))])


def test_two_classes_that_claim_one_label_are_refused() -> None:
    classes = [LabelClass("cow", "Cow", imagenet=("ox",)), LabelClass("ox", "Ox", imagenet=("ox",))]
    with pytest.raises(SettingsError, match="'cow' and 'ox'"):
        map_outputs_to_classes(IMAGENET, classes)
