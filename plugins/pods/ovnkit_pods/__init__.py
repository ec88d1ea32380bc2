"""The pods plugin."""
