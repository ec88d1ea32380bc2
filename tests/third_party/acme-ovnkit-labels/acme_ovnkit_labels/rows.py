"""Rows of this plugin that others may name, in the way of `ovnkit.network.rows`."""

from __future__ import annotations

from ovnkit.api.identity import RowId, hash_name


def labelled_set(namespace: str) -> RowId:
    """Address_Set of the labelled pods of a namespace."""
    return RowId("acme_labels", "namespace", namespace, "labelled")


def labelled_set_name(namespace: str) -> str:
    """Its name, by which a match refers to it (`$name`)."""
    return hash_name(f"acme-labels:{namespace}")
