"""The request for a static address or MAC: annotation `v1.multus-cni.io/default-network`."""

from __future__ import annotations

import re
from collections.abc import Mapping

from attrs import frozen

from ovnkit.api.errors import Reject
from ovnkit.api.text import Address, parse_host, parse_json, parse_mac, quoted

ANNOTATION = "v1.multus-cni.io/default-network"
INVALID = "InvalidNetworkRequest"
"""Reason of the Event that a pod with a bad request gets."""
_SHORTHAND = re.compile(r"(?:[a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[a-z0-9]([-a-z0-9.]*[a-z0-9])?(?:@[^\s,@/]+)?")


@frozen
class Request:
    """What a pod asks for on the cluster network: addresses by IP version, and a MAC or empty."""

    addresses: Mapping[int, Address]
    mac: str = ""


NOTHING = Request({})


def parse(annotations: Mapping[str, str]) -> Request:
    """The request; raises Reject unless it is exactly one network selection element with sane fields."""
    text = annotations.get(ANNOTATION)
    if text is None:
        return NOTHING
    try:
        return _parse(text.strip())
    except ValueError as error:
        raise Reject(f"annotation {ANNOTATION} is {quoted(text)}: {error}", reason=INVALID) from None


def _parse(text: str) -> Request:
    if not text.startswith(("[", "{")):
        if not _SHORTHAND.fullmatch(text):
            raise ValueError("neither JSON nor one network's name")
        return NOTHING
    elements = parse_json(text)
    if not isinstance(elements, list) or len(elements) != 1 or not isinstance(elements[0], dict):
        raise ValueError("needs exactly one network selection element")
    element = elements[0]
    if not isinstance(element.get("name"), str) or not element["name"]:
        raise ValueError("the element has no name")
    return Request(_addresses(element.get("ips")), _mac(element.get("mac")))


def _addresses(raw: object) -> Mapping[int, Address]:
    if raw is None:
        return {}
    if not isinstance(raw, list) or not all(isinstance(text, str) for text in raw):
        raise ValueError("ips is not a list of strings")
    found = [parse_host(text) for text in raw]
    by_family: dict[int, Address] = {address.version: address for address in found}
    if len(by_family) != len(found):
        raise ValueError("ips has two addresses of one family")
    return by_family


def _mac(raw: object) -> str:
    return "" if raw is None or raw == "" else parse_mac(raw, unicast=True)
