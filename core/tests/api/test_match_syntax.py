"""The parser of matches against OVN's own: ovn-trace parses all logical flows and says which it can't."""

from __future__ import annotations

import random
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ovnkit.api.matches.symbols import SYMBOLS
from ovnkit.api.matches.syntax import fault
from ovnkit.testing.installs import InstallError, OvnInstall
from ovnkit.testing.ovsdb import DEBIAN_13, OvsdbServer

GOOD = (
    "1", "ip4", "ip4.src == $a1", "inport == @g && ip6.dst == {$a6, fd00::/64}", "!(ip4.src == {10.0.0.0/8})",
    "ip4.src == 10.0.0.1/255.0.255.0", "1000<=tcp.dst<=2000", "5 < udp.src < 9", "9 >= udp.src >= 5",
    "10 == ip.ttl",
    "ct.est && ct_mark.blocked == 1", "!ct.est", "!ip.is_frag", "ip6.dst[120..127] == 0xff && ip6.dst[116] == 1",
    'inport == "rtos-n" && ip4.dst == 10.0.0.1 /* n */', 'is_chassis_resident("cr-p")',
    '!is_chassis_resident("x")',
    "(arp || nd)", "ip4.src == {10.0.0.1 10.0.0.2,}", "eth.src == 0a:58:00:00:00:01/ff:ff:00:00:00:00",
    "eth.dst == {0A:58:00:00:00:01}", "vlan.vid == 7 && vlan.present", "ip6.src == ::1",
    "ip6.src == ::ffff:1.2.3.4",
    "tcp.flags == 0x2/0x12", "reg0[3] == 1", "!(ip.proto != 6) || arp",
    "ip4.src != 10.0.0.1", "ip4.src == 0xa000001", "ip.proto == {6, 17}", "ip6.src == 10.0.0.1",
    'outport == {"a", "b"}',
    "ip4.src == 0/0xff", "icmp6.type == {135, 136} && icmp6.code == 0", "tcp.src[0..7] == 80", "xxreg0 == fd00::1",
)  # fmt: skip
BAD = (
    "", "ip6.dst == fd00::%lan/64", "ip4 && ip6 || tcp", "!ip4", "!ip4.src == 10.0.0.1", "ip4.src == fd00::1",
    "tcp.dst == 65536", "outport == @g && {0}", "ip4.src == {}", "ip4) || (ip4", "(ip4", "ip4 &",
    "ip4.src = 10.0.0.1",
    "ip4.src == 10.0.0.256", "ip4.src == 10.0.0.01", "tcp.dst == 080", "ip.proto != 6", "ip.proto > 6",
    "!(ip.proto == 6)", "1 == ip.ttl == 2",
    "1 < tcp.dst > 2", "tcp.dst", "inport", 'ip4.src == "x"', "inport == 5", "nosuch == 1", "ip4.src == $", "@",
    'inport == "x', 'inport == "\\x"', "ip4.src[0..32] == 1", "ip4.src[8..3] == 1", "ip.proto[0] == 1",
    "inport[0] == 1",
    "ip4.src < 10.0.0.0/8", "ip4.src < {1, 2}", "2", "1 2", "ip4.src == 10.0.0.0/33", "ip6.src == ::/129",
    "a:b:c == 1",
    "ip4.src == 10.0.0.1/ 8", "eth.src == 0a:58:00:00:00", "0x == reg0",
    "0x100000000000000000000000000000000 == xxreg0",
    "18446744073709551616 == xxreg0", "ip4 ip6", "is_chassis_resident(x)", "other(1)", "ip4.src == ^.a",
    "/* ip4", "ip4 / ip6", "ip4 ;",
    'ip4.src == {10.0.0.1, "x"}', "ip4.src == ^var", "tcp.dst == -1", "ip4 == 0", "!!ip4", "é",
    "ip4.src == 10.0.0.1:80",
)  # fmt: skip


@pytest.mark.parametrize("text", GOOD)
def test_good(text: str) -> None:
    assert fault(text) == ""


@pytest.mark.parametrize("text", BAD)
def test_bad(text: str) -> None:
    assert fault(text)


def test_a_comment_to_the_end_of_the_line_would_take_in_a_parenthesis_of_northd() -> None:
    assert "northd" in fault("ip4 // all of it")


def test_deep_nesting_ends_before_northd_adds_its_own() -> None:
    assert fault("(" * 90 + "ip4" + ")" * 90) == ""
    assert fault("(" * 91 + "ip4" + ")" * 91) == "parentheses are nested too deeply"


# -- against OVN ------------------------------------------------------------------------------------------------

CONSTANTS = (
    "0", "1", "2", "80", "255", "65535", "65536", "0x10", "0xffff", "10.0.0.1", "10.0.0.0/8", "10.0.0.0/255.0.0.0",
    "fd00::1", "fd00::/64", "::", "0a:58:00:00:00:01", '"p"', '"a b"', "$a4", "$a6", "@g", "0/0xff", "4294967296",
    "ff02::1:ff00:0/104", "1.2.3", "ab:cd", "{}", "{1}", "{1, 2}", "{10.0.0.1, 10.0.0.2}", '{"p" "q"}',
    "{$a4, 10.9.0.0/16}",
)  # fmt: skip
RELATIONS = ("==", "==", "==", "!=", "<", "<=", ">", ">=", "=")


def expression(rng: random.Random, fields: list[str], depth: int = 0) -> str:
    kind = rng.randrange(10) if depth < 3 else rng.randrange(6)
    if kind < 2:
        return rng.choice(fields)
    if kind < 5 and rng.random() < 0.8:
        return fitting(rng, rng.choice(fields))
    if kind < 5:
        name = rng.choice(fields)
        if rng.random() < 0.15:
            name += rng.choice(("[0]", "[3]", "[0..7]", "[8..15]", "[31]", "[0..127]", "[5..1]"))
        return f"{name} {rng.choice(RELATIONS)} {rng.choice(CONSTANTS)}"
    if kind == 5:
        first, second = rng.choice((("<", "<="), (">", ">="), ("<", ">"), ("==", "==")))
        return f"{rng.randrange(9)} {first} {rng.choice(fields)} {second} {rng.randrange(70000)}"
    if kind == 6:
        return "!" + rng.choice(("({})", "{}", "({})")).format(expression(rng, fields, depth + 1))
    operator = rng.choice((" && ", " || ", "&&"))
    return "(" + operator.join(expression(rng, fields, depth + 1) for _ in range(rng.randint(1, 3))) + ")"


def fitting(rng: random.Random, name: str) -> str:
    """A comparison that is mostly right."""
    width = SYMBOLS[name].width
    if width == 1 and rng.random() < 0.7:
        return name
    by_width = {0: ('"p"', "@g", '{"p", "q"}'), 32: ("10.0.0.1", "10.0.0.0/8", "$a4"), 48: ("0a:58:00:00:00:01",)}
    by_width[128] = ("fd00::1", "fd00::/64", "$a6")
    constant = rng.choice(by_width.get(width, ("1",) * 2 + (str(rng.randrange(2 ** min(width, 64))),)))
    return f"{name} == {constant}" if rng.random() < 0.8 else f"{constant} == {name}"


def mutated(rng: random.Random, text: str) -> str:
    letters = list(text)
    for _ in range(rng.randint(1, 3)):
        place = rng.randrange(len(letters) + 1)
        change = rng.randrange(3)
        if change == 0 and place < len(letters):
            del letters[place]
        elif change == 1:
            letters.insert(place, rng.choice('()[]{}!=<>&|$@",.:;/*-%^0123456789abcdefgx \\'))
        elif place < len(letters):
            other = rng.randrange(len(letters))
            letters[place], letters[other] = letters[other], letters[place]
    return "".join(letters)


def matches(rng: random.Random, number: int) -> Iterator[str]:
    fields = sorted(SYMBOLS)
    often = [
        "ip4",
        "ip6",
        "tcp",
        "ip4.src",
        "ip6.dst",
        "tcp.dst",
        "inport",
        "outport",
        "ct.est",
        "ip.proto",
        "eth.src",
    ]
    for count in range(number):
        known = rng.choice((often, fields))
        text = rng.choice(GOOD) if count % 5 == 0 else expression(rng, known)
        yield mutated(rng, text) if count % 3 == 0 else text


def southbound(server: OvsdbServer, texts: list[str]) -> None:
    datapath = "d0000000-0000-4000-8000-000000000000"
    insert = [
        ("Datapath_Binding", datapath, {"tunnel_key": 1, "external_ids": ["map", [["name", "sw"]]]}),
        ("Port_Binding", "d0000000-0000-4000-8000-000000000001",
         {"logical_port": "p", "datapath": ["uuid", datapath], "tunnel_key": 1}),
        ("Port_Group", "d0000000-0000-4000-8000-000000000002", {"name": "1_g", "ports": ["set", ["p"]]}),
        *(
            ("Address_Set", f"d0000000-0000-4000-8000-00000000001{n}", {"name": name, "addresses": address})
            for n, (name, address) in enumerate({"a4": "10.0.0.9", "a6": "fd00::9", "a1": "10.0.0.8"}.items())
        ),
    ]  # fmt: skip
    operations: list[dict[str, Any]] = [
        {"op": "insert", "table": table, "uuid": uuid, "row": row} for table, uuid, row in insert
    ]
    for number, text in enumerate(texts):
        row = {
            "logical_datapath": ["uuid", datapath], "pipeline": "ingress", "table_id": 0, "priority": number,
            "match": text, "actions": "next;", "external_ids": ["map", [["stage-name", "s"]]],
        }  # fmt: skip
        operations.append({"op": "insert", "table": "Logical_Flow", "row": row})
    server.transact("OVN_Southbound", operations)


def refused(install: OvnInstall, endpoint: str) -> dict[str, str]:
    command = install.command("ovn-trace", f"--db={endpoint}", "-vconsole:warn", "sw", 'inport=="p"')
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert not done.returncode, done.stderr[-500:]
    line = re.compile(r".*?\|WARN\|(.*): parsing expression failed \((.*)\)$")
    return {found[1]: found[2] for found in map(line.match, done.stderr.splitlines()) if found}


@pytest.mark.parametrize("release", ["host", "new"])
def test_it_parses_what_ovn_parses_and_refuses_what_ovn_refuses(tmp_path: Path, release: str) -> None:
    install = OvnInstall(Path("/") if release == "host" else DEBIAN_13)
    try:
        install.program("ovn-trace")
    except InstallError:
        pytest.skip("no such OVN")
    texts = sorted({*GOOD, *BAD, *matches(random.Random(release), 4000)} - {""})
    # northd's parentheses, templates of chassis, and order with sets (it depends on what is in them) are left out
    texts = [text for text in texts if not re.search(r"//|\^|[<>]=? *[$@]|[$@]\w+ *[<>]", text)]
    with OvsdbServer(tmp_path, "OVN_Southbound", schema=install.schema("sb")) as server:
        southbound(server, texts)
        theirs = refused(install, server.endpoint)
    assert len(theirs) > 500, "ovn-trace has parsed them"
    assert len(texts) - len(theirs) > 500, "and understood many"
    differ = [
        (text, fault(text), theirs.get(text, ""))
        for text in texts
        if bool(fault(text)) != (text in theirs) and not is_about_more(text, theirs.get(text, ""))
    ]
    assert not differ, len(differ)


def is_about_more(text: str, error: str) -> bool:
    """Whether OVN judges by more than the text: what is in a set, whether it is there, which symbols are new."""
    if "set name" in error or "group name" in error or ("$" in text and "is not compatible with" in error):
        return True
    found = re.search(r"`(\S+)' expecting field name", error)
    return found is not None and found[1] in SYMBOLS
