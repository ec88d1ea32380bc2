"""Section `[network_policy]` of the configuration."""

from __future__ import annotations

from attrs import frozen


@frozen
class NetworkPolicyOptions:
    """Options of NetworkPolicy.

    `allow_icmp_network_policy` lets ICMP through to and from isolated pods whatever the policies say;
    `enable_stateless_netpol` honours the annotation `k8s.ovn.org/acl-stateless` of policies.
    """

    allow_icmp_network_policy: bool = False
    enable_stateless_netpol: bool = False
