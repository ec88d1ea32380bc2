"""The Kubernetes session against the lab's API server, as a process that can be killed."""

from __future__ import annotations

import importlib.util
import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ovnkit.api.config import KubernetesOptions
from ovnkit.api.hooks import AppliedStatus, Scope
from ovnkit.api.items import Annotation, Condition, Event, Finalizer, Label, Status
from ovnkit.api.kinds import Kind, Resource
from ovnkit.api.models import NAMESPACES, NODES, ObjectView, metadata
from ovnkit.api.renderers import Role
from ovnkit.engine.inbox import Inbox
from ovnkit.engine.sink import Owner
from ovnkit.engine.store import Store
from ovnkit.sinks.kube.client import Client
from ovnkit.sinks.kube.errors import KubeError, Unprocessable
from ovnkit.sinks.kube.leftovers import KubeLeftovers
from ovnkit.sinks.kube.managers import FieldManagers
from ovnkit.sinks.kube.watch import Watcher
from ovnkit.sinks.kube.writer import KubeSink

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("ovnkit_lab") is None or shutil.which("kubectl") is None,
    reason="needs the lab's API server and kubectl",
)

A, B = Owner("p", "a", "k"), Owner("p", "b", "k")
OTHER, ELSEWHERE = Owner("q", "c", "k"), Owner("p", "elsewhere", "k")
ROLES = {"a": Role.ZONE, "b": Role.ZONE, "c": Role.ZONE, "elsewhere": Role.NODE}
MANAGERS = FieldManagers(Scope(frozenset({Role.ZONE}), "n1", "z1", True), lambda owner: ROLES.get(owner.renderer))
CONFIG_MAPS: Kind[ObjectView] = Kind(
    "configmaps", Resource("v1", "configmaps", "ConfigMap"), lambda raw: ObjectView(**metadata(raw))
)
THINGS: Kind[ObjectView] = Kind(
    "things", Resource("example.org/v1", "things", "Thing"), lambda raw: ObjectView(**metadata(raw))
)
THING_CRD = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "things.example.org"},
    "spec": {
        "group": "example.org",
        "scope": "Namespaced",
        "names": {"plural": "things", "singular": "thing", "kind": "Thing", "listKind": "ThingList"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
            }
        ],
    },
}


class ApiServer:
    """The process, on the same port and data over restarts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None
        self.client = Client.connect(KubernetesOptions(apiserver=self.url))

    def start(self) -> None:
        ready = self.folder / "ready"
        ready.unlink(missing_ok=True)
        command = [sys.executable, "-m", "kubelab.apiserver", "--listen", f"127.0.0.1:{self.port}"]
        command += ["--data-dir", str(self.folder / "data"), "--ready-file", str(ready)]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        deadline = time.monotonic() + 15.0
        while not ready.exists() or not ready.read_text():
            assert self.process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < deadline, "the API server doesn't get ready"
            time.sleep(0.01)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def kubectl(self, *arguments: str, stdin: Any = None) -> str:
        done = subprocess.run(
            ["kubectl", "--server", self.url, *arguments],
            input=json.dumps(stdin) if stdin else None,
            capture_output=True,
            text=True,
            timeout=20,
            env={"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(self.folder), "KUBECONFIG": "/dev/null"},
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def create(self, collection: str, name: str, **content: Any) -> None:
        self.client.request("POST", collection, {**content, "metadata": {"name": name}})


class Session:
    """A process of ovnkit, as far as the Kubernetes API sees it."""

    def __init__(
        self, server: ApiServer, *kinds: Kind[Any], applied: Iterable[tuple[str, AppliedStatus]] = ()
    ) -> None:
        self.client = Client.connect(KubernetesOptions(apiserver=server.url))
        self.inbox, self.store = Inbox(), Store()
        self.reports: list[tuple[Owner, Exception | None]] = []
        self.sink = KubeSink(
            self.client,
            observed=self.store.get,
            post=self.inbox.post,
            post_later=self.inbox.post_later,
            report=lambda owner, error: self.reports.append((owner, error)),
            status_kinds=(THINGS,),
            manager=MANAGERS.name,
        )
        self.residue = KubeLeftovers(
            Role.ZONE,
            self.client,
            MANAGERS,
            self.sink,
            post=self.inbox.post,
            post_later=self.inbox.post_later,
            listed=lambda: True,
            unwatched={NAMESPACES, CONFIG_MAPS, THINGS} - set(kinds),
            applied=applied,
        )
        self.watchers = [
            Watcher(
                self.client,
                kind,
                post=self.inbox.post,
                on_event=self._on_event,
                on_listed=self.store.mark_listed,
                tap=self._tap,
                retry_seconds=(0.02, 0.2),
            )
            for kind in kinds
        ]
        for watcher in self.watchers:
            watcher.start()
        self.until(lambda: all(self.store.is_listed(kind) for kind in kinds))

    def _tap(self, kind: Kind[Any], changes: Any) -> None:
        self.sink.tap(kind, changes)
        self.residue.tap(kind, changes)

    def _on_event(self, kind: Kind[Any], changes: Any) -> None:
        for key, view in changes:
            if self.store.put(kind, key, view) is not None:
                self.sink.observed_changed(kind, key)
        self.sink.flush()

    def want(self, owner: Owner, *items: Any) -> None:
        self.sink.want(owner, items)
        self.sink.flush()

    def until(self, condition: Any) -> None:
        assert self.inbox.run_until(lambda: bool(condition()), 15.0), (
            self.sink.status(),
            [watcher.status() for watcher in self.watchers],
        )

    def settle(self) -> None:
        self.until(lambda: self.sink.idle and self.residue.idle)
        self.inbox.run_until(lambda: False, 0.1)
        self.until(lambda: self.sink.idle and self.residue.idle)

    def stop(self) -> None:
        for watcher in self.watchers:
            watcher.stop()
        self.sink.stop()
        self.client.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ApiServer]:
    server = ApiServer(tmp_path)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def sessions(server: ApiServer) -> Iterator[Any]:
    made: list[Session] = []

    def make(*kinds: Kind[Any], **more: Any) -> Session:
        made.append(Session(server, *kinds, **more))
        return made[-1]

    yield make
    for session in made:
        session.stop()


def test_a_killed_server_is_picked_up_again(server: ApiServer, sessions: Any) -> None:
    session = sessions(NAMESPACES, CONFIG_MAPS)
    server.create("/api/v1/namespaces", "one")
    session.until(lambda: session.store.get(NAMESPACES, "one"))
    server.kill()
    # written while nobody answers
    session.want(A, Label(NAMESPACES, "one", "late", "yes"))
    session.until(lambda: session.sink.status()["unavailable"])
    server.start()
    session.settle()
    server.create("/api/v1/namespaces", "two")
    session.until(lambda: session.store.get(NAMESPACES, "two"))
    assert "late=yes" in server.kubectl("get", "namespace", "one", "--show-labels")
    assert session.reports == []


def test_a_crd_that_comes_late_and_the_status_of_its_objects(server: ApiServer, sessions: Any) -> None:
    session = sessions(THINGS, NAMESPACES)
    assert session.watchers[0].state == "missing"
    server.kubectl("create", "-f", "-", stdin=THING_CRD)
    server.kubectl("wait", "--for=condition=Established", "crd/things.example.org", "--timeout=10s")
    path = "/apis/example.org/v1/namespaces/default/things"
    server.create(path, "t", apiVersion="example.org/v1", kind="Thing", spec={})
    session.until(lambda: session.store.get(THINGS, "default/t"))
    session.want(A, Condition(THINGS, "default/t", "Ready", True, "Done", "all rows are there"))
    session.want(B, Status(THINGS, "default/t", {"zones": {"n1": "ok"}}), Finalizer(THINGS, "default/t", "e.io/f"))
    session.settle()
    server.kubectl("wait", "--for=condition=Ready", "thing/t", "--timeout=10s")
    thing = json.loads(server.kubectl("get", "thing", "t", "-o", "json"))
    assert thing["status"]["zones"] == {"n1": "ok"}
    assert thing["metadata"]["finalizers"] == ["e.io/f"]
    again = sessions(THINGS)
    again.want(A, Condition(THINGS, "default/t", "Ready", True, "Done", "all rows are there"))
    again.want(B, Status(THINGS, "default/t", {"zones": {"n1": "ok"}}), Finalizer(THINGS, "default/t", "e.io/f"))
    again.settle()
    assert (again.sink.status()["patches"], again.sink.status()["status_patches"]) == (0, 0)
    again.stop()
    server.kubectl("delete", "thing", "t", "--wait=false")
    session.until(lambda: session.store.get(THINGS, "default/t").deleting)
    session.want(B)
    session.until(lambda: session.store.get(THINGS, "default/t") is None)
    assert session.reports == []


def test_processes_share_a_list_of_a_status_and_each_takes_away_only_its_own(
    server: ApiServer, sessions: Any
) -> None:
    messages = {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}}
    status = {"type": "object", "properties": {"messages": messages, "state": {"type": "string"}}}
    crd = json.loads(json.dumps(THING_CRD))
    crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"] = {"type": "object", "properties": {"status": status}}
    server.kubectl("create", "-f", "-", stdin=crd)
    server.kubectl("wait", "--for=condition=Established", "crd/things.example.org", "--timeout=10s")
    server.create("/apis/example.org/v1/namespaces/default/things", "t", apiVersion="example.org/v1", kind="Thing")
    zones = [f"zone{number}" for number in range(5)]
    made = {zone: sessions(THINGS) for zone in zones}

    def say(zone: str, text: str) -> None:
        made[zone].want(A, Status(THINGS, "default/t", {"messages": [f"{zone}: {text}"]}, manager=zone))

    def said() -> set[str]:
        thing = json.loads(server.kubectl("get", "thing", "t", "-o", "json"))
        return set((thing.get("status") or {}).get("messages") or ())

    for text in ("bad", "good"):
        for zone in zones:
            say(zone, text)
        for session in made.values():
            session.settle()
        assert said() == {f"{zone}: {text}" for zone in zones}
    again = sessions(THINGS)
    again.want(A, Status(THINGS, "default/t", {"messages": ["zone1: good"]}, manager="zone1"))
    again.settle()
    assert again.sink.status()["status_patches"] == 0, "what is there already is not written again"
    made["zone0"].want(A)
    made["zone0"].settle()
    assert said() == {f"{zone}: good" for zone in zones[1:]}
    again.want(B, Status(THINGS, "default/t", {}, manager="zone2"), Status(THINGS, "default/t", {"state": "x"}))
    again.settle()
    assert said() == {"zone1: good", "zone3: good", "zone4: good"}, "somebody else cleans up after zone2"
    assert all(session.reports == [] for session in made.values())


def test_events_are_shown_by_kubectl(server: ApiServer, sessions: Any) -> None:
    session = sessions(NAMESPACES, CONFIG_MAPS)
    session.want(A, Event(NAMESPACES, "default", "Odd", "this is odd"))
    view = session.store.get(NAMESPACES, "default")
    session.sink.events.record(NAMESPACES, view, "Odd", "this is odd")
    session.sink.events.stop()
    events = server.kubectl("get", "events", "-n", "default")
    assert "this is odd" in events
    assert "namespace/default" in events
    described = server.kubectl("describe", "namespace", "default")
    del described
    found = json.loads(server.kubectl("get", "events", "-n", "default", "-o", "json"))["items"]
    assert [event["count"] for event in found if event["reason"] == "Odd"] == [2]


def test_an_invalid_label_is_reported_and_heals(server: ApiServer, sessions: Any) -> None:
    session = sessions(NAMESPACES)
    session.want(A, Annotation(NAMESPACES, "default", "e.org/x", "1"))
    session.want(B, Label(NAMESPACES, "default", "e.org/l", "not a label!"))
    session.until(lambda: session.reports)
    assert [owner for owner, _ in session.reports] == [B]
    assert isinstance(session.reports[0][1], Unprocessable)
    namespace = json.loads(server.kubectl("get", "namespace", "default", "-o", "json"))
    assert namespace["metadata"]["annotations"]["e.org/x"] == "1"
    session.want(B, Label(NAMESPACES, "default", "e.org/l", "a-label"))
    session.settle()
    assert "e.org/l=a-label" in server.kubectl("get", "namespace", "default", "--show-labels")


def test_a_new_object_of_the_same_name_doesnt_get_what_was_meant_for_the_old(
    server: ApiServer, sessions: Any
) -> None:
    path = "/api/v1/namespaces/default/configmaps"
    server.create(path, "c")
    session = sessions(CONFIG_MAPS)
    session.want(A, Finalizer(CONFIG_MAPS, "default/c", "e.org/f"), Annotation(CONFIG_MAPS, "default/c", "x", "1"))
    # replaced before the writer gets to it, and before the watch has told
    session.watchers[0].stop()
    server.kubectl("patch", "configmap", "c", "--type=merge", "-p", '{"metadata":{"finalizers":null}}')
    server.kubectl("delete", "configmap", "c")
    server.create(path, "c")
    session.until(lambda: session.sink.idle)
    session.sink.observed_changed(CONFIG_MAPS, "default/c")
    session.want(A, Finalizer(CONFIG_MAPS, "default/c", "e.org/g"))
    session.until(lambda: session.sink.idle)
    found = json.loads(server.kubectl("get", "configmap", "c", "-o", "json"))
    assert "finalizers" not in found["metadata"]
    assert session.reports == []


CANDIDATE = """
import sys, threading
from ovnkit.api.config import KubernetesOptions
from ovnkit.sinks.kube.client import Client
from ovnkit.sinks.kube.lease import LeaderElector
client = Client.connect(KubernetesOptions(apiserver=sys.argv[1]))
elector = LeaderElector(
    client, identity=sys.argv[2], namespace="default", lease_duration=1.0, renew_deadline=0.6, retry_period=0.1,
    acquired=lambda: None, lost=lambda: None,
)
elector.start()
threading.Event().wait()
"""


def holder(server: ApiServer) -> str:
    try:
        lease = server.client.get("/apis/coordination.k8s.io/v1/namespaces/default/leases/ovn-kubernetes-master")
    except KubeError:
        return ""
    return str(lease["spec"].get("holderIdentity") or "")


def test_the_other_candidate_takes_over_when_the_leader_is_killed(server: ApiServer, until: Any) -> None:
    processes = {
        name: subprocess.Popen([sys.executable, "-c", CANDIDATE, server.url, name]) for name in ("one", "two")
    }
    try:
        first = until(lambda: holder(server))
        processes[first].kill()
        killed = time.monotonic()
        second = until(lambda: holder(server) not in (first, "") and holder(server))
        assert {first, second} == {"one", "two"}
        assert 0.3 < time.monotonic() - killed < 5.0, "not before the lease is over"
    finally:
        for process in processes.values():
            process.kill()
            process.wait()


def test_a_node_of_the_lab_is_annotated(server: ApiServer, sessions: Any) -> None:
    server.kubectl("create", "-f", "-", stdin={"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}})
    session = sessions(NODES)
    session.want(A, Annotation(NODES, "n1", "k8s.ovn.org/node-id", "2"))
    session.settle()
    assert "k8s.ovn.org/node-id: 2" in server.kubectl("describe", "node", "n1")


def managers(server: ApiServer, path: str) -> dict[str, Any]:
    entries = server.client.get(path)["metadata"]["managedFields"]
    return {entry["manager"]: entry["fieldsV1"] for entry in entries}


def test_each_plugin_role_and_place_has_a_field_manager(server: ApiServer, sessions: Any) -> None:
    session = sessions(NAMESPACES)
    server.create("/api/v1/namespaces", "one")
    session.until(lambda: session.store.get(NAMESPACES, "one"))
    session.sink.want(A, [Annotation(NAMESPACES, "one", "a", "1"), Finalizer(NAMESPACES, "one", "x.org/f")])
    session.sink.want(OTHER, [Annotation(NAMESPACES, "one", "c", "3"), Label(NAMESPACES, "one", "l", "4")])
    session.want(ELSEWHERE, Annotation(NAMESPACES, "one", "e", "5"))
    session.settle()
    found = managers(server, "/api/v1/namespaces/one")
    assert found["ovnkit/p/zone/z1"]["f:metadata"]["f:annotations"].keys() - {"."} == {"f:a"}
    assert found["ovnkit/p/node/n1"]["f:metadata"]["f:annotations"].keys() - {"."} == {"f:e"}
    assert found["ovnkit/q/zone/z1"]["f:metadata"].keys() == {"f:annotations", "f:labels"}
    meta = server.client.get("/api/v1/namespaces/one")["metadata"]
    assert (meta["annotations"], meta["labels"]["l"]) == ({"a": "1", "c": "3", "e": "5"}, "4")
    assert session.sink.counters.patches == 3, "one for each"
    session.sink.want(OTHER, [])
    session.want(A, Annotation(NAMESPACES, "one", "a", "2"), Finalizer(NAMESPACES, "one", "x.org/f"))
    session.settle()
    meta = server.client.get("/api/v1/namespaces/one")["metadata"]
    assert (meta["annotations"], "l" in meta["labels"]) == ({"a": "2", "e": "5"}, False)


@pytest.mark.parametrize("watched", [True, False], ids=["watched", "kind-of-a-disabled-plugin"])
def test_what_nobody_wants_any_more_goes_after_a_restart(server: ApiServer, sessions: Any, watched: bool) -> None:
    server.kubectl("create", "-f", "-", stdin=THING_CRD)
    server.kubectl("wait", "--for=condition=Established", "crd/things.example.org", "--timeout=10s")
    server.create("/apis/example.org/v1/namespaces/default/things", "t", apiVersion="example.org/v1", kind="Thing")
    first = sessions(THINGS)
    first.sink.want(
        A,
        [
            *(Annotation(THINGS, "default/t", name, "ours") for name in ("kept", "left", "taken")),
            Label(THINGS, "default/t", "label", "ours"),
            Finalizer(THINGS, "default/t", "x.org/f"),
            Status(THINGS, "default/t", {"deep": {"inner": 1}, "other": 2}),
        ],
    )
    first.want(ELSEWHERE, Annotation(THINGS, "default/t", "elsewhere", "theirs"))
    first.settle()
    first.stop()
    path = "/apis/example.org/v1/namespaces/default/things/t"
    body = {"metadata": {"annotations": {"taken": "by a user"}}}
    server.client.request("PATCH", path, body, content_type="application/merge-patch+json")

    second = sessions(*((THINGS,) if watched else ()))
    if watched:
        second.want(A, Annotation(THINGS, "default/t", "kept", "ours"))
    second.residue.keep({"p/a/k"})
    second.residue.settle()
    second.settle()
    assert second.residue.removed == 0, "what a plugin wants whose render failed is not known"
    second.residue.keep(())
    second.settle()
    found = server.client.get(path)
    kept = {"kept": "ours"} if watched else {}
    assert found["metadata"]["annotations"] == {**kept, "taken": "by a user", "elsewhere": "theirs"}
    assert not found["metadata"].get("labels")
    assert not found["metadata"].get("finalizers")
    assert found.get("status", {}) == {}
    third = sessions(THINGS)
    third.want(A, *(Annotation(THINGS, "default/t", name, "ours") for name in kept))
    third.residue.settle()
    third.settle()
    assert (third.sink.counters.patches, third.sink.counters.status_patches, third.residue.removed) == (0, 0, 0)


def _recognise(manager: str, status: Any) -> bool:
    return bool(status["said"].get(manager) == "ours")


@pytest.mark.parametrize("watched", [True, False], ids=["watched", "kind-of-a-disabled-plugin"])
def test_what_a_disabled_plugin_applied_goes_of_the_own_zone_only(
    server: ApiServer, sessions: Any, watched: bool
) -> None:
    server.kubectl("create", "-f", "-", stdin=THING_CRD)
    server.kubectl("wait", "--for=condition=Established", "crd/things.example.org", "--timeout=10s")
    path = "/apis/example.org/v1/namespaces/default/things"
    for name in ("ours", "foreign", "odd"):
        server.create(path, name, apiVersion="example.org/v1", kind="Thing")
    first = sessions(THINGS)
    for zone in ("z1", "z2"):
        first.want(Owner("p", "a", zone), Status(THINGS, "default/ours", {"said": {zone: "ours"}}, manager=zone))
    first.want(A, Status(THINGS, "default/foreign", {"said": {"z1": "theirs"}}, manager="z1"))
    first.want(B, Status(THINGS, "default/odd", {"said": "nothing that can be looked at"}, manager="z1"))
    first.settle()
    first.stop()
    second = sessions(*((THINGS,) if watched else ()), applied=[("p", AppliedStatus(THINGS, _recognise))])
    second.residue.settle()
    second.settle()
    said = {name: server.client.get(f"{path}/{name}")["status"]["said"] for name in ("ours", "foreign", "odd")}
    assert said == {
        "ours": {"z2": "ours"}, "foreign": {"z1": "theirs"}, "odd": "nothing that can be looked at"
    }  # fmt: skip
    assert second.residue.removed == 1


def test_a_mass_of_leftovers_is_held_back(server: ApiServer, sessions: Any) -> None:
    first = sessions(CONFIG_MAPS)
    server.create("/api/v1/namespaces/default/configmaps", "c")
    first.until(lambda: first.store.get(CONFIG_MAPS, "default/c"))
    first.want(A, *(Annotation(CONFIG_MAPS, "default/c", f"a{number}", "") for number in range(30)))
    first.settle()
    first.stop()
    second = sessions(CONFIG_MAPS)
    second.residue.settle()
    second.settle()
    assert second.residue.status()["held_back"] == 30
    path = "/api/v1/namespaces/default/configmaps/c"
    assert len(server.client.get(path)["metadata"]["annotations"]) == 30
    second.residue.release_mass_delete()
    second.settle()
    assert not server.client.get(path)["metadata"].get("annotations")
