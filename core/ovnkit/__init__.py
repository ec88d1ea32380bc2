"""A Kubernetes network plugin on OVN: the core."""

__version__ = "0.1.0"
