"""What upstream's control plane takes for the peer load, to print beside the same rows.

OVN-Kubernetes 1.3.0, central zone, Kubernetes 1.36 API server, ovsdb-server 3.5, no northd, 2 cores; the better
one of the figures as shipped and with the client's rate limit lifted. Medians of three; the speed of that machine
drifted by 1.5.
"""

from __future__ import annotations

from collections.abc import Mapping

UPSTREAM: Mapping[str, float] = {
    "first start": 9.2,
    "first start, transactions": 4895,
    "first start, rows": 12167,
    "first start, CPU": 6.2,
    "first start, peak memory": 251,
    "restart": 3.5,
    "restart, transactions": 650,
    "restart, peak memory": 302,
    "pod to port, p50": 12.7,
    "pod to port, p99": 19.4,
    "burst of 500 pods": 2.96,
    "policy to first ACL, p50": 4.7,
    "policy to first ACL, p99": 7.0,
    "policy to last row, p99": 103,
    "endpoints to load balancer, p50": 5.5,
    "endpoints to load balancer, p99": 10.2,
    "service to load balancer, p50": 12.1,
}
"""By case, in the unit of its row."""
