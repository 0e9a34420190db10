"""What CleanVision takes to look at a folder: its default issues, one process. Prints JSON.

The time is that of a pass over the folder from its first call to its last, after another over two of the images:
importing and warming up do not count.
"""

import contextlib
import io
import json
import sys
import time
from importlib.metadata import version
from pathlib import Path

from cleanvision import Imagelab  # type: ignore[import-not-found]  # the peers' environment has it


def look_at(paths: list[str]) -> None:
    """Find the default issues; what is said meanwhile is dropped."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        Imagelab(filepaths=paths).find_issues(n_jobs=1, verbose=False)


def measure(folder: Path) -> dict[str, float | str]:
    """Return processor and clock seconds per image."""
    paths = [str(path) for path in sorted(folder.iterdir())]
    look_at(paths[:2])
    cpu, wall = time.process_time(), time.perf_counter()
    look_at(paths)
    return {
        "cpu_s": (time.process_time() - cpu) / len(paths),
        "wall_s": (time.perf_counter() - wall) / len(paths),
        "version": version("cleanvision"),
    }


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]))))
