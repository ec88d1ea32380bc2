"""Pytest plugin of ovnkit: fixtures for plugin authors."""
