"""A server on loopback that answers each path as a test says, byte by byte, and remembers what it was asked."""

import contextlib
import socket
import socketserver
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

Answer = Callable[[socket.socket], None]


@dataclass
class LoopbackServer:
    """A running server.

    Attributes:
        host: Its address.
        port: Its port.
        requests: The head of each request that came, in order; of one that sent nothing the empty text.
        names: The names that clients gave in the TLS handshake.
    """

    host: str
    port: int = 0
    requests: list[str] = field(default_factory=list)
    names: list[str | None] = field(default_factory=list)

    def url(self, path: str = "/image.png", *, host: str | None = None, scheme: str = "http") -> str:
        return f"{scheme}://{host or self.host}:{self.port}{path}"


@contextmanager
def start_loopback_server(
    answers: Mapping[str, Answer], host: str = "127.0.0.1", port: int = 0, tls: ssl.SSLContext | None = None
) -> Iterator[LoopbackServer]:
    """Answer each connection by the path of its request, without its query; `*` answers all other paths."""
    server = LoopbackServer(host)

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            # Whoever asked may have gone, which is what most of these answers are about.
            with contextlib.suppress(OSError), self._secure(self.request) as connection:
                head = _read_head(connection)
                server.requests.append(head)
                path = head.split(" ")[1].partition("?")[0] if " " in head else ""
                (answers.get(path) or answers["*"])(connection)

        def _secure(self, connection: socket.socket) -> socket.socket:
            connection.settimeout(10)
            return connection if tls is None else tls.wrap_socket(connection, server_side=True)

    class Listener(socketserver.ThreadingTCPServer):
        allow_reuse_address = True
        daemon_threads = True

    if tls is not None:
        tls.sni_callback = lambda _socket, name, _context: server.names.append(name)
    with Listener((host, port), Handler) as listener:
        server.port = listener.server_address[1]
        thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            listener.shutdown()
            thread.join()


def _read_head(connection: socket.socket) -> str:
    head = b""
    while b"\r\n\r\n" not in head and (piece := connection.recv(65536)):
        head += piece
    return head.decode("latin-1")


def answer_with(body: bytes, status: str = "200 OK", *headers: str) -> Answer:
    """Answer with a body and its length."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers, "", ""]
    return send("\r\n".join(lines).encode() + body)


def send(data: bytes) -> Answer:
    """Send bytes as they are, and end the connection."""
    return lambda connection: connection.sendall(data)


def redirect_to(location: str, status: str = "302 Found") -> Answer:
    return answer_with(b"", status, f"Location: {location}")


def drip(head: bytes, drop: bytes, *, pause_seconds: float = 0.02) -> Answer:
    """Send a beginning, then a drop again and again until the client has gone."""

    def answer(connection: socket.socket) -> None:
        connection.sendall(head)
        end = time.monotonic() + 10
        while time.monotonic() < end:
            connection.sendall(drop)
            time.sleep(pause_seconds)

    return answer


def wait_then(seconds: float, answer: Answer) -> Answer:
    def wait(connection: socket.socket) -> None:
        time.sleep(seconds)
        answer(connection)

    return wait
