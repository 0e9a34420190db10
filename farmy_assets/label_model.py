"""Label model: the project's own classes, learnt from people's labels.

One row is one trained model: a logistic regression on the packaged model's embeddings, with the labels it saw, its
accuracy on groups of near duplicates that it did not see, and its weights in `curated/models/`. Comes from the
accepted labels of all days in `labelled_dataset`; the same labels give the same model, so nothing is trained twice.
"""

from typing import Any

import dagster as dg

from adapters.lake import Lake
from farmy_assets.day_assets import OWNERS, record_failure
from farmy_assets.training import bring_model_up_to_date
from lakehouse.errors import FarmyError
from lakehouse.training import CODE_VERSION


@dg.asset(
    description=__doc__,
    code_version=CODE_VERSION,
    deps=["labelled_dataset", "near_duplicates", "cleansed_images"],
    group_name="models",
    kinds={"iceberg", "scikitlearn"},
    owners=OWNERS,
)
def label_model(context: dg.AssetExecutionContext, lake: dg.ResourceParam[Lake]) -> dg.MaterializeResult[Any]:
    try:
        outcome = bring_model_up_to_date(lake, context.run.run_id)
    except FarmyError as error:
        raise record_failure(context, error) from error
    version = outcome.get("model_version")
    return dg.MaterializeResult(data_version=None if version is None else dg.DataVersion(version), metadata=outcome)
