"""Everything a request handler works with, wired together."""

import ipaddress
from collections.abc import Mapping, Sequence
from pathlib import Path

from attrs import define, field, frozen

from . import crds, selectors
from .auth import Authenticator, User, signing_key
from .journal import Journal
from .rbac import Authorizer
from .registry import Registry
from .services import Network, ServiceAddresses
from .store import Change, Collection, Store


@frozen
class Settings:
    """How the server runs: where it keeps its data (None: nowhere), service networks, history per resource.

    ``tokens`` None means that everybody is the administrator. ``bookmark_seconds`` is the pause between watch
    bookmarks; ``requests_per_second`` above 0 answers more than that with 429. Without ``controllers`` the server
    leaves garbage, namespaces and default service accounts to others, as kube-apiserver does. ``instead`` has
    commands for subresources of pods that only a kubelet serves (``log``, ``exec``); the errors name them.
    """

    data_dir: Path | None = None
    service_networks: Sequence[Network] = (ipaddress.IPv4Network("172.16.1.0/24"),)
    tokens: dict[str, User] | None = None
    history: int = 20_000
    bookmark_seconds: float = 30.0
    requests_per_second: int = 0
    url: str = ""
    controllers: bool = True
    instead: Mapping[str, str] = field(factory=dict)


@define
class Cluster:
    """The server's state."""

    settings: Settings
    store: Store
    registry: Registry
    addresses: ServiceAddresses
    authenticator: Authenticator
    authorizer: Authorizer
    closing: bool = False

    @classmethod
    def open(cls, settings: Settings) -> "Cluster":
        """Load what the data directory holds and serve it."""
        if settings.data_dir is not None:
            settings.data_dir.mkdir(parents=True, exist_ok=True)
        registry = Registry()
        store = Store(Journal(settings.data_dir), selectors.field_labels, settings.history)
        store.load()
        crds.serve_stored(registry, store)
        addresses = ServiceAddresses(settings.service_networks, store.collection("services"))
        store.listeners.append(addresses.follow)

        def follow_definitions(collection: Collection, change: Change) -> None:
            if collection.name == crds.CRDS:
                crds.on_change(registry, change.record, change.deleted)

        store.listeners.append(follow_definitions)
        key = signing_key(settings.data_dir)
        authenticator = Authenticator(settings.tokens, key, store)
        authorizer = Authorizer(store, enforce=settings.tokens is not None)
        return cls(settings, store, registry, addresses, authenticator, authorizer)
