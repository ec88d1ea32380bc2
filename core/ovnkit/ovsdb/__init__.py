"""ovnkit.ovsdb."""
