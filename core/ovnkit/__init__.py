"""The kernel of ovnkit."""
