"""The label model: a logistic regression from an image's embedding to the project's classes.

Training, measuring and the file format live here; embeddings come from `adapters.models`. Scikit-learn is imported only
to train (over two CPU seconds): a trained head is two arrays, applied with numpy.

The file is laid out as safetensors, so that it holds no code and any reader of that format opens it: the size of the
header (unsigned 64-bit), the header (JSON, padded with spaces to a multiple of eight bytes), then the float32 arrays
`weights` `[classes, width]` and `bias` `[classes]`, row by row; all little-endian. Equal heads have equal bytes.
"""

import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lakehouse.errors import ModelFileError
from lakehouse.predictions import compute_probabilities

Embeddings = npt.NDArray[np.float32]

_FORMAT = "farmy_label_head"
_FORMAT_VERSION = 1
_HEADER_SIZE = struct.Struct("<Q")
_FLOAT = np.dtype("<f4")


@dataclass(frozen=True)
class LabelHeadSettings:
    """How a label head is trained.

    Attributes:
        min_images_per_class: Accepted images that a class needs to be learnt.
        retrain_after_images: Newly labelled images after which the training sensor asks for another model.
        inverse_regularization: Scikit-learn's `C`: smaller keeps the weights smaller. Few labels want a small one.
        max_iterations: Steps after which the solver gives up; it needs some tens.
        folds: Parts of the cross-validation.
        seed: Deals groups out to the folds; training itself has no chance in it.
    """

    min_images_per_class: int = 5
    retrain_after_images: int = 20
    inverse_regularization: float = 0.01
    max_iterations: int = 1000
    folds: int = 5
    seed: int = 0


@dataclass(frozen=True, eq=False)
class LabelHead:
    """A trained head.

    Attributes:
        class_ids: Classes it knows, in the order of its outputs.
        weights: `[classes, width]`, to be multiplied with embeddings as they are: scaling is already part of them.
        bias: `[classes]`.
    """

    class_ids: tuple[str, ...]
    weights: npt.NDArray[np.float32]
    bias: npt.NDArray[np.float32]

    def predict_probabilities(self, embeddings: Embeddings) -> npt.NDArray[np.float64]:
        """Return `[n, classes]` probabilities that sum to 1 for each of `[n, width]` embeddings.

        Raises:
            ValueError: The embeddings are not as wide as those the head was trained on.
        """
        if embeddings.ndim != 2 or embeddings.shape[1] != self.weights.shape[1]:
            raise ValueError(
                f"a label head for embeddings of width {self.weights.shape[1]} was given an array of shape "
                f"{embeddings.shape}: use the backbone that it was trained with"
            )
        if not len(embeddings):
            return np.zeros((0, len(self.class_ids)))
        return compute_probabilities(embeddings @ self.weights.T + self.bias)


def train_label_head(embeddings: Embeddings, class_ids: Sequence[str], settings: LabelHeadSettings) -> LabelHead:
    """Fit a head to labelled embeddings.

    The same rows in the same order give the same head, bit for bit, on one machine and set of versions: sort them by
    image id, as another order may change the last bits.

    Args:
        embeddings: `[n, width]`.
        class_ids: The label of each row.
        settings: How to train.

    Raises:
        ValueError: The labels do not fit the embeddings, or name fewer than two classes.
    """
    _check_rows(embeddings, class_ids)
    known = sorted(set(class_ids))
    if len(known) < 2:
        raise ValueError(f"a label head needs at least two classes to tell apart, the labels name {known}")
    # Deferred: see the module's docstring.
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler
    from threadpoolctl import threadpool_limits

    # More BLAS threads make these small products twenty times slower, and their sums depend on the number of threads.
    with threadpool_limits(limits=1, user_api="blas"):
        scaler = StandardScaler().fit(embeddings.astype(np.float64))
        regression = LogisticRegression(C=settings.inverse_regularization, max_iter=settings.max_iterations)
        regression.fit(scaler.transform(embeddings.astype(np.float64)), np.asarray(class_ids))
        weights, intercepts = regression.coef_, regression.intercept_
        if len(known) == 2:
            # For two classes the fit gives only the second one's side of the comparison.
            weights, intercepts = np.vstack([-weights, weights]) / 2, np.concatenate([-intercepts, intercepts]) / 2
        weights = weights / scaler.scale_
        bias = intercepts - weights @ scaler.mean_
    return LabelHead(tuple(known), weights.astype(np.float32), bias.astype(np.float32))


def cross_validate_label_head(
    embeddings: Embeddings, class_ids: Sequence[str], groups: Sequence[str], settings: LabelHeadSettings
) -> float | None:
    """Return the share of images whose class a head names rightly that has not seen their group.

    Only classes with at least `settings.folds` groups are measured, so that each part can hold some of each.

    Args:
        embeddings: `[n, width]`.
        class_ids: The label of each row.
        groups: The near-duplicate group of each row: copies of a picture must not stand on both sides.
        settings: How to train, and in how many parts to measure.

    Returns:
        0 to 1, or None when fewer than two classes have enough groups.

    Raises:
        ValueError: The labels or the groups do not fit the embeddings.
    """
    _check_rows(embeddings, class_ids)
    _check_rows(embeddings, groups)
    rows = _select_measurable_rows(class_ids, groups, settings.folds)
    if not len(rows):
        return None
    from sklearn.model_selection import StratifiedGroupKFold

    measured, labels = embeddings[rows], np.asarray(class_ids)[rows]
    folds = StratifiedGroupKFold(n_splits=settings.folds, shuffle=True, random_state=settings.seed)
    right = 0
    for seen, unseen in folds.split(measured, labels, np.asarray(groups)[rows]):
        head = train_label_head(measured[seen], labels[seen].tolist(), settings)
        best = head.predict_probabilities(measured[unseen]).argmax(axis=1)
        right += int((np.asarray(head.class_ids)[best] == labels[unseen]).sum())
    return right / len(rows)


def encode_label_head(head: LabelHead) -> bytes:
    """Return the file of a head; its layout is in the module's docstring."""
    header = _encode_header(head.class_ids, head.weights.shape[1])
    return header + head.weights.astype(_FLOAT).tobytes() + head.bias.astype(_FLOAT).tobytes()


def decode_label_head(content: bytes) -> LabelHead:
    """Return the head of a file that `encode_label_head` made.

    Raises:
        ModelFileError: The bytes are anything else.
    """
    try:
        (size,) = _HEADER_SIZE.unpack_from(content)
        header = json.loads(content[_HEADER_SIZE.size : _HEADER_SIZE.size + size])
        class_ids = tuple(json.loads(header["__metadata__"]["class_ids"]))
        width = int(header["weights"]["shape"][1])
        expected = _encode_header(class_ids, width)
    except (struct.error, ValueError, TypeError, LookupError, OverflowError, RecursionError) as error:
        raise ModelFileError(_describe_bad_file(content, "its header cannot be read")) from error
    # Only our own writer makes this header, so that one comparison checks every field of it.
    if not content.startswith(expected) or not all(isinstance(class_id, str) for class_id in class_ids):
        raise ModelFileError(_describe_bad_file(content, "its header is not one that this version of Farmy writes"))
    count = len(class_ids)
    numbers = content[len(expected) :]
    if len(numbers) != (count * width + count) * _FLOAT.itemsize:
        raise ModelFileError(_describe_bad_file(content, f"its arrays take {len(numbers)} bytes"))
    values = np.frombuffer(numbers, _FLOAT).astype(np.float32)
    if not np.isfinite(values).all():
        raise ModelFileError(_describe_bad_file(content, "some of its weights are not finite numbers"))
    return LabelHead(class_ids, values[: count * width].reshape(count, width), values[count * width :])


def _encode_header(class_ids: tuple[str, ...], width: int) -> bytes:
    weights_end = len(class_ids) * width * _FLOAT.itemsize
    header = {
        "__metadata__": {
            "class_ids": json.dumps(class_ids),
            "format": _FORMAT,
            "version": str(_FORMAT_VERSION),
        },
        "weights": {"dtype": "F32", "shape": [len(class_ids), width], "data_offsets": [0, weights_end]},
        "bias": {
            "dtype": "F32",
            "shape": [len(class_ids)],
            "data_offsets": [weights_end, weights_end + len(class_ids) * _FLOAT.itemsize],
        },
    }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return _HEADER_SIZE.pack(len(text)) + text


def _describe_bad_file(content: bytes, found: str) -> str:
    return (
        f"reading a label model of {len(content)} bytes: {found}; it is damaged or was not written by Farmy: "
        "train the label model again"
    )


def _check_rows(embeddings: Embeddings, values: Sequence[str]) -> None:
    if embeddings.ndim != 2 or len(embeddings) != len(values):
        raise ValueError(f"embeddings of shape {embeddings.shape} came with {len(values)} labels or groups")


def _select_measurable_rows(class_ids: Sequence[str], groups: Sequence[str], folds: int) -> npt.NDArray[np.intp]:
    groups_by_class: dict[str, set[str]] = {}
    for class_id, group in zip(class_ids, groups, strict=True):
        groups_by_class.setdefault(class_id, set()).add(group)
    measurable = {class_id for class_id, members in groups_by_class.items() if len(members) >= folds}
    if len(measurable) < 2:
        return np.zeros(0, np.intp)
    return np.flatnonzero([class_id in measurable for class_id in class_ids])
