"""Training the label model: which labels it sees, and the row that records it."""

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import date
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.fingerprints import hash_values
from lakehouse.label_head import LabelHeadSettings, cross_validate_label_head, encode_label_head, train_label_head
from lakehouse.phases import COMPLETE
from lakehouse.schemas import LABEL_MODEL

CODE_VERSION = "1"


@dataclass(frozen=True)
class TrainingSet:
    """Labelled images, by image id.

    Attributes:
        image_ids: The images.
        class_ids: The accepted class of each.
        groups: The near-duplicate leader of each.
        standard_keys: The standard image of each.
        newest_day: The newest day with a label.
    """

    image_ids: tuple[str, ...]
    class_ids: tuple[str, ...]
    groups: tuple[str, ...]
    standard_keys: tuple[str, ...]
    newest_day: date | None

    @property
    def is_enough(self) -> bool:
        """Whether there are two classes to tell apart."""
        return len(set(self.class_ids)) >= 2

    def compute_version(self, backbone: str, settings: LabelHeadSettings) -> str:
        """Return the version of the model that this set gives: a hash of everything that decides its weights."""
        how = asdict(replace(settings, retrain_after_images=0))
        return hash_values(CODE_VERSION, backbone, how, self.standard_keys, self.class_ids, self.groups)[:16]


@dataclass(frozen=True)
class TrainingDecision:
    """Whether a model is to be trained, and why or why not."""

    is_due: bool
    reason: str


def decide_training(
    accepted_images: Mapping[str, int], newest_model: Mapping[str, Any] | None, settings: LabelHeadSettings
) -> TrainingDecision:
    """Decide whether there are enough new labels to train on.

    Args:
        accepted_images: How many images have each class accepted.
        newest_model: Row of `label_model` of the model in use; None without one.
        settings: `min_images_per_class` and `retrain_after_images`.
    """
    learnable = [count for count in accepted_images.values() if count >= settings.min_images_per_class]
    if len(learnable) < 2:
        return TrainingDecision(False, describe_shortage(len(learnable), settings))
    if newest_model is None:
        return TrainingDecision(True, "There is no model yet.")
    new = abs(sum(learnable) - newest_model["images_trained"])
    wanted = settings.retrain_after_images
    return TrainingDecision(
        new >= wanted, f"{new} images were labelled since the last training; {wanted} start another."
    )


def count_accepted_images(labelled: pa.Table) -> Counter[str]:
    """Return how many images have each class accepted: `kind, class_id, phase` of `labelled_dataset`."""
    return Counter(labelled.filter(_is_accepted_choice(labelled)).column("class_id").to_pylist())


def _is_accepted_choice(labelled: pa.Table) -> pa.ChunkedArray:
    is_settled_choice = pc.and_(
        pc.equal(labelled.column("kind"), "choice"), pc.equal(labelled.column("phase"), COMPLETE)
    )
    return pc.and_(is_settled_choice, pc.is_valid(labelled.column("class_id")))


def select_training_set(
    labelled: pa.Table, near_duplicates: pa.Table, cleansed: pa.Table, settings: LabelHeadSettings
) -> TrainingSet:
    """Select the accepted classes of images, leaving out classes with too few of them.

    Args:
        labelled: `labelled_dataset` of all days.
        near_duplicates: `image_id, leader_image_id` of all days.
        cleansed: `image_id, standard_key` of all days.
        settings: `min_images_per_class`.
    """
    labels = {row["image_id"]: row for row in labelled.filter(_is_accepted_choice(labelled)).to_pylist()}
    leaders = _map_column(near_duplicates, "leader_image_id")
    standard_keys = _map_column(cleansed, "standard_key")
    counts = Counter(row["class_id"] for row in labels.values())
    chosen = [
        image_id
        for image_id in sorted(labels)
        if counts[labels[image_id]["class_id"]] >= settings.min_images_per_class and standard_keys.get(image_id)
    ]
    return TrainingSet(
        image_ids=tuple(chosen),
        class_ids=tuple(labels[image_id]["class_id"] for image_id in chosen),
        groups=tuple(leaders.get(image_id, image_id) for image_id in chosen),
        standard_keys=tuple(standard_keys[image_id] for image_id in chosen),
        newest_day=max((labels[image_id]["ingest_date"] for image_id in chosen), default=None),
    )


def _map_column(table: pa.Table, column: str) -> Mapping[str, str]:
    return dict(zip(table.column("image_id").to_pylist(), table.column(column).to_pylist(), strict=True))


@dataclass(frozen=True)
class TrainedModel:
    """A model that was just trained: its file and its row of `label_model`."""

    weights: bytes
    weights_key: str
    row: pa.Table


def train(
    training_set: TrainingSet,
    embeddings: npt.NDArray[np.float32],
    *,
    backbone: str,
    labelled_snapshot_id: int,
    model_number: int,
    settings: LabelHeadSettings,
) -> TrainedModel:
    """Train a label model.

    Args:
        training_set: The labelled images.
        embeddings: `[n, width]`, of its images in its order.
        backbone: Name and version of the model that gave the embeddings.
        labelled_snapshot_id: Snapshot of `labelled_dataset` that the set was read from.
        model_number: Number of the new model.
        settings: How to train.
    """
    head = train_label_head(embeddings, training_set.class_ids, settings)
    accuracy = cross_validate_label_head(embeddings, training_set.class_ids, training_set.groups, settings)
    weights = encode_label_head(head)
    version = training_set.compute_version(backbone, settings)
    key = f"curated/models/{version}.safetensors"
    row: dict[str, Any] = {
        "model_version": version,
        "model_number": model_number,
        "ingest_date": training_set.newest_day,
        "backbone": backbone,
        "class_ids": list(head.class_ids),
        "images_trained": len(training_set.image_ids),
        "cross_validated_accuracy": accuracy,
        "labelled_snapshot_id": labelled_snapshot_id,
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
        "weights_key": key,
        "fingerprint": version,
    }
    return TrainedModel(weights, key, pa.Table.from_pylist([row], schema=LABEL_MODEL))


def describe_shortage(classes: int, settings: LabelHeadSettings) -> str:
    """Return one sentence that says why there is nothing to train on yet."""
    return (
        f"No label model yet: {classes} classes have {settings.min_images_per_class} or more accepted images, two are "
        "needed. Annotate more."
    )
