"""Items: what a renderer says should exist. Frozen values; the core compares them with what is there."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any, Final

from attrs import field, frozen

from ovnkit.api.flows import FlowItem
from ovnkit.api.host import HostItem, HttpAnswer, Tracked, UplinkBridge
from ovnkit.api.identity import RowId
from ovnkit.api.kinds import Kind, View
from ovnkit.api.live import LiveSet
from ovnkit.api.matches import Match
from ovnkit.api.models import ObjectView
from ovnkit.api.nft import NftItem

__all__ = [
    "NOW",
    "Absent",
    "Annotation",
    "Ask",
    "Condition",
    "Event",
    "Finalizer",
    "Item",
    "KubeItem",
    "Label",
    "Lookup",
    "Member",
    "Ref",
    "Row",
    "RowItem",
    "Slot",
    "Status",
    "Value",
]


@frozen
class Ref:
    """A reference to a row by its UUID. `Ref.to(RowId(...))` needs no look-up."""

    uuid: str
    row: RowId | None = field(default=None, eq=False, repr=False)
    """Its name, to say what is missing where it doesn't come."""

    @classmethod
    def to(cls, row: RowId) -> Ref:
        """Reference to a row that ovnkit owns, this plugin's or another's."""
        return cls(row.uuid, row)


@frozen
class Lookup:
    """A row that ovnkit does not own, found by the value of a column (`Bridge` with `name` br-int).

    Without `column` it is the one row of a table that has only one (NB_Global, Open_vSwitch).
    """

    table: str
    column: str = ""
    value: str = ""


Scalar = str | int | float | bool | Ref
Value = Scalar | tuple[Scalar, ...] | frozenset[Scalar] | Mapping[str, Any] | LiveSet | Match | None


@frozen
class Slot:
    """A column of a row: where a member goes. `row` is a row of ours (RowId) or someone else's (Lookup)."""

    table: str
    row: RowId | Lookup
    column: str


@frozen
class Row:
    """A row of an OVSDB database (`db`: `nb`, `sb` or `ovs`).

    `name` is the last part of the owner path and unique within one render. `columns` are the columns ovnkit
    owns, as Python values: str, int, float, bool, Ref; tuple or frozenset for a set; a mapping for a map (its
    values str, int or Ref); a LiveSet for a set the core keeps up to date; a Match for a match that names other
    rows; None for an empty optional column.
    Columns that are not named are left alone. The core adds provenance to `external_ids`.

    `parent` is the set column of another row that holds a reference to this row; tables that are not roots
    (Logical_Switch_Port, ACL, NAT, ...) need one, or ovsdb-server collects the row at once. A row waits until
    its parent and everything its columns refer to, or name in a match, exist.

    `optional` names columns that are left out where the server doesn't have them (`tier` before OVN 23.06);
    without a column in `only_with` the whole row is left out.
    """

    table: str
    name: str
    columns: Mapping[str, Value]
    parent: Slot | None = None
    db: str = "nb"
    optional: frozenset[str] = frozenset()
    only_with: frozenset[str] = frozenset()


@frozen
class Member:
    """One element of a column of a row that another renderer, another plugin or nobody here owns.

    Set column: `value` is the element. Map column: `key` and `value`. Scalar column: `value` is the value
    while this item exists. Members are counted: the element goes when the last renderer that wants it is gone.
    """

    slot: Slot
    value: Scalar
    key: str | None = None
    db: str = "nb"


@frozen
class Absent:
    """A row that somebody else wrote and that is to go, by its UUID: a message that has been read, a chassis whose
    node is gone (`db`: `sb`).

    It needs a kind of the row's table, by which the row was seen.
    """

    table: str
    uuid: str
    db: str = "nb"


class Stamp(Enum):
    """The type of `NOW`."""

    NOW = "now"


NOW: Final = Stamp.NOW
"""Value of an annotation: the time at which it was first written (RFC 3339); whatever is there stays."""


@frozen
class Annotation:
    """An annotation of a Kubernetes object; `value` None: it must not be there; NOW: it tells since when."""

    kind: Kind[ObjectView]
    object: str
    name: str
    value: str | Stamp | None


@frozen
class Label:
    """A label of a Kubernetes object; `value` None says it must not be there."""

    kind: Kind[ObjectView]
    object: str
    name: str
    value: str | None


@frozen
class Finalizer:
    """A finalizer on a Kubernetes object, removed when no renderer asks for it any more."""

    kind: Kind[ObjectView]
    object: str
    name: str


@frozen
class Status:
    """Fields of the status of a Kubernetes object (merge-patched into the status subresource).

    With `manager`, several processes can share a list that the schema declares a set or a map: `content` is
    applied server-side under that field manager, so that each adds its elements and takes away only its own.
    Empty content takes away what was applied under the manager, by whomever. The plugin declares how to recognise
    it (`Declaration.applies`), so that it goes when the plugin is disabled.
    """

    kind: Kind[ObjectView]
    object: str
    content: Mapping[str, Any] = field(hash=False)
    manager: str = ""


@frozen
class Condition:
    """A condition of a Kubernetes object (`status.conditions`, merged by type)."""

    kind: Kind[ObjectView]
    object: str
    type: str
    status: bool
    reason: str
    message: str


@frozen
class Event:
    """An Event on a Kubernetes object, posted once when it first appears among a renderer's items.

    With `again` it is something that happens, not a state: it counts also where a restarted process finds that
    a former one has posted the same.
    """

    kind: Kind[ObjectView]
    object: str
    reason: str
    message: str
    warning: bool = True
    again: bool = False


@frozen
class Ask:
    """A question to the world outside: `kind` comes from `Answers`, and its view under `key` is wanted.

    The plugin's answerer is asked once for a key, however many renders ask, and told when the last one ceases.
    """

    kind: Kind[View]
    key: str


RowItem = Row | Member | Absent
KubeItem = Annotation | Label | Finalizer | Status | Condition | Event
Item = RowItem | KubeItem | Ask | FlowItem | HostItem | UplinkBridge | NftItem | HttpAnswer | Tracked
"""What a renderer may yield. Those of a node are in `ovnkit.api.host`, `ovnkit.api.flows` and `ovnkit.api.nft`."""
