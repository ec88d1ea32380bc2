"""The services plugin."""
