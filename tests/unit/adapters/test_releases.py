import io
import json
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from adapters.objects import Objects
from adapters.releases import PINNED_TABLES, Releases
from adapters.tables import Tables, open_sqlite_tables
from lakehouse.errors import NotFoundError, ReleaseExistsError
from lakehouse.releases import RELEASE_MANIFEST, SplitShares
from lakehouse.schemas import TABLES

DAY = date(2026, 11, 2)
FILLERS: dict[str, Any] = {
    "string": "x",
    "date32[day]": DAY,
    "timestamp[us, tz=UTC]": datetime(2026, 11, 2, 12, tzinfo=UTC),
    "timestamp[us]": datetime(2026, 11, 2, 12),  # noqa: DTZ001
    "int64": 1,
    "int32": 1,
    "double": 0.5,
    "bool": False,
}


class TinyLake:
    """Tables and objects whose labels a test writes as it likes."""

    def __init__(self, folder: Path) -> None:
        self.objects = Objects.in_folder(folder)
        self.tables: Tables = open_sqlite_tables(str(folder / "catalog.db"), f"file://{folder}/tables")
        self.releases = Releases(self.tables, self.objects, SplitShares())

    def write(self, name: str, *rows: dict[str, Any]) -> None:
        schema = TABLES[name].schema
        filled = [
            {field.name: row.get(field.name, FILLERS.get(str(field.type), ["x"])) for field in schema} for row in rows
        ]
        table = pa.Table.from_pylist(filled, schema=schema)
        self.tables.commit_day(name, DAY, read=self.tables.read_day(name, DAY), rows=table)

    def label(self, **classes: str) -> None:
        """Let the images, and no others, have accepted classes."""
        for name in set(PINNED_TABLES) - {"labelled_dataset"}:
            self.write(name, *({"image_id": image_id, "leader_image_id": image_id} for image_id in classes))
        self.write(
            "labelled_dataset",
            *(
                {
                    "image_id": image_id,
                    "label_id": "choice",
                    "kind": "choice",
                    "class_id": class_id,
                    "phase": "complete",
                }
                for image_id, class_id in classes.items()
            ),
        )


@pytest.fixture
def lake(tmp_path: Path) -> TinyLake:
    return TinyLake(tmp_path)


def test_a_lake_without_labels_has_nothing_to_release(lake: TinyLake) -> None:
    with pytest.raises(NotFoundError, match=r"nothing to release yet, raw_images, .* are empty: `farmy run`"):
        lake.releases.create("first")
    assert lake.releases.list() == []


def test_labels_that_are_not_accepted_are_nothing_to_release(lake: TinyLake) -> None:
    lake.label(a="cow")
    lake.write("labelled_dataset", {"image_id": "a", "kind": "choice", "class_id": "cow", "phase": "annotating"})
    with pytest.raises(NotFoundError, match="first would hold no label"):
        lake.releases.create("first")
    assert lake.releases.list() == []


def test_a_release_holds_the_accepted_labels_and_is_recorded(lake: TinyLake) -> None:
    lake.label(a="cow", b="hen")
    row = lake.releases.create("first", run_id="run-1")
    assert (row["name"], row["images"], row["labels"]) == ("first", 2, 2)
    assert lake.releases.list() == [row]
    assert lake.releases.find("first") == row
    manifest = lake.releases.read_manifest("first")
    assert manifest.schema.names == RELEASE_MANIFEST.names
    assert dict(zip(manifest["image_id"].to_pylist(), manifest["class_id"].to_pylist(), strict=True)) == {
        "a": "cow",
        "b": "hen",
    }


def test_making_a_release_again_changes_nothing_while_the_labels_are_the_same(lake: TinyLake) -> None:
    lake.label(a="cow")
    row = lake.releases.create("first")
    snapshot = lake.tables.snapshot_id("dataset_releases")
    lake.label(a="cow")
    assert lake.releases.create("first") == row
    assert lake.tables.snapshot_id("dataset_releases") == snapshot


def test_a_name_is_final(lake: TinyLake) -> None:
    lake.label(a="cow")
    row = lake.releases.create("first")
    lake.label(a="hen")
    with pytest.raises(ReleaseExistsError, match="first exists with other labels and is final"):
        lake.releases.create("first")
    assert lake.releases.list() == [row]
    assert lake.releases.read_manifest("first")["class_id"].to_pylist() == ["cow"]


def test_a_release_without_a_name_is_named_by_its_content(lake: TinyLake) -> None:
    lake.label(a="cow")
    row = lake.releases.create(None)
    assert row["name"] == f"release-{row['content_hash'][:8]}"
    assert lake.releases.create(None) == row


def test_releases_are_listed_in_the_order_in_which_they_were_made(lake: TinyLake) -> None:
    for name, class_id in (("z", "cow"), ("a", "hen"), ("m", "pig")):
        lake.label(a=class_id)
        lake.releases.create(name)
    assert [row["name"] for row in lake.releases.list()] == ["z", "a", "m"]


def test_the_same_labels_under_two_names_are_one_manifest(lake: TinyLake) -> None:
    lake.label(a="cow")
    one, other = lake.releases.create("one"), lake.releases.create("other")
    assert one["manifest_key"] == other["manifest_key"]
    assert len(lake.objects.list("curated/releases/")) == 1


def test_every_snapshot_that_the_labels_follow_from_is_pinned_by_a_tag(lake: TinyLake) -> None:
    lake.label(a="cow")
    snapshots = json.loads(lake.releases.create("first")["snapshots_json"])
    lake.label(a="hen", b="hen")
    assert set(snapshots) == set(PINNED_TABLES)
    for table, snapshot_id in snapshots.items():
        assert lake.tables.catalog.load_table(f"farmy.{table}").refs()["release-first"].snapshot_id == snapshot_id
    old = lake.tables.read("labelled_dataset", snapshot_id=snapshots["labelled_dataset"])
    assert old["class_id"].to_pylist() == ["cow"]


def test_the_manifest_is_parquet_that_anybody_reads(lake: TinyLake) -> None:
    lake.label(a="cow")
    key = lake.releases.create("first")["manifest_key"]
    assert pq.read_table(io.BytesIO(lake.objects.read(key))).num_rows == 1


def test_a_release_that_does_not_exist_is_not_found_and_those_that_do_are_named(lake: TinyLake) -> None:
    with pytest.raises(NotFoundError, match=r"no release x\. There are: none yet"):
        lake.releases.find("x")
    lake.label(a="cow")
    lake.releases.create("first")
    with pytest.raises(NotFoundError, match=r"no release x\. There are: first\."):
        lake.releases.read_manifest("x")
