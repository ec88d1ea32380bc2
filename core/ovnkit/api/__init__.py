"""ovnkit.api."""
