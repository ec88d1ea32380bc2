"""Section `[egress_firewall]` of the configuration."""

from __future__ import annotations

from ipaddress import IPv6Address

from attrs import frozen

from ovnkit.api.errors import ConfigError
from ovnkit.api.text import parse_address, parse_port

DNS_PORT = 53


@frozen
class EgressFirewallOptions:
    """How names of `dnsName` rules are resolved.

    `dns_servers` are asked, all of them for each name: `192.0.2.53`, `192.0.2.53:5353`, `[2001:db8::53]:5353`.
    Empty: the `nameserver` lines of `resolv_conf`, read again whenever the file changes.
    """

    dns_servers: tuple[str, ...] = ()
    resolv_conf: str = "/etc/resolv.conf"


@frozen
class Server:
    """A DNS server."""

    address: str
    port: int = DNS_PORT

    @classmethod
    def parse(cls, text: str) -> Server:
        """The server that an option names; raises ConfigError."""
        host, port = text, str(DNS_PORT)
        if text.startswith("[") and "]" in text:
            host, _, rest = text[1:].partition("]")
            port = rest.removeprefix(":") or port
        elif text.count(":") == 1:
            host, _, port = text.partition(":")
        try:
            address, number = parse_address(host), parse_port(port)
            if text.startswith("[") and not isinstance(address, IPv6Address):
                raise ValueError
        except ValueError:
            raise ConfigError(
                f"[egress_firewall] dns-servers: {text!r} is neither an address nor an address with a port"
            ) from None
        return cls(str(address), number)

    def __str__(self) -> str:
        if self.port == DNS_PORT:
            return self.address
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"
