"""ovnkit.cli."""
