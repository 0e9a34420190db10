"""Dataset releases: which labels are in one, in which split, and what makes two releases the same or different.

Pure decisions over tables. Writing a release belongs to its asset; the formats it can be exported to have modules of
their own, such as `lakehouse.coco`.
"""

import hashlib
import json
from collections import Counter
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import PurePosixPath
from typing import Literal, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.errors import NotFoundError
from lakehouse.schemas import CLEANSED_IMAGES, DATASET_RELEASES, IMAGE_CATALOG, LABELLED_DATASET

Split = Literal["train", "validation", "test"]

_BOX_COLUMNS = ("box_x_px", "box_y_px", "box_width_px", "box_height_px")
_LABEL_COLUMNS = (
    *("image_id", "ingest_date", "label_id", "kind", "class_id", *_BOX_COLUMNS),
    *("confidence", "agreement", "votes_for", "votes_total"),
)


def _describe(name: str, doc: str, *, nullable: bool = False) -> pa.Field:
    return pa.field(name, pa.string(), nullable=nullable, metadata={"doc": doc})


RELEASE_MANIFEST = pa.schema(
    [
        LABELLED_DATASET.field("image_id"),
        LABELLED_DATASET.field("ingest_date"),
        _describe("split", "train, validation or test"),
        IMAGE_CATALOG.field("leader_image_id").with_nullable(False),
        IMAGE_CATALOG.field("source"),
        CLEANSED_IMAGES.field("standard_key").with_nullable(False),
        CLEANSED_IMAGES.field("standard_width_px").with_nullable(False),
        CLEANSED_IMAGES.field("standard_height_px").with_nullable(False),
        LABELLED_DATASET.field("label_id"),
        LABELLED_DATASET.field("kind"),
        LABELLED_DATASET.field("class_id").with_nullable(False),
        *(LABELLED_DATASET.field(name) for name in _BOX_COLUMNS),
        *(LABELLED_DATASET.field(name) for name in ("confidence", "agreement", "votes_for", "votes_total")),
    ]
)

RELEASE_CHANGES = pa.schema(
    [
        RELEASE_MANIFEST.field("image_id"),
        RELEASE_MANIFEST.field("label_id"),
        RELEASE_MANIFEST.field("kind"),
        _describe("change", "added, removed or changed"),
        _describe("old_class_id", "class in the old release, null where added", nullable=True),
        _describe("new_class_id", "class in the new release, null where removed", nullable=True),
        _describe("old_split", "split in the old release, null where added", nullable=True),
        _describe("new_split", "split in the new release, null where removed", nullable=True),
        pa.field("is_box_moved", pa.bool_(), nullable=False, metadata={"doc": "whether a kept box has other edges"}),
    ]
)


@dataclass(frozen=True)
class SplitShares:
    """How a release is split; what train and validation leave is test.

    Attributes:
        train: Share of near-duplicate groups to train on, 0 to 1.
        validation: Share of groups to tune on, 0 to 1.
    """

    train: float = 0.8
    validation: float = 0.1

    def __post_init__(self) -> None:
        if self.train < 0 or self.validation < 0 or self.train + self.validation > 1:
            raise ValueError(
                f"the shares of train ({self.train}) and validation ({self.validation}) must not be negative nor "
                "exceed 1 together"
            )


def assign_split(leader_image_id: str, shares: SplitShares) -> Split:
    """Return the split of all images of one near-duplicate group: fixed by its leader, whatever else is in the release.

    Args:
        leader_image_id: The leader of the group; images that are nearly equal thus never stand on both sides.
        shares: How large the splits are to be on average.
    """
    digest = hashlib.sha256(f"split {leader_image_id}".encode()).digest()
    position = int.from_bytes(digest[:8], "big") / 2**64
    if position < shares.train:
        return "train"
    return "validation" if position < shares.train + shares.validation else "test"


def build_release_manifest(labelled: pa.Table, catalog: pa.Table, cleansed: pa.Table, shares: SplitShares) -> pa.Table:
    """Return the labels of a release: the accepted ones of images on which nothing is contested or awaited.

    Args:
        labelled: Rows of `labelled_dataset`.
        catalog: Rows of `image_catalog`, of all images in `labelled` at least.
        cleansed: Rows of `cleansed_images`, of all images in `labelled` at least.
        shares: How to split the images.

    Returns:
        `RELEASE_MANIFEST`, sorted by image and label.

    Raises:
        NotFoundError: A labelled image is not in the catalog or has no standard image.
    """
    labels = labelled.filter(
        (pc.field("phase") == "complete") & ~pc.field("is_conflict") & pc.field("class_id").is_valid()
    ).select(_LABEL_COLUMNS)
    images = catalog.select(["image_id", "leader_image_id", "source"]).join(
        cleansed.select(["image_id", "standard_key", "standard_width_px", "standard_height_px"]), "image_id"
    )
    rows = labels.join(images, "image_id")
    _check_images(rows)
    leaders = pc.coalesce(rows["leader_image_id"], rows["image_id"])
    rows = rows.set_column(rows.schema.get_field_index("leader_image_id"), "leader_image_id", leaders)
    rows = rows.append_column(
        "split", pa.array([assign_split(leader, shares) for leader in leaders.to_pylist()], pa.string())
    )
    rows = rows.sort_by([("image_id", "ascending"), ("label_id", "ascending")])
    return rows.select(RELEASE_MANIFEST.names).cast(RELEASE_MANIFEST)


def _check_images(rows: pa.Table) -> None:
    for column, table in (("source", "image_catalog"), ("standard_key", "cleansed_images")):
        missing = rows.filter(pc.field(column).is_null())["image_id"].unique().to_pylist()
        if missing:
            raise NotFoundError(
                f"building a release: {len(missing)} labelled images have no {column} in {table}, the first is "
                f"{min(missing)}; bring {table} up to date for their days"
            )


def name_release_file(image_id: str, split: str, standard_key: str) -> str:
    """Return where an exported release keeps an image, relative to the folder of the export."""
    return f"images/{split}/{image_id}{PurePosixPath(standard_key).suffix}"


def hash_release_content(manifest: pa.Table) -> str:
    """Return the sha256, 64 hex digits, of what a release says.

    It depends on the columns and rows alone: not on their order, on files, or on versions of the libraries that wrote
    them. A row is JSON with sorted names, days as ISO dates, floats as the shortest decimals that read back the same.
    """
    rows = sorted(json.dumps(row, sort_keys=True, default=_format_day) for row in manifest.to_pylist())
    digest = hashlib.sha256()
    for row in rows:
        digest.update(row.encode() + b"\n")
    return digest.hexdigest()


def _format_day(value: object) -> str:
    if isinstance(value, date):
        return value.isoformat()
    raise TypeError(f"a release manifest holds a {type(value).__name__}, which has no canonical form")


def diff_releases(old: pa.Table, new: pa.Table) -> pa.Table:
    """Return what changed from one release manifest to another: `RELEASE_CHANGES`, sorted by image and label.

    A label is changed when its class, its box or its split is another one; more votes for the same label are no change.
    """
    before, after = _index_labels(old), _index_labels(new)
    changes = [
        _describe_change(key, before.get(key), after.get(key))
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    ]
    return pa.Table.from_pylist(changes, schema=RELEASE_CHANGES)


class _LabelKey(NamedTuple):
    image_id: str
    label_id: str
    kind: str


class _LabelContent(NamedTuple):
    class_id: str
    split: str
    box: tuple[float | None, ...]


def _index_labels(manifest: pa.Table) -> dict[_LabelKey, _LabelContent]:
    return {
        _LabelKey(row["image_id"], row["label_id"], row["kind"]): _LabelContent(
            row["class_id"], row["split"], tuple(row[name] for name in _BOX_COLUMNS)
        )
        for row in manifest.to_pylist()
    }


def _describe_change(key: _LabelKey, old: _LabelContent | None, new: _LabelContent | None) -> dict[str, object]:
    return {
        **key._asdict(),
        "change": "added" if old is None else "removed" if new is None else "changed",
        "old_class_id": old.class_id if old else None,
        "new_class_id": new.class_id if new else None,
        "old_split": old.split if old else None,
        "new_split": new.split if new else None,
        "is_box_moved": old is not None and new is not None and old.box != new.box,
    }


def build_release_row(
    name: str, manifest: pa.Table, snapshots_json: str, manifest_key: str, created_at: datetime
) -> pa.Table:
    """Return a release's row of `dataset_releases`.

    Args:
        name: Its name.
        manifest: Its labels.
        snapshots_json: Table name to Iceberg snapshot id, as JSON.
        manifest_key: Key of the manifest in curated/.
        created_at: When it is made.

    Raises:
        NotFoundError: If there is no label in it.
    """
    if not manifest.num_rows:
        raise NotFoundError(f"The release {name} would hold no label: have people answer tasks, then `farmy run`.")
    images = {row["image_id"]: row["split"] for row in manifest.select(["image_id", "split"]).to_pylist()}
    splits = Counter(images.values())
    content_hash = hash_release_content(manifest)
    row = {
        "name": name,
        "ingest_date": pc.max(manifest.column("ingest_date")).as_py(),
        "created_at": created_at,
        "content_hash": content_hash,
        "images": len(images),
        "labels": manifest.num_rows,
        "train_images": splits["train"],
        "validation_images": splits["validation"],
        "test_images": splits["test"],
        "snapshots_json": snapshots_json,
        "manifest_key": manifest_key,
        "fingerprint": content_hash,
    }
    return pa.Table.from_pylist([row], schema=DATASET_RELEASES)
