"""A soak: random churn in a lab of three nodes with daemons killed at random; `python -m bench.soak`.

At the end each northbound must equal what a new process renders into an empty one, all is well with the lab, and
the processes that lived through the second half no longer grow.
"""

from __future__ import annotations

import json
import os
import random
import signal
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import click

from bench.rig import Usage
from ovnkit_lab.testing import LabHandle, LabPool, wait_until

PODS, POLICIES, SERVICES = 18, 12, 8
STEP, KILL_EVERY = 0.4, 20.0
"""Seconds between two changes, and between two kills."""
SETTLE = 180.0
"""Seconds that the lab gets to be well again when the churn has ended."""
GROWTH, ALLOWANCE = 1.1, 4.0
"""How much the mean memory of the last quarter may exceed that of the third: factor, and MB on top."""
KILLED = ("ovs-vswitchd", "ovn-controller", "northd", "nb", "sb", "ovsdb", "ovnkit")
WIPED = (
    "Logical_Switch", "Logical_Router", "Load_Balancer", "Load_Balancer_Group", "Port_Group", "Address_Set",
    "Copp", "Meter", "Static_MAC_Binding", "Chassis_Template_Var",
)  # fmt: skip
"""Tables that are emptied for the clean render; the others' rows go with these."""
COMPARED = (*WIPED, "Logical_Switch_Port", "Logical_Router_Port", "Logical_Router_Static_Route",
            "Logical_Router_Policy", "NAT", "ACL", "Gateway_Chassis", "Meter_Band")  # fmt: skip
VOLATILE = {"up", "hosting-chassis", "status", "tag", "dynamic_addresses"}
"""Columns, and keys of columns, that northd writes."""
Content = dict[str, dict[str, Any]]


class Soak:
    """One soak of a lab."""

    def __init__(self, lab: LabHandle, seed: int) -> None:
        self.lab, self.rng = lab, random.Random(seed)
        self.changes = self.kills = 0
        self.memory: dict[str, list[float]] = {}
        self._number = 0
        self._names: dict[str, list[str]] = {"pod": [], "networkpolicy": [], "service": []}

    # -- churn ----------------------------------------------------------------------------------------------

    def churn(self, seconds: float) -> None:
        """Change things and kill daemons until the time is over."""
        began = time.monotonic()
        next_kill = began + KILL_EVERY
        while (passed := time.monotonic() - began) < seconds:
            self._step()
            if time.monotonic() > next_kill:
                self._kill(spare_ovnkit=passed > seconds / 2)
                next_kill = time.monotonic() + KILL_EVERY
                if passed > seconds / 2:
                    self._weigh()
            time.sleep(STEP)

    def _step(self) -> None:
        makers: list[tuple[str, int, Callable[[str], dict[str, Any]]]] = [
            ("pod", PODS, self._pod),
            ("networkpolicy", POLICIES, self._policy),
            ("service", SERVICES, self._service),
        ]
        kind, most, make = self.rng.choices(makers, weights=(6, 2, 1))[0]
        names = self._names[kind]
        self.changes += 1
        if names and (len(names) >= most or self.rng.random() < 0.35):
            name = names.pop(self.rng.randrange(len(names)))
            self._kubectl("delete", kind, name, "--wait=false", "--ignore-not-found")
            return
        if kind == "pod" and names and self.rng.random() < 0.3:
            app = f"app={self.rng.randrange(4)}"
            self._kubectl("label", "pod", self.rng.choice(names), app, "--overwrite")
            return
        self._number += 1
        name = f"soak-{self._number}"
        manifest = make(name)
        self._kubectl("apply", "-f", "-", input=json.dumps(manifest))
        names.append(name)

    def _kubectl(self, *arguments: str, input: str | None = None) -> None:
        """As somebody who tries again: the API server may be away, an object may be on its way out."""
        self.lab.kubectl(*arguments, input=input, check=False)

    def _labels(self) -> dict[str, str]:
        return {"app": str(self.rng.randrange(4))}

    def _pod(self, name: str) -> dict[str, Any]:
        pod = self.lab.pod(name, node=self.rng.choice(self.lab.nodes))
        pod["metadata"]["labels"] = self._labels()
        return pod

    def _policy(self, name: str) -> dict[str, Any]:
        peer = {"podSelector": {"matchLabels": self._labels()}}
        spec = {
            "podSelector": {"matchLabels": self._labels()},
            "ingress": [{"from": [peer], "ports": [{"port": self.rng.randrange(1, 9000), "protocol": "TCP"}]}],
        }
        meta = {"name": name, "namespace": "default"}
        return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": meta, "spec": spec}

    def _service(self, name: str) -> dict[str, Any]:
        kind = self.rng.choice(["ClusterIP", "NodePort"])
        spec = {"type": kind, "selector": self._labels(), "ports": [{"port": 80, "targetPort": 8080}]}
        meta = {"name": name, "namespace": "default"}
        return {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": spec}

    # -- daemons --------------------------------------------------------------------------------------------

    def _status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.lab.run("status", "--output", "json", check=False).stdout)
        return found

    def _kill(self, *, spare_ovnkit: bool) -> None:
        node = self.rng.choice(self.lab.nodes)
        name = self.rng.choice([item for item in KILLED if not (spare_ovnkit and item == "ovnkit")])
        state = {item["name"]: item for item in self._status()["nodes"]}
        pid = int(state[node]["daemons"].get(name, {}).get("pid") or 0)
        if pid:
            os.kill(pid, signal.SIGKILL)
            self.kills += 1
            click.echo(f"killed {name} of {node} after {self.changes} changes", err=True)
            self.lab.run("restart", node, name, check=False)

    def _weigh(self) -> None:
        state = self._status()
        for host in (state["control"], *state["nodes"]):
            pid = int(host["daemons"]["ovnkit"].get("pid") or 0)
            if pid:
                name = f"{host.get('name', 'control')}/{pid}"
                self.memory.setdefault(name, []).append(Usage.of(pid).memory)

    # -- the end --------------------------------------------------------------------------------------------

    def await_rest(self) -> None:
        """Wait until all is well and nothing changes any more."""
        self.lab.wait_ready(*self._names["pod"], deadline=SETTLE)
        wait_until(lambda: self.lab.run("status", check=False).returncode == 0, SETTLE, what="all is well")
        for node in self.lab.nodes:
            before: Content = {}

            def same(node: str = node) -> bool:
                nonlocal before
                time.sleep(1.0)
                former, before = before, self.content(node)
                return former == before

            wait_until(same, SETTLE, what=f"the northbound of {node} coming to rest")

    def content(self, node: str) -> Content:
        """The northbound of a node's zone: rows by table and UUID, without what northd writes."""
        found: Content = {}
        for table in COMPARED:
            text = self.lab.node(node, "ovn-nbctl", "--format=json", "--no-headings", "list", table, check=False)
            if not text.strip():
                continue
            content = json.loads(text)
            for values in content["data"]:
                row = dict(zip(content["headings"], values, strict=True))
                found[f"{table} {row['_uuid'][1]}"] = {
                    name: _plain(value) for name, value in row.items() if name not in VOLATILE
                }
        return found

    def render_clean(self, node: str) -> None:
        """Empty the northbound and let a new process fill it."""
        operations = [{"op": "delete", "table": table, "where": []} for table in WIPED]
        self.lab.run("restart", node, "ovnkit")
        self.lab.node(
            node, "ovsdb-client", "transact", self._socket(node), json.dumps(["OVN_Northbound", *operations])
        )
        self.lab.run("restart", node, "ovnkit")

    def _socket(self, node: str) -> str:
        return "unix:" + self.lab.node(node, "sh", "-c", "echo $OVN_RUNDIR/ovnnb_db.sock").strip()

    def growing(self) -> list[str]:
        """Processes whose memory still grows."""
        found = []
        for name, samples in self.memory.items():
            middle = len(samples) // 2
            if middle < 2:
                continue
            before, after = statistics.mean(samples[:middle]), statistics.mean(samples[middle:])
            click.echo(f"memory of ovnkit of {name}: {before:.1f} MB, then {after:.1f} MB", err=True)
            if after > before * GROWTH + ALLOWANCE:
                found.append(f"ovnkit of {name} grows: {before:.1f} MB, then {after:.1f} MB")
        return found


def _plain(value: Any) -> Any:
    """A column in a form that can be compared, without the keys that northd writes."""
    if isinstance(value, list) and len(value) == 2 and value[0] in ("set", "map"):
        items = [item for item in value[1] if not (isinstance(item, list) and item[0] in VOLATILE)]
        return [value[0], sorted(items, key=repr)]
    return value


def differences(one: Content, other: Content) -> list[str]:
    """A line for each row that differs."""
    return [
        f"{key}: {one.get(key, 'missing')} != {other.get(key, 'missing')}"
        for key in sorted(one.keys() | other.keys())
        if one.get(key) != other.get(key)
    ]


@click.command()
@click.option("--minutes", envvar="SOAK_MINUTES", default=30.0, show_default=True, help="Of churn [SOAK_MINUTES].")
@click.option("--seed", default=lambda: random.randrange(2**32), help="For the same changes and kills again.")
def main(minutes: float, seed: int) -> None:
    """Churn and kill, then compare; exit code 1 when something is not as it should be."""
    click.echo(f"{minutes:g} minutes, --seed {seed}", err=True)
    bad: list[str] = []
    with LabPool().own(nodes=3) as lab:
        soak = Soak(lab, seed)
        soak.churn(minutes * 60)
        soak.await_rest()
        ended = {node: soak.content(node) for node in lab.nodes}
        bad += soak.growing()
        for node in lab.nodes:
            soak.render_clean(node)
        soak.await_rest()
        for node in lab.nodes:
            bad += [f"{node}: {line}" for line in differences(ended[node], soak.content(node))]
        rows = {node: len(content) for node, content in ended.items()}
        click.echo(f"{soak.changes} changes, {soak.kills} kills; rows compared: {rows}")
    for line in bad:
        click.echo(line, err=True)
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
