import json
from datetime import date
from typing import Any

import pyarrow as pa
import pytest

from lakehouse.coco import build_coco
from lakehouse.errors import SettingsError
from lakehouse.ontology import LabelClass
from lakehouse.releases import RELEASE_MANIFEST

CLASSES = (LabelClass("pig", "Pig"), LabelClass("cow", "Milk cow"))

Row = dict[str, Any]


def make_row(image_id: str, label_id: str, class_id: str, **more: Any) -> Row:
    is_box = label_id.startswith("box")
    box = {"box_x_px": 1.0, "box_y_px": 2.5, "box_width_px": 30.0, "box_height_px": 40.0} if is_box else {}
    return {
        "image_id": image_id,
        "ingest_date": date(2025, 6, 1),
        "split": "train",
        "leader_image_id": image_id,
        "source": "phone",
        "standard_key": f"staging/standard/{image_id}.jpg",
        "standard_width_px": 640,
        "standard_height_px": 480,
        "label_id": label_id,
        "kind": "box" if is_box else "choice",
        "class_id": class_id,
        "confidence": 0.75,
        "votes_for": 3,
        "votes_total": 4,
        **box,
        **more,
    }


ROWS = [
    make_row("image-a", "choice", "cow"),
    make_row("image-b", "choice", "pig", split="test"),
    make_row("image-b", "box-1", "cow", split="test"),
    make_row("image-c", "box-1", "pig"),
    make_row("image-c", "box-2", "pig", confidence=1.0),
]


def build(rows: list[Row], classes: tuple[LabelClass, ...] = CLASSES) -> dict[str, Any]:
    return build_coco(pa.Table.from_pylist(rows, schema=RELEASE_MANIFEST), classes)


def test_categories_are_numbered_in_the_order_of_the_classes() -> None:
    assert build(ROWS)["categories"] == [
        {"id": 1, "name": "pig", "supercategory": "", "farmy_name": "Pig"},
        {"id": 2, "name": "cow", "supercategory": "", "farmy_name": "Milk cow"},
    ]


def test_every_image_is_there_once_with_its_own_class() -> None:
    images = build(ROWS)["images"]
    assert [image["id"] for image in images] == [1, 2, 3]
    assert images[1] == {
        "id": 2,
        "file_name": "images/test/image-b.jpg",
        "width": 640,
        "height": 480,
        "farmy_image_id": "image-b",
        "farmy_split": "test",
        "farmy_class_id": "pig",
        "farmy_confidence": 0.75,
    }
    assert [image["farmy_class_id"] for image in images] == ["cow", "pig", None]


def test_every_box_is_an_annotation_of_its_image_and_category() -> None:
    annotations = build(ROWS)["annotations"]
    assert annotations[0] == {
        "id": 1,
        "image_id": 2,
        "category_id": 2,
        "bbox": [1.0, 2.5, 30.0, 40.0],
        "area": 1200.0,
        "iscrowd": 0,
        "farmy_label_id": "box-1",
        "farmy_confidence": 0.75,
    }
    assert [(box["id"], box["image_id"], box["category_id"]) for box in annotations] == [
        (1, 2, 2),
        (2, 3, 1),
        (3, 3, 1),
    ]


def test_the_order_of_rows_changes_nothing() -> None:
    assert json.dumps(build(ROWS[::-1])) == json.dumps(build(ROWS))


def test_a_release_of_nothing_has_categories_only() -> None:
    coco = build([])
    assert (coco["images"], coco["annotations"], len(coco["categories"])) == ([], [], 2)


def test_a_label_of_a_class_that_was_taken_out_of_the_project_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"the classes cow, which .* farmy\.toml"):
        build(ROWS, CLASSES[:1])
