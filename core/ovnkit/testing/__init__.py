"""The kit for authors of plugins: harness, conformance suite, throw-away databases and daemons."""
