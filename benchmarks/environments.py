"""The environment of a measurement: that of a user who has set nothing, and what the measurement says besides."""

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from unittest.mock import patch

_OURS = ("FARMY_", "AWS_", "DAGSTER_")


def build_bare_environment(variables: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return this process's environment without what is said to Farmy, Amazon or Dagster, with the variables."""
    # Without compiled modules every start would be several times slower than what people have.
    unwanted = {"PYTHONDONTWRITEBYTECODE", "PYTHONPATH"}
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(_OURS) and name not in unwanted
    }
    return inherited | {"OPENBLAS_NUM_THREADS": "1"} | dict(variables or {})


@contextmanager
def bare_environment(variables: Mapping[str, str] | None = None) -> Iterator[None]:
    """Have this process in that environment until the end of the block."""
    with patch.dict(os.environ, build_bare_environment(variables), clear=True):
        yield


@contextmanager
def silenced_logs() -> Iterator[None]:
    """Have nothing but warnings logged, where Dagster writes dozens of lines for a run."""
    logging.disable(logging.INFO)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
