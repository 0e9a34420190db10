import math
from datetime import date

import numpy as np
import pyarrow as pa
import pytest

from lakehouse.label_head import LabelHead
from lakehouse.predicted_labels import ImageModelLabels, TrainedLabelModel, build_predicted_rows
from lakehouse.schemas import PREDICTED_LABELS

WIDTH = 4
LABELS = tuple(f"label {number}" for number in range(1000))
IMAGE_MODEL = ImageModelLabels("packaged", "1", LABELS, ("cow", *[None] * 999))
HEAD = LabelHead(("cow", "hen", "gone"), np.eye(3, WIDTH, dtype=np.float32), np.zeros(3, np.float32))
IMAGES = pa.table(
    {
        "image_id": ["a", "b"],
        "ingest_date": [date(2026, 11, 2)] * 2,
        "standard_key": ["x", "y"],
        "fingerprint": ["print a", "print b"],
    }
)


def make_logits() -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    logits = np.zeros((2, 1000), np.float32)
    logits[0, [0, 5]] = 9, 12
    logits[1, 999] = 20
    return logits


def predict(label_model: TrainedLabelModel | None = None) -> pa.Table:
    embeddings = np.array([[0, 3, 0, 0], [0, 0, 5, 0]], np.float32)
    names = {"cow": "Cow", "hen": "Hen"}
    return build_predicted_rows(IMAGES, make_logits(), embeddings, IMAGE_MODEL, label_model, names)


def test_without_a_model_of_ones_own_the_packaged_one_names_five_labels_of_each_image() -> None:
    rows = predict()
    assert rows.schema == PREDICTED_LABELS
    assert rows.column("rank").to_pylist() == [1, 2, 3, 4, 5] * 2
    assert rows.column("image_id").to_pylist() == ["a"] * 5 + ["b"] * 5
    assert rows.column("label").to_pylist()[:2] == ["label 5", "label 0"]
    assert rows.column("class_id").to_pylist()[:3] == [None, "cow", None]
    assert set(rows.column("model_name").to_pylist()) == {"packaged"}


def test_confidences_are_probabilities_over_all_labels_best_first() -> None:
    for image_id in "ab":
        confidences = [row["confidence"] for row in predict().to_pylist() if row["image_id"] == image_id]
        assert confidences == sorted(confidences, reverse=True)
        assert 0 < sum(confidences) <= 1
    assert predict().column("confidence")[0].as_py() == pytest.approx(math.exp(12) / (math.exp(12) + math.exp(9) + 998))


def test_every_row_carries_the_fingerprint_of_its_image() -> None:
    rows = predict(TrainedLabelModel("v1", HEAD)).to_pylist()
    assert {(row["image_id"], row["fingerprint"]) for row in rows} == {("a", "print a"), ("b", "print b")}


def test_the_projects_own_model_names_all_its_classes_beside_the_packaged_one() -> None:
    rows = [row for row in predict(TrainedLabelModel("v1", HEAD)).to_pylist() if row["model_name"] == "label_model"]
    assert len(rows) == 6
    assert [(row["label"], row["class_id"]) for row in rows if row["rank"] == 1] == [("Hen", "hen"), ("gone", "gone")]
    assert {row["model_version"] for row in rows} == {"v1"}


def test_a_class_that_was_taken_out_of_the_project_is_called_by_its_id() -> None:
    rows = predict(TrainedLabelModel("v1", HEAD)).to_pylist()
    assert {row["label"] for row in rows if row["class_id"] == "gone"} == {"gone"}
