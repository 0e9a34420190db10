"""The programs that Farmy is measured against: how their scripts, in `benchmarks/peers/`, are run.

They are installed into an environment of their own, from `requirements/peers.lock`, and nothing of Farmy depends on
them. What the scripts measure stands in each of them.
"""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from benchmarks.results import PeersMissingError

_CHECKOUT = Path(__file__).resolve().parents[1]
_PYTHON = _CHECKOUT / ".venv-peers" / "bin" / "python"
_SCRIPTS = Path(__file__).with_name("peers")
_ONE_THREAD = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")}


def run_peer(script: str | Path, *arguments: object) -> dict[str, Any]:
    """Run a script in the peers' environment, where libraries may use one thread, and return what it prints.

    Args:
        script: Its name in `benchmarks/peers/` without the ending, or its path. It prints one JSON object.
        *arguments: Handed over as text.

    Raises:
        PeersMissingError: The environment is not there.
        RuntimeError: The script failed.
    """
    path = script if isinstance(script, Path) else _SCRIPTS / f"{script}.py"
    if not _PYTHON.exists():
        raise PeersMissingError(
            f"Cannot run {path.name}: there is no {_PYTHON.relative_to(_CHECKOUT)} with the programs that Farmy is "
            "measured against. `make bench` installs them, `make .venv-peers/.installed` does nothing else."
        )
    command = [str(_PYTHON), str(path), *map(str, arguments)]
    done = subprocess.run(command, env=os.environ | _ONE_THREAD, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{path.name} ended with {done.returncode}. It said:\n{done.stdout}{done.stderr}")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer
