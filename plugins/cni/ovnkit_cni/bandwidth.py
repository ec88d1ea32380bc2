"""Bandwidth annotations of a pod: `kubernetes.io/ingress-bandwidth` and `kubernetes.io/egress-bandwidth`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal

from attrs import frozen

from ovnkit_cni.wire import BAD_POD, CniError

INGRESS = "kubernetes.io/ingress-bandwidth"
EGRESS = "kubernetes.io/egress-bandwidth"
LOWEST, HIGHEST = 10**3, 10**15
"""bit/s; the range that Kubernetes allows."""

# Suffixes of a Kubernetes quantity; what is below 1 can't be meant here but is well formed.
_SUFFIXES = {
    "n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("1e-3"), "": Decimal(1),
    "k": Decimal(10**3), "M": Decimal(10**6), "G": Decimal(10**9), "T": Decimal(10**12), "P": Decimal(10**15),
    "E": Decimal(10**18), "Ki": Decimal(2**10), "Mi": Decimal(2**20), "Gi": Decimal(2**30),
    "Ti": Decimal(2**40), "Pi": Decimal(2**50), "Ei": Decimal(2**60),
}  # fmt: skip
_QUANTITY = re.compile(r"([+-]?(?:\d+(?:\.\d*)?|\.\d+))(?:[eE]([+-]?\d{1,3})|([numkMGTPE]|[KMGTPE]i)?)", re.ASCII)


@frozen
class Bandwidth:
    """Limits in bit/s; 0 is none. `ingress` is what the pod receives."""

    ingress: int = 0
    egress: int = 0


def of_pod(annotations: Mapping[str, str]) -> Bandwidth:
    """The limits a pod's annotations ask for; raises CniError when one is malformed or out of range."""
    return Bandwidth(_limit(annotations, INGRESS), _limit(annotations, EGRESS))


def _limit(annotations: Mapping[str, str], name: str) -> int:
    text = annotations.get(name)
    if text is None:
        return 0
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise CniError(BAD_POD, f"annotation {name} is {text!r}, which is not a quantity")
    number, exponent, suffix = match.groups()
    value = Decimal(number) * (Decimal(10) ** int(exponent) if exponent else _SUFFIXES[suffix or ""])
    if not LOWEST <= value <= HIGHEST:
        raise CniError(BAD_POD, f"annotation {name} is {text}; it must be from 1k to 1P (bit/s)")
    return int(value)
