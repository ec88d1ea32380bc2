"""Role node: copies of OVN's flows, by which sessions of services with affinity keep their first packet.

OVN remembers a client by a learning flow that ends there: the packet it learns from is dropped. The kernel's
datapath lets the retransmission through; in the userspace datapath conntrack has changed its destination by then,
and it is dropped again, for ever (seen on OVN 23.03 and 25.03). Beside each such flow this puts a copy of higher
priority that learns and then goes on as flows without affinity do: to the next table.

The other copies are those of `ovnkit_services.earlypackets`.

It is level-triggered: what learning flows there are, and what copies, is read from the bridge; a monitor says
when. Once the bridge has answered the monitor, everything is looked at: what changed before then was not told.
Everything written is text that Open vSwitch gave itself, so flows are cut into pieces by regular expressions, and
not parsed (`ovs.flow`) and printed again.
"""

from __future__ import annotations

import re
import subprocess
import threading
from collections.abc import Iterable

import structlog
from attrs import frozen

from ovnkit.api.flows import INTEGRATION_BRIDGE, plugin_mark
from ovnkit_services.earlypackets import EstablishedFlow, may_be_established

log = structlog.get_logger()

COOKIE = plugin_mark("services") << 48 | 0x616666
"""Cookie of the copies."""

TIMEOUT = 15.0
RETRY = 1.0
"""Seconds between attempts while the bridge isn't there."""

LOOK_PERIOD = 60.0
"""Seconds after which the bridge is looked at although nothing was heard."""

_FLOW = re.compile(
    r"\s*(?:cookie=(?P<cookie>0x[0-9a-f]+), )?table=(?P<table>\d+), (?P<match>.*?) ?actions=(?P<actions>.*)"
)
_PRIORITY = re.compile(r"(?:^|,)priority=(\d+)")
_LEARN = re.compile(r"learn\(table=(?P<table>\d+),idle_timeout=\d+,.*?(?P<loads>load:.*)\)$")
_EVENT = re.compile(r"event=\w+ .*?table=(\d+)")


@frozen
class LearningFlow:
    """A flow by which OVN remembers a client. `match` is as the bridge prints it, without priority."""

    table: int
    priority: int
    match: str
    actions: str

    @property
    def place(self) -> str:
        """Where the copy goes."""
        return f"table={self.table},priority={self.priority + 1},{self.match}"

    @property
    def copy(self) -> str:
        """The copy."""
        return f"{self.place},actions={self.actions},resubmit(,{self.table + 1})"

    def has_learned(self, actions: str) -> bool:
        """Whether a flow with these actions comes from this one (of whichever client)."""
        found = _LEARN.match(self.actions)
        return found is not None and found["loads"] == actions

    @property
    def learned_table(self) -> int:
        """The table it writes to."""
        found = _LEARN.match(self.actions)
        return int(found["table"]) if found is not None else 0


Original = LearningFlow | EstablishedFlow


def is_of_interest(line: str) -> bool:
    """Whether a line of a dump or an event may tell of a flow to copy, or a copy of one that learns."""
    return ("idle_timeout=" in line and "learn(" in line) or may_be_established(line)


def parse(text: str) -> tuple[set[Original], set[str]]:
    """Flows of a dump to copy, and the copies that are there already."""
    originals: set[Original] = set()
    copies = set()
    for line in text.splitlines():
        if f"cookie={COOKIE:#x}," not in line and not is_of_interest(line):
            continue
        found = _FLOW.match(line)
        if found is None:
            continue
        priority = _PRIORITY.search(found["match"])
        match = _PRIORITY.sub("", found["match"]).lstrip(",")
        number = int(priority[1]) if priority is not None else 0x8000
        if int(found["cookie"] or "0", 16) == COOKIE:
            copies.add(f"table={found['table']},priority={number},{match},actions={found['actions']}")
        elif _LEARN.match(found["actions"]):
            originals.add(LearningFlow(int(found["table"]), number, match, found["actions"]))
        elif may_be_established(match):
            originals.add(EstablishedFlow(int(found["table"]), number, match, found["actions"]))
    return originals, copies


class AffinityFlows:
    """Keeps the copies of one bridge; two threads, started and stopped with the process.

    Without `learning` flows that learn aren't copied.
    """

    def __init__(self, run_dir: str, *, learning: bool = True) -> None:
        self._learning = learning
        self._target = f"unix:{run_dir}/{INTEGRATION_BRIDGE}.mgmt"
        self._tables: set[int] = set()
        self._known: set[LearningFlow] = set()
        self._dirty = threading.Event()
        self._unsure = True
        self._stopped = threading.Event()
        self._monitor: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start both threads."""
        for target in (self._work, self._listen):
            threading.Thread(target=target, name="affinity", daemon=True).start()

    def stop(self) -> None:
        """End both threads; the copies stay, so that a restart disturbs no session."""
        self._stopped.set()
        self._dirty.set()
        if self._monitor is not None:
            self._monitor.terminate()

    # -- the bridge -----------------------------------------------------------------------------------------

    def _run(self, *arguments: str, text: str = "", version: str = "OpenFlow15") -> str:
        command = ["ovs-ofctl", "-O", version, arguments[0], self._target, *arguments[1:]]
        return subprocess.run(
            command, input=text, capture_output=True, text=True, timeout=TIMEOUT, check=True
        ).stdout

    def _dump(self, tables: Iterable[int]) -> str:
        return "".join(self._run("dump-flows", "--no-stats", f"table={table}") for table in sorted(tables))

    def sync(self, *, everything: bool = False) -> None:
        """Look, and put right; raises what subprocess raises."""
        if everything:
            text = self._run("dump-flows", "--no-stats")
            self._tables |= {flow.table for flow in parse(text)[0]}
        else:
            text = self._dump(self._tables)
        found, copies = parse(text)
        originals = {flow for flow in found if isinstance(flow, LearningFlow)}
        wanted = {flow.copy for flow in found if self._learning or isinstance(flow, EstablishedFlow)}
        lines = [f"flow delete_strict {item.partition(',actions=')[0]}" for item in copies - wanted]
        lines += [f"flow add cookie={COOKIE:#x},{item}" for item in wanted - copies]
        lines += self._stale(self._known - originals, {flow.actions for flow in originals})
        if lines:
            self._run("bundle", "-", text="\n".join(lines) + "\n")
            log.debug("affinity flows", wanted=len(wanted), changes=len(lines))
        self._known = originals

    def _stale(self, gone: set[LearningFlow], alive: set[str]) -> Iterable[str]:
        """What was learned for endpoints that are gone: OVN 23.03 leaves it as long as the client calls."""
        gone = {flow for flow in gone if flow.actions not in alive}
        if not gone:
            return
        # Only this version of the protocol prints the actions of learned flows as those that learn have them.
        tables = {flow.learned_table for flow in gone}
        text = "".join(self._run("dump-flows", "--no-stats", f"table={n}", version="OpenFlow10") for n in tables)
        for line in text.splitlines():
            found = _FLOW.match(line)
            if found is not None and any(flow.has_learned(found["actions"]) for flow in gone):
                match = re.sub(r"(?:idle|hard)_timeout=\d+,? *", "", found["match"]).strip(", ")
                yield f"flow delete_strict table={found['table']},{match}"

    # -- threads --------------------------------------------------------------------------------------------

    def _work(self) -> None:
        while not self._stopped.is_set():
            self._dirty.clear()
            everything, self._unsure = self._unsure, False
            try:
                self.sync(everything=everything)
            except (OSError, subprocess.SubprocessError) as error:
                log.debug("no affinity flows", error=str(getattr(error, "stderr", "") or error))
                self._unsure = True
                self._stopped.wait(RETRY)
                continue
            if not self._dirty.wait(LOOK_PERIOD):
                self._unsure = True

    def _listen(self) -> None:
        # Without a control socket: its usual folder may not exist, and the monitor would end at once.
        command = ["ovs-ofctl", "-O", "OpenFlow15", "--unixctl=none", "monitor", self._target]
        command.append("watch:!initial,!own")
        while not self._stopped.is_set():
            try:
                with subprocess.Popen(
                    command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True
                ) as self._monitor:
                    assert self._monitor.stdout is not None
                    self._monitor.stdout.readline()  # the answer to the request, or what is wrong with it
                    self._look_at_everything()
                    for line in self._monitor.stdout:
                        self._heard(line)
            except OSError as error:
                log.debug("no monitor of the integration bridge", error=str(error))
            self._stopped.wait(RETRY)

    def _look_at_everything(self) -> None:
        self._unsure = True
        self._dirty.set()

    def _heard(self, line: str) -> None:
        found = _EVENT.search(line)
        if found is None:
            return
        if is_of_interest(line):
            self._tables.add(int(found[1]))
        if int(found[1]) in self._tables:
            self._dirty.set()
