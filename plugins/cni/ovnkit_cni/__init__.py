"""The cni plugin."""
