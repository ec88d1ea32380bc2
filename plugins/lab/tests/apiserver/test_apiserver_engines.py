"""The engines without a server: field sets, patches, selectors, bad input of every shape."""

from __future__ import annotations

import asyncio
import copy
import json
import random
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kubelab.apiserver import bootstrap, fieldset, managed, patch, selectors, watch
from kubelab.apiserver.api import Api
from kubelab.apiserver.errors import ApiError
from kubelab.apiserver.messages import envelope, wire_type
from kubelab.apiserver.registry import Registry
from kubelab.apiserver.request import parse
from kubelab.apiserver.state import Cluster, Settings
from kubelab.apiserver.wire import Decoder

_STEPS = st.sampled_from(["f:a", "f:b", 'k:{"name":"x"}', "v:1"])
_PATHS = st.sets(st.lists(_STEPS, min_size=1, max_size=4).map(tuple), max_size=8)


@pytest.fixture(scope="module")
def api() -> Any:
    cluster = Cluster.open(Settings(url="http://127.0.0.1:1"))
    bootstrap.populate(cluster)
    return Api(cluster)


def tree(paths: Any) -> Any:
    """The fieldsV1 tree of a set of paths, built on its own."""
    root: dict[str, Any] = {}
    for path in paths:
        node = root
        for step in path[:-1]:
            node = node.setdefault(step, {"?": None})
        node.setdefault(path[-1], {"?": None})["."] = {}
    return _plain(root)


def _plain(node: Any) -> Any:
    children = {k: _plain(v) for k, v in node.items() if k not in ("?", ".")}
    if children and "." in node:
        children["."] = {}
    return children


@settings(max_examples=300, deadline=None)
@given(_PATHS, _PATHS)
def test_field_sets_obey_set_algebra(left: Any, right: Any) -> None:
    for operation, plain in (
        (fieldset.union, left | right),
        (fieldset.difference, left - right),
        (fieldset.intersection, left & right),
    ):
        result = operation(tree(left), tree(right))
        assert set(fieldset.paths(result)) == plain
        assert result == tree(plain)


def call(
    api: Any,
    method: Any,
    path: Any,
    body: Any = None,
    content_type: Any = "application/json",
    query: Any = "fieldManager=tester",
) -> Any:
    request = parse(method, path, query, {"content-type": content_type, "user-agent": "tester/1"})
    request.body = body if isinstance(body, bytes) else json.dumps(body).encode() if body is not None else b""
    answer = api.handle(request)
    return answer.code, orjson.loads(answer.body)


@pytest.fixture
def deployment(api: Any) -> Any:
    return api.cluster.registry.find("apps", "v1", "deployments").schema


def containers(*items: Any) -> Any:
    return {"spec": {"template": {"spec": {"containers": list(items)}}}}


def test_strategic_merge_directives(deployment: Any) -> None:
    old = containers({"name": "a", "image": "1", "args": ["x", "y"]}, {"name": "b", "image": "2"})

    def merged(*items: Any, **directives: Any) -> Any:
        change = containers(*items)
        change["spec"]["template"]["spec"].update(directives)
        return patch.strategic_merge(deployment, copy.deepcopy(old), change)["spec"]["template"]["spec"][
            "containers"
        ]

    assert merged({"name": "b", "image": "3"})[1] == {"name": "b", "image": "3"}
    assert [c["name"] for c in merged({"name": "c"})] == ["a", "b", "c"]
    assert [c["name"] for c in merged({"name": "a", "$patch": "delete"})] == ["b"]
    assert merged({"$patch": "replace"}, {"name": "z"}) == [{"name": "z"}]
    assert merged({"name": "a", "args": ["z"]})[0]["args"] == ["z"]
    order = {"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]}
    assert [c["name"] for c in merged(**order)] == ["b", "a"]
    assert [c["name"] for c in merged({"name": "a", "image": "9"}, **order)] == ["b", "a"]
    with pytest.raises(ApiError):
        merged({"image": "nameless"})
    volumes = {"spec": {"template": {"spec": {"volumes": [{"name": "v", "emptyDir": {}}]}}}}
    change = {"name": "v", "$retainKeys": ["name", "hostPath"], "hostPath": {"path": "/x"}}
    new = patch.strategic_merge(deployment, volumes, {"spec": {"template": {"spec": {"volumes": [change]}}}})
    assert new["spec"]["template"]["spec"]["volumes"] == [{"name": "v", "hostPath": {"path": "/x"}}]
    finalizers = {"metadata": {"finalizers": ["a", "b"]}}
    change = {"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"], "finalizers": ["c"]}}
    assert patch.strategic_merge(deployment, finalizers, change)["metadata"]["finalizers"] == ["b", "c"]


def test_merge_patch_follows_its_rfc() -> None:
    assert patch.merge_patch({"a": {"b": 1, "c": 2}}, {"a": {"b": None, "d": [1]}}) == {"a": {"c": 2, "d": [1]}}
    assert patch.merge_patch({"a": [1]}, {"a": {"b": None}}) == {"a": {}}


def test_apply_keeps_what_others_own(deployment: Any) -> None:
    def applied(live: Any, manager: Any, config: Any, force: Any = False) -> Any:
        config = {"metadata": {"name": "d"}, **config}
        writer = managed.Writer(manager, "apps/v1")
        return managed.apply(deployment, copy.deepcopy(live), config, writer, force, ("deployments", "apps", "d"))

    one = applied({"metadata": {}}, "one", {"metadata": {"labels": {"a": "1", "b": "1"}}, "spec": {"replicas": 1}})
    both = applied(one, "two", {"metadata": {"labels": {"b": "1", "c": "1"}}})
    alone = applied(both, "one", {"spec": {"replicas": 1}})
    assert alone["metadata"]["labels"] == {"b": "1", "c": "1"}
    with pytest.raises(ApiError) as caught:
        applied(alone, "two", {"spec": {"replicas": 2}})
    assert caught.value.details is not None
    assert caught.value.details["causes"][0]["field"] == ".spec.replicas"
    taken = applied(alone, "two", {"spec": {"replicas": 2}}, force=True)
    assert "labels" not in taken["metadata"]
    assert [m["manager"] for m in taken["metadata"]["managedFields"]] == ["two"]


@pytest.mark.parametrize(
    ("text", "labels", "expected"),
    [
        ("a=b", {"a": "b"}, True),
        ("a==b,c!=d", {"a": "b"}, True),
        ("a in (x, y)", {"a": "y"}, True),
        ("a notin (x,y)", {}, True),
        ("!a", {"a": ""}, False),
        ("a", {"a": ""}, True),
        ("a=", {"a": ""}, True),
        ("k8s.io/n>3", {"k8s.io/n": "4"}, True),
        ("a in (x),b", {"a": "x"}, False),
    ],
)
def test_label_selectors(text: str, labels: Any, expected: Any) -> None:
    assert all(term.matches(labels) for term in selectors.parse_labels(text)) is expected


@pytest.mark.parametrize("text", ["a in x", "a b", "=x", "a in (x", "a=b=c"])
def test_label_selectors_that_make_no_sense(text: str) -> None:
    with pytest.raises(ApiError) as caught:
        selectors.parse_labels(text)
    assert caught.value.code == 400


OBJECTS = {
    "/api/v1/namespaces/default/pods": {
        "metadata": {"name": "x", "labels": {"a": "b"}},
        "spec": {"containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 1}]}]},
    },
    "/api/v1/namespaces/default/services": {
        "metadata": {"name": "x"},
        "spec": {
            "type": "NodePort",
            "ports": [{"name": "a", "port": 80, "targetPort": "x"}],
            "ipFamilies": ["IPv4"],
        },
    },
    "/apis/networking.k8s.io/v1/namespaces/default/networkpolicies": {
        "metadata": {"name": "x"},
        "spec": {
            "podSelector": {},
            "ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}]}],
        },
    },
    "/apis/apiextensions.k8s.io/v1/customresourcedefinitions": {
        "metadata": {"name": "xs.lab.example"},
        "spec": {
            "group": "lab.example",
            "scope": "Cluster",
            "names": {"plural": "xs", "kind": "X"},
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": True,
                    "schema": {
                        "openAPIV3Schema": {
                            "type": "object",
                            "properties": {"spec": {"type": "array", "items": {"type": "string"}}},
                        }
                    },
                }
            ],
        },
    },
}


def spots(value: Any, path: Any = ()) -> Any:
    if path:
        yield path
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, member in members:
        yield from spots(member, (*path, key))


@pytest.mark.parametrize("path", OBJECTS)
def test_nonsense_anywhere_is_the_clients_error(api: Any, path: Any) -> None:
    original: Any = OBJECTS[path]
    seen = set()
    for spot in spots(original):
        for value in (None, "", "x", -1, True, [], {}, [None], {"a": None}):
            broken = copy.deepcopy(original)
            holder: Any = broken
            for step in spot[:-1]:
                holder = holder[step]
            holder[spot[-1]] = value
            name = original["metadata"]["name"]
            for method, target, kind in (
                ("POST", path, "application/json"),
                ("PATCH", f"{path}/{name}", "application/merge-patch+json"),
                ("PATCH", f"{path}/{name}", "application/apply-patch+yaml"),
            ):
                code, body = call(api, method, target, broken, kind)
                assert code < 500, (method, kind, spot, value, body)
                seen.add(code)
            call(api, "DELETE", f"{path}/{name}")
    assert {201, 400, 422} <= seen


def test_malformed_bodies_are_refused(api: Any) -> None:
    path = "/api/v1/namespaces/default/configmaps"
    for body, kind in (
        (b"{", "application/json"),
        (b"[]", "application/json"),
        (b"k8s\0\xff", "application/vnd.kubernetes.protobuf"),
    ):
        assert call(api, "POST", path, body, kind)[0] == 400
    assert call(api, "POST", path, b"x", "text/plain")[0] == 415
    assert call(api, "PUT", path, {})[0] == 405
    assert call(api, "GET", "/apis/nothing.example/v1/things")[0] == 404


def protobuf(kind: str, message: bytes) -> bytes:
    return b"k8s\0" + envelope()(typeMeta={"apiVersion": "v1", "kind": kind}, raw=message).SerializeToString()


def test_a_protobuf_body_says_what_its_message_does(api: Any) -> None:
    """Field numbers are those of Kubernetes' generated.proto; a pointer to zero stays, a plain zero goes."""
    port = b"\x0a\x03web\x12\x03TCP\x18\x50\x22\x0b\x08\x01\x10\x00\x1a\x05named\x28\x00"
    spec = b"\x0a" + bytes([len(port)]) + port + b"\x12\x08\x0a\x03app\x12\x01w\xa0\x01\x00"
    body = protobuf("Service", b"\x0a\x03\x0a\x01s\x12" + bytes([len(spec)]) + spec)
    service = Decoder(api.cluster.registry).decode(body)
    expected = {"name": "web", "protocol": "TCP", "port": 80, "targetPort": "named"}
    assert service["metadata"] == {"name": "s"}
    assert service["spec"] == {
        "ports": [expected],
        "selector": {"app": "w"},
        "allocateLoadBalancerNodePorts": False,
    }


def test_every_built_in_kind_has_its_messages() -> None:
    for resource in Registry():
        if resource.kind != "CustomResourceDefinition":  # kubectl has no type of it, and sends JSON
            wire = wire_type(resource.schema)
            named = {field.name for field, _ in wire.fields[wire.message.DESCRIPTOR.full_name].values()}
            assert "metadata" in named, resource.kind


def test_damaged_protobuf_bodies_are_refused(api: Any) -> None:
    numbers = random.Random(1)
    whole = protobuf("ConfigMap", b"\x0a\x06\x0a\x04name\x12\x08\x0a\x03key\x12\x01v")
    for _ in range(500):
        body = bytearray(whole[: numbers.randrange(5, len(whole) + 1)])
        body[numbers.randrange(4, len(body))] = numbers.randrange(256)
        kind = "application/vnd.kubernetes.protobuf"
        assert call(api, "POST", "/api/v1/namespaces/default/configmaps", bytes(body), kind)[0] < 500


def test_a_watch_tells_single_changes_at_once_and_a_burst_in_one_piece(
    api: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "_BATCH_SECONDS", 3600.0)
    names = iter(range(1000))

    def create() -> Any:
        name = f"watched-{next(names)}"
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}}
        assert call(api, "POST", "/api/v1/namespaces/default/configmaps", body)[0] == 201
        return name

    async def follow() -> Any:
        revision = api.cluster.store.revision
        path = "/api/v1/namespaces/default/configmaps"
        stream = api.handle(parse("GET", path, f"watch=1&resourceVersion={revision}", {}))
        pieces = stream.lines(asyncio.Event(), asyncio.Event())

        async def told() -> Any:
            piece = await asyncio.wait_for(anext(pieces), 60)
            return [json.loads(line)["object"]["metadata"]["name"] for line in piece.splitlines()]

        for _ in range(5):
            name = create()
            assert await told() == [name]
        burst = [create() for _ in range(50)]
        assert await told() == burst
        await pieces.aclose()

    asyncio.run(follow())
