"""The gateway plugin: how pods reach the outside, and the outside reaches services."""
