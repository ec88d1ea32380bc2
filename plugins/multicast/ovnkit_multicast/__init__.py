"""The multicast plugin."""
