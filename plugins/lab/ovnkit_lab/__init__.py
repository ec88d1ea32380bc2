"""The lab plugin."""
