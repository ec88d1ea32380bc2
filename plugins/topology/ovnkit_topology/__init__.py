"""The topology plugin."""
