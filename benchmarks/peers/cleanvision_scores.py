"""CleanVision's scores of the pictures in a folder and below, low where one is blurred, dark or bright. Prints JSON."""

import contextlib
import io
import json
import sys
from importlib.metadata import version
from pathlib import Path

from cleanvision import Imagelab  # type: ignore[import-not-found]  # the peers' environment has it

ISSUES = {"blurred": "blurry", "dark": "dark", "bright": "light"}
"""By flaw: what CleanVision calls it."""


def score(folder: Path) -> dict[str, dict[str, float]]:
    """Return, by the path below the folder, the three scores."""
    paths = [str(path) for path in sorted(folder.rglob("*.jpg"))]
    lab = Imagelab(filepaths=paths)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        lab.find_issues({issue: {} for issue in ISSUES.values()}, n_jobs=1, verbose=False)
    return {
        str(Path(path).relative_to(folder)): {flaw: float(row[f"{issue}_score"]) for flaw, issue in ISSUES.items()}
        for path, row in lab.issues.iterrows()
    }


if __name__ == "__main__":
    print(json.dumps({"scores": score(Path(sys.argv[1])), "version": version("cleanvision")}))
