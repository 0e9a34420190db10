"""A release in the COCO format: one JSON object of images, boxes and categories, as object detection tools read it.

Which labels are in a release is decided in `lakehouse.releases`; writing files and copying images belongs elsewhere.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from lakehouse.errors import SettingsError
from lakehouse.ontology import LabelClass
from lakehouse.releases import name_release_file


def build_coco(manifest: pa.Table, classes: Sequence[LabelClass]) -> dict[str, Any]:
    """Return a release as COCO instances, equal for equal manifests whatever the order of their rows.

    Categories are numbered from 1 in the order of `classes` and named by class id, which a renamed class keeps. Images
    and annotations are numbered from 1 by image id and label. What COCO has no field for stands in fields that begin
    with `farmy_`, which its readers pass over: an image's own class (`farmy_class_id`, null where only boxes were
    accepted), its split, and the share of votes behind each label. Boxes carry no `segmentation`: nobody drew outlines.

    Args:
        manifest: Rows of `RELEASE_MANIFEST`.
        classes: The project's classes.

    Raises:
        SettingsError: A label has a class that the project does not list.
    """
    category_ids = {label_class.id: number for number, label_class in enumerate(classes, start=1)}
    rows = manifest.sort_by([("image_id", "ascending"), ("label_id", "ascending")]).to_pylist()
    _check_classes(rows, category_ids)
    images = _build_images(rows)
    numbers = {image["farmy_image_id"]: image["id"] for image in images}
    return {
        "info": {"description": "Farmy dataset release"},
        "licenses": [],
        "images": images,
        "annotations": list(_build_annotations(rows, numbers, category_ids)),
        "categories": [
            {"id": number, "name": label_class.id, "supercategory": "", "farmy_name": label_class.name}
            for number, label_class in enumerate(classes, start=1)
        ],
    }


def _check_classes(rows: list[dict[str, Any]], category_ids: dict[str, int]) -> None:
    unknown = sorted({row["class_id"] for row in rows} - category_ids.keys())
    if unknown:
        raise SettingsError(
            f"exporting a release to COCO: its labels have the classes {', '.join(unknown)}, which the project does "
            "not list; put them back under `classes` in farmy.toml"
        )


def _build_images(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    images: dict[str, dict[str, Any]] = {}
    for row in rows:
        image = images.setdefault(
            row["image_id"],
            {
                "id": len(images) + 1,
                "file_name": name_release_file(row["image_id"], row["split"], row["standard_key"]),
                "width": row["standard_width_px"],
                "height": row["standard_height_px"],
                "farmy_image_id": row["image_id"],
                "farmy_split": row["split"],
                "farmy_class_id": None,
                "farmy_confidence": None,
            },
        )
        if row["kind"] == "choice":
            image |= {"farmy_class_id": row["class_id"], "farmy_confidence": row["confidence"]}
    return list(images.values())


def _build_annotations(
    rows: list[dict[str, Any]], image_numbers: dict[str, int], category_ids: dict[str, int]
) -> Iterator[dict[str, Any]]:
    boxes = [row for row in rows if row["kind"] == "box"]
    for number, row in enumerate(boxes, start=1):
        width, height = row["box_width_px"], row["box_height_px"]
        yield {
            "id": number,
            "image_id": image_numbers[row["image_id"]],
            "category_id": category_ids[row["class_id"]],
            "bbox": [row["box_x_px"], row["box_y_px"], width, height],
            "area": width * height,
            "iscrowd": 0,
            "farmy_label_id": row["label_id"],
            "farmy_confidence": row["confidence"],
        }
