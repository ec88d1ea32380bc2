"""The configuration: loading, values, checks, and showing it."""
