"""Live sets: each object change costs as many steps as the sets that it enters or leaves.

What an object contributes under a projection is worked out once, for all sets: a set over thousands of objects is
made while a policy waits for it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from itertools import chain
from typing import Any

import structlog
from attrs import define, field

from ovnkit.api.kinds import Kind, View
from ovnkit.api.live import LiveSet
from ovnkit.api.models import NAMESPACES, ObjectView
from ovnkit.api.selectors import LabelSelector, Operator, SelectorIndex, most_selective
from ovnkit.engine.store import Change, Store

log = structlog.get_logger()

Changed = Callable[[Collection[Hashable], Collection[Hashable]], None]
Values = tuple[Hashable, ...]
Project = Callable[[Any], Iterable[Hashable]]
_NO_LABELS: Mapping[str, str] = {}
_NONE: Mapping[Hashable, Any] = {}


@define(eq=False)
class _Posting:
    """The objects that carry one label; what they contribute, of those looked at since they changed."""

    keys: dict[str, None] = field(factory=dict)
    values: dict[Project, dict[str, Values]] = field(factory=dict)


class Content:
    """What is in one live set now; implements `LiveContent`."""

    def __init__(self, spec: LiveSet, engine: LiveSets) -> None:
        self.spec = spec
        self._engine = engine
        self._counts: Counter[Hashable] = Counter()
        self._by_object: dict[str, Values] = {}
        self._subscribers: list[Changed] = []
        self._before: dict[Hashable, bool] = {}

    @property
    def values(self) -> Collection[Hashable]:
        """The values in the set now."""
        return self._counts.keys()

    def subscribe(self, changed: Changed) -> Callable[[], None]:
        """See `LiveContent.subscribe`; the last one to leave ends the set."""
        self._subscribers.append(changed)

        def leave() -> None:
            self._subscribers.remove(changed)
            if not self._subscribers:
                self._engine.drop(self)

        return leave

    def put(self, key: str, contribution: Values) -> None:
        """An object contributes these values from now on (none: it is not selected)."""
        before = self._by_object.get(key, ())
        if before == contribution:
            return
        counts = self._counts
        for value in (*before, *contribution):
            self._before.setdefault(value, value in counts)
        for value in contribution:
            counts[value] += 1
        for value in before:
            counts[value] -= 1
            if not counts[value]:
                del counts[value]
        if contribution:
            self._by_object[key] = contribution
        else:
            del self._by_object[key]
        self._engine.touched.add(self)

    def start(self, contributions: dict[str, Values]) -> None:
        """What objects contribute that haven't been looked at yet, to a set that nobody uses yet; it is kept."""
        if self._by_object:
            self._by_object.update(contributions)
        else:
            self._by_object = contributions
        self._counts.update(chain.from_iterable(contributions.values()))

    def objects(self) -> Iterable[str]:
        """Keys of the objects that contribute."""
        return list(self._by_object)

    def notify(self) -> None:
        """Tell the subscribers what has changed since the last time."""
        added = [value for value, was_in in self._before.items() if not was_in and value in self._counts]
        removed = [value for value, was_in in self._before.items() if was_in and value not in self._counts]
        self._before.clear()
        if added or removed:
            for changed in list(self._subscribers):
                changed(added, removed)


class LiveSets:
    """All live sets, by kind and by the namespaces they look at (`""`: every namespace)."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.touched: set[Content] = set()
        self._contents: dict[LiveSet, Content] = {}
        self._scopes: dict[tuple[Kind[View], str], SelectorIndex[Content]] = {}
        self._namespace_selectors: SelectorIndex[Content] = SelectorIndex()
        self._label_postings: dict[Kind[View], dict[tuple[str, str], _Posting]] = {}
        self._projected: dict[Kind[View], dict[Project, dict[str, Values]]] = {}

    def content(self, spec: LiveSet) -> Content:
        """The shared content of equal live sets."""
        found = self._contents.get(spec)
        if found is None:
            found = self._contents[spec] = Content(spec, self)
            self._enter(found)
        return found

    def drop(self, content: Content) -> None:
        """Nobody uses this set any more."""
        del self._contents[content.spec]
        self.touched.discard(content)
        spec = content.spec
        if isinstance(spec.namespaces, LabelSelector):
            self._namespace_selectors.remove(spec.namespaces, content)
        for namespace in self._namespaces_of(spec):
            self._scope(spec.kind, namespace).remove(spec.labels, content)

    def changed(self, change: Change) -> None:
        """An object came, changed or went."""
        if change.kind in self._label_postings:
            self._repost(change)
        for projected in self._projected.get(change.kind, _NONE).values():
            projected.pop(change.key, None)
        old, new = _labels(change.old), _labels(change.new)
        namespace = _namespace(change.new or change.old)
        touched: dict[Content, None] = {}
        for scope in {"", namespace}:
            index = self._scopes.get((change.kind, scope))
            if index is not None:
                for labels in [old] if old == new else [old, new]:
                    touched.update(dict.fromkeys(index.matching(labels)))
        for content in touched:
            content.put(change.key, self._contribution(content.spec, change.key, change.new))
        if change.kind is NAMESPACES and (old != new or change.old is None or change.new is None):
            self._namespace_changed(change, old, new)

    def flush(self) -> None:
        """Tell the users of every set that has changed."""
        touched, self.touched = self.touched, set()
        for content in touched:
            content.notify()

    # -- membership -----------------------------------------------------------------------------------------

    def _namespace_changed(self, change: Change, old: Mapping[str, str], new: Mapping[str, str]) -> None:
        before = set(self._namespace_selectors.matching(old)) if change.old is not None else set()
        after = set(self._namespace_selectors.matching(new)) if change.new is not None else set()
        for content in before - after:
            self._scope(content.spec.kind, change.key).remove(content.spec.labels, content)
            for key in [key for key in content.objects() if key.partition("/")[0] == change.key]:
                content.put(key, ())
        for content in after - before:
            self._scope(content.spec.kind, change.key).add(content.spec.labels, content)
            for key, contribution in self._contributions(content.spec, change.key).items():
                content.put(key, contribution)

    def _enter(self, content: Content) -> None:
        spec = content.spec
        if isinstance(spec.namespaces, LabelSelector):
            self._namespace_selectors.add(spec.namespaces, content)
        for namespace in self._namespaces_of(spec):
            self._scope(spec.kind, namespace).add(spec.labels, content)
            content.start(self._contributions(spec, namespace))

    def _namespaces_of(self, spec: LiveSet) -> list[str]:
        """Namespaces a set looks at; the empty one stands for all."""
        if spec.namespaces is None:
            return [""]
        if isinstance(spec.namespaces, str):
            return [spec.namespaces]
        namespaces = self._store.select(NAMESPACES, "", "")
        return [name for name, view in namespaces.items() if spec.namespaces.matches(view.labels)]

    def _scope(self, kind: Kind[View], namespace: str) -> SelectorIndex[Content]:
        return self._scopes.setdefault((kind, namespace), SelectorIndex())

    def _contributions(self, spec: LiveSet, namespace: str) -> dict[str, Values]:
        """What the selected objects of one namespace (empty: all) contribute, by the shortest way to them."""
        objects = self._store.select(spec.kind, "", "")
        chosen = most_selective(spec.labels)
        keys: Collection[str] = objects.keys()
        if namespace and "namespace" in spec.kind.indexes:
            keys = self._store.select(spec.kind, "namespace", namespace).keys()
        if chosen is not None and chosen.operator is Operator.IN:
            postings = self._postings(spec.kind)
            having = [posting for value in chosen.values if (posting := postings.get((chosen.key, value)))]
            if not namespace and spec.where is None and len(spec.labels.requirements) == 1:
                return self._posted(spec, objects, having)
            # costs what the smaller side of each has
            keys = set().union(*(keys & posting.keys.keys() for posting in having))
        found: dict[str, Values] = {}
        for key in keys:
            view = objects[key]
            if (not namespace or view.namespace == namespace) and (values := self._contribution(spec, key, view)):
                found[key] = values
        return found

    def _posted(
        self, spec: LiveSet, objects: Mapping[str, ObjectView], having: Iterable[_Posting]
    ) -> dict[str, Values]:
        """What all objects with one of these labels contribute: copies of tables, whatever their number."""
        found: dict[str, Values] = {}
        for posting in having:
            values = posting.values.setdefault(spec.project, {})
            if len(values) < len(posting.keys):
                for key in posting.keys:
                    if key not in values:
                        values[key] = self._contribution(spec, key, objects[key])
            found.update(values)
        return found

    def _contribution(self, spec: LiveSet, key: str, view: Any) -> Values:
        if view is None or not spec.labels.matches(view.labels):
            return ()
        known = self._known_values(spec)
        try:
            if spec.where is not None and not spec.where(view):
                return ()
            values = known.get(key)
            if values is None:
                values = known[key] = tuple(spec.project(view))
        except Exception:
            log.exception("an object can't be put into a live set", kind=spec.kind.name, object=key)
            return ()
        return values

    def _known_values(self, spec: LiveSet) -> dict[str, Values]:
        """What objects contribute under this projection, as far as it has been asked for since they changed."""
        return self._projected.setdefault(spec.kind, {}).setdefault(spec.project, {})

    # -- labels to objects ----------------------------------------------------------------------------------

    def _postings(self, kind: Kind[View]) -> dict[tuple[str, str], _Posting]:
        """Objects by label, kept from the first time a set of this kind asks for them."""
        postings = self._label_postings.get(kind)
        if postings is None:
            postings = self._label_postings[kind] = {}
            for key, view in self._store.select(kind, "", "").items():
                for label in _labels(view).items():
                    postings.setdefault(label, _Posting()).keys[key] = None
        return postings

    def _repost(self, change: Change) -> None:
        postings = self._label_postings[change.kind]
        old, new = _labels(change.old).items(), _labels(change.new).items()
        for label in old:
            posting = postings[label]
            for values in posting.values.values():
                values.pop(change.key, None)
            if label not in new:
                del posting.keys[change.key]
                if not posting.keys:
                    del postings[label]
        for label in new - old:
            postings.setdefault(label, _Posting()).keys[change.key] = None


def _labels(view: object) -> Mapping[str, str]:
    return getattr(view, "labels", _NO_LABELS) if view is not None else _NO_LABELS


def _namespace(view: View | None) -> str:
    return getattr(view, "namespace", "")
