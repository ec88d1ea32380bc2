"""ovnkit.host."""
