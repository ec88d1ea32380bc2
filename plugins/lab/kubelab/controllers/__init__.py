"""The controllers a cluster needs when no real ones run: scheduler, workloads, EndpointSlices, node life cycle."""
