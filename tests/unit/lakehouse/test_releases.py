import hashlib
import random
from collections import Counter
from datetime import UTC, date, datetime
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.errors import NotFoundError
from lakehouse.releases import (
    RELEASE_CHANGES,
    RELEASE_MANIFEST,
    SplitShares,
    assign_split,
    build_release_manifest,
    diff_releases,
    hash_release_content,
    name_release_file,
)
from lakehouse.schemas import CLEANSED_IMAGES, IMAGE_CATALOG, LABELLED_DATASET

DAY = date(2025, 6, 1)
NOON = datetime(2025, 6, 1, 12, tzinfo=UTC)
SHARES = SplitShares()

Row = dict[str, Any]


def make_label(image_id: str = "image-1", label_id: str = "choice", class_id: str | None = "cow", **more: Any) -> Row:
    is_box = label_id.startswith("box")
    box = {"box_x_px": 1.0, "box_y_px": 2.0, "box_width_px": 30.0, "box_height_px": 40.5} if is_box else {}
    return {
        "image_id": image_id,
        "ingest_date": DAY,
        "label_id": label_id,
        "kind": "box" if is_box else "choice",
        "class_id": class_id,
        **box,
        "confidence": 2 / 3,
        "agreement": 1 / 3,
        "votes_for": 2,
        "votes_total": 3,
        "annotators": ["ann", "bob"],
        "rule": "majority",
        "phase": "complete",
        "is_conflict": False,
        "fingerprint": "",
        **more,
    }


def make_catalog_row(image_id: str, leader: str | None = None) -> Row:
    return {
        "image_id": image_id,
        "ingest_date": DAY,
        "source": "phone",
        "object_key": f"landing/phone/{image_id}",
        "landed_at": NOON,
        "size_bytes": 1,
        "leader_image_id": leader,
        "fingerprint": "",
    }


def make_cleansed_row(image_id: str, **more: Any) -> Row:
    return {
        "image_id": image_id,
        "ingest_date": DAY,
        "landed_at": NOON,
        "status": "clean",
        "standard_key": f"staging/standard/{image_id}.jpg",
        "standard_width_px": 640,
        "standard_height_px": 480,
        "fingerprint": "",
        **more,
    }


def build(labels: list[Row], leaders: dict[str, str] | None = None) -> pa.Table:
    leaders = leaders or {}
    image_ids = sorted({label["image_id"] for label in labels})
    return build_release_manifest(
        pa.Table.from_pylist(labels, schema=LABELLED_DATASET),
        pa.Table.from_pylist([make_catalog_row(name, leaders.get(name)) for name in image_ids], schema=IMAGE_CATALOG),
        pa.Table.from_pylist([make_cleansed_row(name) for name in image_ids], schema=CLEANSED_IMAGES),
        SHARES,
    )


def test_a_release_holds_each_accepted_label_with_its_image() -> None:
    manifest = build([make_label(label_id="box-1", class_id="pig"), make_label()], {"image-1": "image-0"})
    assert manifest.schema.equals(RELEASE_MANIFEST)
    image = {
        "image_id": "image-1",
        "ingest_date": DAY,
        "split": assign_split("image-0", SHARES),
        "leader_image_id": "image-0",
        "source": "phone",
        "standard_key": "staging/standard/image-1.jpg",
        "standard_width_px": 640,
        "standard_height_px": 480,
    }
    votes = {"confidence": 2 / 3, "agreement": 1 / 3, "votes_for": 2, "votes_total": 3}
    box = {"box_x_px": 1.0, "box_y_px": 2.0, "box_width_px": 30.0, "box_height_px": 40.5}
    assert manifest.to_pylist() == [
        {**image, "label_id": "box-1", "kind": "box", "class_id": "pig", **box, **votes},
        {**image, "label_id": "choice", "kind": "choice", "class_id": "cow", **dict.fromkeys(box), **votes},
    ]


@pytest.mark.parametrize(
    "unfit", [{"phase": "annotating"}, {"phase": "conflict"}, {"is_conflict": True}, {"class_id": None}]
)
def test_a_release_leaves_out_what_is_open_contested_or_without_a_class(unfit: Row) -> None:
    manifest = build([make_label("image-1"), make_label("image-2", **unfit)])
    assert manifest["image_id"].to_pylist() == ["image-1"]


def test_a_release_of_nothing_is_empty() -> None:
    manifest = build([])
    assert manifest.num_rows == 0
    assert manifest.schema.equals(RELEASE_MANIFEST)


def test_an_image_without_near_duplicates_leads_itself() -> None:
    assert build([make_label("image-1")])["leader_image_id"].to_pylist() == ["image-1"]


def test_rows_are_sorted_by_image_and_label() -> None:
    labels = [make_label(f"image-{image}", label_id) for image in (2, 1, 3) for label_id in ("choice", "box-1")]
    manifest = build(labels)
    keys = list(zip(manifest["image_id"].to_pylist(), manifest["label_id"].to_pylist(), strict=True))
    assert keys == sorted(keys)


@pytest.mark.parametrize("table", ["image_catalog", "cleansed_images"])
def test_a_labelled_image_that_a_table_does_not_know_stops_the_release(table: str) -> None:
    catalog = [] if table == "image_catalog" else [make_catalog_row("image-1")]
    cleansed = [] if table == "cleansed_images" else [make_cleansed_row("image-1")]
    with pytest.raises(NotFoundError, match=f"in {table}, the first is image-1"):
        build_release_manifest(
            pa.Table.from_pylist([make_label("image-1")], schema=LABELLED_DATASET),
            pa.Table.from_pylist(catalog, schema=IMAGE_CATALOG),
            pa.Table.from_pylist(cleansed, schema=CLEANSED_IMAGES),
            SHARES,
        )


def test_a_labelled_image_without_a_standard_image_stops_the_release() -> None:
    rejected = make_cleansed_row("image-1", standard_key=None, standard_width_px=None, standard_height_px=None)
    with pytest.raises(NotFoundError, match="no standard_key in cleansed_images"):
        build_release_manifest(
            pa.Table.from_pylist([make_label("image-1")], schema=LABELLED_DATASET),
            pa.Table.from_pylist([make_catalog_row("image-1")], schema=IMAGE_CATALOG),
            pa.Table.from_pylist([rejected], schema=CLEANSED_IMAGES),
            SHARES,
        )


def test_near_duplicates_are_always_in_the_split_of_their_leader() -> None:
    leaders = {f"image-{number}": f"image-{number % 20}" for number in range(100)}
    manifest = build([make_label(image_id) for image_id in leaders], leaders)
    splits: dict[str, set[str]] = {}
    for row in manifest.to_pylist():
        splits.setdefault(row["leader_image_id"], set()).add(row["split"])
    assert {len(found) for found in splits.values()} == {1}
    assert len(set().union(*splits.values())) > 1


def test_splits_are_as_large_as_asked_for() -> None:
    counts = Counter(assign_split(f"image-{number}", SplitShares(0.6, 0.3)) for number in range(10_000))
    assert counts["train"] == pytest.approx(6000, abs=200)
    assert counts["validation"] == pytest.approx(3000, abs=200)
    assert counts["test"] == pytest.approx(1000, abs=200)


def test_the_split_of_a_group_is_never_reshuffled() -> None:
    found = [assign_split(f"image-{number}", SHARES) for number in range(8)]
    assert found == ["validation", "train", "test", "validation", "train", "train", "train", "train"]


@pytest.mark.parametrize("shares", [(-0.1, 0.5), (0.5, -0.1), (0.8, 0.3)])
def test_impossible_shares_are_refused(shares: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="exceed 1 together"):
        SplitShares(*shares)


def test_exported_files_are_named_by_image_below_their_split() -> None:
    assert name_release_file("abc", "test", "staging/standard/ab/abc.jpg") == "images/test/abc.jpg"


@given(st.randoms(use_true_random=False), st.integers(1, 5))
def test_the_content_hash_does_not_depend_on_row_order_columns_order_or_chunks(
    shuffler: random.Random, chunk: int
) -> None:
    manifest = build([make_label(f"image-{image}", label_id) for image in range(4) for label_id in ("choice", "box-1")])
    rows, names = manifest.to_pylist(), list(manifest.column_names)
    shuffler.shuffle(rows)
    shuffler.shuffle(names)
    pieces = [pa.Table.from_pylist(rows[at : at + chunk], schema=RELEASE_MANIFEST) for at in range(0, len(rows), chunk)]
    assert hash_release_content(pa.concat_tables(pieces).select(names)) == hash_release_content(manifest)


def test_the_content_hash_is_the_same_on_every_machine_and_version() -> None:
    manifest = build([make_label(), make_label(label_id="box-1")])
    start = '{"agreement": 0.3333333333333333, '
    end = (
        '"leader_image_id": "image-1", "source": "phone", "split": "train", "standard_height_px": 480, '
        '"standard_key": "staging/standard/image-1.jpg", "standard_width_px": 640, "votes_for": 2, "votes_total": 3}\n'
    )
    box = (
        '"box_height_px": 40.5, "box_width_px": 30.0, "box_x_px": 1.0, "box_y_px": 2.0, "class_id": "cow", '
        '"confidence": 0.6666666666666666, "image_id": "image-1", "ingest_date": "2025-06-01", "kind": "box", '
        '"label_id": "box-1", '
    )
    choice = (
        '"box_height_px": null, "box_width_px": null, "box_x_px": null, "box_y_px": null, "class_id": "cow", '
        '"confidence": 0.6666666666666666, "image_id": "image-1", "ingest_date": "2025-06-01", "kind": "choice", '
        '"label_id": "choice", '
    )
    expected = hashlib.sha256(f"{start}{box}{end}{start}{choice}{end}".encode()).hexdigest()
    assert hash_release_content(manifest) == expected


@pytest.mark.parametrize(
    "change",
    [
        {"split": "other"},
        {"class_id": "pig"},
        {"box_x_px": 1.0000000000000002},
        {"confidence": 1.0},
        {"image_id": "image-2"},
        {"agreement": None},
    ],
)
def test_any_other_content_has_another_hash(change: Row) -> None:
    manifest = build([make_label(label_id="box-1")])
    (row,) = manifest.to_pylist()
    changed = pa.Table.from_pylist([{**row, **change}], schema=RELEASE_MANIFEST)
    assert hash_release_content(changed) != hash_release_content(manifest)


def test_a_repeated_row_has_another_hash() -> None:
    manifest = build([make_label()])
    assert hash_release_content(pa.concat_tables([manifest, manifest])) != hash_release_content(manifest)


def test_a_diff_names_what_was_added_removed_and_changed() -> None:
    kept = [make_label("image-1"), make_label("image-2", "box-1")]
    old = build([*kept, make_label("image-3"), make_label("image-4"), make_label("image-5", "box-1")])
    new = build(
        [
            *kept,
            make_label("image-4", class_id="pig"),
            make_label("image-5", "box-1", box_x_px=9.0),
            make_label("image-6", "box-1"),
        ]
    )
    changes = diff_releases(old, new)
    assert changes.schema.equals(RELEASE_CHANGES)
    columns = ("image_id", "label_id", "change", "old_class_id", "new_class_id", "is_box_moved")
    assert [tuple(row[name] for name in columns) for row in changes.to_pylist()] == [
        ("image-3", "choice", "removed", "cow", None, False),
        ("image-4", "choice", "changed", "cow", "pig", False),
        ("image-5", "box-1", "changed", "cow", "cow", True),
        ("image-6", "box-1", "added", None, "cow", False),
    ]


def test_a_diff_shows_an_image_that_moved_to_another_split() -> None:
    old = build([make_label("image-1")], {"image-1": "image-1"})
    new = build([make_label("image-1")], {"image-1": "image-0"})
    (change,) = diff_releases(old, new).to_pylist()
    assert (change["change"], change["old_split"], change["new_split"]) == ("changed", "train", "validation")


def test_more_votes_for_the_same_label_are_no_change() -> None:
    assert diff_releases(build([make_label()]), build([make_label(votes_for=3, confidence=1.0)])).num_rows == 0
