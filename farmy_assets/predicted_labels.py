"""Predicted labels: what the models say of each image.

One row is one label of one model for one image, with confidence and rank: ImageNet's top five always, and the
project's own classes once a label model exists. Comes from `cleansed_images` and the newest `label_model`; read by
`task_pre_labels` and the catalogue.
"""

from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from adapters.lake import Lake
from farmy_assets.day_runs import DayStage, Wanted
from farmy_assets.image_features import read_features
from lakehouse.fingerprints import with_fingerprints
from lakehouse.predicted_labels import build_predicted_rows
from lakehouse.quality import REJECTED

CODE_VERSION = "1"


def select_images(lake: Lake, day: date) -> Wanted:
    """Return the day's images that are not rejected; another model makes them stale."""
    columns = ["image_id", "ingest_date", "standard_key", "status"]
    cleansed = lake.tables.read("cleansed_images", day=day, columns=columns)
    images = cleansed.filter(pc.not_equal(cleansed.column("status"), REJECTED)).drop_columns(["status"])
    classes = [(label_class.id, label_class.name, label_class.imagenet) for label_class in lake.settings.classes]
    models = f"{lake.image_model_labels.version} {lake.label_models.newest_version}"
    return Wanted(
        with_fingerprints(
            images, ["image_id", "standard_key"], CODE_VERSION, {"classes": classes}, [models] * images.num_rows
        )
    )


def predict(lake: Lake, stale: pa.Table) -> pa.Table:
    """Run the models on each image."""
    features = read_features(lake, stale.column("standard_key").to_pylist())
    return build_predicted_rows(
        stale,
        np.concatenate([feature.logits for feature in features]),
        np.concatenate([feature.embeddings for feature in features]),
        lake.image_model_labels,
        lake.label_models.load_newest(),
        lake.settings.class_names,
    )


STAGE = DayStage(
    table="predicted_labels",
    description=__doc__,
    group="models",
    deps=("cleansed_images", "label_model"),
    kind="onnx",
    code_version=CODE_VERSION,
    select=select_images,
    compute=predict,
)
