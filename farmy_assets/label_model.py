"""Label model: the project's own classes, learnt from people's labels.

One row is one trained model: a logistic regression on the packaged model's embeddings, with the labels it saw, its
accuracy on groups of near duplicates that it did not see, and its weights in `curated/models/`. Comes from the
accepted labels of all days in `labelled_dataset`; the same labels give the same model, so nothing is trained twice.
"""

from typing import Any

import dagster as dg
import numpy as np

from adapters.lake import Lake
from adapters.models import ImageModel
from farmy_assets.day_runs import OWNERS, build_failure
from lakehouse.errors import FarmyError
from lakehouse.training import CODE_VERSION, TrainingSet, describe_shortage, select_training_set, train

BACKBONE = f"{ImageModel.name} {ImageModel.version}"


@dg.asset(
    description=__doc__,
    code_version=CODE_VERSION,
    deps=["labelled_dataset", "near_duplicates", "cleansed_images"],
    group_name="models",
    kinds={"iceberg", "scikitlearn"},
    owners=OWNERS,
)
def label_model(context: dg.AssetExecutionContext, lake: dg.ResourceParam[Lake]) -> dg.MaterializeResult[Any]:
    try:
        training_set = _select(lake)
        if not training_set.is_enough:
            context.log.info(describe_shortage(len(set(training_set.class_ids)), lake.settings.label_model))
            return dg.MaterializeResult(metadata={"images": len(training_set.image_ids)})
        version = training_set.compute_version(BACKBONE, lake.settings.label_model)
        if version != lake.label_models.newest_version:
            return _train(lake, training_set, context.run.run_id)
    except FarmyError as error:
        raise build_failure(error) from error
    return dg.MaterializeResult(
        data_version=dg.DataVersion(version), metadata={"model_version": version, "trained": False}
    )


def needs_training(lake: Lake) -> bool:
    """Tell whether the accepted labels would give another model than the one in use."""
    training_set = _select(lake)
    version = training_set.compute_version(BACKBONE, lake.settings.label_model)
    return training_set.is_enough and version != lake.label_models.newest_version


def _select(lake: Lake) -> TrainingSet:
    return select_training_set(
        lake.tables.read("labelled_dataset"),
        lake.tables.read("near_duplicates", columns=["image_id", "leader_image_id"]),
        lake.tables.read("cleansed_images", columns=["image_id", "standard_key"]),
        lake.settings.label_model,
    )


def _train(lake: Lake, training_set: TrainingSet, run_id: str) -> dg.MaterializeResult[Any]:
    embeddings = [features.embeddings for features in lake.compute.map(lake.features.read, training_set.standard_keys)]
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
    properties = {"farmy.run-id": run_id, "farmy.code-version": CODE_VERSION}
    lake.tables.commit_day("label_model", None, read=read, rows=trained.row, append=True, properties=properties)
    row = trained.row.to_pylist()[0]
    return dg.MaterializeResult(
        data_version=dg.DataVersion(row["model_version"]),
        metadata={
            "model_version": row["model_version"],
            "trained": True,
            "images_trained": row["images_trained"],
            "classes": ", ".join(row["class_ids"]),
            "cross_validated_accuracy": row["cross_validated_accuracy"] or "too few groups to measure",
        },
    )
