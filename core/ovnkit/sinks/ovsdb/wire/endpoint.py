"""Where a database is: endpoint strings as OVS writes them, and how to connect to them."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterable
from contextlib import suppress

from attrs import frozen

from ovnkit.api.errors import ConfigError
from ovnkit.api.text import parse_address, parse_port

CONNECT_TIMEOUT = 5.0
"""Seconds to connect and finish the TLS handshake."""


@frozen
class Tls:
    """Files in PEM form: the client's key and certificate, and the authority that signed the server's."""

    key: str
    certificate: str
    ca: str

    def context(self) -> ssl.SSLContext:
        """Context that checks the server's chain but not its host name: OVS certificates name no host."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(self.ca)
        context.load_cert_chain(self.certificate, self.key)
        return context


@frozen
class Endpoint:
    """One server: `unix:PATH`, `tcp:HOST:PORT` or `ssl:HOST:PORT` (IPv6 hosts in brackets)."""

    scheme: str
    host: str
    port: int = 0

    def __str__(self) -> str:
        if self.scheme == "unix":
            return f"unix:{self.host}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}:{host}:{self.port}"

    @classmethod
    def parse(cls, text: str) -> Endpoint:
        """Parse one endpoint; raises ConfigError with the text when it is wrong."""
        scheme, _, rest = text.strip().partition(":")
        if scheme == "unix" and rest:
            return cls("unix", rest)
        if scheme in ("tcp", "ssl"):
            host, _, port = rest.rpartition(":")
            if host.startswith("[") and host.endswith("]"):
                host = _ipv6(host[1:-1], text)
            elif ":" in host:
                raise ConfigError(f"endpoint {text!r}: an IPv6 address goes in brackets")
            with suppress(ValueError):
                if host:
                    return cls(scheme, host, parse_port(port))
        raise ConfigError(f"endpoint {text!r}: expected unix:PATH, tcp:HOST:PORT or ssl:HOST:PORT")

    def connect(self, tls: Tls | None) -> socket.socket:
        """Connect, in blocking mode with a time limit; returns a non-blocking socket. Raises OSError."""
        if self.scheme == "unix":
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                sock.settimeout(CONNECT_TIMEOUT)
                sock.connect(self.host)
            except OSError:
                sock.close()
                raise
        else:
            sock = socket.create_connection((self.host, self.port), CONNECT_TIMEOUT)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.scheme == "ssl":
            sock = _secure(sock, tls)
        sock.setblocking(False)
        return sock


def _ipv6(host: str, text: str) -> str:
    try:
        address = parse_address(host)
        if address.version != 6:
            raise ValueError
        return str(address)
    except ValueError:
        raise ConfigError(f"endpoint {text!r}: {host!r} is not an IPv6 address") from None


def _secure(sock: socket.socket, tls: Tls | None) -> socket.socket:
    try:
        if tls is None:
            raise OSError("an ssl: endpoint needs a key, a certificate and a CA")
        return tls.context().wrap_socket(sock)
    except OSError:
        sock.close()
        raise


def parse_endpoints(text: str | Iterable[str]) -> tuple[Endpoint, ...]:
    """Parse a comma list (or several strings) of endpoints; at least one is needed."""
    parts = text.split(",") if isinstance(text, str) else list(text)
    endpoints = tuple(Endpoint.parse(part) for part in parts if part.strip())
    if not endpoints:
        raise ConfigError("no OVSDB endpoint is given")
    return endpoints
