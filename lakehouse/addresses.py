"""Addresses that strangers hand in: what of a URL is accepted, and which IP addresses may be connected to.

Pure rules, stricter than any client's: a URL that two programs could read differently is refused, not guessed at. Who
looks names up and connects is `adapters/url_fetcher.py`.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import quote

IPAddress = IPv4Address | IPv6Address
IPNetwork = IPv4Network | IPv6Network

MAX_URL_LETTERS = 4096
_SHOWN_LETTERS = 200
_PORTS = {"http": 80, "https": 443}
_URL = re.compile(
    r"(?P<scheme>https?)://(?P<authority>[^/?#]*)(?P<path>[^?#]*)(?P<query>\?[^#]*)?(#.*)?", re.ASCII | re.IGNORECASE
)
_AUTHORITY = re.compile(r"(?P<host>\[[^]]*\]|[^:[]*)(:(?P<port>.*))?")
_PORT = re.compile(r"[0-9]{1,5}", re.ASCII)
_LABEL = r"(?!-)[a-z0-9_-]{1,63}(?<!-)"
_NAME = re.compile(rf"(?=.{{1,253}}$){_LABEL}(\.{_LABEL})*", re.ASCII)
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*", re.ASCII)
"""A last label like this makes a host an IPv4 address in some notation (WHATWG URL standard, "ends in a number")."""
_KEPT_IN_TARGET = "/?:@!$&'()*+,;=%[]"

_GLOBAL_UNICAST_V6 = IPv6Network("2000::/3")
_ISATAP_INTERFACES = {0x0000_5EFE, 0x0200_5EFE}
"""Bits 64 to 95 of an address that carries an IPv4 address for a tunnel (RFC 5214, 6.1)."""
_SPECIAL_BLOCKS: dict[str, tuple[str, ...]] = {
    "unspecified": ("0.0.0.0/8", "::/128"),
    "private": ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"),
    "shared by a carrier's customers": ("100.64.0.0/10",),
    "loopback": ("127.0.0.0/8", "::1/128"),
    "link-local": ("169.254.0.0/16", "fe80::/10"),
    "site-local": ("fec0::/10",),
    "for documentation": ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32", "3fff::/20"),
    "for benchmarking": ("198.18.0.0/15", "2001:2::/48"),
    "multicast": ("224.0.0.0/4", "ff00::/8"),
    "a cloud's metadata service": ("168.63.129.16/32",),
    "an IPv4 address in IPv6": ("::ffff:0:0/96", "::ffff:0:0:0/96", "::/96", "64:ff9b::/96", "64:ff9b:1::/48"),
    "a tunnel": ("192.88.99.0/24", "2001::/32", "2002::/16"),
    "reserved": (
        *("192.0.0.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.175.48.0/24", "240.0.0.0/4"),
        *("100::/64", "2001::/23", "2620:4f:8000::/48", "3ffe::/16"),
    ),
}
"""What is not the public internet, by what it is: the special-purpose registries of IANA (RFC 6890), and an address on
which a cloud answers its own machines. Of blocks that overlap the first counts."""
_FORBIDDEN = [(ip_network(block), kind) for kind, blocks in _SPECIAL_BLOCKS.items() for block in blocks]


@dataclass(frozen=True)
class WebAddress:
    """A URL that means one thing to everybody.

    Attributes:
        scheme: `http` or `https`.
        host: A name in lower case, or an IP address without brackets.
        port: From 1 to 65535.
        target: Path and query, in ASCII, at least `/`.
    """

    scheme: str
    host: str
    port: int
    target: str

    @property
    def authority(self) -> str:
        """Host and port as a request names them: without the port that goes without saying."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    def __str__(self) -> str:
        """Return the URL; it may hold secrets in its query."""
        return f"{self.scheme}://{self.authority}{self.target}"


def parse_web_address(url: str) -> WebAddress:
    """Return what a URL means, without its fragment.

    Raises:
        ValueError: If it is not http or https, names a user, is longer than `MAX_URL_LETTERS`, or could be read in more
            than one way; the message says why and shows nothing of the URL but its host.
    """
    if len(url) > MAX_URL_LETTERS:
        raise ValueError(f"it is longer than {MAX_URL_LETTERS} letters")
    if "\\" in url or any(letter.isspace() or not letter.isprintable() for letter in url):
        raise ValueError("it has a space, a backslash or a letter that cannot be printed: percent-encode it")
    parts = _URL.fullmatch(url)
    if parts is None:
        raise ValueError("it does not begin with http:// or https://")
    scheme = parts["scheme"].lower()
    host, port = _parse_authority(parts["authority"])
    target = (parts["path"] or "/") + (parts["query"] or "")
    return WebAddress(scheme, host, port or _PORTS[scheme], quote(target, safe=_KEPT_IN_TARGET))


def _parse_authority(authority: str) -> tuple[str, int | None]:
    if "@" in authority:
        raise ValueError("it names a user")
    parts = _AUTHORITY.fullmatch(authority)
    if parts is None:
        raise ValueError("its host and port are not written plainly")
    return _parse_host(parts["host"]), _parse_port(parts["port"])


def _parse_port(port: str | None) -> int | None:
    if port is None:
        return None
    if not _PORT.fullmatch(port) or not 1 <= int(port) <= 65535:
        raise ValueError("its port is not a number from 1 to 65535")
    return int(port)


def _parse_host(text: str) -> str:
    if not text.isascii():
        raise ValueError(f"its host {text!r} is not written in ASCII: write an international name as xn--")
    host = text.lower()
    if host.startswith("["):
        return _parse_ip(IPv6Address, host[1:-1])
    if _NUMBER.fullmatch(host.rpartition(".")[2]):
        return _parse_ip(IPv4Address, host)
    if not _NAME.fullmatch(host):
        raise ValueError(f"its host {text!r} is not a plain name: letters, digits and hyphens between dots")
    return host


def _parse_ip(kind: type[IPv4Address] | type[IPv6Address], text: str) -> str:
    if "%" in text:
        raise ValueError(f"its host {text!r} is an IP address that is bound to one link")
    try:
        return str(kind(text))
    except ValueError as error:
        raise ValueError(f"its host {text!r} is not an IP address in its plain notation") from error


def find_obstacle(address: str, allowed: Iterable[IPNetwork] = ()) -> str | None:
    """Tell why an IP address may not be connected to.

    Args:
        address: The address as a look-up gave it.
        allowed: Networks that the operator opened on purpose.

    Returns:
        What the address is (`loopback`, `private`, ...); None if it may be connected to: it is in an open network, or
        global unicast and in no block that is set aside for something else.
    """
    try:
        ip = ip_address(address)
    except ValueError:
        return "no IP address"
    if any(ip in network for network in allowed):
        return None
    kind = next((kind for network, kind in _FORBIDDEN if ip in network), None)
    return _find_obstacle_v6(ip) if kind is None and isinstance(ip, IPv6Address) else kind


def _find_obstacle_v6(ip: IPv6Address) -> str | None:
    if ip.scope_id is not None:
        return "bound to one link"
    if int(ip) >> 32 & 0xFFFF_FFFF in _ISATAP_INTERFACES:
        return "a tunnel"
    return None if ip in _GLOBAL_UNICAST_V6 else "not global unicast"


def show_url(url: str) -> str:
    """Return a URL as it may be shown: without user, query and fragment, which may hold secrets, and printable."""
    shown = re.sub(r"//[^/]*@", "//", re.split(r"[?#]", url, maxsplit=1)[0])
    printable = "".join(letter if letter.isprintable() else "_" for letter in shown)
    return printable if len(printable) <= _SHOWN_LETTERS else f"{printable[:_SHOWN_LETTERS]}…"
