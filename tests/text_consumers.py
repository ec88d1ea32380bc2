"""What reads what ovnkit prints: OVN's parser of matches, ovs-ofctl, nft; each given many texts at once."""

from __future__ import annotations

import ctypes
import re
import socket
import subprocess
from collections.abc import Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

from attrs import frozen

from ovnkit.api.flows import Flow, Group, ToGroup
from ovnkit.api.nft import NftChain, NftElement, NftItem, NftRule, NftSet
from ovnkit.sinks.host import nfttext
from ovnkit.testing.ovsdb import OvsdbServer

_CLONE_NEWNET = 0x40000000
_TABLES = 24
"""Tables of a logical pipeline that are used for one look at as many matches."""


def reading(text: Any) -> tuple[bytes, int] | None:
    """A CIDR as a program in C reads it: packed address and length; None for anything else."""
    address, slash, length = text.partition("/") if isinstance(text, str) else ("", "", "")
    for family, bits in ((socket.AF_INET, 32), (socket.AF_INET6, 128)):
        try:
            packed = socket.inet_pton(family, address)
        except (OSError, ValueError, UnicodeError):
            continue
        if family == socket.AF_INET6 and packed[:12] == b"\0" * 10 + b"\xff\xff":
            return None
        if slash and length in map(str, range(bits + 1)):
            return packed, int(length)
    return None


# -- OVN ------------------------------------------------------------------------------------------------------


@frozen
class Packet:
    """A packet from port `p1`, by its destination."""

    target: str

    @property
    def flow(self) -> str:
        """As ovn-trace takes it."""
        family = ip_address(self.target).version
        return (
            'inport == "p1" && eth.src == 00:00:00:00:00:01 && eth.dst == 00:00:00:00:00:02 && ip.ttl == 64 && '
            f"ip{family}.dst == {self.target} && tcp && tcp.dst == 80"
        )


class Matches:
    """Matches in a southbound, for ovn-trace, which has ovn-controller's parser."""

    def __init__(self, folder: Path, found: Iterable[object]) -> None:
        self.matches = matches = list(map(str, found))
        self._server = OvsdbServer(folder, "OVN_Southbound")
        words = " ".join(matches)
        operations = [
            _insert("Address_Set", {"name": name, "addresses": ["set", []]})
            for name in set(re.findall(r"\$(a\d+)", words))
        ]
        for number, start in enumerate(range(0, len(matches), _TABLES), start=1):
            datapath = ["named-uuid", f"dp{number}"]
            ids = [["name", f"sw{number}"], ["logical-switch", f"00000000-0000-4000-8000-{number:012}"]]
            row = {"tunnel_key": number, "external_ids": ["map", ids]}
            operations.append({**_insert("Datapath_Binding", row), "uuid-name": datapath[1]})
            port = {"logical_port": f"p{number}", "tunnel_key": 1, "datapath": datapath}
            operations.append(_insert("Port_Binding", port))
            part = matches[start : start + _TABLES]
            for group in set(re.findall(r"@(a\d+)", " ".join(part))):
                operations.append(_insert("Port_Group", {"name": f"{number}_{group}", "ports": f"p{number}"}))
            for table, match in enumerate(part):
                for priority, text in ((100, match), (0, "1")):
                    flow = {"pipeline": "ingress", "table_id": table, "priority": priority, "match": text}
                    flow |= {"logical_datapath": datapath, "actions": "next;"}
                    operations.append(_insert("Logical_Flow", flow))
        self._operations = operations

    def __enter__(self) -> Matches:
        self._server.start()
        for answer in self._server.transact("OVN_Southbound", self._operations):
            assert "error" not in answer, answer
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop()

    def refused(self) -> list[str]:
        """What OVN says of matches that it can't read."""
        said = self._trace(1, Packet("192.0.2.1")).stderr.splitlines()
        return [line for line in said if not line.endswith("unknown logical port")]

    def taken(self, packet: Packet) -> list[bool]:
        """Which of the matches a packet meets."""
        found: list[bool] = []
        for number, start in enumerate(range(0, len(self.matches), _TABLES), start=1):
            out = self._trace(number, packet).stdout
            tables = {int(table) for table in re.findall(r"^ ?(\d+)\. .*, priority 100,", out, re.MULTILINE)}
            found += [table in tables for table in range(len(self.matches[start : start + _TABLES]))]
        return found

    def _trace(self, number: int, packet: Packet) -> subprocess.CompletedProcess[str]:
        flow = packet.flow.replace('"p1"', f'"p{number}"')
        return subprocess.run(
            ["ovn-trace", f"--db={self._server.endpoint}", f"sw{number}", flow],
            capture_output=True,
            text=True,
            check=False,
        )


def _insert(table: str, row: dict[str, Any]) -> dict[str, Any]:
    return {"op": "insert", "table": table, "row": row}


# -- Open vSwitch ---------------------------------------------------------------------------------------------


def misread_flows(items: Iterable[Flow | Group]) -> list[str]:
    """Flows that ovs-ofctl reads as something else than their text says; raises what it says of the others."""
    flows = [item for item in items if isinstance(item, Flow)]
    for group in (item for item in items if isinstance(item, Group)):
        # A group's buckets are lists of actions as those of flows are.
        some = next(flow for flow in flows if ToGroup(group.number) in flow.actions)
        flows += [Flow(some.bridge, some.table, some.priority, some.match, bucket) for bucket in group.buckets]
    texts = [flow.text for flow in flows]
    done = subprocess.run(
        ["ovs-ofctl", "-O", "OpenFlow15", "parse-flows", "-"],
        input="\n".join(texts) + "\n",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    read = re.findall(r"^OFPT_FLOW_MOD .*: ADD (?:table:\d+ )?(.*)$", done.stdout, re.MULTILINE)
    assert len(read) == len(texts)
    return [f"{text} -> {seen}" for text, seen in zip(texts, read, strict=True) if _fields(text) != _fields(seen)]


def _fields(text: str) -> set[str]:
    match, _, _ = text.replace(" actions=", ",actions=").partition(",actions=")
    fields = {_field(word) for word in match.split(",")}
    return {field for field in fields if not field.startswith("table=") and not field.endswith("/0")} - {""}


_ADDRESSES = re.compile(r"(nw_src|nw_dst|ipv6_src|ipv6_dst|arp_spa|arp_tpa|nd_target)=(.*)")


def _field(word: str) -> str:
    found = _ADDRESSES.fullmatch(word)
    return f"{found[1]}={ip_network(found[2])}" if found else word


# -- nft ------------------------------------------------------------------------------------------------------


def misread_elements(items: Collection[NftItem]) -> list[str]:
    """Elements that nft lists as something else than was wanted, in a network namespace of its own."""
    with ThreadPoolExecutor(1) as other_thread:
        return other_thread.submit(_misread_elements, items).result()


def _misread_elements(items: Collection[NftItem]) -> list[str]:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "unshare")
    wanted: dict[str, dict[nfttext.Parts, nfttext.Parts]] = {}
    sets = {item.name: item for item in items if isinstance(item, NftSet)}
    lines = [f"add table {nfttext.WHOLE}", *(nfttext.add_set(item) for item in sets.values())]
    lines += {nfttext.add_chain(item): None for item in items if isinstance(item, NftChain)}
    for item in items:
        if isinstance(item, NftElement) and item.set in sets:
            wanted.setdefault(item.set, {}).setdefault(nfttext.parts(item.key), nfttext.parts(item.value))
    for name, content in wanted.items():
        if sets[name].interval:
            content = wanted[name] = dict.fromkeys(nfttext.collapse(content), ())
        lines += nfttext.elements("add", name, list(content.items()))
    known = sets.keys()
    rules = [item for item in items if isinstance(item, NftRule)]
    lines += {
        nfttext.add_rule(item.chain, nfttext.rule_text(item.statements)): None
        for item in rules
        if nfttext.references(item.statements)[0] <= known
    }
    done = subprocess.run(["nft", "-f", "-"], input="\n".join(lines), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    listed = nfttext.parse_listing(
        subprocess.run(
            ["nft", "-j", "list", "table", *nfttext.WHOLE.split()], capture_output=True, check=True
        ).stdout
    )
    return [
        f"{name}: {content} -> {listed.elements.get(name)}"
        for name, content in wanted.items()
        if listed.elements.get(name) != content
    ]
