"""ovnkit.api.testing."""
