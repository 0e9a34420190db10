from datetime import UTC, date, datetime
from typing import Any

import pyarrow as pa
import pytest

from lakehouse.image_catalog import DayTables, build_image_catalog
from lakehouse.schemas import IMAGE_CATALOG, TABLES

DAY = date(2026, 11, 2)
NOON = datetime(2026, 11, 2, 12, tzinfo=UTC)
FILLERS: dict[str, Any] = {
    "string": "x",
    "date32[day]": DAY,
    "timestamp[us, tz=UTC]": NOON,
    "timestamp[us]": NOON.replace(tzinfo=None),
    "int64": 1,
    "int32": 1,
    "double": 0.5,
    "bool": False,
}

Row = dict[str, Any]


def make_table(name: str, rows: list[Row]) -> pa.Table:
    """Return rows of a table, what a row does not say filled in with any value that fits."""
    schema = TABLES[name].schema
    filled = [
        {field.name: row.get(field.name, FILLERS.get(str(field.type), ["x"])) for field in schema} for row in rows
    ]
    return pa.Table.from_pylist(filled, schema=schema)


def build(raw: list[Row] | None = None, **tables: list[Row]) -> list[Row]:
    images = [{"image_id": "a", "is_first": True}] if raw is None else raw
    names = ("cleansed_images", "near_duplicates", "annotation_tasks", "labelled_dataset", "predicted_labels")
    day = DayTables(
        make_table("raw_images", images), **{name: make_table(name, tables.get(name, [])) for name in names}
    )
    catalog = build_image_catalog(day)
    assert [*catalog.column_names, "fingerprint"] == IMAGE_CATALOG.names
    return list(catalog.to_pylist())


def make_label(**more: Any) -> Row:
    return {"image_id": "a", "kind": "choice", "class_id": "cow", "phase": "complete", "votes_total": 3, **more}


def test_an_image_that_was_only_landed_is_in_the_catalogue() -> None:
    (row,) = build()
    assert (row["image_id"], row["object_key"], row["landed_at"], row["size_bytes"]) == ("a", "x", NOON, 1)
    landed = {"image_id", "ingest_date", "source", "object_key", "landed_at", "size_bytes"}
    landed |= {"licence", "consent", "retain_until", "withdrawal"}
    assert {value for name, value in row.items() if name not in landed} == {None}


def test_every_image_has_one_row_by_its_first_arrival_sorted() -> None:
    rows = build(
        [
            {"image_id": "b", "is_first": True, "object_key": "first"},
            {"image_id": "b", "is_first": False, "object_key": "copy"},
            {"image_id": "c", "is_first": False},
            {"image_id": "a", "is_first": True},
        ]
    )
    assert [(row["image_id"], row["object_key"]) for row in rows] == [("a", "x"), ("b", "first")]


def test_an_image_bears_the_terms_of_its_first_arrival_and_whether_it_was_taken_back() -> None:
    terms = {"licence": "CC0", "consent": "withdrawn", "retain_until": DAY, "withdrawal": "consent_withdrawn"}
    copy = {"image_id": "a", "is_first": False, "licence": "other", "withdrawal": None}
    (row,) = build([copy, {"image_id": "a", "is_first": True, **terms}])
    assert {name: row[name] for name in terms} == terms
    (row,) = build([{"image_id": "a", "is_first": True, **dict.fromkeys(terms)}])
    assert {row[name] for name in terms} == {None}


def test_an_empty_day_has_an_empty_catalogue() -> None:
    assert build([]) == []


def test_the_verdict_measures_and_leader_are_joined() -> None:
    (row,) = build(
        cleansed_images=[{"image_id": "a", "status": "suspect", "reason": "dark", "brightness_mean": 3.5}],
        near_duplicates=[{"image_id": "a", "leader_image_id": "other"}],
    )
    assert (row["status"], row["reason"], row["brightness_mean"]) == ("suspect", "dark", 3.5)
    assert row["leader_image_id"] == "other"


def test_an_open_task_is_queued_until_somebody_answers() -> None:
    tasks = [{"image_id": "a", "task_id": 7}]
    (row,) = build(annotation_tasks=tasks)
    assert (row["task_id"], row["phase"], row["annotators_answered"]) == (7, "queued", None)
    (row,) = build(annotation_tasks=tasks, labelled_dataset=[make_label(phase="annotating", votes_total=1)])
    assert (row["phase"], row["annotators_answered"], row["label_class_id"]) == ("annotating", 1, None)


def test_a_complete_label_is_the_images_label() -> None:
    (row,) = build(annotation_tasks=[{"image_id": "a"}], labelled_dataset=[make_label(confidence=0.75)])
    assert (row["phase"], row["label_class_id"], row["label_confidence"]) == ("complete", "cow", 0.75)


@pytest.mark.parametrize("more", [{"is_conflict": True, "phase": "conflict"}, {"phase": "annotating"}])
def test_what_is_contested_or_awaited_is_nobodys_label(more: Row) -> None:
    (row,) = build(annotation_tasks=[{"image_id": "a"}], labelled_dataset=[make_label(**more)])
    assert (row["label_class_id"], row["label_confidence"]) == (None, None)
    assert row["phase"] == more["phase"]


def test_boxes_tell_who_answered_and_never_the_images_class() -> None:
    (row,) = build(annotation_tasks=[{"image_id": "a"}], labelled_dataset=[make_label(kind="box", label_id="box-1")])
    assert (row["phase"], row["annotators_answered"], row["label_class_id"]) == ("complete", 3, None)


def test_the_best_guess_is_the_first_of_the_projects_own_model_where_there_is_one() -> None:
    packaged = {"image_id": "a", "rank": 1, "label": "tabby", "model_name": "packaged", "model_version": "1"}
    own = {**packaged, "label": "Cow", "class_id": "cow", "model_name": "label_model", "model_version": "v2"}
    (row,) = build(predicted_labels=[{**packaged, "class_id": None}, {**packaged, "rank": 2, "label": "second"}])
    assert (row["predicted_label"], row["predicted_class_id"], row["predicted_by"]) == ("tabby", None, "packaged 1")
    for predicted in ([own, packaged], [packaged, own]):
        (row,) = build(predicted_labels=predicted)
        assert (row["predicted_label"], row["predicted_by"]) == ("Cow", "label_model v2")
