"""Section `[pods]` of the configuration."""

from __future__ import annotations

from attrs import frozen


@frozen
class PodsOptions:
    """Options of the pod network.

    `reserve_hybrid_address` keeps the third address of each node's subnet free for a hybrid overlay's router.
    """

    reserve_hybrid_address: bool = False
