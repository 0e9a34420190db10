"""Dagster's code servers, as its daemon starts them, waited for until they have ended."""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg
from dagster._core.test_utils import create_test_daemon_workspace_context
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import ModuleTarget


@contextmanager
def open_workspace(target: ModuleTarget, instance: dg.DagsterInstance) -> Iterator[WorkspaceProcessContext]:
    """Serve a module's definitions from a process of its own, which has ended at the end."""
    with create_test_daemon_workspace_context(target, instance) as context:
        yield context
    # Dagster asks the process to end and leaves it at that.
    context._grpc_server_registry.wait_for_processes()
