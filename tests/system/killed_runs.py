"""Runs of the real code in a process of their own that is killed at a chosen point, as by the kernel."""

import multiprocessing
import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext
from typing import Any

from adapters.image_index import ImageIndex
from adapters.label_studio import LabelStudio
from adapters.lake import Lake
from adapters.objects import Objects
from adapters.settings import load_settings
from adapters.tables import Tables
from cli.release import make_release
from cli.run import bring_up_to_date
from farmy_assets import definitions  # noqa: F401 - loaded here so that no run has to

RELEASE = "dataset_releases"
_OWNERS: dict[str, type] = {owner.__name__: owner for owner in (ImageIndex, LabelStudio, Objects, Tables)}
_TIMEOUT_S = 120


@dataclass(frozen=True)
class KillPoint:
    """A call at which the process is killed.

    Attributes:
        owner: The class.
        method: Its method.
        is_before: Whether the process dies just before the call, or just after it has returned.
        table: Only a call whose first argument is this table.
    """

    owner: str
    method: str
    is_before: bool
    table: str | None = None

    def __str__(self) -> str:
        return f"{'before' if self.is_before else 'after'} {self.owner}.{self.method} {self.table or ''}".strip()


def run_until_killed(settings: Mapping[str, Any], assets: tuple[str, ...], point: KillPoint) -> int | None:
    """Bring everything up to date in a process that dies at the point; return its exit code, negative for a signal."""
    return run_process(_run, dict(settings), assets, point)


def run_process(target: Callable[..., None], *arguments: object) -> int | None:
    """Call a function in a process of its own.

    Args:
        target: A function of a module.
        arguments: What it is called with, fit to be pickled.

    Returns:
        The exit code, negative for a signal; None if it had to be stopped because it did not end.
    """
    process = build_context().Process(target=target, args=arguments)
    process.start()
    process.join(_TIMEOUT_S)
    if process.is_alive():
        process.kill()
        process.join()
        return None
    return process.exitcode


def run_assets_or_release(lake: Lake, assets: tuple[str, ...]) -> None:
    """Do what `farmy run` does, or for a release what `farmy release create` does."""
    if assets == (RELEASE,):
        make_release(lake, "first")
    else:
        bring_up_to_date(lake, assets)


def build_context() -> ForkServerContext:
    """Return a context whose processes begin with everything imported and nothing started."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


def _run(settings: dict[str, Any], assets: tuple[str, ...], point: KillPoint) -> None:
    _arm(point)
    with Lake(load_settings(**settings)) as lake:
        run_assets_or_release(lake, assets)


def _arm(point: KillPoint) -> None:
    """Replace the method by one that kills the process."""
    owner = _OWNERS[point.owner]
    original: Callable[..., Any] = getattr(owner, point.method)

    def die_at_the_point(self: object, *args: Any, **kwargs: Any) -> Any:
        is_meant = point.table is None or args[0] == point.table
        if is_meant and point.is_before:
            _die()
        result = original(self, *args, **kwargs)
        if is_meant:
            _die()
        return result

    setattr(owner, point.method, die_at_the_point)


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
