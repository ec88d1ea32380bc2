"""ovnkit.kernel."""
