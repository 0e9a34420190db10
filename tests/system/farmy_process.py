"""The `farmy` command as people run it: a process of its own, with a home of its own."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FARMY = str(Path(sys.executable).parent / "farmy")
TIMEOUT_S = 600


@dataclass(frozen=True)
class FarmyHome:
    """One home, and what the environment says besides.

    Attributes:
        path: The folder of all local state.
        settings: Further `FARMY_*` variables.
    """

    path: Path
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        """The command's environment: ours without any `FARMY_*`, with compiled modules kept."""
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("FARMY_", "DAGSTER_")) and name != "PYTHONDONTWRITEBYTECODE"
        }
        return inherited | {"FARMY_HOME": str(self.path), "OPENBLAS_NUM_THREADS": "1", **self.settings}

    def run(self, *arguments: str, timeout_s: float = TIMEOUT_S) -> subprocess.CompletedProcess[str]:
        """Run one command to its end."""
        return subprocess.run(
            [FARMY, *arguments],
            env=self.environment,
            cwd=self.path,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def run_json(self, *arguments: str, timeout_s: float = TIMEOUT_S) -> Any:
        """Run one command with `--json`, which must succeed, and return what it says."""
        finished = self.run(*arguments, "--json", timeout_s=timeout_s)
        assert finished.returncode == 0, f"farmy {' '.join(arguments)} failed: {finished.stderr}{finished.stdout}"
        return json.loads(finished.stdout)


@dataclass(frozen=True)
class Demo:
    """A demo that has run: its home, and what it printed as JSON."""

    home: FarmyHome
    result: dict[str, Any]


def find_free_ports(count: int) -> list[int]:
    """Return ports on loopback that nothing listens on, all different."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [taken.getsockname()[1] for taken in sockets]
    for taken in sockets:
        taken.close()
    return ports
