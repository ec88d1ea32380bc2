"""``/metrics``: what was asked for and what is there, under the names that kube-apiserver gives it."""

from collections import Counter
from collections.abc import Iterator, Mapping

from .request import Request
from .store import Store

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """Counts requests."""

    def __init__(self) -> None:
        self._requests: Counter[tuple[tuple[str, str], ...]] = Counter()

    def count(self, request: Request, code: int, known: bool) -> None:
        """A request was answered; only of a `known` resource is the name kept, others may be anything."""
        scope = "resource" if request.name else "namespace" if request.namespace else "cluster"
        verb = "WATCH" if request.watching else request.method if request.name else _VERBS.get(request.method, "")
        labels = {
            "code": str(code), "component": "apiserver", "dry_run": "All" if request.dry_run else "",
            "group": request.group if known else "", "resource": request.plural if known else "",
            "scope": scope if known else "", "subresource": request.subresource if code < 400 else "",
            "verb": verb or request.method, "version": request.version if known else "",
        }  # fmt: skip
        self._requests[tuple(labels.items())] += 1

    def text(self, store: Store) -> bytes:
        """Everything in the text format of Prometheus."""
        lines = [*_header("apiserver_request_total", "counter", "Requests by verb, resource and code.")]
        lines += [
            _line("apiserver_request_total", dict(labels), n) for labels, n in sorted(self._requests.items())
        ]
        collections = sorted(store.collections(), key=lambda item: item.name)
        lines += _header("apiserver_storage_objects", "gauge", "Stored objects by resource.")
        lines += [
            _line("apiserver_storage_objects", {"resource": item.name}, len(item.objects)) for item in collections
        ]
        lines += _header("apiserver_registered_watchers", "gauge", "Open watches by resource.")
        lines += [
            _line("apiserver_registered_watchers", {"resource": item.name}, len(item.waiters))
            for item in collections
        ]
        return "".join(f"{line}\n" for line in lines).encode()


_VERBS = {"GET": "LIST", "DELETE": "DELETECOLLECTION"}


def _header(name: str, kind: str, text: str) -> Iterator[str]:
    yield f"# HELP {name} {text}"
    yield f"# TYPE {name} {kind}"


def _line(name: str, labels: Mapping[str, str], value: int) -> str:
    inner = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
    return f"{name}{{{inner}}} {value}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
