import hashlib
from dataclasses import replace
from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from lakehouse.label_head import LabelHeadSettings, decode_label_head
from lakehouse.schemas import LABEL_MODEL
from lakehouse.training import (
    TrainingSet,
    count_accepted_images,
    decide_training,
    describe_shortage,
    select_training_set,
    train,
)

DAY = date(2026, 11, 2)
SETTINGS = LabelHeadSettings(min_images_per_class=2)


def make_label(image_id: str, class_id: str | None, day: date = DAY, **more: Any) -> dict[str, Any]:
    label = {"image_id": image_id, "ingest_date": day, "kind": "choice", "class_id": class_id, "phase": "complete"}
    return label | {"is_conflict": False} | more


def select(*labels: dict[str, Any], leaders: dict[str, str] | None = None, **keys: str | None) -> TrainingSet:
    columns = [
        ("image_id", pa.string()),
        ("ingest_date", pa.date32()),
        ("kind", pa.string()),
        ("class_id", pa.string()),
    ]
    labelled = pa.Table.from_pylist(
        list(labels), schema=pa.schema([*columns, ("phase", pa.string()), ("is_conflict", pa.bool_())])
    )
    groups = leaders or {}
    near_duplicates = pa.table({"image_id": list(groups), "leader_image_id": list(groups.values())})
    standard = {label["image_id"]: f"staging/{label['image_id']}" for label in labels} | keys
    cleansed = pa.table(
        {"image_id": list(standard), "standard_key": pa.array(list(standard.values()), pa.string())},
    )
    return select_training_set(labelled, near_duplicates, cleansed, SETTINGS)


COWS = (make_label("a", "cow"), make_label("c", "cow"))
HENS = (make_label("b", "hen"), make_label("d", "hen", date(2026, 11, 5)))


def test_accepted_labels_are_selected_by_image_with_group_picture_and_newest_day() -> None:
    chosen = select(*COWS, *HENS, leaders={"c": "a", "a": "a"})
    assert chosen == TrainingSet(
        ("a", "b", "c", "d"),
        ("cow", "hen", "cow", "hen"),
        ("a", "b", "a", "d"),
        ("staging/a", "staging/b", "staging/c", "staging/d"),
        date(2026, 11, 5),
    )
    assert chosen.is_enough


@pytest.mark.parametrize(
    "more",
    [{"phase": "annotating"}, {"phase": "conflict", "is_conflict": True}, {"kind": "box"}],
)
def test_what_is_open_contested_or_a_box_is_not_learnt(more: dict[str, Any]) -> None:
    assert "z" not in select(*COWS, *HENS, make_label("z", "cow", **more)).image_ids


def test_a_label_without_a_class_or_a_picture_is_not_learnt() -> None:
    assert select(*COWS, make_label("z", None), make_label("y", "cow"), y=None).image_ids == ("a", "c")


def test_a_class_with_too_few_images_is_left_out() -> None:
    chosen = select(*COWS, make_label("b", "hen"))
    assert set(chosen.class_ids) == {"cow"}
    assert not chosen.is_enough


def test_without_labels_there_is_nothing_to_learn_and_no_day() -> None:
    chosen = select()
    assert chosen == TrainingSet((), (), (), (), None)
    assert not chosen.is_enough


def test_the_order_in_which_labels_were_given_does_not_count() -> None:
    assert select(*COWS, *HENS) == select(*HENS[::-1], *COWS[::-1])


def test_the_version_follows_everything_that_decides_the_weights() -> None:
    chosen = select(*COWS, *HENS)
    versions = {
        chosen.compute_version("backbone", SETTINGS),
        chosen.compute_version("another", SETTINGS),
        chosen.compute_version("backbone", replace(SETTINGS, inverse_regularization=1.0)),
        select(*COWS, *HENS, make_label("e", "hen")).compute_version("backbone", SETTINGS),
        select(*COWS, *HENS, leaders={"c": "a"}).compute_version("backbone", SETTINGS),
        select(*COWS, *HENS, a="staging/other").compute_version("backbone", SETTINGS),
    }
    assert len(versions) == 6
    assert chosen.compute_version("backbone", SETTINGS) in versions
    assert all(len(version) == 16 for version in versions)


def test_a_trained_model_is_recorded_with_what_it_saw_and_the_hash_of_its_weights() -> None:
    chosen = select(*COWS, *HENS)
    embeddings = np.array([[1, 0], [0, 1], [0.9, 0.1], [0.1, 0.9]], np.float32)

    def train_once() -> Any:
        return train(
            chosen, embeddings, backbone="backbone 1", labelled_snapshot_id=2**62, model_number=3, settings=SETTINGS
        )

    model = train_once()
    (row,) = model.row.to_pylist()
    version = chosen.compute_version("backbone 1", SETTINGS)
    assert row == {
        "model_version": version,
        "model_number": 3,
        "ingest_date": date(2026, 11, 5),
        "backbone": "backbone 1",
        "class_ids": ["cow", "hen"],
        "images_trained": 4,
        "cross_validated_accuracy": None,
        "labelled_snapshot_id": 2**62,
        "weights_sha256": hashlib.sha256(model.weights).hexdigest(),
        "weights_key": f"curated/models/{version}.safetensors",
        "fingerprint": version,
    }
    assert model.row.schema == LABEL_MODEL
    head = decode_label_head(model.weights)
    best = head.predict_probabilities(embeddings).argmax(axis=1)
    assert [head.class_ids[number] for number in best] == list(chosen.class_ids)
    assert train_once().weights == model.weights


def test_accepted_images_are_counted_by_class() -> None:
    rows = [
        *COWS,
        *HENS,
        make_label("e", None),
        make_label("f", "cow", kind="box"),
        make_label("g", "cow", phase="conflict"),
    ]
    assert count_accepted_images(pa.Table.from_pylist(rows)) == {"cow": 2, "hen": 2}


@pytest.mark.parametrize(
    ("accepted", "trained_on", "is_due"),
    [
        ({}, None, False),
        ({"cow": 9}, None, False),
        ({"cow": 9, "hen": 1}, None, False),
        ({"cow": 2, "hen": 2}, None, True),
        ({"cow": 2, "hen": 2}, 4, False),
        ({"cow": 3, "hen": 3}, 4, False),
        ({"cow": 4, "hen": 3}, 4, True),
        ({"cow": 4, "hen": 3}, 10, True),
        ({"cow": 4}, 10, False),
    ],
)
def test_a_model_is_trained_first_and_again_after_enough_new_labels(
    accepted: dict[str, int],
    trained_on: int | None,
    is_due: bool,  # noqa: FBT001
) -> None:
    newest = None if trained_on is None else {"images_trained": trained_on}
    decision = decide_training(accepted, newest, replace(SETTINGS, retrain_after_images=3))
    assert decision.is_due == is_due
    assert decision.reason.endswith(".")


def test_how_often_to_train_does_not_change_what_is_trained() -> None:
    chosen = select(*COWS, *HENS)
    often = replace(SETTINGS, retrain_after_images=1)
    assert chosen.compute_version("backbone", often) == chosen.compute_version("backbone", SETTINGS)


def test_a_shortage_says_how_many_classes_there_are_and_what_to_do() -> None:
    assert describe_shortage(1, SETTINGS) == (
        "No label model yet: 1 classes have 2 or more accepted images, two are needed. Annotate more."
    )
