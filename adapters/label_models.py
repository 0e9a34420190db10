"""The project's own models: which one is in use, and its weights."""

import hashlib

from adapters.objects import Objects
from adapters.tables import Tables
from lakehouse.errors import ModelFileError
from lakehouse.label_head import decode_label_head
from lakehouse.predicted_labels import TrainedLabelModel


class LabelModels:
    """The label models of one lake: rows of `label_model`, weights in `curated/`."""

    def __init__(self, tables: Tables, objects: Objects) -> None:
        self._tables = tables
        self._objects = objects

    def find_newest_version(self) -> str | None:
        """Return the version in use; None until a model was trained."""
        rows = self._tables.read("label_model", columns=["model_number", "model_version"]).to_pylist()
        return max(rows, key=lambda row: row["model_number"])["model_version"] if rows else None

    def load_newest(self) -> TrainedLabelModel | None:
        """Return the model in use; None until one was trained.

        Raises:
            ModelFileError: If its weights are not the ones that were written.
        """
        rows = self._tables.read("label_model").to_pylist()
        if not rows:
            return None
        row = max(rows, key=lambda row: row["model_number"])
        weights = self._objects.read(row["weights_key"])
        if hashlib.sha256(weights).hexdigest() != row["weights_sha256"]:
            raise ModelFileError(
                f"The weights {row['weights_key']} of label model {row['model_version']} are not the ones that were "
                "written: restore that object, or delete it and train again."
            )
        return TrainedLabelModel(row["model_version"], decode_label_head(weights))
