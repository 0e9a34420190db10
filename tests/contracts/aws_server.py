"""Amazon's S3, SQS and CloudFormation on loopback: moto, which speaks their protocols, all in memory."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.loop import find_free_ports

_MOTO = Path(sys.executable).with_name("moto_server")
_START_SECONDS = 60
REGION = "us-east-1"


@dataclass(frozen=True)
class AwsServer:
    """A running server.

    Attributes:
        endpoint: `http://127.0.0.1:port`, for every service.
    """

    endpoint: str

    @property
    def environment(self) -> dict[str, str]:
        """What a process that uses the server has in its environment; it takes any credentials."""
        return {
            "AWS_ACCESS_KEY_ID": "farmy-test",
            "AWS_SECRET_ACCESS_KEY": "farmy-test",
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ENDPOINT_URL": self.endpoint,
        }

    def open_client(self, service: str) -> Any:
        """Return boto3's client of a service."""
        from boto3.session import Session

        session = Session(aws_access_key_id="farmy-test", aws_secret_access_key="farmy-test", region_name=REGION)
        return session.client(service, endpoint_url=self.endpoint)


@contextmanager
def start_aws_server(folder: Path) -> Iterator[AwsServer]:
    """Run a server without any resources; it ends whatever happens."""
    (port,) = find_free_ports(1)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([_MOTO, "-H", "127.0.0.1", "-p", str(port)], stdout=log, stderr=log, cwd=folder)
    try:
        server = AwsServer(f"http://127.0.0.1:{port}")
        _wait_until_it_answers(server, process, folder / "log")
        yield server
    finally:
        process.kill()
        process.wait()


def _wait_until_it_answers(server: AwsServer, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            httpx.get(f"{server.endpoint}/moto-api/", trust_env=False).raise_for_status()
        except httpx.TransportError:
            time.sleep(0.1)
        else:
            return
    state = "ended" if process.poll() is not None else f"does not answer after {_START_SECONDS} s"
    pytest.fail(f"The AWS server {_MOTO} {state}:\n{log.read_text()[-2000:]}")
