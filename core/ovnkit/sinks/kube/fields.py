"""Fields of Kubernetes objects, as the sink thinks of them.

A *field* is a path in the object that somebody wants a value for: `("annotations", name)`, `("labels", name)`,
`("finalizers", name)`, `("conditions", type)`, `("status", ...)` down to a value that is no mapping, or
`("applied", manager)` for what is applied server-side.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Field = tuple[str, ...]
Fields = Mapping[Field, Any]

ANNOTATIONS, LABELS, FINALIZERS, STATUS, CONDITIONS, APPLIED = (
    "annotations",
    "labels",
    "finalizers",
    "status",
    "conditions",
    "applied",
)
FIELD_MANAGER = "ovnkit"
"""Name under which the API server's managedFields show what we wrote; it begins the name of a renderer's own."""

IN_STATUS = frozenset({STATUS, CONDITIONS, APPLIED})


def version(text: str) -> int:
    """A resourceVersion as a number to compare; -1 for one that isn't (KEP-5504 makes them comparable)."""
    return int(text) if text.isascii() and text.isdigit() else -1
