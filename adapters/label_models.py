"""The project's own models: which one is in use, and its weights."""

import hashlib
from typing import Any

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

    @property
    def newest_version(self) -> str | None:
        """The version in use; None until a model was trained."""
        newest = self.find_newest()
        return None if newest is None else str(newest["model_version"])

    def find_newest(self) -> dict[str, Any] | None:
        """Return the row of the model in use; None until one was trained."""
        rows: list[dict[str, Any]] = self._tables.read("label_model").to_pylist()
        return max(rows, key=lambda row: int(row["model_number"]), default=None)

    def load_newest(self) -> TrainedLabelModel | None:
        """Return the model in use; None until one was trained.

        Raises:
            ModelFileError: If its weights are not the ones that were written.
        """
        row = self.find_newest()
        if row is None:
            return None
        weights = self._objects.read(row["weights_key"])
        if hashlib.sha256(weights).hexdigest() != row["weights_sha256"]:
            raise ModelFileError(
                f"The weights {row['weights_key']} of label model {row['model_version']} are not the ones that were "
                "written: restore that object from a copy."
            )
        return TrainedLabelModel(row["model_version"], decode_label_head(weights))
