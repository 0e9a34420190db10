"""One explicit Arrow schema per table; nothing anywhere infers one.

Columns carry their unit in their name and their meaning in the metadata (`doc`). Timestamps are microseconds in UTC,
integers are signed, and every table has `ingest_date` and `fingerprint`: see `lakehouse.fingerprints`.
"""

from dataclasses import dataclass

import pyarrow as pa

TIMESTAMP = pa.timestamp("us", tz="UTC")
STRINGS = pa.list_(pa.field("element", pa.string(), nullable=False))


def _column(name: str, kind: pa.DataType, doc: str, *, nullable: bool = False) -> pa.Field:
    return pa.field(name, kind, nullable=nullable, metadata={"doc": doc})


_IMAGE_ID = _column("image_id", pa.string(), "sha256 of the original bytes, 64 hex digits")
_INGEST_DATE = _column("ingest_date", pa.date32(), "UTC date on which the first object of the image arrived")
_FINGERPRINT = _column("fingerprint", pa.string(), "hash of what the row was computed from; another one means stale")
_TASK_ID = _column("task_id", pa.int64(), "Label Studio task")
_PROJECT_ID = _column("project_id", pa.int64(), "Label Studio project")
_BOX = (
    _column("box_x_px", pa.float64(), "left edge, pixels of the standard image", nullable=True),
    _column("box_y_px", pa.float64(), "top edge, pixels of the standard image", nullable=True),
    _column("box_width_px", pa.float64(), "pixels of the standard image", nullable=True),
    _column("box_height_px", pa.float64(), "pixels of the standard image", nullable=True),
)

_TERMS = (
    _column("licence", pa.string(), "under which it comes", nullable=True),
    _column("consent", pa.string(), "granted, not_required, unknown or withdrawn", nullable=True),
    _column("retain_until", pa.date32(), "the last UTC date on which it may be kept", nullable=True),
    _column("withdrawal", pa.string(), "why it was taken back: object_deleted, consent_withdrawn", nullable=True),
)

RAW_IMAGES = pa.schema(
    [
        _column("arrival_id", pa.string(), "one version of one landed object: hash of key, time and size"),
        _IMAGE_ID,
        _column("ingest_date", pa.date32(), "UTC date on which the object arrived (its LastModified)"),
        _column("object_key", pa.string(), "key of the object in landing"),
        _column("source", pa.string(), "who landed it: the first folder below landing/"),
        _column("landed_at", TIMESTAMP, "LastModified of the object"),
        _column("size_bytes", pa.int64(), "size of the object"),
        _column("original_key", pa.string(), "key of the bytes in raw/"),
        _column("sidecar_id", pa.string(), "which version of the producer's <name>.json was read", nullable=True),
        _column("sidecar_json", pa.string(), "what the producer's <name>.json says, as it was written", nullable=True),
        _column("sidecar_problem", pa.string(), "why that could not be used, one of a closed set", nullable=True),
        *_TERMS,
        _column("is_first", pa.bool_(), "whether this is the earliest arrival of the image; a copy otherwise"),
        _column("first_arrival_id", pa.string(), "the earliest arrival of the image"),
        _column("first_ingest_date", pa.date32(), "the day of the earliest arrival"),
        _FINGERPRINT,
    ]
)

CLEANSED_IMAGES = pa.schema(
    [
        _IMAGE_ID,
        _INGEST_DATE,
        _column("landed_at", TIMESTAMP, "when the image first arrived"),
        _column("status", pa.string(), "clean, suspect or rejected"),
        _column("reason", pa.string(), "why it is not clean, one of a closed set", nullable=True),
        _column("format", pa.string(), "what the bytes are: jpeg, png, webp, ...", nullable=True),
        _column("width_px", pa.int32(), "width of the original, upright", nullable=True),
        _column("height_px", pa.int32(), "height of the original, upright", nullable=True),
        _column("orientation", pa.int32(), "EXIF orientation that was applied, 1 to 8", nullable=True),
        _column("captured_at_local", pa.timestamp("us"), "when it was taken, by the camera's clock", nullable=True),
        _column("captured_utc_offset_min", pa.int32(), "minutes by which that clock is ahead of UTC", nullable=True),
        _column("camera_make", pa.string(), "who made the camera", nullable=True),
        _column("camera_model", pa.string(), "which camera", nullable=True),
        _column("has_location", pa.bool_(), "whether the original says where it was taken", nullable=True),
        _column(
            "geohash", pa.string(), "where that was, coarsely; kept only if the settings ask for it", nullable=True
        ),
        _column("failure", pa.string(), "why it could not be read, one of a closed set", nullable=True),
        _column("decoder_warning", pa.string(), "what the decoder remarked", nullable=True),
        _column("brightness_mean", pa.float64(), "mean luma, 0 to 255", nullable=True),
        _column("contrast_std", pa.float64(), "standard deviation of luma, 0 to 127.5", nullable=True),
        _column("entropy_bits", pa.float64(), "Shannon entropy of luma, 0 to 8 bits", nullable=True),
        _column("saturation_mean", pa.float64(), "mean saturation in HSV, 0 to 1", nullable=True),
        _column("edge_sharpness", pa.float64(), "how steep edges are, 0 to about 1; low is blurred", nullable=True),
        _column("detail_brightness", pa.float64(), "how bright details are, 0 to 255; low is dark", nullable=True),
        _column("burnt_share", pa.float64(), "share of burnt-out pixels, 0 to 1; high is overexposed", nullable=True),
        _column("perceptual_hash", pa.int64(), "signs of the 64 lowest frequencies; null if too plain", nullable=True),
        _column("detail_hash", pa.int64(), "signs of the next 64 frequencies", nullable=True),
        _column("strength_hash", pa.int64(), "which of the 64 lowest frequencies are the stronger half", nullable=True),
        _column("standard_key", pa.string(), "key of the standard image in staging/", nullable=True),
        _column("standard_width_px", pa.int32(), "width of the standard image", nullable=True),
        _column("standard_height_px", pa.int32(), "height of the standard image", nullable=True),
        _column("thumbnail_key", pa.string(), "key of the thumbnail in staging/", nullable=True),
        _column(
            "decoding_fingerprint", pa.string(), "hash of what measures and pictures were made from", nullable=True
        ),
        _FINGERPRINT,
    ]
)

NEAR_DUPLICATES = pa.schema(
    [
        _IMAGE_ID,
        _INGEST_DATE,
        _column("landed_at", TIMESTAMP, "when the image first arrived"),
        _column("leader_image_id", pa.string(), "the earliest image that this one nearly equals; itself if none"),
        _column("leader_ingest_date", pa.date32(), "the day of the leader"),
        _column("distance", pa.int32(), "bits in which the two perceptual hashes differ, 0 to 64"),
        _column("perceptual_hash", pa.int64(), "of a leader; null for the others, who are not searched", nullable=True),
        _column("detail_hash", pa.int64(), "of a leader", nullable=True),
        _column("strength_hash", pa.int64(), "of a leader", nullable=True),
        _FINGERPRINT,
    ]
)

ANNOTATION_TASKS = pa.schema(
    [
        _IMAGE_ID,
        _INGEST_DATE,
        _TASK_ID,
        _PROJECT_ID,
        _column("assignees", STRINGS, "annotators asked to answer, by user name"),
        _column("standard_key", pa.string(), "key of the image that the annotators see"),
        _column("image_width_px", pa.int32(), "width of the image that the annotators see"),
        _column("image_height_px", pa.int32(), "height of the image that the annotators see"),
        _FINGERPRINT,
    ]
)

ANNOTATIONS = pa.schema(
    [
        _IMAGE_ID,
        _INGEST_DATE,
        _TASK_ID,
        _column("annotation_id", pa.int64(), "Label Studio annotation: one person's answer to one task"),
        _column("mark_id", pa.string(), "one mark within the answer"),
        _column("annotator", pa.string(), "who answered, by user name"),
        _column("kind", pa.string(), "choice, box, skip, or empty: an answer without a mark"),
        _column("class_id", pa.string(), "class that was chosen or drawn", nullable=True),
        *_BOX,
        _column("created_at", TIMESTAMP, "when the answer was first given"),
        _column("updated_at", TIMESTAMP, "when the answer was last changed"),
        _column("lead_time_s", pa.float64(), "seconds the person spent on the answer", nullable=True),
        _FINGERPRINT,
    ]
)

LABELLED_DATASET = pa.schema(
    [
        _IMAGE_ID,
        _INGEST_DATE,
        _column("label_id", pa.string(), "stable name of the label within its image"),
        _column("kind", pa.string(), "choice or box"),
        _column("class_id", pa.string(), "the accepted class, or the leading one while contested", nullable=True),
        *_BOX,
        _column("confidence", pa.float64(), "share of the votes that support the label, 0 to 1"),
        _column(
            "agreement", pa.float64(), "share of pairs of annotators that agree on the image, 0 to 1", nullable=True
        ),
        _column("votes_for", pa.int32(), "annotators who support the label"),
        _column("votes_total", pa.int32(), "annotators who answered"),
        _column("annotators", STRINGS, "who supports the label"),
        _column("rule", pa.string(), "the rule that decided"),
        _column("phase", pa.string(), "annotating, complete or conflict"),
        _column("is_conflict", pa.bool_(), "whether the annotators contest the label"),
        _column("conflict_reason", pa.string(), "what they contest", nullable=True),
        _FINGERPRINT,
    ]
)

LABEL_MODEL = pa.schema(
    [
        _column("model_version", pa.string(), "hash of the data, the settings and the code it was trained with"),
        _column("model_number", pa.int64(), "1 for the first model, then counting: the greatest is in use"),
        _column("ingest_date", pa.date32(), "the newest day whose labels the model saw"),
        _column("backbone", pa.string(), "the model that gives the embedding"),
        _column("class_ids", STRINGS, "classes the model knows, in the order of its outputs"),
        _column("images_trained", pa.int64(), "labelled images it was trained on"),
        _column(
            "cross_validated_accuracy", pa.float64(), "share right on folds of unseen groups, 0 to 1", nullable=True
        ),
        _column("labelled_snapshot_id", pa.int64(), "snapshot of labelled_dataset that it was trained on"),
        _column("weights_sha256", pa.string(), "sha256 of the weights file"),
        _column("weights_key", pa.string(), "key of the weights in curated/"),
        _FINGERPRINT,
    ]
)

PREDICTED_LABELS = pa.schema(
    [
        _IMAGE_ID,
        _INGEST_DATE,
        _column("model_name", pa.string(), "which model"),
        _column("model_version", pa.string(), "which version of it"),
        _column("rank", pa.int32(), "1 for the most probable label of that model"),
        _column("label", pa.string(), "the label in words"),
        _column("class_id", pa.string(), "the project's class, where the label is one", nullable=True),
        _column("confidence", pa.float64(), "probability that the model gives, 0 to 1"),
        _FINGERPRINT,
    ]
)

TASK_PRE_LABELS = pa.schema(
    [
        _IMAGE_ID,
        _INGEST_DATE,
        _TASK_ID,
        _PROJECT_ID,
        _column("class_id", pa.string(), "the class shown to the annotator as the model's guess"),
        _column("confidence", pa.float64(), "probability that the model gives, 0 to 1"),
        _column("priority", pa.float64(), "how much an answer is worth: 1 - confidence"),
        _column("model_name", pa.string(), "which model"),
        _column("model_version", pa.string(), "which version of it"),
        _FINGERPRINT,
    ]
)

IMAGE_CATALOG = pa.schema(
    [
        _IMAGE_ID,
        _INGEST_DATE,
        _column("source", pa.string(), "who landed it first"),
        _column("object_key", pa.string(), "key of its first object in landing"),
        _column("landed_at", TIMESTAMP, "when it first arrived"),
        _column("size_bytes", pa.int64(), "size of the original"),
        *_TERMS,
        _column("status", pa.string(), "clean, suspect or rejected; null before cleansing", nullable=True),
        _column("reason", pa.string(), "why it is not clean", nullable=True),
        _column("format", pa.string(), "what the bytes are", nullable=True),
        _column("width_px", pa.int32(), "width of the original, upright", nullable=True),
        _column("height_px", pa.int32(), "height of the original, upright", nullable=True),
        _column("brightness_mean", pa.float64(), "mean luma, 0 to 255", nullable=True),
        _column("edge_sharpness", pa.float64(), "how steep edges are, 0 to about 1; low is blurred", nullable=True),
        _column("leader_image_id", pa.string(), "leader of its near-duplicate group", nullable=True),
        _column("task_id", pa.int64(), "Label Studio task, if it was put before people", nullable=True),
        _column("phase", pa.string(), "queued, annotating, complete or conflict", nullable=True),
        _column("annotators_answered", pa.int32(), "people who answered", nullable=True),
        _column("label_class_id", pa.string(), "the accepted class", nullable=True),
        _column("label_confidence", pa.float64(), "share of the votes for it, 0 to 1", nullable=True),
        _column("predicted_label", pa.string(), "the best model's first label", nullable=True),
        _column("predicted_class_id", pa.string(), "the project's class it stands for", nullable=True),
        _column("predicted_confidence", pa.float64(), "probability that the model gives, 0 to 1", nullable=True),
        _column("predicted_by", pa.string(), "model and version", nullable=True),
        _column("standard_key", pa.string(), "key of the standard image in staging/", nullable=True),
        _column("thumbnail_key", pa.string(), "key of the thumbnail in staging/", nullable=True),
        _FINGERPRINT,
    ]
)

DATASET_RELEASES = pa.schema(
    [
        _column("name", pa.string(), "unique and final"),
        _column("ingest_date", pa.date32(), "the newest day with an image in the release"),
        _column("created_at", TIMESTAMP, "when it was made"),
        _column("content_hash", pa.string(), "sha256 over image ids, splits and labels"),
        _column("images", pa.int64(), "labelled images"),
        _column("labels", pa.int64(), "accepted labels"),
        _column("train_images", pa.int64(), "images in the train split"),
        _column("validation_images", pa.int64(), "images in the validation split"),
        _column("test_images", pa.int64(), "images in the test split"),
        _column("snapshots_json", pa.string(), "table name to Iceberg snapshot id, as JSON"),
        _column("manifest_key", pa.string(), "key of the Parquet manifest in curated/"),
        _FINGERPRINT,
    ]
)


@dataclass(frozen=True)
class TableDefinition:
    """One table of the lakehouse.

    Attributes:
        name: Name of the table, which is the name of its asset.
        schema: Its columns.
        row_key: The column by which a run decides what is stale; all rows that share a value are computed together.
        is_partitioned: Whether the table is partitioned by `ingest_date` and brought up to date a day at a time.
    """

    name: str
    schema: pa.Schema
    row_key: str = "image_id"
    is_partitioned: bool = True


TABLES: dict[str, TableDefinition] = {
    definition.name: definition
    for definition in (
        TableDefinition("raw_images", RAW_IMAGES, row_key="arrival_id"),
        TableDefinition("cleansed_images", CLEANSED_IMAGES),
        TableDefinition("near_duplicates", NEAR_DUPLICATES),
        TableDefinition("annotation_tasks", ANNOTATION_TASKS),
        TableDefinition("annotations", ANNOTATIONS),
        TableDefinition("labelled_dataset", LABELLED_DATASET),
        TableDefinition("label_model", LABEL_MODEL, row_key="model_version", is_partitioned=False),
        TableDefinition("predicted_labels", PREDICTED_LABELS),
        TableDefinition("task_pre_labels", TASK_PRE_LABELS),
        TableDefinition("image_catalog", IMAGE_CATALOG),
        TableDefinition("dataset_releases", DATASET_RELEASES, row_key="name", is_partitioned=False),
    )
}

LOOP = tuple(name for name in TABLES if name != "dataset_releases")
"""What a run brings up to date, each after what it depends on; a release is made only when asked for."""
