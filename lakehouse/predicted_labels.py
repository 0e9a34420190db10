"""Rows of `predicted_labels`: what each model says of an image, best first."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lakehouse.label_head import LabelHead
from lakehouse.predictions import RankedLabel, compute_probabilities, select_top_labels
from lakehouse.schemas import PREDICTED_LABELS

LABEL_MODEL = "label_model"
"""Name of the project's own model in tables."""

_LABELS_SHOWN = 5


@dataclass(frozen=True)
class ImageModelLabels:
    """What the outputs of the packaged model mean.

    Attributes:
        name: The model's name.
        version: Its version.
        labels: The label of each output, in words.
        class_ids: The project's class of each output, None where it has none.
    """

    name: str
    version: str
    labels: tuple[str, ...]
    class_ids: tuple[str | None, ...]


@dataclass(frozen=True)
class TrainedLabelModel:
    """One version of the project's own model.

    Attributes:
        version: Its version.
        head: The head on the packaged model's embeddings.
    """

    version: str
    head: LabelHead


def build_predicted_rows(
    images: pa.Table,
    logits: npt.NDArray[np.float32],
    embeddings: npt.NDArray[np.float32],
    image_model: ImageModelLabels,
    label_model: TrainedLabelModel | None,
    class_names: Mapping[str, str],
) -> pa.Table:
    """Return the five most probable labels of each image by each model.

    Args:
        images: `image_id, ingest_date, fingerprint` of n images.
        logits: `[n, 1000]`, of the packaged model.
        embeddings: `[n, 1280]`, of the packaged model.
        image_model: What its outputs mean.
        label_model: The project's own model; None until there is one.
        class_names: Name of each class by its id; a class that was taken out of the project is called by its id.

    Returns:
        Rows of `predicted_labels`.
    """
    rows: list[dict[str, Any]] = []
    ranked = select_top_labels(compute_probabilities(logits), image_model.labels, _LABELS_SHOWN, image_model.class_ids)
    rows += _list_rows(images, ranked, image_model.name, image_model.version)
    if label_model is not None:
        class_ids = label_model.head.class_ids
        names = [class_names.get(class_id, class_id) for class_id in class_ids]
        probabilities = label_model.head.predict_probabilities(embeddings)
        ranked = select_top_labels(probabilities, names, _LABELS_SHOWN, class_ids)
        rows += _list_rows(images, ranked, LABEL_MODEL, label_model.version)
    return pa.Table.from_pylist(rows, schema=PREDICTED_LABELS)


def _list_rows(
    images: pa.Table, ranked: Sequence[Sequence[RankedLabel]], model_name: str, model_version: str
) -> list[dict[str, Any]]:
    return [
        image
        | {
            "model_name": model_name,
            "model_version": model_version,
            "rank": label.rank,
            "label": label.label,
            "class_id": label.class_id,
            "confidence": label.confidence,
        }
        for image, labels in zip(
            images.select(["image_id", "ingest_date", "fingerprint"]).to_pylist(), ranked, strict=True
        )
        for label in labels
    ]
