"""What is known of every file of the sample landing, and its form as JSON."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal

Defect = Literal[
    "exact_copy",
    "resized",
    "recompressed",
    "rotated_exif",
    "gps",
    "blurred",
    "dark",
    "truncated",
    "empty",
    "html",
    "png_as_jpg",
]


@dataclass(frozen=True)
class SampleBox:
    """Where one subject is, in pixels of the file as it is displayed, after its EXIF orientation."""

    x_px: float
    y_px: float
    width_px: float
    height_px: float


@dataclass(frozen=True)
class SampleTruth:
    """What one file of the sample landing really is.

    Attributes:
        class_id: What it shows; None where there is no picture.
        boxes: Where the subjects are, tight around each.
        photograph: The photograph that shows the subject, by file name; None where there is no picture.
        scene: Identity of the picture, which all its copies share.
        defect: What was done to the file; None for a plain photograph.
        is_held_out: Whether the photograph is one that models are scored on and never trained on.
    """

    class_id: str | None
    boxes: tuple[SampleBox, ...]
    photograph: str | None
    scene: str
    defect: Defect | None
    is_held_out: bool


def sample_truth_to_json(truth_by_image_id: Mapping[str, SampleTruth]) -> str:
    """Return the truth as JSON: one object, keyed by image id, in the order of the ids."""
    return json.dumps(
        {image_id: asdict(truth_by_image_id[image_id]) for image_id in sorted(truth_by_image_id)}, indent=1
    )


def sample_truth_from_json(text: str) -> dict[str, SampleTruth]:
    """Return what `sample_truth_to_json` wrote."""
    return {
        image_id: SampleTruth(**{**fields, "boxes": tuple(SampleBox(**box) for box in fields["boxes"])})
        for image_id, fields in json.loads(text).items()
    }
