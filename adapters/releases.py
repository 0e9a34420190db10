"""Releases: immutable named versions of the labelled dataset, kept in `curated/` and recorded in `dataset_releases`."""

import io
import json
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from adapters.objects import Objects
from adapters.tables import Tables
from lakehouse.errors import NotFoundError, ReleaseExistsError
from lakehouse.releases import SplitShares, build_release_manifest, build_release_row, hash_release_content

PINNED_TABLES = ("raw_images", "cleansed_images", "near_duplicates", "annotations", "labelled_dataset", "image_catalog")
"""The tables whose snapshots a release pins: all that its labels follow from."""


class Releases:
    """The releases of one lake."""

    def __init__(self, tables: Tables, objects: Objects, shares: SplitShares) -> None:
        self._tables = tables
        self._objects = objects
        self._shares = shares

    def list(self) -> list[dict[str, Any]]:
        """Return the rows of all releases, oldest first."""
        rows: list[dict[str, Any]] = self._tables.read("dataset_releases").to_pylist()
        return sorted(rows, key=lambda row: row["created_at"])

    def find(self, name: str) -> dict[str, Any]:
        """Return a release's row.

        Raises:
            NotFoundError: If there is none of that name.
        """
        rows = self.list()
        for row in rows:
            if row["name"] == name:
                return row
        names = ", ".join(row["name"] for row in rows) or "none yet: `farmy release create NAME` makes one"
        raise NotFoundError(f"There is no release {name}. There are: {names}.")

    def read_manifest(self, name: str) -> pa.Table:
        """Return a release's labels, `lakehouse.releases.RELEASE_MANIFEST`."""
        return pq.read_table(io.BytesIO(self._objects.read(self.find(name)["manifest_key"])))

    def create(self, name: str | None, *, run_id: str = "") -> dict[str, Any]:
        """Make a release of the labels as they are now, and return its row.

        To make one again changes nothing as long as the labels are the same.

        Args:
            name: Its name; by default one that follows from its content.
            run_id: The run that makes it.

        Raises:
            ReleaseExistsError: If there is one of that name with other content.
            NotFoundError: If there is nothing to release.
        """
        snapshots = {table: self._tables.snapshot_id(table) for table in PINNED_TABLES}
        if None in snapshots.values():
            missing = ", ".join(table for table, snapshot_id in snapshots.items() if snapshot_id is None)
            raise NotFoundError(f"There is nothing to release yet, {missing} are empty: `farmy run` fills them.")
        manifest = self._build_manifest({table: int(snapshot_id or 0) for table, snapshot_id in snapshots.items()})
        content_hash = hash_release_content(manifest)
        name = name or f"release-{content_hash[:8]}"
        read = self._tables.read_day("dataset_releases", None)
        for row in read.rows.to_pylist():
            if row["name"] == name and row["content_hash"] == content_hash:
                return dict(row)
            if row["name"] == name:
                raise ReleaseExistsError(
                    f"The release {name} exists with other labels and is final: give the new one another name."
                )
        manifest_key = f"curated/releases/{content_hash}.parquet"
        self._objects.create(manifest_key, _encode_parquet(manifest))
        for table, snapshot_id in snapshots.items():
            self._tables.tag_snapshot(table, int(snapshot_id or 0), f"release-{name}")
        row_table = build_release_row(
            name, manifest, json.dumps(snapshots, sort_keys=True), manifest_key, datetime.now(UTC)
        )
        self._tables.commit_day(
            "dataset_releases", None, read=read, rows=row_table, append=True, properties={"farmy.run-id": run_id}
        )
        return dict(row_table.to_pylist()[0])

    def _build_manifest(self, snapshots: dict[str, int]) -> pa.Table:
        tables = {
            table: self._tables.read(table, snapshot_id=snapshots[table])
            for table in ("labelled_dataset", "image_catalog", "cleansed_images")
        }
        return build_release_manifest(
            tables["labelled_dataset"], tables["image_catalog"], tables["cleansed_images"], self._shares
        )


def _encode_parquet(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()
