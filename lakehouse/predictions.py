"""What a model's numbers mean: probabilities, the most probable labels, and the project's classes they stand for.

Running a model belongs to `adapters.models`; what it was trained on, to `lakehouse.label_head`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches

import numpy as np
import numpy.typing as npt

from lakehouse.errors import SettingsError
from lakehouse.ontology import LabelClass

Floats = npt.NDArray[np.floating]


@dataclass(frozen=True)
class RankedLabel:
    """One of the most probable labels of one image.

    Attributes:
        rank: 1 for the most probable one.
        label: The label in words.
        class_id: The project's class that the label means, if it means one.
        confidence: Probability that the model gives, 0 to 1.
    """

    rank: int
    label: str
    class_id: str | None
    confidence: float


def compute_probabilities(logits: Floats) -> npt.NDArray[np.float64]:
    """Return the softmax of each row: `[n, classes]` logits of any size to probabilities that sum to 1."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    exponentials = np.exp(shifted)
    probabilities: npt.NDArray[np.float64] = exponentials / exponentials.sum(axis=1, keepdims=True)
    return probabilities


def select_top_labels(
    probabilities: Floats, names: Sequence[str], count: int, class_ids: Sequence[str | None] | None = None
) -> list[list[RankedLabel]]:
    """Return the most probable labels of each image, best first; equal ones in the model's order.

    Args:
        probabilities: `[n, classes]`, 0 to 1.
        names: The label of each of the model's outputs.
        count: How many labels to return for each image; all of them where the model has fewer.
        class_ids: The project's class of each of the model's outputs, None where it has none; left out, none has one.

    Raises:
        ValueError: `names` or `class_ids` do not fit the width of `probabilities`.
    """
    class_ids = [None] * len(names) if class_ids is None else class_ids
    if not probabilities.shape[1] == len(names) == len(class_ids):
        raise ValueError(
            f"probabilities over {probabilities.shape[1]} outputs came with {len(names)} names and "
            f"{len(class_ids)} class ids: each output needs one of either"
        )
    best = np.argsort(-probabilities, axis=1, kind="stable")[:, :count]
    return [
        [
            RankedLabel(rank, names[output], class_ids[output], float(row[output]))
            for rank, output in enumerate(outputs.tolist(), start=1)
        ]
        for row, outputs in zip(probabilities, best, strict=True)
    ]


def map_outputs_to_classes(synonyms: Sequence[Sequence[str]], classes: Sequence[LabelClass]) -> list[str | None]:
    """Return the project's class of each output of the ImageNet model, None where no class claims it.

    Args:
        synonyms: All names of each output; a class claims an output by any of them, in any case.
        classes: The project's classes; `LabelClass.imagenet` lists what each claims.

    Raises:
        SettingsError: A class claims a label that ImageNet does not have, or two classes claim the same one.
    """
    outputs_by_name: dict[str, list[int]] = {}
    for output, names in enumerate(synonyms):
        for name in {name.casefold() for name in names}:
            outputs_by_name.setdefault(name, []).append(output)
    class_ids: list[str | None] = [None] * len(synonyms)
    for label_class in classes:
        for name in label_class.imagenet:
            for output in _find_outputs(name, label_class.id, outputs_by_name):
                if class_ids[output] not in {None, label_class.id}:
                    raise SettingsError(
                        f"mapping ImageNet's labels to classes: {name!r} is claimed by the classes "
                        f"{class_ids[output]!r} and {label_class.id!r}; leave it in the `imagenet` list of one"
                    )
                class_ids[output] = label_class.id
    return class_ids


def _find_outputs(name: str, class_id: str, outputs_by_name: dict[str, list[int]]) -> list[int]:
    if name.casefold() in outputs_by_name:
        return outputs_by_name[name.casefold()]
    near = get_close_matches(name.casefold(), outputs_by_name, n=3)
    hint = f"; near it are {', '.join(map(repr, near))}" if near else ""
    raise SettingsError(
        f"mapping ImageNet's labels to classes: class {class_id!r} claims {name!r}, which is not a label of "
        f"ImageNet{hint}; correct its `imagenet` list"
    )
