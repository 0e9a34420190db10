"""Images by URL, from servers that nobody vouches for.

The rules of what may be asked for are in `lakehouse/addresses.py`. Here they are enforced where no trick gets past
them: a connection is made to an address that was looked up and judged in the same step, never to a name, and all that
happens on it counts against one deadline.
"""

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from ipaddress import ip_address
from queue import Empty, SimpleQueue
from urllib.parse import urljoin

import httpcore

from lakehouse.addresses import IPNetwork, WebAddress, find_obstacle, parse_web_address, show_url
from lakehouse.decoding import sniff_format
from lakehouse.errors import FetchFailedError, FetchRefusedError
from lakehouse.submissions import MAX_IMAGE_BYTES

MAX_REDIRECTS = 3
MAX_SECONDS = 20.0
_REDIRECTS = {301, 302, 303, 307, 308}
_MAY_WORK_LATER = {408, 425, 429}
_HEADERS = [("Accept", "image/*"), ("Accept-Encoding", "identity"), ("Connection", "close"), ("User-Agent", "farmy")]

Resolver = Callable[[str, int], Sequence[str]]
"""From a name and a port to IP addresses; raises `OSError` if there are none."""


@dataclass(frozen=True)
class FetchedImage:
    """An image that was fetched.

    Attributes:
        data: Its bytes.
        url: Where they came from, after redirects; may hold secrets in its query.
        format: What the bytes are: `jpeg`, `png`, ...
    """

    data: bytes = field(repr=False)
    url: str
    format: str


class UrlFetcher:
    """Fetches images from the public internet and from nowhere else.

    Args:
        allowed_networks: Networks that may be connected to although they are not public.
        max_bytes: The largest body that is taken.
        max_seconds: For a fetch in all: look-ups, redirects, headers and body.
        resolver: Looks names up; the system's by default.
        tls: Whom to trust; the usual authorities by default.
    """

    def __init__(
        self,
        allowed_networks: Iterable[IPNetwork] = (),
        *,
        max_bytes: int = MAX_IMAGE_BYTES,
        max_seconds: float = MAX_SECONDS,
        resolver: Resolver | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._allowed_networks = tuple(allowed_networks)
        self._max_bytes = max_bytes
        self._max_seconds = max_seconds
        self._resolver = resolver or _look_up
        self._given_tls = tls

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        return self._given_tls or httpcore.default_ssl_context()

    def fetch(self, url: str) -> FetchedImage:
        """Return the image at a URL.

        Args:
            url: http or https, without a user. At most `MAX_REDIRECTS` redirects are followed, each judged like the
                first address. The environment's proxies are not used: they would connect in our place.

        Raises:
            FetchRefusedError: If the URL, or what it leads to, is not allowed, not there, too large or no image.
            FetchFailedError: If it cannot be looked up or reached, or its server fails or is too slow.
        """
        shown = show_url(url)
        deadline = _Deadline(shown, self._max_seconds)
        place = _parse(url, shown)
        for _ in range(MAX_REDIRECTS + 1):
            with self._ask(place, shown, deadline) as response:
                if response.status not in _REDIRECTS:
                    return self._receive(place, shown, response)
                place = _follow(place, shown, response)
        raise FetchRefusedError(
            f"Did not fetch {shown}: it is redirected more than {MAX_REDIRECTS} times. Give the image's own URL."
        )

    @contextmanager
    def _ask(self, place: WebAddress, shown: str, deadline: "_Deadline") -> Iterator[httpcore.Response]:
        """Send one request over a connection of its own."""
        network = _JudgedNetwork(shown, self._allowed_networks, self._resolver, deadline)
        url = httpcore.URL(
            scheme=place.scheme.encode(), host=place.host.encode(), port=place.port, target=place.target.encode()
        )
        tls = self._tls if place.scheme == "https" else None
        with (
            _translated_errors(shown, deadline),
            httpcore.HTTPConnection(url.origin, tls, network_backend=network) as connection,
            connection.stream("GET", url, headers=[("Host", place.authority), *_HEADERS]) as response,
        ):
            yield response

    def _receive(self, place: WebAddress, shown: str, response: httpcore.Response) -> FetchedImage:
        self._check_head(shown, response)
        data = bytearray()
        for chunk in response.iter_stream():
            data += chunk
            self._check_size(shown, len(data))
        image = bytes(data)
        format_name = sniff_format(image)
        if format_name is None:
            raise FetchRefusedError(
                f"Did not take what {shown} holds: its {len(image)} bytes do not begin as an image does. Give the URL "
                "of the image itself, not of a page around it."
            )
        return FetchedImage(image, str(place), format_name)

    def _check_head(self, shown: str, response: httpcore.Response) -> None:
        status = response.status
        if status >= 500 or status in _MAY_WORK_LATER:
            raise FetchFailedError(f"Could not fetch {shown}: its server answers {status}. Try again later.")
        if status != 200:
            raise FetchRefusedError(
                f"Could not fetch {shown}: its server answers {status}. Check the URL, and that anybody may see it."
            )
        encoding = _read_header(response, b"content-encoding")
        if encoding.lower() not in {"", "identity"}:
            raise FetchRefusedError(
                f"Did not take what {shown} holds: it is encoded as {encoding!r}, though it was asked for as it is. "
                "Download it yourself and submit the file."
            )
        declared = _read_header(response, b"content-length")
        if declared.isdecimal():
            self._check_size(shown, int(declared))

    def _check_size(self, shown: str, size_bytes: int) -> None:
        if size_bytes > self._max_bytes:
            raise FetchRefusedError(
                f"Did not take what {shown} holds: it has more than {self._max_bytes / 1e6:g} MB. Download it yourself "
                "and submit the file."
            )


class _Deadline:
    """The moment until which a fetch may last."""

    def __init__(self, shown: str, seconds: float) -> None:
        self._shown = shown
        self._seconds = seconds
        self._end = time.monotonic() + seconds

    def read_remaining_seconds(self) -> float:
        """Return what is left.

        Raises:
            FetchFailedError: If nothing is.
        """
        remaining = self._end - time.monotonic()
        if remaining <= 0:
            raise self.build_error()
        return remaining

    def build_error(self) -> FetchFailedError:
        return FetchFailedError(
            f"Could not fetch {self._shown} in {self._seconds:g} s. Try again later, or download it yourself and "
            "submit the file."
        )


class _JudgedNetwork(httpcore.NetworkBackend):
    """Connects to addresses that it judged itself."""

    def __init__(
        self, shown: str, allowed_networks: Sequence[IPNetwork], resolver: Resolver, deadline: _Deadline
    ) -> None:
        self._shown = shown
        self._allowed_networks = allowed_networks
        self._resolver = resolver
        self._deadline = deadline
        self._sockets = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ARG002 - the deadline counts
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect to the first address of a host that answers; to none if one of them is forbidden."""
        addresses = self._find_addresses(host, port)
        for address in addresses:
            obstacle = find_obstacle(address, self._allowed_networks)
            if obstacle is not None:
                found = address if address == host else f"{host} is at {address}, which"
                raise FetchRefusedError(
                    f"Did not fetch {self._shown}: {found} is {obstacle}. Only public addresses are connected to, and "
                    "those of `allowed_networks` in [fetching] of farmy.toml."
                )
        failure: Exception | None = None
        for number, address in enumerate(addresses):
            share = self._deadline.read_remaining_seconds() / (len(addresses) - number)
            try:
                stream = self._sockets.connect_tcp(address, port, share, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
            else:
                return _TimedStream(stream, self._deadline)
        raise FetchFailedError(
            f"Could not reach {host} for {self._shown}: {failure or 'the name has no address'}. Check the URL, or try "
            "again later."
        ) from failure

    def _find_addresses(self, host: str, port: int) -> Sequence[str]:
        try:
            return [str(ip_address(host))]
        except ValueError:
            return self._look_up_in_time(host, port)

    def _look_up_in_time(self, host: str, port: int) -> Sequence[str]:
        """Look a name up on a thread that is left behind if it hangs, for no look-up can be told to stop."""
        answers: SimpleQueue[Sequence[str] | OSError] = SimpleQueue()

        def answer() -> None:
            try:
                answers.put(self._resolver(host, port))
            except OSError as error:
                answers.put(error)

        threading.Thread(target=answer, name=f"look-up of {host}", daemon=True).start()
        try:
            found = answers.get(timeout=self._deadline.read_remaining_seconds())
        except Empty:
            raise self._deadline.build_error() from None
        if isinstance(found, OSError):
            raise FetchFailedError(
                f"Could not look up {host} for {self._shown}: {found.strerror or found}. Check the URL, or try "
                "again later."
            ) from found
        return found


class _TimedStream(httpcore.NetworkStream):
    """A stream whose every step has the time that is left, so that a server cannot win more by dripping."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: _Deadline) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002 - the deadline counts
        return self._stream.read(max_bytes, self._deadline.read_remaining_seconds())

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002 - as above
        self._stream.write(buffer, self._deadline.read_remaining_seconds())

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ARG002 - as above
    ) -> httpcore.NetworkStream:
        remaining = self._deadline.read_remaining_seconds()
        return _TimedStream(self._stream.start_tls(ssl_context, server_hostname, remaining), self._deadline)

    def get_extra_info(self, info: str) -> object:
        return self._stream.get_extra_info(info)


def _look_up(host: str, port: int) -> list[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(place[0]) for *_, place in found))


def _parse(url: str, shown: str) -> WebAddress:
    try:
        return parse_web_address(url)
    except ValueError as error:
        raise FetchRefusedError(f"Did not fetch {shown}: {error}. Give a plain http or https URL.") from error


def _follow(place: WebAddress, shown: str, response: httpcore.Response) -> WebAddress:
    """Return where a redirect leads."""
    location = _read_header(response, b"location")
    try:
        return parse_web_address(urljoin(str(place), location))
    except ValueError as error:
        raise FetchRefusedError(
            f"Did not fetch {shown}: it is redirected to {show_url(location)!r}, and {error}. Give the image's own URL."
        ) from error


def _read_header(response: httpcore.Response, name: bytes) -> str:
    """Return a header's value; all of them, if a server sends several, so that none goes unseen."""
    return ",".join(value.decode("latin-1").strip() for key, value in response.headers if key.lower() == name)


@contextmanager
def _translated_errors(shown: str, deadline: _Deadline) -> Iterator[None]:
    try:
        yield
    except httpcore.TimeoutException as error:
        raise deadline.build_error() from error
    except (httpcore.NetworkError, httpcore.ProtocolError) as error:
        reason = error.__cause__
        if isinstance(reason, ssl.SSLCertVerificationError):
            raise FetchRefusedError(
                f"Did not fetch {shown}: its server cannot prove who it is: {reason.verify_message}. Check the URL."
            ) from error
        raise FetchFailedError(
            f"Could not fetch {shown}: {error or 'its server ended the connection'}. Try again later."
        ) from error
