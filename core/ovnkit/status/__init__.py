"""What the process tells about itself: snapshot, health, metrics, explain."""
