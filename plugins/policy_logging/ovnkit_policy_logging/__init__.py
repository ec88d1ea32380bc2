"""The policy_logging plugin."""
