"""Training of the label model: whether it is due, and doing it. Dagster's side of it is `farmy_assets.label_model`."""

from typing import Any

import numpy as np

from adapters.cpu_time import measure_cpu_seconds
from adapters.lake import Lake
from adapters.models import ImageModel
from farmy_assets.image_features import read_features
from lakehouse.reprocessing import CPU_SECONDS, ROWS_AMENDED, ROWS_COMPUTED
from lakehouse.training import CODE_VERSION, TrainingSet, describe_shortage, select_training_set, train

BACKBONE = f"{ImageModel.name} {ImageModel.version}"


def needs_training(lake: Lake) -> bool:
    """Tell whether the accepted labels would give another model than the one in use."""
    training_set = _select(lake)
    return training_set.is_enough and _compute_version(lake, training_set) != lake.label_models.newest_version


def bring_model_up_to_date(lake: Lake, run_id: str) -> dict[str, Any]:
    """Train on the accepted labels unless they are what the model in use was trained on.

    Returns:
        What Dagster's page shows, with `model_version` where there is a model.
    """
    training_set = _select(lake)
    if not training_set.is_enough:
        classes = len(set(training_set.class_ids))
        return {"trained": False, "reason": describe_shortage(classes, lake.settings.label_model)}
    version = _compute_version(lake, training_set)
    if version == lake.label_models.newest_version:
        return {"trained": False, "model_version": version, "reason": "The labels are those it was trained on."}
    return _train(lake, training_set, run_id)


def _compute_version(lake: Lake, training_set: TrainingSet) -> str:
    return training_set.compute_version(BACKBONE, lake.settings.label_model)


def _select(lake: Lake) -> TrainingSet:
    return select_training_set(
        lake.tables.read("labelled_dataset"),
        lake.tables.read("near_duplicates", columns=["image_id", "leader_image_id"]),
        lake.tables.read("cleansed_images", columns=["image_id", "standard_key"]),
        lake.settings.label_model,
    )


def _train(lake: Lake, training_set: TrainingSet, run_id: str) -> dict[str, Any]:
    cpu_started = measure_cpu_seconds()
    embeddings = [features.embeddings for features in read_features(lake, training_set.standard_keys)]
    read = lake.tables.read_day("label_model", None)
    trained = train(
        training_set,
        np.concatenate(embeddings),
        backbone=BACKBONE,
        labelled_snapshot_id=lake.tables.snapshot_id("labelled_dataset") or 0,
        model_number=read.rows.num_rows + 1,
        settings=lake.settings.label_model,
    )
    lake.objects.create(trained.weights_key, trained.weights)
    properties = {
        "farmy.run-id": run_id,
        "farmy.code-version": CODE_VERSION,
        CPU_SECONDS: f"{measure_cpu_seconds() - cpu_started:.3f}",
        ROWS_COMPUTED: "1",
        ROWS_AMENDED: "0",
    }
    lake.tables.commit_day("label_model", None, read=read, rows=trained.row, append=True, properties=properties)
    row = trained.row.to_pylist()[0]
    return {
        "trained": True,
        "model_version": row["model_version"],
        "images_trained": row["images_trained"],
        "classes": ", ".join(row["class_ids"]),
        "cross_validated_accuracy": row["cross_validated_accuracy"] or "too few groups to measure",
    }
