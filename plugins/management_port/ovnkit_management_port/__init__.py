"""The management_port plugin."""
