"""The lake as a Dagster resource: opened from the settings when a run or tick begins, closed when it ends."""

from collections.abc import Iterator

import dagster as dg

from adapters.lake import Lake
from adapters.settings import load_settings


@dg.resource(description="Objects, tables, index, Label Studio and models; `farmy.toml` and FARMY_* decide which.")
def lake_resource(_context: dg.InitResourceContext) -> Iterator[Lake]:
    """Give assets and sensors a `Lake`, asked for as `lake: dg.ResourceParam[Lake]`.

    A function and not a `ConfigurableResource`, because it has no configuration of its own to show, and because
    tests and the command line put the lake that they have already opened in its place.
    """
    with Lake(load_settings()) as lake:
        yield lake
