"""A real S3 on loopback: SeaweedFS, which speaks the protocol and rejects wrong signatures."""

import json
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from benchmarks.loop import find_free_ports

_WEED = Path(sys.executable).with_name("weed")
BUCKET = "lake"
_PORTS = (
    "master.port",
    "master.port.grpc",
    "volume.port",
    "volume.port.grpc",
    "filer.port",
    "filer.port.grpc",
    "s3.port",
    "s3.port.grpc",
)
_START_SECONDS = 60


@dataclass(frozen=True)
class S3Server:
    """A running S3.

    Attributes:
        endpoint: `http://127.0.0.1:port`.
        access_key_id: Whom the server lets in.
        secret_access_key: The secret that goes with it.
    """

    endpoint: str
    access_key_id: str
    secret_access_key: str

    @property
    def environment(self) -> dict[str, str]:
        """What a process that uses the server has in its environment."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key_id,
            "AWS_SECRET_ACCESS_KEY": self.secret_access_key,
            "AWS_REGION": "us-east-1",
        }


@contextmanager
def start_s3_server(folder: Path) -> Iterator[S3Server]:
    """Run a server with credentials of its own and the empty bucket `BUCKET`; it ends whatever happens.

    Raises:
        RuntimeError: If it does not store anything within a minute.
    """
    ports = dict(zip(_PORTS, find_free_ports(len(_PORTS)), strict=True))
    server = S3Server(f"http://127.0.0.1:{ports['s3.port']}", "farmy-test", secrets.token_hex(20))
    with _run(folder, server, ports) as process:
        _wait_until_it_writes(server, process, folder / "log")
        yield server


@contextmanager
def _run(folder: Path, server: S3Server, ports: dict[str, int]) -> Iterator[subprocess.Popen[bytes]]:
    data, identities = folder / "data", folder / "identities.json"
    data.mkdir()
    identity = {
        "name": "test",
        "credentials": [{"accessKey": server.access_key_id, "secretKey": server.secret_access_key}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    identities.write_text(json.dumps({"identities": [identity]}))
    arguments = [
        f"-dir={data}",
        *("-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.telemetry=false"),
        *("-master.volumeSizeLimitMB=64", "-volume.max=20"),
        *("-s3", f"-s3.config={identities}", f"-s3.localSocket={folder / 'socket'}"),
        *("-s3.port.iceberg=0", "-s3.port.lance=0"),
        *(f"-{name}={port}" for name, port in ports.items()),
    ]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([_WEED, "server", *arguments], stdout=log, stderr=log, cwd=folder)
    try:
        yield process
    finally:
        # It would take half a minute to take leave of itself; its files are thrown away.
        process.kill()
        process.wait()


def _wait_until_it_writes(server: S3Server, process: subprocess.Popen[bytes], log: Path) -> None:
    """Make the bucket, by its first object; the server answers before it can store anything."""
    store = S3Store(
        BUCKET,
        endpoint=server.endpoint,
        access_key_id=server.access_key_id,
        secret_access_key=server.secret_access_key,
        region="us-east-1",
        virtual_hosted_style_request=False,
        client_options={"allow_http": True},
        retry_config={"max_retries": 0},
    )
    deadline = time.monotonic() + _START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            obstore.put(store, "probe", b"", use_multipart=False)
        except BaseError:
            time.sleep(0.1)
        else:
            obstore.delete(store, "probe")
            return
    state = "ended" if process.poll() is not None else f"does not store anything after {_START_SECONDS} s"
    raise RuntimeError(f"The S3 server {_WEED} {state}:\n{log.read_text()[-2000:]}")
