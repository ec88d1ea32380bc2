"""The service that keeps looking up the names that rules ask for: one thread, one asyncio task per name."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

import dns.exception
import dns.resolver
import structlog

from ovnkit.api.hooks import Tell
from ovnkit.api.metrics import Metric, MetricKind, Sample
from ovnkit_egress_firewall import lookup
from ovnkit_egress_firewall.dnsnames import DNS_ANSWERS, DnsAnswer
from ovnkit_egress_firewall.options import EgressFirewallOptions, Server
from ovnkit_egress_firewall.schedule import RETRY, Found, Knowledge, State

log = structlog.get_logger()

AT_ONCE = 64
"""Names that are looked up at the same time."""

TOGETHER = 0.1
"""Seconds from the first address that a round brings until it is told: what comes together counts together."""

SILENT_AFTER, SILENT_FOR = 3, 30.0
"""A server that has left this many questions in a row unanswered isn't asked for this many seconds."""


class Servers:
    """The servers to ask: configured ones, else what the resolv.conf of this host says now."""

    def __init__(self, options: EgressFirewallOptions) -> None:
        self._configured = tuple(Server.parse(text) for text in options.dns_servers)
        self._path = Path(options.resolv_conf)
        self._read: tuple[tuple[int, int], tuple[Server, ...]] | None = None
        self._unanswered: Counter[Server] = Counter()
        self._silent_until: dict[Server, float] = {}

    def to_ask(self, now: float) -> Sequence[Server]:
        """Those to ask at this moment: without the silent ones, or all of them if all are silent."""
        servers = self.now()
        return [server for server in servers if self._silent_until.get(server, now) <= now] or servers

    def heard(self, server: Server, now: float, *, answered: bool) -> None:
        """Whether one of them answered a question: a dead one must not hold up the look-ups of all names."""
        if answered:
            self._unanswered.pop(server, None)
            self._silent_until.pop(server, None)
            return
        self._unanswered[server] += 1
        if self._unanswered[server] >= SILENT_AFTER:
            self._silent_until[server] = now + SILENT_FOR

    def now(self) -> Sequence[Server]:
        """The servers; none when there is no such file, or it names none."""
        if self._configured:
            return self._configured
        try:
            status = self._path.stat()
            version = (status.st_mtime_ns, status.st_ino)
            if self._read is None or self._read[0] != version:
                found = dns.resolver.Resolver(filename=str(self._path)).nameservers
                self._read = version, tuple(Server(server) for server in found if isinstance(server, str))
        except (OSError, ValueError, dns.exception.DNSException):
            return ()
        return self._read[1]


class Resolver:
    """The answerer of `DNS_ANSWERS`. Its thread starts with the first name."""

    kind = DNS_ANSWERS

    def __init__(self, options: EgressFirewallOptions, families: Sequence[int], tell: Tell) -> None:
        self._servers = Servers(options)
        self._where = options.resolv_conf
        self._families = families
        self._tell = tell
        self._loop: asyncio.AbstractEventLoop | None = None
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._known: dict[str, Knowledge] = {}
        self._look_ups: Counter[str] = Counter()

    def ask(self, keys: Collection[str]) -> None:
        """Follow these names."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            threading.Thread(target=self._run, args=(self._loop,), name="dns-resolver", daemon=True).start()
        self._loop.call_soon_threadsafe(self._begin, tuple(keys))

    def drop(self, keys: Collection[str]) -> None:
        """Follow them no longer."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._end, tuple(keys))

    def stop(self) -> None:
        """End the thread."""
        if self._loop is not None:
            asyncio.run_coroutine_threadsafe(self._halt(), self._loop)
            self._loop = None

    def metrics(self) -> Iterable[Metric]:
        """How many names have addresses, and how look-ups ended; from any thread."""
        known = [knowledge.state for knowledge in self._known.copy().values()]
        names = tuple(Sample(known.count(state), {"state": state.value}) for state in State)
        yield Metric("dns_names", "DNS names of rules, by what is known of them.", MetricKind.GAUGE, names)
        ended = tuple(Sample(number, {"result": result}) for result, number in self._look_ups.copy().items())
        yield Metric("dns_lookups", "Rounds of questions about a DNS name.", MetricKind.COUNTER, ended)

    # -- the thread -----------------------------------------------------------------------------------------

    @staticmethod
    def _run(loop: asyncio.AbstractEventLoop) -> None:
        try:
            loop.run_forever()
        finally:
            loop.close()

    async def _halt(self) -> None:
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        asyncio.get_running_loop().stop()

    def _begin(self, names: Sequence[str]) -> None:
        for name in names:
            if name not in self._tasks:
                self._known[name] = Knowledge()
                self._tasks[name] = asyncio.get_running_loop().create_task(self._follow(name))

    def _end(self, names: Sequence[str]) -> None:
        for name in names:
            task = self._tasks.pop(name, None)
            self._known.pop(name, None)
            if task is not None:
                task.cancel()

    async def _follow(self, name: str) -> None:
        """Look a name up for as long as it is asked for, and tell what changes."""
        follower = _Follower(name, self._known, self._servers, self._tell)
        failed = False
        try:
            while True:
                try:
                    found = await self._look_up(name, follower.heard)
                    known = follower.round_over(found)
                except Exception:  # a bug must not end the service
                    log.exception("looking up a name failed", name=name)
                    await asyncio.sleep(RETRY)
                    continue
                self._look_ups["failed" if known.failures else "answered"] += 1
                if bool(known.failures) is not failed:
                    failed = bool(known.failures)
                    self._report(name, known, found)
                await asyncio.sleep(known.wait)
        finally:
            follower.stop()

    async def _look_up(self, name: str, heard: lookup.Heard) -> dict[int, Found]:
        async with self._slots:
            servers = self._servers.to_ask(asyncio.get_running_loop().time())
            if not servers:
                fault = f"{self._where} names no DNS server"
                return {family: Found(answered=False, fault=fault) for family in self._families}
            return await lookup.look_up(name, servers, self._families, heard)

    @staticmethod
    def _report(name: str, known: Knowledge, found: dict[int, Found]) -> None:
        if known.failures:
            faults = sorted({answer.fault for answer in found.values() if answer.fault})
            log.warning("a name is not resolved; what was good stays", name=name, faults=faults,
                        addresses=len(known.expiry), retry_in=known.wait)  # fmt: skip
        else:
            log.info("a name is resolved again", name=name, addresses=len(known.expiry))


class _Follower:
    """What is known of one name, and what has been told of it. In the resolver's thread."""

    def __init__(self, name: str, known: dict[str, Knowledge], servers: Servers, tell: Tell) -> None:
        self._name = name
        self._known = known
        self._servers = servers
        self._tell = tell
        self._told = DnsAnswer("")
        self._early: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    def heard(self, server: Server, family: int, found: Found) -> None:
        """One server's answer, in the middle of a round: what it brings doesn't wait for the others."""
        now = self._loop.time()
        self._servers.heard(server, now, answered=not found.timed_out)
        if found.addresses:
            self._known[self._name] = self._known[self._name].hear(family, found, now)
            self._early = self._early or self._loop.call_later(TOGETHER, self._say)

    def round_over(self, found: dict[int, Found]) -> Knowledge:
        """All answers; returns what is known now."""
        known = self._known[self._name] = self._known[self._name].learn(found, self._loop.time())
        self._say()
        return known

    def stop(self) -> None:
        """Nobody asks for the name any more."""
        if self._early is not None:
            self._early.cancel()
            self._early = None

    def _say(self) -> None:
        self.stop()
        answer = self._known[self._name].answer(self._name)
        if answer != self._told:
            self._told = answer
            self._tell(DNS_ANSWERS, [(self._name, answer)])
