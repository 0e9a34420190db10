"""Processor time of this process and of those that it started."""

import os

import psutil


def measure_cpu_seconds() -> float:
    """Return the CPU seconds that this process, its threads and its children have spent so far.

    The difference of two calls is what was spent in between, by children that live or have ended and been waited for.
    """
    times = os.times()
    spent = times.user + times.system + times.children_user + times.children_system
    for child in psutil.Process().children(recursive=True):
        try:
            child_times = child.cpu_times()
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            # It ended meanwhile, and counts from the moment on when it is waited for; or it is not ours to look into.
            continue
        spent += child_times.user + child_times.system + child_times.children_user + child_times.children_system
    return spent
