"""The running process: wiring, databases, watches, leadership, shutdown."""
