"""Whole-system tests have the lab's fixtures."""

from ovnkit_lab.testing import lab, lab_factory  # noqa: F401
