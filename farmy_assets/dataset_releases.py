"""Dataset releases: immutable named versions of the labelled dataset.

One row is one release: the exact snapshots it was made from, its splits by near-duplicate group, a hash of its
content and a manifest of its labels in `curated/releases/`. Comes from the labels that are accepted when it is
made; read by exports.
"""

from typing import Any

import dagster as dg

from adapters.lake import Lake
from farmy_assets.day_assets import OWNERS, record_failure
from lakehouse.errors import FarmyError


class ReleaseConfig(dg.Config):
    """What a release is called.

    Attributes:
        name: Its name; left out, one that follows from its content.
    """

    name: str | None = None


@dg.asset(
    description=__doc__,
    code_version="1",
    deps=["labelled_dataset", "image_catalog"],
    group_name="labels",
    kinds={"iceberg", "parquet"},
    owners=OWNERS,
)
def dataset_releases(
    context: dg.AssetExecutionContext, config: ReleaseConfig, lake: dg.ResourceParam[Lake]
) -> dg.MaterializeResult[Any]:
    try:
        row = lake.releases.create(config.name, run_id=context.run.run_id)
    except FarmyError as error:
        raise record_failure(context, error) from error
    shown = ("name", "images", "labels", "train_images", "validation_images", "test_images", "content_hash")
    return dg.MaterializeResult(
        data_version=dg.DataVersion(row["content_hash"]), metadata={name: row[name] for name in shown}
    )
