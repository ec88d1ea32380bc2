"""Kubernetes: the client, watches, Leases, and the sink that writes annotations, status and Events."""
