import json
import struct
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lakehouse.errors import ModelFileError
from lakehouse.label_head import (
    Embeddings,
    LabelHead,
    LabelHeadSettings,
    cross_validate_label_head,
    decode_label_head,
    encode_label_head,
    train_label_head,
)

SETTINGS = LabelHeadSettings()


def make_embeddings(class_ids: list[str], *, width: int = 64, spread: float = 0.5, seed: int = 0) -> Embeddings:
    """Return a cloud for each class: its centre depends on the class alone, the spread on the seed."""
    random = np.random.default_rng(seed)
    centres = {class_id: np.random.default_rng(ord(class_id[0])).normal(size=width) for class_id in class_ids}
    rows = [centres[class_id] + spread * random.normal(size=width) for class_id in class_ids]
    return np.maximum(np.stack(rows), 0).astype(np.float32)


def make_head(count: int = 3, width: int = 4) -> LabelHead:
    weights = np.arange(count * width, dtype=np.float32).reshape(count, width)
    return LabelHead(tuple(f"class_{number}" for number in range(count)), weights, np.zeros(count, np.float32))


@pytest.mark.parametrize("names", [["bean", "apple"], ["cow", "bean", "apple", "duck"]])
def test_a_trained_head_names_images_it_has_not_seen(names: list[str]) -> None:
    class_ids = names * 20
    head = train_label_head(make_embeddings(class_ids), class_ids, SETTINGS)
    probabilities = head.predict_probabilities(make_embeddings(class_ids, seed=1))
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    assert head.class_ids == tuple(sorted(names))
    assert [head.class_ids[best] for best in probabilities.argmax(axis=1)] == class_ids


@pytest.mark.parametrize("names", [["bean", "apple"], ["cow", "bean", "apple"]])
def test_a_head_gives_the_probabilities_that_scikit_learn_gives(names: list[str]) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    class_ids = names * 20
    embeddings = make_embeddings(class_ids, spread=3.0)
    peer = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000)).fit(
        embeddings.astype(np.float64), class_ids
    )
    head = train_label_head(embeddings, class_ids, SETTINGS)
    unseen = make_embeddings(class_ids, spread=3.0, seed=1)
    np.testing.assert_allclose(
        head.predict_probabilities(unseen), peer.predict_proba(unseen.astype(np.float64)), atol=1e-5
    )


def test_training_twice_on_the_same_rows_gives_the_same_bytes() -> None:
    class_ids = ["apple", "bean", "cow"] * 15
    embeddings = make_embeddings(class_ids)
    first, second = (encode_label_head(train_label_head(embeddings, class_ids, SETTINGS)) for _ in range(2))
    assert first == second


def test_a_feature_that_never_varies_does_no_harm() -> None:
    class_ids = ["apple", "bean"] * 10
    embeddings = make_embeddings(class_ids)
    embeddings[:, 0] = 7
    head = train_label_head(embeddings, class_ids, SETTINGS)
    assert np.isfinite(head.weights).all()


def test_one_class_alone_cannot_be_trained() -> None:
    with pytest.raises(ValueError, match="at least two classes"):
        train_label_head(make_embeddings(["apple"] * 4), ["apple"] * 4, SETTINGS)


def test_labels_that_do_not_fit_the_embeddings_are_refused() -> None:
    with pytest.raises(ValueError, match="came with 3 labels"):
        train_label_head(make_embeddings(["apple"] * 4), ["apple"] * 3, SETTINGS)


def test_embeddings_of_another_width_are_refused() -> None:
    with pytest.raises(ValueError, match=r"width 4 .* shape \(2, 5\)"):
        make_head(width=4).predict_probabilities(np.zeros((2, 5), np.float32))


def test_no_embeddings_have_no_probabilities() -> None:
    assert make_head(count=3, width=4).predict_probabilities(np.zeros((0, 4), np.float32)).shape == (0, 3)


def test_training_on_400_labelled_images_takes_less_than_a_cpu_second() -> None:
    class_ids = [f"{letter}_class" for letter in "abcdefghij"] * 40
    embeddings = make_embeddings(class_ids, width=1280, spread=2.0)
    train_label_head(embeddings[:20], class_ids[:20], SETTINGS)  # imports scikit-learn
    started = time.process_time()
    train_label_head(embeddings, class_ids, SETTINGS)
    assert time.process_time() - started < 1


def test_separable_classes_are_measured_as_always_right_and_shuffled_labels_as_guesses() -> None:
    class_ids = ["apple", "bean", "cow", "duck"] * 30
    groups = [str(number) for number in range(len(class_ids))]
    embeddings = make_embeddings(class_ids, spread=0.1)
    shuffled = np.random.default_rng(0).permutation(class_ids).tolist()
    assert cross_validate_label_head(embeddings, class_ids, groups, SETTINGS) == 1
    accuracy = cross_validate_label_head(embeddings, shuffled, groups, SETTINGS)
    assert accuracy is not None
    assert accuracy < 0.45


def test_copies_of_a_picture_never_help_to_measure_it() -> None:
    pictures = np.random.default_rng(0).normal(size=(24, 64)).astype(np.float32)
    copies = np.repeat(pictures, 6, axis=0)
    class_ids = ["apple", "bean"] * 12
    copied_ids = [class_id for class_id in class_ids for _ in range(6)]
    groups = [str(number // 6) for number in range(len(copies))]
    strangers = [str(number) for number in range(len(copies))]
    assert cross_validate_label_head(copies, copied_ids, strangers, SETTINGS) == 1
    accuracy = cross_validate_label_head(copies, copied_ids, groups, SETTINGS)
    assert accuracy is not None
    assert accuracy < 0.8


def test_measuring_twice_gives_the_same_figure() -> None:
    class_ids = ["apple", "bean", "cow"] * 12
    groups = [str(number) for number in range(len(class_ids))]
    embeddings = make_embeddings(class_ids, spread=3.0)
    first, second = (cross_validate_label_head(embeddings, class_ids, groups, SETTINGS) for _ in range(2))
    assert first == second


@pytest.mark.parametrize(
    "class_ids", [[], ["apple"] * 40, ["apple", "bean"] * 4, ["apple"] * 30 + ["bean"] * 4], ids=len
)
def test_too_few_groups_cannot_be_measured(class_ids: list[str]) -> None:
    embeddings = np.zeros((len(class_ids), 8), np.float32)
    groups = [str(number) for number in range(len(class_ids))]
    assert cross_validate_label_head(embeddings, class_ids, groups, SETTINGS) is None


def test_a_rare_class_does_not_prevent_measuring_the_others() -> None:
    class_ids = ["apple", "bean"] * 10 + ["cow"]
    groups = [str(number) for number in range(len(class_ids))]
    assert cross_validate_label_head(make_embeddings(class_ids, spread=0.1), class_ids, groups, SETTINGS) == 1


finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
heads = st.integers(1, 5).flatmap(
    lambda count: st.builds(
        LabelHead,
        st.lists(st.text(max_size=8), min_size=count, max_size=count).map(tuple),
        hnp.arrays(np.float32, st.tuples(st.just(count), st.integers(0, 7)), elements=finite),
        hnp.arrays(np.float32, count, elements=finite),
    )
)


@given(heads)
def test_a_head_that_is_encoded_and_decoded_is_the_same_head(head: LabelHead) -> None:
    decoded = decode_label_head(encode_label_head(head))
    assert decoded.class_ids == head.class_ids
    np.testing.assert_array_equal(decoded.weights, head.weights)
    np.testing.assert_array_equal(decoded.bias, head.bias)
    assert encode_label_head(decoded) == encode_label_head(head)


def test_the_file_is_laid_out_as_safetensors() -> None:
    content = encode_label_head(make_head(count=2, width=3))
    (size,) = struct.unpack_from("<Q", content)
    header = json.loads(content[8 : 8 + size])
    start, end = header["weights"]["data_offsets"]
    weights = np.frombuffer(content[8 + size + start : 8 + size + end], "<f4").reshape(header["weights"]["shape"])
    np.testing.assert_array_equal(weights, make_head(count=2, width=3).weights)
    assert (8 + size) % 8 == 0
    assert len(content) == 8 + size + header["bias"]["data_offsets"][1]


@given(st.binary(max_size=300))
def test_bytes_that_are_not_a_head_are_refused(content: bytes) -> None:
    with pytest.raises(ModelFileError, match="train the label model again"):
        decode_label_head(content)


@given(st.data())
def test_a_damaged_header_is_refused_or_is_itself_a_whole_one(data: st.DataObject) -> None:
    content = bytearray(encode_label_head(make_head()))
    header_end = 8 + struct.unpack_from("<Q", content)[0]
    content[data.draw(st.integers(0, header_end - 1))] = data.draw(st.integers(0, 255))
    try:
        head = decode_label_head(bytes(content))
    except ModelFileError:
        return
    # Another letter in a class id.
    assert encode_label_head(head) == content


@given(st.integers(1, 1000))
def test_a_file_that_is_cut_short_or_too_long_is_refused(length: int) -> None:
    content = encode_label_head(make_head())
    for wrong in (content[:-length], content + b"x" * length):
        with pytest.raises(ModelFileError):
            decode_label_head(wrong)


@pytest.mark.parametrize("class_ids", [[1, 2, 3], [["a"], ["b"], ["c"]]])
def test_class_ids_that_are_not_text_are_refused(class_ids: list[object]) -> None:
    content = encode_label_head(LabelHead(tuple(class_ids), np.zeros((3, 2), np.float32), np.zeros(3, np.float32)))  # type: ignore[arg-type]
    with pytest.raises(ModelFileError):
        decode_label_head(content)


def test_weights_that_are_not_finite_are_refused() -> None:
    head = LabelHead(("a", "b"), np.full((2, 3), np.nan, np.float32), np.zeros(2, np.float32))
    with pytest.raises(ModelFileError, match="not finite"):
        decode_label_head(encode_label_head(head))
